# The service: gRPC, identity, queues, metrics. No torch, no Java, no model.
#   docker build -f deploy/docker/service.Dockerfile -t whylight:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/whylight
ENV PATH=/opt/whylight/bin:$PATH
COPY constraints.txt ./
RUN pip install -c constraints.txt setuptools
COPY . ./
# Without isolation: setuptools, too, is the one of the lock.
RUN pip install -c constraints.txt --no-build-isolation '.[tracing]' \
    && pip uninstall --yes setuptools pip
RUN python -c "from importlib.util import find_spec; assert not find_spec('torch') and not find_spec('numpy')"

FROM python:3.11.14-slim-bookworm
# The same user as in the worker's image: they share sockets that nobody else may open.
RUN groupadd --gid 10001 whylight \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin whylight \
    && install --directory --owner=10001 --group=10001 --mode=0700 /run/whylight /var/lib/whylight
COPY --from=build /opt/whylight /opt/whylight
ENV PATH=/opt/whylight/bin:$PATH HOME=/tmp TMPDIR=/run/whylight PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 50051 9464
ENTRYPOINT ["whylight"]
CMD ["serve"]

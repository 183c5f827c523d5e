# The worker: TorchServe with torch, Java and the default models. For processors:
#   docker build -f deploy/docker/worker.Dockerfile --build-arg TORCH_INDEX=... -t whylight-worker:0.1.0-cpu .
# and for NVIDIA's GPUs, by the CUDA build of torch, which brings its libraries; the host has the driver:
#   docker build -f deploy/docker/worker.Dockerfile -t whylight-worker:0.1.0-cuda .
FROM python:3.11.14-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/whylight
ENV PATH=/opt/whylight/bin:$PATH
COPY constraints.txt ./
RUN pip install -c constraints.txt setuptools
# The package index of torch's CPU builds; empty: pip's own, where the build for Linux is the one with CUDA.
ARG TORCH_INDEX=""
# torch first and alone: with it in place, nothing below can pull in another build of it.
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
# Libraries that your own models need, such as "torchvision timm": without what they require, which is another torch.
ARG LIBRARIES=""
# "worker,onnx" for models by ONNX Runtime, "worker,onnx-gpu" for them on a GPU.
ARG EXTRAS="worker"
COPY . ./
# Without isolation: setuptools, too, is the one of the lock. It stays: torch asks for it.
RUN pip install -c constraints.txt --no-build-isolation ".[${EXTRAS}]" \
    && if [ -n "$LIBRARIES" ]; then printf '%s' "$LIBRARIES" | xargs pip install -c constraints.txt --no-deps; fi \
    && pip uninstall --yes pip

FROM python:3.11.14-slim-bookworm
# The same user as in the service's image: they share sockets that nobody else may open.
RUN groupadd --gid 10001 whylight \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin whylight \
    && install --directory --owner=10001 --group=10001 --mode=0700 /run/whylight /archives
COPY --from=build /opt/whylight /opt/whylight
# The default models. Yours: mount a folder with a models.toml over it.
COPY model_store/models.toml /models/models.toml
COPY model_store/digits/*.py /models/digits/
COPY model_store/weights /models/weights
ENV PATH=/opt/whylight/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV WHYLIGHT_MANIFEST=/models/models.toml WHYLIGHT_STORE=/archives
# What NVIDIA's container toolkit lets in; without it these say nothing.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
ENTRYPOINT ["whylight"]
CMD ["worker", "--folder", "/run/whylight"]

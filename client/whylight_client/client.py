"""The client that waits for its answers."""

import os
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Self, Unpack

from google.longrunning import operations_pb2

from whylight_client import choices
from whylight_client._protos.explain.v1 import explanation_service_pb2 as api
from whylight_client.calls import Calls
from whylight_client.choices import ExplainOptions
from whylight_client.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Connection
from whylight_client.descriptions import MethodInfo, MetricInfo, ModelInfo
from whylight_client.events import Event
from whylight_client.from_descriptions import to_method, to_metric, to_model
from whylight_client.from_messages import to_event, to_explanation, to_prediction
from whylight_client.images import ImageLike, encode
from whylight_client.jobs import Job, JobStatus, to_job_status
from whylight_client.results import ExplainResult, PredictResult


class Client:
    """A connection to a Whylight service, for a `with` block or until `close`. Threads may share it.

    Every call raises a `WhylightError` when the service refuses it or cannot be reached; its class says why. Before
    that gRPC tries again, within the deadline, what failed for want of a service, a worker or room.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: bool | str | os.PathLike[str] = False,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: bool = True,
    ) -> None:
        """Prepare the connection; it is made with the first call.

        Args:
            address: "host:port" of the service.
            token: bearer token.
            tls: True to connect with TLS and trust the authorities that gRPC knows, or the path of a PEM file of
                authorities to trust. False connects without TLS, as a service on loopback wants it by default.
            certificate: PEM files of the client's own certificate and its private key, for mTLS.
            timeout: seconds that a call may take unless it says otherwise, new tries included.
            retry: whether gRPC tries again.

        Raises:
            OSError: a file cannot be read.
            ValueError: an address without a port, a file without a certificate, a certificate without TLS, or a token
                that would be sent to another machine in the clear.
        """
        self._calls = Calls(Connection(address, token, tls, certificate, retry), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every call and the connection."""
        self._calls.close()

    def predict(
        self,
        image: ImageLike,
        *,
        model: str,
        top_k: int | None = None,
        model_version: str = "",
        use_cache: bool = True,
        timeout: float | None = None,
    ) -> PredictResult:
        """Classify an image.

        Args:
            image: a path, the bytes of a file, a Pillow image or an array: see `ImageLike`.
            model: name of a deployed model.
            top_k: how many classes to answer, 1 to 100. Default: 5.
            model_version: the version that must answer. Default: the deployed one.
            use_cache: take an answer that the service has kept, and let it keep this one.
            timeout: seconds; default: the client's.

        Raises:
            WhylightError: the call failed.
            OSError, TypeError, ValueError: the image cannot be sent, see `ImageLike`.
        """
        request = choices.predict_request(encode(image), model, top_k, model_version, use_cache)
        return to_prediction(self._calls.unary(self._calls.service.Predict, request, timeout))

    def explain(
        self, image: ImageLike, *, model: str, timeout: float | None = None, **options: Unpack[ExplainOptions]
    ) -> ExplainResult:
        """Classify an image and explain one or more classes.

        Args:
            image: a path, the bytes of a file, a Pillow image or an array: see `ImageLike`.
            model: name of a deployed model.
            timeout: seconds; default: the client's.
            **options: method, parameters, targets, quality and more: see `ExplainOptions`.

        Raises:
            WhylightError: the call failed.
            OSError: the image cannot be read.
            TypeError, ValueError: the image cannot be sent (see `ImageLike`), or there is no such method or parameter.
        """
        request = choices.explain_request(encode(image), model, options)
        response = self._calls.unary(self._calls.service.Explain, request, timeout)
        return to_explanation(response, request.image)

    def stream_explain(
        self,
        image: ImageLike,
        *,
        model: str,
        preview: bool = True,
        progress_maps: bool = False,
        progress_interval: float | None = None,
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> Generator[Event, None, None]:
        """As `explain`, and tell of it meanwhile.

        Args:
            image: as of `explain`.
            model: likewise.
            preview: whether to tell a fast map first: Grad-CAM, where it works on the model and is not what is asked.
            progress_maps: whether to tell the maps so far, of methods that can show them.
            progress_interval: shortest time between two steps that are told, 0.05 to 60 s. Default: 0.1 s.
            timeout: seconds for all of it; default: the client's.
            **options: as of `explain`.

        Returns:
            The events, in the order of `Event`. Closing the generator, or leaving it, ends the work.

        Raises:
            WhylightError, OSError, TypeError, ValueError: as `explain`; the first while the events are read.
        """
        request = api.StreamExplainRequest(
            request=choices.explain_request(encode(image), model, options),
            preview=preview,
            progress_maps=progress_maps,
            progress_interval=choices.duration(progress_interval),
        )
        return self._events(request, timeout)

    def _events(self, request: api.StreamExplainRequest, timeout: float | None) -> Generator[Event, None, None]:
        source = request.request.image
        for response in self._calls.stream(self._calls.service.StreamExplain, request, timeout):
            event = to_event(response, source)
            if event is not None:
                yield event

    def explain_later(
        self,
        image: ImageLike,
        *,
        model: str,
        request_id: str = "",
        compute_timeout: float | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        **options: Unpack[ExplainOptions],
    ) -> Job:
        """Have an image explained without waiting for it.

        Args:
            image: as of `explain`.
            model: likewise.
            request_id: your own id, 1 to 64 of A-Z a-z 0-9 . _ -: the same one with the same request gives the same
                job, however often it is sent.
            compute_timeout: seconds that the computation may take. Default: the service's limit.
            ttl: seconds that the job may wait, and that its result is kept. Default: the service's limit.
            timeout: seconds for this call; default: the client's.
            **options: as of `explain`.

        Raises:
            WhylightError, OSError, TypeError, ValueError: as `explain`.
        """
        request = api.CreateExplanationJobRequest(
            request=choices.explain_request(encode(image), model, options),
            request_id=request_id,
            timeout=choices.duration(compute_timeout),
            ttl=choices.duration(ttl),
        )
        operation = self._calls.unary(self._calls.service.CreateExplanationJob, request, timeout)
        return Job(self._calls, operation.name, request.request.image)

    def job(self, name: str) -> Job:
        """A job that was made before, by its name. Nothing is asked yet."""
        return Job(self._calls, name)

    def jobs(self, *, done: bool | None = None) -> Iterator[JobStatus]:
        """The client's jobs, newest first; only those that have ended, or have not, where `done` says so."""
        request = operations_pb2.ListOperationsRequest(filter="" if done is None else f"done={str(done).lower()}")
        while True:
            page = self._calls.unary(self._calls.operations.ListOperations, request, None)
            yield from map(to_job_status, page.operations)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def models(self, *, timeout: float | None = None) -> tuple[ModelInfo, ...]:
        """The deployed models, without labels and layers."""
        response = self._calls.unary(self._calls.service.ListModels, api.ListModelsRequest(), timeout)
        return tuple(map(to_model, response.models))

    def model(self, name: str, *, timeout: float | None = None) -> ModelInfo:
        """One model with its labels and layers.

        Raises:
            NotFoundError: no such model.
        """
        response = self._calls.unary(self._calls.service.GetModel, api.GetModelRequest(model=name), timeout)
        return to_model(response.model)

    def methods(self, model: str = "", *, timeout: float | None = None) -> tuple[MethodInfo, ...]:
        """The saliency methods, or those that work on one model."""
        response = self._calls.unary(self._calls.service.ListMethods, api.ListMethodsRequest(model=model), timeout)
        return tuple(map(to_method, response.methods))

    def metrics(self, *, timeout: float | None = None) -> tuple[MetricInfo, ...]:
        """The metrics of explanations that can be asked for."""
        response = self._calls.unary(self._calls.service.ListMetrics, api.ListMetricsRequest(), timeout)
        return tuple(map(to_metric, response.metrics))

"""inference.GRPCInferenceService: each procedure becomes what explain.v1 does, and goes the same way."""

import asyncio
import time
from collections.abc import Callable

from protos.explain.v1 import explanation_service_pb2 as api
from protos.inference import inference_service_pb2 as oip
from protos.inference import inference_service_pb2_grpc as oip_grpc
from service import observation
from service.catalog import Catalog, DeployedModel
from service.deadlines import answer_by
from service.errors import ModelNotFoundError, PermissionDeniedError
from service.explaining import Explaining
from service.identity.caller import Caller, Precision
from service.identity.permissions import EXPLAIN, may_call
from service.identity.precision import check_request
from service.inference import metadata
from service.inference.answer import to_infer_response
from service.inference.asking import Asking
from service.inference.images import Limits
from service.inference.outputs import OUTPUTS
from service.inference.question import Question, to_question
from service.rpc_types import Context
from service.settings import Settings

NAME = "inference.GRPCInferenceService"
# Bytes: from here on, to make an image of pixels or tensors of an answer would make other calls wait.
_LARGE_REQUEST = 1024 * 1024
_LARGE_ANSWER = 64 * 1024


class InferenceServicer(oip_grpc.GRPCInferenceServiceServicer):
    """The Open Inference Protocol.

    Args:
        settings: of the service.
        catalog: the models.
        explaining: has the work done.
        ending: whether the service is shutting down.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, explaining: Explaining, ending: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._asking = Asking(explaining, settings.max_image_bytes)
        self._ending = ending

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Context) -> oip.ServerLiveResponse:  # noqa: N802
        """Whoever hears this hears yes."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Context) -> oip.ServerReadyResponse:  # noqa: N802
        """As grpc.health.v1 says it of the whole server."""
        models = list(self._catalog)
        ready = bool(models) and all(map(metadata.is_ready, models)) and not self._ending()
        return oip.ServerReadyResponse(ready=ready)

    async def ServerMetadata(  # noqa: N802
        self, request: oip.ServerMetadataRequest, context: Context
    ) -> oip.ServerMetadataResponse:
        """Name, version, extensions."""
        return metadata.server_metadata()

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Context) -> oip.ModelReadyResponse:  # noqa: N802
        """Whether a model can predict."""
        return oip.ModelReadyResponse(ready=metadata.is_ready(self._model(request.name, request.version)))

    async def ModelMetadata(  # noqa: N802
        self, request: oip.ModelMetadataRequest, context: Context
    ) -> oip.ModelMetadataResponse:
        """The tensors that the caller may have of a model."""
        caller = observation.current().caller
        return metadata.model_metadata(
            self._model(request.name, request.version),
            explains=may_call(EXPLAIN, caller.roles),
            exact=caller.precision is Precision.FULL,
        )

    async def RepositoryIndex(  # noqa: N802
        self, request: oip.RepositoryIndexRequest, context: Context
    ) -> oip.RepositoryIndexResponse:
        """The models, or those that can predict."""
        found = [model for model in self._catalog if metadata.is_ready(model) or not request.ready]
        return oip.RepositoryIndexResponse(models=map(metadata.model_index, found))

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Context) -> oip.ModelInferResponse:  # noqa: N802
        """Classify the images and, where asked for, explain them."""
        seen = observation.current()
        seen.model = self._catalog.get(request.model_name).name  # refusals count for their model, too
        model = self._catalog.get_ready(request.model_name, request.model_version)
        question = await self._understand(request)
        _allow(question, seen.caller)
        deadline = answer_by(context, self._settings.default_timeout)
        if question.timeout is not None:
            deadline = min(deadline, time.monotonic() + question.timeout)
        answers = await self._asking.answers(question.requests, model, deadline)
        given = (answers, question.outputs, seen.caller.precision, request.id, question.raw)
        if sum(answer.ByteSize() for answer in answers) > _LARGE_ANSWER:
            return await asyncio.to_thread(to_infer_response, *given)
        return to_infer_response(*given)

    async def _understand(self, request: oip.ModelInferRequest) -> Question:
        given = (request, Limits(self._settings.max_images, self._settings.max_image_bytes))
        if request.ByteSize() > _LARGE_REQUEST:
            return await asyncio.to_thread(to_question, *given)
        return to_question(*given)

    def _model(self, name: str, version: str) -> DeployedModel:
        model = self._catalog.get(name)
        observation.current().model = model.name
        if version and (model.description is None or version != model.description.version):
            raise ModelNotFoundError(
                "the model is not deployed in this version; RepositoryIndex names the deployed one"
            )
        return model


def _allow(question: Question, caller: Caller) -> None:
    """Refuse what explain.v1 would refuse the caller, before it is computed.

    Raises:
        PermissionDeniedError: the caller may only predict, or has answers of a lower precision than it asks for.
    """
    if isinstance(question.requests[0], api.ExplainRequest) and not may_call(EXPLAIN, caller.roles):
        raise PermissionDeniedError("the client's roles do not allow explanations")
    check_request(question.requests[0], caller.precision)
    if caller.precision is not Precision.FULL and any(
        OUTPUTS[name].exact for name in question.named if name in OUTPUTS
    ):
        raise PermissionDeniedError("the client's precision allows no logits", reason="PRECISION_TOO_LOW")

"""The public procedures: each checks its request, has the work done, and converts the answer."""

from collections.abc import AsyncIterator
from contextlib import aclosing

from google.longrunning import operations_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import types_pb2
from service import observation
from service.catalog import Catalog, DeployedModel
from service.converters import to_command
from service.converters.expected_cost import expected_cost
from service.converters.to_stream import to_stream_options
from service.costs import Costs
from service.deadlines import answer_by
from service.errors import InvalidRequestError
from service.explaining import Explaining
from service.jobs.jobs import Jobs
from service.rpc_types import Context
from service.settings import Settings
from service.streaming import Streaming


class ExplanationServicer(api_grpc.ExplanationServiceServicer):
    """explain.v1.ExplanationService."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        explaining: Explaining,
        streaming: Streaming,
        jobs: Jobs,
        costs: Costs,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._explaining = explaining
        self._streaming = streaming
        self._jobs = jobs
        self._costs = costs

    async def Predict(self, request: api.PredictRequest, context: Context) -> api.PredictResponse:  # noqa: N802
        """Classify one image."""
        model = self._model(request)
        command = to_command.to_predict_command(request, model, self._settings.max_image_bytes)
        return await self._explaining.predict(command, model, self._deadline(context))

    async def Explain(self, request: api.ExplainRequest, context: Context) -> api.ExplainResponse:  # noqa: N802
        """Classify one image and explain one or more classes."""
        model = self._model(request)
        command = to_command.to_explain_command(request, model, self._settings.max_image_bytes)
        return await self._explaining.explain(command, model, self._deadline(context))

    async def StreamExplain(  # noqa: N802
        self, request: api.StreamExplainRequest, context: Context
    ) -> AsyncIterator[api.StreamExplainResponse]:
        """Explain, and tell of it meanwhile."""
        options = to_stream_options(request)
        try:
            model = self._model(request.request)
            command = to_command.to_explain_command(request.request, model, self._settings.max_image_bytes)
            answers = self._streaming.explain(command, model, self._deadline(context), options)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except InvalidRequestError as error:
            raise error.within("request") from None

    async def CreateExplanationJob(  # noqa: N802
        self, request: api.CreateExplanationJobRequest, context: Context
    ) -> operations_pb2.Operation:
        """Explain, with nobody waiting."""
        return await self._jobs.create(request)

    async def ListModels(self, request: api.ListModelsRequest, context: Context) -> api.ListModelsResponse:  # noqa: N802
        """The deployed models, without their labels and layers."""
        return api.ListModelsResponse(models=[_summary(model) for model in self._catalog])

    async def GetModel(self, request: api.GetModelRequest, context: Context) -> api.GetModelResponse:  # noqa: N802
        """One model in full."""
        model = self._catalog.get(request.model)
        observation.current().model = model.name
        return api.GetModelResponse(model=_full(model))

    async def ListMethods(self, request: api.ListMethodsRequest, context: Context) -> api.ListMethodsResponse:  # noqa: N802
        """The methods that the workers know, with the models on which each works and what it costs there."""
        models = [self._catalog.get(request.model)] if request.model else list(self._catalog)
        known = [model for model in models if model.description is not None]
        methods: dict[str, types_pb2.MethodInfo] = {}
        for model in known:
            for name, info in model.methods.items():
                entry = methods.setdefault(name, types_pb2.MethodInfo())
                if not entry.name:
                    entry.CopyFrom(info)
                if model.refusal(name) is None:
                    entry.models.append(model.name)
                    entry.expected_costs.append(expected_cost(info, model, self._costs))
        listed = [method for method in methods.values() if method.models or not request.model]
        return api.ListMethodsResponse(methods=listed)

    async def ListMetrics(self, request: api.ListMetricsRequest, context: Context) -> api.ListMetricsResponse:  # noqa: N802
        """The metrics that the workers compute."""
        metrics = {name: info for model in self._catalog for name, info in model.metrics.items()}
        return api.ListMetricsResponse(metrics=metrics.values())

    def _model(self, request: api.PredictRequest | api.ExplainRequest) -> DeployedModel:
        observation.current().model = self._catalog.get(request.model).name  # refusals count for their model, too
        return self._catalog.get_ready(request.model, request.model_version)

    def _deadline(self, context: Context) -> float:
        return answer_by(context, self._settings.default_timeout)


def _summary(model: DeployedModel) -> types_pb2.Model:
    summary = _full(model)
    del summary.labels[:]
    del summary.layers[:]
    del summary.sanity_checks[:]
    return summary


def _full(model: DeployedModel) -> types_pb2.Model:
    full = types_pb2.Model()
    if model.description is not None:
        full.CopyFrom(model.description)
    full.name = model.name
    full.state = model.state
    full.sanity_checks.extend(model.checks)
    return full

"""The deployed models: what their workers said of themselves, and how they are."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

from model_store.lanes import Lane
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.errors import ModelNotFoundError, WorkerUnavailableError

# In these states a request finds a worker.
SERVING = (types_pb2.MODEL_STATE_READY, types_pb2.MODEL_STATE_DEGRADED)


@dataclass(frozen=True)
class LaneWorkers:
    """The workers of one lane of a model.

    Attributes:
        ready: workers that take requests now.
        total: workers that there should be.
    """

    ready: int = 0
    total: int = 0


@dataclass(frozen=True)
class DeployedModel:
    """One model.

    Attributes:
        name: name of the model.
        state: how its workers are.
        lanes: the lanes that have workers of their own. Predictions always do; the work of a lane that is missing here
            is done by the next quicker one's.
        description: what the worker said of it; None until it was ready for the first time.
        methods: the saliency methods that its worker knows, by name.
        metrics: the metrics that its worker computes for a request, by name.
        indices: class indices by label (several where labels repeat).
        checks: what its sanity check found; empty until it is done.
    """

    name: str
    state: types_pb2.ModelState = types_pb2.MODEL_STATE_UNAVAILABLE
    lanes: Mapping[Lane, LaneWorkers] = field(default_factory=lambda: {Lane.PREDICT: LaneWorkers()})
    description: types_pb2.Model | None = None
    methods: Mapping[str, types_pb2.MethodInfo] = field(default_factory=dict)
    metrics: Mapping[str, types_pb2.MetricInfo] = field(default_factory=dict)
    indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    checks: tuple[types_pb2.SanityCheck, ...] = ()

    @property
    def known(self) -> types_pb2.Model:
        """The description.

        Raises:
            WorkerUnavailableError: no worker was ever ready.
        """
        if self.description is None:
            raise WorkerUnavailableError("the model is not ready yet")
        return self.description

    @cached_property
    def fingerprint(self) -> bytes:
        """The same bytes for equal descriptions; made once, because each request asks for it.

        Raises:
            WorkerUnavailableError: as `known`.
        """
        return hashlib.sha256(self.known.SerializeToString(deterministic=True)).digest()

    def refusal(self, method: str) -> str | None:
        """Why `method` cannot explain this model, or None where it can."""
        for support in self.known.methods:
            if support.method == method and not support.supported:
                return str(support.reason)
        return None


class Catalog:
    """The models in the order in which they were declared."""

    def __init__(self) -> None:
        self._models: dict[str, DeployedModel] = {}

    def declare(self, name: str, lanes: Iterable[Lane] = (Lane.PREDICT,)) -> None:
        """Make a model known that is not ready yet, with the lanes that have workers of their own."""
        self._models.setdefault(name, DeployedModel(name, lanes=dict.fromkeys(lanes, LaneWorkers())))

    def forget(self, name: str) -> None:
        """Drop a model that is deployed no longer, or was never ours."""
        self._models.pop(name, None)

    def __iter__(self) -> Iterator[DeployedModel]:
        return iter(tuple(self._models.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def get(self, name: str) -> DeployedModel:
        """The model of that name.

        Raises:
            ModelNotFoundError: there is none.
        """
        model = self._models.get(name)
        if model is None:
            raise ModelNotFoundError("no such model; ListModels and RepositoryIndex name the deployed ones")
        return model

    def get_ready(self, name: str, version: str) -> DeployedModel:
        """The model of that name, when it has a worker: TorchServe would let a request wait for one that may not come.

        Args:
            name: as the client wrote it.
            version: the version that must answer, or "" for the deployed one.

        Raises:
            ModelNotFoundError: there is none, or not in that version.
            WorkerUnavailableError: no worker is ready.
        """
        model = self.get(name)
        if model.state not in SERVING:
            raise WorkerUnavailableError("no worker of this model is ready")
        if version not in ("", model.known.version):
            raise ModelNotFoundError("the model is not deployed in this version; GetModel names the deployed one")
        return model

    def set_state(self, name: str, state: types_pb2.ModelState) -> None:
        """Record how a model is."""
        self._models[name] = replace(self._models[name], state=state)

    def set_lanes(self, name: str, lanes: Mapping[Lane, LaneWorkers]) -> None:
        """Record which lanes of a model have workers of their own, and how these are."""
        self._models[name] = replace(self._models[name], lanes=MappingProxyType(dict(lanes)))

    def checked(self, name: str, checks: Iterable[types_pb2.SanityCheck]) -> None:
        """Record what the sanity check of a model found."""
        if name in self._models:
            self._models[name] = replace(self._models[name], checks=tuple(checks))

    def describe(self, name: str, result: worker_pb2.DescribeResult) -> None:
        """Record what a worker said of its model."""
        indices: dict[str, tuple[int, ...]] = {}
        for index, label in enumerate(result.model.labels):
            indices[label] = (*indices.get(label, ()), index)
        before = self._models[name]
        same = before.description is not None and before.description.weights_digest == result.model.weights_digest
        self._models[name] = replace(
            before,
            description=result.model,
            methods=MappingProxyType({method.name: method for method in result.methods}),
            metrics=MappingProxyType({metric.name: metric for metric in result.metrics}),
            indices=MappingProxyType(indices),
            checks=before.checks if same else (),
        )

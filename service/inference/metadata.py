"""What the service says of itself and of its models."""

import importlib.metadata

from protos.explain.v1 import types_pb2
from protos.inference import inference_service_pb2 as oip
from service.catalog import SERVING, DeployedModel
from service.inference import images
from service.inference.outputs import OUTPUTS

NAME = "whylight"
# Of Triton's names for what goes beyond the protocol's core.
EXTENSIONS = ("binary_tensor_data", "parameters", "schedule_policy")

_STATES = {
    types_pb2.MODEL_STATE_READY: ("READY", ""),
    types_pb2.MODEL_STATE_DEGRADED: ("READY", "some workers are not ready"),
    types_pb2.MODEL_STATE_LOADING: ("LOADING", "no worker is ready yet"),
}
_UNAVAILABLE = ("UNAVAILABLE", "no worker is ready")


def server_metadata() -> oip.ServerMetadataResponse:
    """Name and version of the service, and the extensions that it speaks."""
    try:
        version = importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return oip.ServerMetadataResponse(name=NAME, version=version, extensions=EXTENSIONS)


def model_metadata(model: DeployedModel, *, explains: bool, exact: bool) -> oip.ModelMetadataResponse:
    """The tensors of a model, as far as a client may have them.

    Args:
        model: has been ready before.
        explains: whether the client may have explanations.
        exact: whether it has answers of full precision.

    Raises:
        WorkerUnavailableError: the model has never been ready.
    """
    outputs = [
        {"name": name, "datatype": each.datatype, "shape": each.shape}
        for name, each in OUTPUTS.items()
        if each.sent and (explains or not each.explains) and (exact or not each.exact)
    ]
    return oip.ModelMetadataResponse(
        name=model.name,
        versions=[model.known.version],
        platform=NAME,
        inputs=[{"name": images.NAME, "datatype": "BYTES", "shape": [-1]}],
        outputs=outputs,
    )


def model_index(model: DeployedModel) -> oip.RepositoryIndexResponse.ModelIndex:
    """A model's line in the list of all."""
    state, reason = _STATES.get(model.state, _UNAVAILABLE)
    version = model.description.version if model.description is not None else ""
    return oip.RepositoryIndexResponse.ModelIndex(name=model.name, version=version, state=state, reason=reason)


def is_ready(model: DeployedModel) -> bool:
    """Whether a model can predict."""
    return model.state in SERVING

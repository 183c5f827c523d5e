"""What a client may not have of explain.v1 it does not get through the Open Inference Protocol."""

from pathlib import Path

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.inference import inference_service_pb2 as oip
from service.converters.saliency import map_values
from tests.service.fakes import MODEL, front
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.inference.asking import ask, stub_of, tensors, whole
from tests.service.test_front import details, explain, refused

EXPLAIN = {"explain": True, "target": 1, "quality": "average_drop"}
TARGETS = api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=1)]))


@pytest.mark.parametrize("tier", ["coarse", "standard", "full"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
async def test_tensors_are_as_precise_as_explain_v1s_answers(tier: str, raw: bool, tmp_path: Path) -> None:
    """Scores, maps and figures are the rounded ones; logits are there at full precision only."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision=tier))
    async with front(clients_file=path) as service:
        service.worker.answer = whole
        quality = {"metrics": [{"name": "average_drop"}]}
        expected = await service.stub.Explain(explain(targets=TARGETS, quality=quality), metadata=bearer("a"))
        answer = await stub_of(service).ModelInfer(ask(raw=raw, parameters=EXPLAIN), metadata=bearer("a"))
    found = tensors(answer)
    map_ = expected.explanations[0].map
    assert found["saliency"][2] == list(map_values(map_))
    assert found["probabilities"][2] == [expected.predictions[0].probability]
    assert found["quality.average_drop"][2] == [expected.explanations[0].quality[0].value]
    assert ("logits" in found) == (tier == "full")
    assert f"PRECISION_{tier.upper()}" in answer.parameters["provenance"].string_param


@pytest.mark.parametrize(
    ("parameters", "outputs"),
    [({}, ["logits"]), ({"explain": True, "resolution": "input"}, []), ({}, ["overlay_png"]), ({}, ["map_png"])],
)
async def test_what_is_too_precise_is_refused(
    parameters: dict[str, object], outputs: list[str], tmp_path: Path
) -> None:
    """Logits, interpolated maps and pictures are PERMISSION_DENIED at coarse precision, and not computed."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision="coarse"))
    async with front(clients_file=path) as service:
        error = await refused(
            stub_of(service).ModelInfer(ask(parameters=parameters, outputs=outputs), metadata=bearer("a"))
        )
        assert service.worker.requests == []
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert details(error)["ErrorInfo"].reason == "PRECISION_TOO_LOW"  # type: ignore[attr-defined]


async def test_who_may_only_predict_gets_no_saliency(tmp_path: Path) -> None:
    """The role counts, not the procedure; and the metadata name only what the client may have."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "predict"))
    async with front(clients_file=path) as service:
        stub = stub_of(service)
        await stub.ModelInfer(ask(), metadata=bearer("a"))
        for request in (ask(parameters={"explain": True}), ask(outputs=["targets"])):
            error = await refused(stub.ModelInfer(request, metadata=bearer("a")))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert details(error)["ErrorInfo"].reason == "ROLE_NOT_ALLOWED"  # type: ignore[attr-defined]
        assert len(service.worker.requests) == 1
        metadata = await stub.ModelMetadata(oip.ModelMetadataRequest(name=MODEL), metadata=bearer("a"))
    assert [output.name for output in metadata.outputs] == ["probabilities", "classes", "labels"]


async def test_quotas_are_the_same_ones(tmp_path: Path) -> None:
    """What Explain has taken, ModelInfer does not find any more."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", explanations_per_minute=1))
    async with front(clients_file=path) as service:
        await service.stub.Explain(explain(targets=TARGETS), metadata=bearer("a"))
        error = await refused(stub_of(service).ModelInfer(ask(parameters=EXPLAIN), metadata=bearer("a")))
        await stub_of(service).ModelInfer(ask(), metadata=bearer("a"))
    assert details(error)["ErrorInfo"].reason == "QUOTA_EXCEEDED"  # type: ignore[attr-defined]

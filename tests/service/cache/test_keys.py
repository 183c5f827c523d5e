"""What makes two requests the same: everything that an answer depends on, and nothing else."""

import dataclasses
import random

from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.cache.keys import Request, canonical
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand, StreamOptions
from service.streaming import LatestStep

MODEL = types_pb2.Model(
    name="tiny",
    version="1.0",
    weights_digest="sha256:1",
    preprocessing_digest="sha256:2",
    labels=["cat", "dog"],
    device="cpu",
    library_versions={"torch": "2", "whylight": "0.1"},
)
COMMAND = ExplainCommand(
    model="tiny",
    image=b"image",
    top_k=5,
    method=method_pb2.Method(grad_cam=method_pb2.GradCam(layer="a")),
    class_indices=(1,),
    target_top_k=0,
    output=api.OutputOptions(map_png=True, overlay_opacity=0.5),
    quality=quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name="average_drop")]),
)
OTHER = {
    "image": b"other",
    "top_k": 6,
    "method": method_pb2.Method(grad_cam=method_pb2.GradCam(layer="b")),
    "class_indices": (1, 0),
    "target_top_k": 1,
    "output": api.OutputOptions(map_png=True, overlay_opacity=0.25),
    "quality": quality_pb2.QualityOptions(),
    "allow_partial": True,
}
OTHER_MODEL = {
    "name": "small",
    "version": "1.1",
    "weights_digest": "sha256:3",
    "preprocessing_digest": "sha256:3",
    "labels": ["cat", "fox"],
    "device": "cuda:0",
    "library_versions": {"torch": "2", "whylight": "0.2"},
}


class Plain:
    """A watch that is content with anything."""

    def progress(self, progress: worker_pb2.Progress) -> None:
        """Look away."""


def fingerprint(model: types_pb2.Model) -> bytes:
    """As the catalog has it."""
    return DeployedModel("tiny", description=model).fingerprint


async def keys(
    command: PredictCommand = COMMAND,
    client: str = "viewer",
    model: types_pb2.Model = MODEL,
    content: bytes = b"pixels",
) -> tuple[bytes, bytes]:
    """Of the computation, and of the answer."""
    request = await Request.of(command, client, fingerprint(model))
    return request.flight_key(None), request.answer_key(content)


def differ(one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> bool:
    return all(a != b for a, b in zip(one, other, strict=True))


async def test_every_field_of_a_command_counts() -> None:
    """But for no_cache; and of the image, a whole answer depends on the pixels only, and not on allow_partial."""
    assert {*OTHER, "model", "no_cache"} == {field.name for field in dataclasses.fields(COMMAND)}
    for name, value in OTHER.items():
        changed = await keys(dataclasses.replace(COMMAND, **{name: value}))
        if name in ("image", "allow_partial"):
            assert changed[0] != (await keys())[0]
            assert changed[1] == (await keys())[1]
        else:
            assert differ(changed, await keys()), name


async def test_everything_that_the_model_is_counts() -> None:
    """Another version, other weights, labels, libraries or another device: another answer."""
    for name, value in OTHER_MODEL.items():
        model = types_pb2.Model()
        model.CopyFrom(MODEL)
        model.ClearField(name)
        model.MergeFrom(types_pb2.Model(**{name: value}))
        assert differ(await keys(model=model), await keys()), name


async def test_the_client_and_the_pixels_count() -> None:
    """Another client never meets what is kept for one; other pixels are another answer."""
    assert differ(await keys(client="auditor"), await keys())
    assert (await keys(content=b"other"))[1] != (await keys())[1]


async def test_client_and_model_cannot_pass_for_each_other() -> None:
    """What is known of images and methods belongs to a client as well."""
    mine, theirs = [await Request.of(COMMAND, client, fingerprint(MODEL)) for client in ("viewer", "auditor")]
    assert mine.image_key != theirs.image_key
    assert mine.method_key != theirs.method_key


async def test_a_prediction_is_no_explanation() -> None:
    """Not even one of the same image with the same number of classes."""
    assert differ(await keys(PredictCommand("tiny", b"image", 5)), await keys())


async def test_a_watched_computation_is_another_one_with_the_same_answer() -> None:
    """Who wants to be told of the steps joins only computations that tell of them."""
    request = await Request.of(COMMAND, "viewer", fingerprint(MODEL))
    options = [StreamOptions(True, maps, interval) for maps, interval in ((False, 0.1), (True, 0.1), (True, 0.2))]
    watches = [None, Plain(), *map(LatestStep, options)]
    assert len({request.flight_key(watch) for watch in watches}) == len(watches)


async def test_an_overlay_needs_more_of_the_image() -> None:
    """What is known of an image for a map is not enough to know two overlays to be the same."""
    output = api.OutputOptions(overlay_png=True)
    plain, drawn = [
        await Request.of(dataclasses.replace(COMMAND, output=chosen), "viewer", fingerprint(MODEL))
        for chosen in (api.OutputOptions(), output)
    ]
    assert plain.image_key != drawn.image_key


async def test_a_large_image_has_the_digest_of_a_small_one() -> None:
    """It is only made elsewhere: equal bytes are equal, others are not."""
    large, same, other = [dataclasses.replace(COMMAND, image=last * 2_000_000) for last in (b"a", b"a", b"b")]
    assert await keys(large) == await keys(same)
    assert (await keys(large))[0] != (await keys(other))[0]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# No subnormal floats: a test of the handlers in the same process may have turned them off.
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.floats(allow_nan=False, allow_subnormal=False), min_size=2),
    st.randoms(),
)
def test_the_order_of_parameters_does_not_count(parameters: dict[str, float], chance: random.Random) -> None:
    """A metric's parameters are the same in whatever order a client writes them."""
    shuffled = list(parameters.items())
    chance.shuffle(shuffled)
    one, other = Struct(), Struct()
    one.update(parameters)
    other.update(dict(shuffled))
    choices = [quality_pb2.MetricChoice(name="insertion_auc", parameters=each) for each in (one, other)]
    assert canonical(choices[0]) == canonical(choices[1])

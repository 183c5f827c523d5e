"""Kept answers with a real worker, which says what they depend on."""

import io

import pytest
from PIL import Image

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2, types_pb2
from tests.e2e.test_service import IMAGE, MODELS, classes, explain

pytestmark = pytest.mark.e2e


def encoded(image_format: str) -> bytes:
    """The photograph without loss, in a size that no other test sends: what it says is not kept yet."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(IMAGE)).convert("RGB").resize((120, 90)).save(buffer, image_format)
    return buffer.getvalue()


def outcome(response: api.ExplainResponse | api.PredictResponse) -> str:
    return types_pb2.CacheOutcome.Name(response.provenance.cache.outcome).removeprefix("CACHE_OUTCOME_")


def content(response: api.ExplainResponse) -> api.ExplainResponse:
    """What does not belong to the one request."""
    own = api.ExplainResponse()
    own.CopyFrom(response)
    own.ClearField("timings")
    for name in ("request_id", "cache"):
        own.provenance.ClearField(name)
    return own


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_is_kept_for_every_way_to_ask_for_it(stub: api_grpc.ExplanationServiceStub, model: str) -> None:
    """The same request, the method's parameters written out, and the same pixels in another file."""
    png, bmp = encoded("PNG"), encoded("BMP")
    asked = {"targets": classes(3), "output": api.OutputOptions(map_png=True)}
    first = stub.Explain(explain(png, model, **asked))
    again = stub.Explain(explain(png, model, **asked))
    written_out = stub.Explain(explain(png, model, method=first.provenance.method, **asked))
    assert [outcome(each) for each in (first, again, written_out)] == ["MISS", "HIT", "HIT"]
    assert content(again) == content(written_out) == content(first)
    assert again.provenance.request_id != first.provenance.request_id
    stub.Predict(api.PredictRequest(model=model, image=bmp))  # from here on its pixels are known
    other_file = stub.Explain(explain(bmp, model, **asked))
    assert (outcome(other_file), other_file.image.format) == ("HIT", "BMP")
    assert content(other_file).explanations == content(first).explanations
    computed = stub.Explain(explain(bmp, model, no_cache=True, **asked))
    assert outcome(computed) == "BYPASS"
    assert content(computed) == content(other_file)


def test_what_differs_is_computed(stub: api_grpc.ExplanationServiceStub) -> None:
    """Another class, picture or parameter is another answer."""
    image = encoded("WEBP")
    layer = method_pb2.Method(layer_cam=method_pb2.LayerCam())
    requests = [
        explain(image, targets=classes(3)),
        explain(image, targets=classes(8)),
        explain(image, targets=classes(3), output=api.OutputOptions(overlay_png=True)),
        explain(image, targets=classes(3), method=layer),
        explain(image, targets=classes(3), top_k=3),
    ]
    assert [outcome(stub.Explain(request)) for request in requests] == ["MISS"] * len(requests)
    assert [outcome(stub.Explain(request)) for request in requests] == ["HIT"] * len(requests)

"""An ONNX file explains like the torch network that it was exported from, or says why it doesn't."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from explainers import (
    AblationCam,
    Activation,
    Cam,
    FakeCam,
    GradCam,
    KernelShap,
    Lime,
    Method,
    Network,
    NotApplicableError,
    Occlusion,
    Rise,
    ScoreCam,
    SsCam,
    TopK,
)
from handlers.describe import supported_methods
from quality.randomisation import randomised
from runtimes import GraphError
from runtimes.classifier import Session, load_classifier
from tests.explainers import networks
from tests.explainers.networks import pictures, prepare
from tests.onnx_files import SIDE, changed, write_onnx

CPU = torch.device("cpu")
SIZE = (SIDE, SIDE)
BLACK_BOX = {"rise", "occlusion", "lime", "kernel_shap", "fake_cam"}
BY_MAP = BLACK_BOX | {"score_cam", "ss_cam", "ablation_cam"}
BY_HEAD = BY_MAP | {"grad_cam", "grad_cam_plus_plus", "xgrad_cam", "layer_cam", "smooth_grad_cam_plus_plus"}


class Normalised(nn.Module):
    """A head behind an operation that is not in the table of layers: a second session computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 1, 1), nn.ReLU())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(x).mean((2, 3))))


# By name: the network, the layer of it that the cut is at, and the methods that work on the file.
MODELS: dict[str, tuple[Callable[[], nn.Module], str, set[str]]] = {
    "linear": (networks.ResidualCnn, "stage.1", BY_HEAD | {"cam"}),
    "flat": (networks.vgg, "0.5", BY_HEAD),
    "squeeze": (networks.fully_convolutional, "1", BY_HEAD),
    "normalised": (Normalised, "body.3", BY_MAP),
}
Pair = tuple[Network, Network]


def load(path: Path, **options: object) -> Network:
    """A file ready to explain."""
    return networks.network(load_classifier(path, SIZE, CPU, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """A torch network by name, and the file of it."""
    folder = tmp_path_factory.mktemp("files")

    @cache
    def find(name: str) -> Pair:
        build, layer, _ = MODELS[name]
        model = prepare(build())
        path = write_onnx(model, folder / f"{name}.onnx")
        return networks.network(model, target_layer=layer), load(path)

    return find


@pytest.mark.parametrize("name", MODELS)
def test_what_works(pair: Callable[[str], Pair], name: str) -> None:
    """Logits of any batch, the layer, and which methods are not refused."""
    ours, file = pair(name)
    for count in (1, 3):
        assert torch.allclose(file.predict(pictures(count)), ours.predict(pictures(count)), rtol=0, atol=1e-4)
    assert file.class_count == 5
    one, other = file.target_layer, ours.target_layer
    assert (one.channels, one.height, one.width) == (other.channels, other.height, other.width)
    assert set(supported_methods(file)) == MODELS[name][2]


TRIED: list[Method] = [
    Cam(),
    GradCam(),
    ScoreCam(),
    SsCam(samples=2),
    AblationCam(),
    Rise(samples=64),
    Occlusion(),
    Lime(samples=32),
    KernelShap(samples=32),
    FakeCam(),
]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", TRIED, ids=lambda method: method.name)
def test_maps(pair: Callable[[str], Pair], name: str, method: Method) -> None:
    """The torch network's at the same layer, to 1e-3 of their range, for several classes of several images."""
    if method.name not in MODELS[name][2]:
        pytest.skip("does not work on this one")
    ours, file = pair(name)
    images, targets = pictures(2), [TopK(2), TopK(1)]
    expected = method.resolve(ours).explain(ours, images, targets)
    found = method.resolve(file).explain(file, images, targets)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.logits, other.logits, rtol=0, atol=1e-4)
        assert [item.target for item in one.explanations] == [item.target for item in other.explanations]
        for item, wanted in zip(one.explanations, other.explanations, strict=True):
            assert item.degenerate == wanted.degenerate
            assert torch.allclose(item.map, wanted.map, rtol=0, atol=1e-3)


class TracedViT(networks.ViT):
    """Its exported graph asks the image for the size of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(x.shape[0], -1, -1), patches], dim=1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def test_a_transformer_has_no_map(tmp_path: Path) -> None:
    """Its convolution is that of the patches. Methods that look at pixels alone work, others say why not."""
    model = prepare(TracedViT())
    file = load(write_onnx(model, tmp_path / "vit.onnx"))
    assert torch.allclose(file.predict(pictures()), networks.network(model).predict(pictures()), rtol=0, atol=1e-4)
    with pytest.raises(NotApplicableError, match="no layer with a spatial map"):
        ScoreCam().resolve(file)
    method = Occlusion().resolve(file)
    assert len(method.explain(file, pictures(1), [TopK()])[0].explanations) == 1


@pytest.mark.parametrize("name", ["linear", "flat"])
def test_fixed_batch(tmp_path: Path, name: str) -> None:
    """A file that was exported for one image takes any number."""
    model = prepare(MODELS[name][0]())
    file = load(write_onnx(model, tmp_path / "net.onnx", fixed=True))
    assert torch.allclose(file.predict(pictures()), networks.network(model).predict(pictures()), rtol=0, atol=1e-4)


class OneImage(networks.ResidualCnn):
    """Writes its batch of one into the graph, in the middle of its maps."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).reshape(1, 6, 16, 16)
        return self.head(self.pool(self.stage(x)).flatten(1))


@pytest.mark.parametrize("fixed", [True, False])
def test_a_batch_that_cannot_change(tmp_path: Path, fixed: bool) -> None:
    """Of one image, or of the two that a transformer was traced with."""
    path = write_onnx(prepare(OneImage() if fixed else networks.ViT()), tmp_path / "net.onnx", fixed=fixed)
    with pytest.raises(GraphError, match="export it with a dynamic batch"):
        load_classifier(path, SIZE, CPU)


@pytest.mark.parametrize(
    ("activation", "last"), [(Activation.SOFTMAX, nn.Softmax(dim=1)), (Activation.SIGMOID, nn.Sigmoid())]
)
def test_an_activation_at_the_end(tmp_path: Path, activation: Activation, last: nn.Module) -> None:
    """It is left out, so that methods get logits; the manifest must say which it was."""
    model = prepare(networks.ResidualCnn())
    path = write_onnx(nn.Sequential(model, last), tmp_path / "net.onnx")
    file = load(path, activation=activation)
    assert torch.allclose(file.predict(pictures()), networks.network(model).predict(pictures()), rtol=0, atol=1e-4)
    assert file.linear_head is not None
    other = next(each for each in Activation if each is not activation)
    with pytest.raises(GraphError, match=f"ends in {activation}"):
        load_classifier(path, SIZE, CPU, other)


def test_probabilities_by_other_means(tmp_path: Path) -> None:
    """A softmax written out cannot be left out: methods would get probabilities for logits."""

    class Written(networks.ResidualCnn):
        def forward(self, x: Tensor) -> Tensor:
            powers = super().forward(x).exp()
            return powers / powers.sum(dim=1, keepdim=True)

    path = write_onnx(prepare(Written()), tmp_path / "net.onnx")
    with pytest.raises(GraphError, match="returns probabilities"):
        load_classifier(path, SIZE, CPU)


def test_a_named_tensor(tmp_path: Path) -> None:
    """The manifest may name an earlier one, where nothing goes around it; the answers name it, too."""
    path = write_onnx(prepare(networks.ResidualCnn()), tmp_path / "net.onnx")
    graph = onnx.load(path).graph
    names = [node.output[0] for node in graph.node if node.op_type == "Relu"]
    file = load(path, target_layer=names[0])
    assert file.target_layer.path == names[0]
    assert AblationCam().resolve(file).layer == names[0]
    within = next(node.output[0] for node in graph.node if node.op_type == "Conv" and node.input[0] == names[0])
    for name in (within, "nowhere"):
        with pytest.raises(GraphError, match="no such tensor"):
            load_classifier(path, SIZE, CPU, target_layer=name)


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.bin")


def external_in_a_node(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="other.bin")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], value=tensor))


def colours_last(model: onnx.ModelProto) -> None:
    sides = model.graph.input[0].type.tensor_type.shape.dim
    sides[1].dim_value, sides[3].dim_value = SIDE, 3


def bytes_in(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def flat_input(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[3]


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", 1, [1]))


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Evil"
    model.graph.node[1].domain = "mine"
    model.opset_import.add(domain="mine", version=1)


def infinite_weights(model: onnx.ModelProto) -> None:
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    bias.raw_data = b"\x00\x00\x80\x7f" * 5


def map_out(model: onnx.ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(model.graph.node[0].output[0], 1, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "weights in other files"),
        (external_in_a_node, "weights in other files"),
        (colours_last, "colours last"),
        (bytes_in, "must be float32, and is UINT8"),
        (flat_input, "must have shape"),
        (two_outputs, "must have one output"),
        (two_inputs, "must have one input"),
        (unknown_operator, "cannot load"),
        (infinite_weights, "not finite"),
        (map_out, "must return logits"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: object, message: str) -> None:
    """With one sentence, before anything else is read or run."""
    path = changed(write_onnx(prepare(networks.ResidualCnn()), tmp_path / "net.onnx"), change)
    with pytest.raises(GraphError, match=message):
        load_classifier(path, SIZE, CPU)


def test_another_size(tmp_path: Path) -> None:
    path = write_onnx(prepare(networks.ResidualCnn()), tmp_path / "net.onnx")
    with pytest.raises(GraphError, match=r"preprocessing\.size"):
        load_classifier(path, (SIDE, 48), CPU)


@pytest.mark.parametrize("length", [0, 7, 300])
def test_a_damaged_file(tmp_path: Path, length: int) -> None:
    path = write_onnx(prepare(networks.ResidualCnn()), tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(GraphError):
        load_classifier(path, SIZE, CPU)


def test_its_weights_stay(pair: Callable[[str], Pair], tmp_path: Path) -> None:
    """The sanity check can't make them random: it refuses, rather than to find that maps depend on the head alone."""
    _, file = pair("linear")
    module = load_classifier(write_onnx(prepare(networks.ResidualCnn()), tmp_path / "net.onnx"), SIZE, CPU)
    with pytest.raises(NotApplicableError, match="can't become random"):
        next(randomised(module, file, 2, 0))


def test_many_threads(pair: Callable[[str], Pair]) -> None:
    """Copies of a module share its session; each thread gets its own answer."""
    _, file = pair("normalised")
    method, images = ScoreCam().resolve(file), pictures(8)
    assert any(isinstance(module, Session) for module in file._shadow.modules())
    expected = [method.explain(file, image[None], [TopK()])[0].explanations[0].map for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: method.explain(file, image[None], [TopK()])[0].explanations[0].map, images))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))

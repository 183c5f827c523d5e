"""`whylight model add`: what it writes, what it checks, and that a failure leaves nothing behind."""

import hashlib
import shutil
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from handlers.loading import load_model
from handlers.torchvision_shim import ensure_operators
from model_store.manifest import load_manifest
from onboarding.cli import model
from tests.onnx_files import write_onnx
from tests.tiny import extract, sha256, tiny_network, write_tiny

OWN = "python:nets/tiny.py:Tiny"
SEEN = ("--size", "32", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
TIMM = "test_resnet"  # of timm itself: 160 x 160, and small
COMMENT = "# mine: keep this\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest with one model and a comment, and beside it the weights and labels of another one."""
    write_tiny(tmp_path)
    text = (tmp_path / "models.toml").read_text()
    (tmp_path / "models.toml").write_text(COMMENT + text + "# and this\n")
    save_file(tiny_network().state_dict(), tmp_path / "other.safetensors")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(model, [*arguments, "--manifest", str(folder / "models.toml")])


def add_own(folder: Path, *arguments: str, weights: str = "other.safetensors", arch: str = OWN) -> Result:
    options = ("--weights", str(folder / weights), "--labels", str(folder / "names.txt"))
    return run(folder, "add", "own", "--arch", arch, *options, *SEEN, *arguments)


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder, with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def test_own_code(folder: Path) -> None:
    """The entry, the archive, and not a character of the old text changed; the archive loads and has the weights."""
    before = (folder / "models.toml").read_text()
    result = add_own(folder, "--description", "mine", "--activation", "sigmoid", "--argument", "classes=5")
    assert result.exit_code == 0, result.output
    text = (folder / "models.toml").read_text()
    assert text.startswith(before)
    entry = load_manifest(folder / "models.toml").models[1]
    assert (entry.name, entry.weights, entry.labels_file) == ("own", "other.safetensors", "names.txt")
    assert (entry.description, entry.activation, entry.arguments) == ("mine", "sigmoid", {"classes": 5})
    loaded = load_model(extract(folder / "own.mar", folder / "unpacked"), torch.device("cpu"))
    assert loaded.document.labels == ("a", "b", "c", "d", "e")
    assert "last (8 x 8 x 8)" in result.output
    assert "CAM = Grad-CAM" in result.output


def test_files_from_elsewhere_are_copied(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """So that the folder of the manifest can be moved."""
    away = tmp_path_factory.mktemp("away")
    shutil.move(folder / "other.safetensors", away / "w.safetensors")
    shutil.move(folder / "names.txt", away / "n.txt")
    options = ("--weights", str(away / "w.safetensors"), "--labels", str(away / "n.txt"))
    result = run(folder, "add", "own", "--arch", OWN, *options, *SEEN)
    assert result.exit_code == 0, result.output
    entry = load_manifest(folder / "models.toml").models[1]
    assert (entry.weights, entry.labels_file) == ("weights/own.safetensors", "labels/own.txt")
    assert sha256(folder / "weights/own.safetensors") == entry.sha256 == sha256(away / "w.safetensors")


def test_a_manifest_is_made(folder: Path) -> None:
    """Where there is none."""
    (folder / "models.toml").unlink()
    assert add_own(folder).exit_code == 0
    assert [entry.name for entry in load_manifest(folder / "models.toml").models] == ["own"]


def test_an_image_is_explained(folder: Path) -> None:
    """One's own, if it is given."""
    Image.new("RGB", (50, 40), "red").save(folder / "red.png")
    assert add_own(folder, "--image", str(folder / "red.png")).exit_code == 0


def wrong_weights(folder: Path) -> None:
    state = load_file(folder / "other.safetensors")
    save_file({name: value for name, value in state.items() if name != "head.bias"}, folder / "other.safetensors")


def infinite_weights(folder: Path) -> None:
    state = load_file(folder / "other.safetensors")
    save_file({name: value * float("inf") for name, value in state.items()}, folder / "other.safetensors")


def write(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (wrong_weights, (), "the weights do not fit the architecture"),
        (infinite_weights, (), "not finite"),
        (write("names.txt", "a\nb\n"), (), "2 labels for 5 classes"),
        (write("other.safetensors", "nothing"), (), "cannot be read"),
        (None, ("--target-layer", "nowhere"), "target_layer nowhere"),
        (None, ("--argument", "classes=4"), "the weights do not fit"),
        (None, ("--argument", "classes"), "must be KEY=VALUE"),
        (None, ("--size", "0"), "size[0]"),
        (None, ("--resize", "crop"), "short_side"),
        (None, ("--pretrained",), "either --weights FILE or --pretrained"),
        (None, ("--image", "no.png"), "no.png is no image"),
        (None, ("--arch", "python:nets/none.py:Tiny"), "none.py does not exist"),
        (None, ("--arch", "python:../tiny.py:Tiny"), "must lie in the folder"),
        (None, ("--arch", "keras:vgg"), "must be torchvision:NAME"),
        (None, ("--arch", "pt2:net.pt2"), "holds its weights"),
        (None, ("--arch", "onnx:net.onnx"), "holds its weights"),
        (None, ("--weights", "none.pt"), "there is no file none.pt"),
        (write("models.toml", "[[models]]\nname = 3\n"), (), "models[0].name"),
    ],
)
def test_a_failure_leaves_nothing_behind(folder: Path, spoil: Any, arguments: tuple[str, ...], message: str) -> None:
    """No entry, no archive, no copies, no drafts: and a text that says what is wrong, without a traceback."""
    if spoil is not None:
        spoil(folder)
    before = contents(folder)
    result = add_own(folder, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert contents(folder) == before


def test_a_failure_takes_new_folders_back(folder: Path) -> None:
    """Also those that the manifest was to lie in."""
    before = contents(folder)
    new = folder / "deep" / "down"
    wrong_weights(folder)
    before = contents(folder)
    options = ("--weights", str(folder / "other.safetensors"), "--labels", str(folder / "names.txt"))
    result = run(new, "add", "own", "--arch", f"python:{folder}/nets/tiny.py:Tiny", *options, *SEEN)
    assert "do not fit" in result.stderr
    assert contents(folder) == before


def test_a_failure_while_files_are_moved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in place already is taken back."""
    before = contents(folder)

    def replace(source: Path, target: Path) -> None:
        if target.name == "models.toml":
            raise OSError(28, "No space left on device", str(target))
        shutil.move(source, target)

    monkeypatch.setattr("onboarding.add.os.replace", replace)
    result = add_own(folder)
    assert "No space left on device: models.toml" in result.stderr
    assert contents(folder) == before


def test_a_name_is_taken(folder: Path) -> None:
    """An entry is never replaced."""
    options = ("--weights", str(folder / "other.safetensors"), "--labels", str(folder / "names.txt"))
    result = run(folder, "add", "tiny", "--arch", OWN, *options, *SEEN)
    assert "there is a model 'tiny' in models.toml already" in result.stderr


def test_own_code_has_to_say_how_it_sees_images(folder: Path) -> None:
    """A guess would cost accuracy, and nobody would notice."""
    options = ("--weights", str(folder / "other.safetensors"), "--labels", str(folder / "names.txt"))
    result = run(folder, "add", "own", "--arch", OWN, *options, "--size", "32")
    assert "give --mean, --std" in result.stderr


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own
def test_an_export(folder: Path) -> None:
    """It holds its weights; the digest is that of the export."""
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(tiny_network(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "net.pt2")
    result = run(folder, "add", "net", "--arch", "pt2:net.pt2", "--labels", str(folder / "names.txt"), *SEEN)
    assert result.exit_code == 0, result.output
    entry = load_manifest(folder / "models.toml").models[1]
    assert (entry.weights, entry.sha256) == (None, sha256(folder / "net.pt2"))


@pytest.mark.parametrize(("layer", "method"), [("8 x 8 x 8", "Grad-CAM"), ("none", "Occlusion")])
def test_an_onnx_file(folder: Path, layer: str, method: str) -> None:
    """The same, also where there is no map, and so nothing that has a gradient."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)) if layer == "none" else tiny_network()
    write_onnx(model, folder / "net.onnx")
    result = run(folder, "add", "net", "--arch", "onnx:net.onnx", "--labels", str(folder / "names.txt"), *SEEN)
    assert result.exit_code == 0, result.output
    entry = load_manifest(folder / "models.toml").models[1]
    assert (entry.weights, entry.sha256) == (None, sha256(folder / "net.onnx"))
    assert layer in result.output
    assert f"prediction, {method}" in result.output


def timm_weights(path: Path) -> Path:
    ensure_operators()
    import timm

    torch.manual_seed(0)
    torch.save(timm.create_model(TIMM, pretrained=False).state_dict(), path)
    return path


def test_timm(folder: Path) -> None:
    """Preprocessing and labels are the network's own."""
    weights = timm_weights(folder / "net.pth")
    result = run(folder, "add", "net", "--arch", f"timm:{TIMM}", "--weights", str(weights))
    assert result.exit_code == 0, result.output
    entry = load_manifest(folder / "models.toml").models[1]
    found = entry.preprocessing
    assert (found.size, found.resize, found.short_side) == ((160, 160), "crop", 168)  # 160 / 0.95
    assert (found.interpolation, found.mean, found.std) == ("bilinear", (0.5,) * 3, (0.5,) * 3)
    assert (folder / "labels/net.txt").read_text().splitlines()[0] == "tench, Tinca tinca"
    assert "timm's pretrained_cfg" in result.output


def test_options_come_before_the_networks_own(folder: Path) -> None:
    """What is given replaces a key, the others stay."""
    weights = timm_weights(folder / "net.pth")
    options = ("--resize", "squash", "--mean", "0.1,0.2,0.3")
    result = run(folder, "add", "net", "--arch", f"timm:{TIMM}", "--weights", str(weights), *options)
    assert result.exit_code == 0, result.output
    found = load_manifest(folder / "models.toml").models[1].preprocessing
    assert (found.resize, found.short_side, found.mean, found.std) == ("squash", None, (0.1, 0.2, 0.3), (0.5,) * 3)


@pytest.mark.parametrize("arch", [f"timm:{TIMM}", "torchvision:squeezenet1_1"])
def test_pretrained_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch, arch: str) -> None:
    """The library's own download is tried; that it fails is told in one line with what to do, and changes nothing."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", unreachable)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(folder / ".cache"))
    (folder / ".cache" / "hub" / "checkpoints").mkdir(parents=True)
    before = contents(folder)
    result = run(folder, "add", "net", "--arch", arch, "--pretrained")
    assert result.exit_code == 1
    assert "could not be downloaded" in result.stderr
    assert "give --weights FILE" in result.stderr
    assert contents(folder) == before


def test_pretrained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library downloads becomes a file of weights of ours."""
    ensure_operators()
    import torchvision

    torch.manual_seed(0)
    state = torchvision.models.get_model("squeezenet1_1").state_dict()
    asked: list[str] = []

    def download(url: str, **_: object) -> Any:
        asked.append(url)
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    result = run(folder, "add", "net", "--arch", "torchvision:squeezenet1_1", "--pretrained")
    assert result.exit_code == 0, result.output
    assert len(asked) == 1
    entry = load_manifest(folder / "models.toml").models[1]
    assert (entry.preprocessing.size, entry.preprocessing.short_side) == ((224, 224), 256)
    stored = load_file(folder / "weights/net.safetensors")
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], state[name]) for name in state)


def test_list_cuts_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal a long architecture goes on in the next line."""
    monkeypatch.setenv("COLUMNS", "66")
    output = run(folder, "list").output
    assert "tiny" in output
    assert "…" not in output


def test_list_and_remove(folder: Path) -> None:
    """Removing takes the entry and the archive; comments and the weights stay, and the last model too."""
    before = (folder / "models.toml").read_text()
    add_own(folder)
    assert "own" in run(folder, "list").output
    assert run(folder, "remove", "own").exit_code == 0
    assert (folder / "models.toml").read_text().rstrip() == before.rstrip()
    assert not (folder / "own.mar").exists()
    assert (folder / "other.safetensors").exists()
    assert "there is no model 'own'" in run(folder, "remove", "own").stderr
    assert "tiny is the only model" in run(folder, "remove", "tiny").stderr
    assert (folder / "models.toml").read_text().startswith(COMMENT)

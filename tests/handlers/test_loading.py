"""Archives to networks: what is loaded, and what is refused before it can do harm."""

import importlib.util
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from handlers.exported import UnsafeExportError, load_export, refuse_code
from handlers.loading import (
    ArchitectureError,
    DigestError,
    LoadError,
    WeightsError,
    choose_device,
    load_model,
    read_weights,
)
from handlers.torchvision_shim import ensure_operators
from tests.tiny import LABELS, manifest_text, sha256, tiny_network, unpack, write_tiny

CPU = torch.device("cpu")
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
NORMALISED = (IMAGES - 0.5) / 0.5
BAIT = "bait"


class Malicious:
    """Unpickling this runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (BAIT,)


@pytest.fixture(autouse=True)
def _no_bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No test may run what a file of weights tells it to."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / BAIT).exists()


def write_manifest(folder: Path, text: str) -> Path:
    (folder / "models.toml").write_text(text)
    return folder / "models.toml"


@pytest.mark.parametrize("weights", ["tiny.safetensors", "tiny.pt", "tiny.pth"])
def test_python_architecture(tmp_path: Path, weights: str) -> None:
    """Own code and each kind of weights give the network that they were saved from, ready to explain."""
    model = load_model(unpack(write_tiny(tmp_path, weights=weights), tmp_path), CPU)
    expected = tiny_network()(NORMALISED)
    assert torch.allclose(model.network.predict(IMAGES), expected, atol=1e-5)
    assert model.network.class_count == 5
    assert model.network.target_layer.path == "last"
    assert model.document.labels == LABELS


def test_two_models_with_the_same_file_name(tmp_path: Path) -> None:
    """Each architecture file is a module of its own, and none hides a module of others."""
    for name, callable_name in (("a", "Tiny"), ("b", "TwoLayers")):
        manifest = write_tiny(tmp_path / name, callable_name)
        manifest.write_text(manifest.read_text().replace('"tiny"', f'"{name}"'))
        load_model(unpack(manifest, tmp_path / name), CPU)
    assert {"_whylight_architecture_a", "_whylight_architecture_b"} <= sys.modules.keys()
    assert "tiny" not in sys.modules


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_precision(tmp_path: Path, precision: torch.dtype) -> None:
    """Weights may be stored in halves; they compute in float32."""
    manifest = write_tiny(tmp_path)
    weights = tmp_path / "tiny.safetensors"
    save_file({name: value.to(precision) for name, value in load_file(weights).items()}, weights)
    text = manifest.read_text().splitlines()
    manifest.write_text("\n".join(f'sha256 = "{sha256(weights)}"' if "sha256" in line else line for line in text))
    logits = load_model(unpack(manifest, tmp_path), CPU).network.predict(IMAGES)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, tiny_network()(NORMALISED), atol=0.02)


def test_wrong_digest_is_refused_before_reading(tmp_path: Path) -> None:
    """Whatever was put in the place of the weights is not opened by any parser."""
    folder = unpack(write_tiny(tmp_path, weights="tiny.pt"), tmp_path)
    torch.save(Malicious(), folder / "weights.pt")
    with pytest.raises(DigestError, match="tiny: sha256 of the weights is"):
        load_model(folder, CPU)


@pytest.mark.parametrize("wrapped", [True, False])
def test_malicious_pickle_is_refused(tmp_path: Path, wrapped: bool) -> None:
    """Even with the right digest: a checkpoint is data, never code."""
    manifest = write_tiny(tmp_path, weights="tiny.pth")
    path = tmp_path / "tiny.pth"
    digest = sha256(path)
    torch.save({"first.weight": torch.zeros(1), "x": Malicious()} if wrapped else Malicious(), path)
    manifest.write_text(manifest.read_text().replace(digest, sha256(path)))
    with pytest.raises(WeightsError, match="not unpickled"):
        load_model(unpack(manifest, tmp_path), CPU)


@pytest.mark.parametrize("state", [{"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)], {"epoch": 3}])
def test_anything_but_a_state_dict_is_refused(tmp_path: Path, state: Any) -> None:
    """Which of the entries of a training checkpoint is meant, nobody can know."""
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="plain state dict"):
        read_weights(tmp_path / "a.pt")


def test_damaged_safetensors(tmp_path: Path) -> None:
    """An error of ours."""
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "a.safetensors")


def rewritten(tmp_path: Path, rename: Any) -> Path:
    """The archive of the tiny model, its weights under other names."""
    manifest = write_tiny(tmp_path)
    weights = tmp_path / "tiny.safetensors"
    digest = sha256(weights)
    save_file({rename(name): value for name, value in load_file(weights).items()}, weights)
    manifest.write_text(manifest.read_text().replace(digest, sha256(weights)))
    return unpack(manifest, tmp_path)


def test_names_must_fit(tmp_path: Path) -> None:
    """Nothing is left out silently; the usual cause is named."""
    with pytest.raises(WeightsError, match=r"every name begins with 'module\.'"):
        load_model(rewritten(tmp_path / "a", lambda name: f"module.{name}"), CPU)
    with pytest.raises(WeightsError, match=r"Unexpected key.*head\.bias2"):
        load_model(rewritten(tmp_path / "b", lambda name: name.replace("head.bias", "head.bias2")), CPU)


@pytest.mark.parametrize(
    ("old", "new", "error", "text"),
    [
        ("tiny.py:Tiny", "tiny.py:Missing", ArchitectureError, "cannot be built"),
        ("tiny.py:Tiny", "tiny.py:torch", ArchitectureError, "cannot be built"),
        ("tiny.py:Tiny", "tiny.py:dict", ArchitectureError, "cannot be built"),
        ('"eel"]', '"eel", "fox"]', LoadError, "6 labels for 5 classes"),
        ("[models.pre", 'target_layer = "head"\n[models.pre', ArchitectureError, "target_layer head"),
        ("[models.pre", "arguments = {width = 3}\n[models.pre", ArchitectureError, "width"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, old: str, new: str, error: type[LoadError], text: str) -> None:
    """Refused when it is loaded, not at the first request."""
    manifest = write_tiny(tmp_path)
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(error, match=text):
        load_model(unpack(manifest, tmp_path), CPU)


def test_damaged_document(tmp_path: Path) -> None:
    """No model.json, or another one's."""
    folder = unpack(write_tiny(tmp_path), tmp_path)
    (folder / "model.json").write_text("{}")
    with pytest.raises(LoadError, match=r"model\.json"):
        load_model(folder, CPU)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as a .pt2 file with a dynamic batch."""
    path = tmp_path_factory.mktemp("export") / "tiny.pt2"
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(tiny_network(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=shapes), path)
    return path


pt2 = pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself


@pt2
def test_pt2(exported: Path, tmp_path: Path) -> None:
    """An export gives the same scores, and its layers are found by their paths."""
    (tmp_path / "tiny.pt2").write_bytes(exported.read_bytes())
    manifest = write_manifest(tmp_path, manifest_text("pt2:tiny.pt2", sha256(exported)))
    model = load_model(unpack(manifest, tmp_path), CPU)
    assert torch.allclose(model.network.predict(IMAGES), tiny_network()(NORMALISED), atol=1e-5)
    assert model.network.target_layer.path == "last"
    assert {layer.path for layer in model.network.layers} >= {"first", "last"}
    assert model.document.architecture == "pt2:tiny.pt2"


@pt2
def test_pt2_with_a_fixed_batch(tmp_path: Path) -> None:
    """It could not serve batches: refused with the reason."""
    path = tmp_path / "one.pt2"
    torch.export.save(torch.export.export(tiny_network(), (torch.rand(1, 3, 32, 32),)), path)
    manifest = write_manifest(tmp_path, manifest_text("pt2:one.pt2", sha256(path)))
    with pytest.raises(ArchitectureError, match="dynamic batch dimension"):
        load_model(unpack(manifest, tmp_path), CPU)


def with_record(source: Path, target: Path, record: str, data: bytes) -> Path:
    """A copy of an archive with one record replaced or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            if name != f"{root}/{record}":
                new.writestr(name, old.read(name))
        new.writestr(f"{root}/{record}", data)
    return target


@pt2
@pytest.mark.parametrize(
    "record",
    [
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/aotinductor/model/net.so",
        "data/weights/model.pt",
        "data/constants/model.pt",
    ],
)
def test_pt2_with_code_is_refused(exported: Path, tmp_path: Path, record: str) -> None:
    """Records that torch would unpickle or load as a library."""
    with pytest.raises(UnsafeExportError, match=record.split("/")[-1].split(".")[0]):
        refuse_code(with_record(exported, tmp_path / "bad.pt2", record, b"x"))


@pt2
def test_pt2_with_malicious_sample_inputs(exported: Path, tmp_path: Path) -> None:
    """The fallback of torch is to unpickle them: it is taken away."""
    torch.save(((Malicious(),), {}), tmp_path / "inputs.pt")
    data = (tmp_path / "inputs.pt").read_bytes()
    path = with_record(exported, tmp_path / "bad.pt2", "data/sample_inputs/model.pt", data)
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        load_export(path, CPU)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_not_a_pt2(tmp_path: Path) -> None:
    """Any other file."""
    (tmp_path / "a.pt2").write_bytes(b"hello")
    with pytest.raises(UnsafeExportError, match=r"not a \.pt2"):
        refuse_code(tmp_path / "a.pt2")


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("torchvision:squeezenet1_1", {"num_classes": 5}),
        ("timm:test_vit", {"num_classes": 5, "img_size": 32, "patch_size": 8}),
    ],
)
def test_libraries(tmp_path: Path, architecture: str, arguments: dict[str, int]) -> None:
    """Networks of torchvision and timm, built without fetching anything, filled from the weights file alone."""
    library, _, name = architecture.partition(":")
    if any(importlib.util.find_spec(needed) is None for needed in ("torchvision", library)):
        pytest.skip(f"{library} is not installed")
    ensure_operators()
    module = importlib.import_module(library)
    build = module.create_model if library == "timm" else module.models.get_model
    network = build(name, **arguments).eval()
    weights = tmp_path / "w.safetensors"
    save_file(network.state_dict(), weights)
    line = f"arguments = {{ {', '.join(f'{key} = {value}' for key, value in arguments.items())} }}"
    text = manifest_text(architecture, sha256(weights), weights.name, line)
    model = load_model(unpack(write_manifest(tmp_path, text), tmp_path), CPU)
    assert torch.allclose(model.network.predict(IMAGES), network(NORMALISED), atol=1e-4)
    assert model.network.target_layer.path.startswith(("features.", "blocks."))


def test_device() -> None:
    """The GPU that TorchServe names, where there is CUDA; else the CPU."""
    assert choose_device(None) == CPU
    assert choose_device(1) == (torch.device("cuda", 1) if torch.cuda.is_available() else CPU)

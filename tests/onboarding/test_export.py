"""`whylight model export`: what it writes, and that a failure changes nothing."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from handlers.fast_path import with_fast_path
from handlers.loading import load_model
from model_store.manifest import load_manifest
from onboarding import export as module
from onboarding.cli import model
from runtimes import ExportError
from tests.onboarding.test_add import contents, run
from tests.onnx_files import write_tiny_onnx
from tests.tiny import extract, sha256, write_tiny

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_export(tmp_path: Path) -> None:
    """The graph, its table in the right entry, comments kept, and an archive that works; again replaces it."""
    text = write_tiny(tmp_path).read_text()
    other = text.replace('name = "tiny"', 'name = "other"')
    (tmp_path / "models.toml").write_text(f"# mine\n{text}\n# and this\n{other}")
    for _ in range(2):
        result = run(tmp_path, "export", "tiny")
        assert result.exit_code == 0, result.output
        assert "Grad-CAM of one class" in result.output
        first, second = load_manifest(tmp_path / "models.toml").models
        assert first.onnx is not None
        assert (first.onnx.graph, first.onnx.sha256) == ("graphs/tiny.onnx", sha256(tmp_path / "graphs" / "tiny.onnx"))
        assert second.onnx is None
        written = (tmp_path / "models.toml").read_text()
        assert written.count("# mine\n") == written.count("# and this\n") == written.count("[models.onnx]") == 1
    unpacked = extract(tmp_path / "tiny.mar", tmp_path / "unpacked")
    assert with_fast_path(load_model(unpacked, torch.device("cpu")), unpacked).fast is not None


def test_an_onnx_file(tmp_path: Path) -> None:
    """There is nothing to export."""
    write_tiny_onnx(tmp_path)
    before = contents(tmp_path)
    result = run(tmp_path, "export", "tiny")
    assert (result.exit_code, "ONNX Runtime computes it already" in result.output) == (1, True)
    assert contents(tmp_path) == before


def test_a_failure_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such model, and a network that has no graph."""
    write_tiny(tmp_path)
    before = contents(tmp_path)
    result = run(tmp_path, "export", "none")
    assert (result.exit_code, "no model 'none'" in result.output) == (1, True)

    def fail(*_arguments: object) -> None:
        raise ExportError("the network cannot be exported: no counterpart")

    monkeypatch.setattr(module, "export", fail)
    result = CliRunner().invoke(model, ["export", "tiny", "--manifest", str(tmp_path / "models.toml")])
    assert (result.exit_code, "no counterpart" in result.output) == (1, True)
    assert contents(tmp_path) == before

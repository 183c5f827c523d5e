"""ONNX Runtime runs where it was asked to, or says that it does not."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runtimes import GraphError, ProviderError
from runtimes.session import CPU, CUDA, open_session
from tests.runtimes.conftest import Exported


def test_threads(exported: Callable[[str], Exported]) -> None:
    """As many as torch, unless told otherwise."""
    _, graph = exported("cam")
    session = open_session(graph, torch.device("cpu"), threads=3)
    assert session.get_session_options().intra_op_num_threads == 3
    assert session.get_providers() == [CPU]
    assert open_session(graph, torch.device("cpu")).get_session_options().intra_op_num_threads == 1


def test_cuda_that_is_not_there(tmp_path: Path) -> None:
    """Before the file is opened: the package for the CPU has no provider for CUDA."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this is onnxruntime-gpu")
    with pytest.raises(ProviderError, match="install onnxruntime-gpu"):
        open_session(tmp_path / "none.onnx", torch.device("cuda:0"))


def test_cuda_that_falls_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """onnxruntime-gpu without a CUDA that it likes makes a session on the CPU, and says nothing."""
    asked: list[Any] = []

    def session(_path: str, _options: Any, providers: list[Any]) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: [CPU])

    fake = SimpleNamespace(
        get_available_providers=lambda: [CUDA, CPU],
        set_default_logger_severity=lambda _level: None,
        SessionOptions=lambda: SimpleNamespace(add_session_config_entry=lambda _key, _value: None),
        InferenceSession=session,
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with pytest.raises(ProviderError, match="fell back from CUDAExecutionProvider to CPUExecutionProvider"):
        open_session(tmp_path / "graph.onnx", torch.device("cuda:1"))
    assert asked[0] == (CUDA, {"device_id": "1", "use_tf32": "0"})


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match="not installed"):
        open_session(tmp_path / "graph.onnx", torch.device("cpu"))


def test_no_graph(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(GraphError, match=r"graph\.onnx"):
        open_session(tmp_path / "graph.onnx", torch.device("cpu"))

"""The command line against a client that answers in process."""

from types import TracebackType
from typing import Self

import pytest
from typer.testing import CliRunner

from protos.explain.v1 import types_pb2
from service import cli


class FakeClient:
    """Knows one method with a list among its parameters."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def methods(self, _model: str) -> list[types_pb2.MethodInfo]:
        parameters = [
            types_pb2.ParameterInfo(name="layer", type=types_pb2.PARAMETER_TYPE_STRING, description="Where."),
            types_pb2.ParameterInfo(
                name="further_layers", type=types_pb2.PARAMETER_TYPE_STRING_LIST, maximum=8, description="And where."
            ),
        ]
        return [types_pb2.MethodInfo(name="layer_cam", title="Layer-CAM", parameters=parameters, models=["tiny"])]


def test_methods_are_listed_with_parameters_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each parameter with its description, a list among them."""
    monkeypatch.setattr(cli, "_client", lambda _address, _access: FakeClient())
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["methods"])
    assert result.exit_code == 0
    assert "layer: Where." in result.output
    assert "further_layers: And where." in result.output

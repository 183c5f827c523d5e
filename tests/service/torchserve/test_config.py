"""What TorchServe is told in its files."""

import json
import os
import re
from pathlib import Path

import pytest

from service.torchserve.config import Layout, Limits, properties, write_files
from service.torchserve.model import ServedModel


def read_properties(text: str) -> dict[str, str]:
    """The entries of a properties file."""
    return dict(line.split("=", 1) for line in text.splitlines())


@pytest.fixture
def models(tmp_path: Path) -> list[ServedModel]:
    """One archive under two names."""
    archive = tmp_path / "net.mar"
    archive.write_bytes(b"archive")
    return [
        ServedModel("net", "1.2", archive, workers=2, batch_size=8, max_batch_delay_ms=3, response_timeout_s=30),
        ServedModel("net-slow", "1.2", archive),
    ]


def test_everything_listens_on_this_machine_only(models: list[ServedModel], tmp_path: Path) -> None:
    """REST is on sockets in the private directory, gRPC on loopback."""
    entries = read_properties(properties(Layout(tmp_path), models, Limits(), (5001, 5002)))
    addresses = {name: value for name, value in entries.items() if name.endswith("_address")}
    assert len(addresses) == 5
    assert all(value == "127.0.0.1" or value.startswith(f"unix:{tmp_path}/") for value in addresses.values())
    assert (entries["grpc_inference_port"], entries["grpc_management_port"]) == ("5001", "5002")


def test_doors_are_shut(models: list[ServedModel], tmp_path: Path) -> None:
    """Tokens are on and last; nothing can be registered, installed, fetched or set from the environment."""
    entries = read_properties(properties(Layout(tmp_path), models, Limits(), (1, 2)))
    assert int(entries["token_expiration_min"]) > 100 * 365 * 24 * 60
    for switch in (
        "disable_token_authorization",
        "enable_model_api",
        "enable_envvars_config",
        "install_py_dep_per_model",
    ):
        assert entries[switch] == "false"
    assert not re.fullmatch(entries["allowed_urls"], "http://example.org/evil.mar")


def test_models_have_queues_of_their_own(models: list[ServedModel], tmp_path: Path) -> None:
    """Each name has its archive link and its figures, under the archive's version."""
    entries = read_properties(properties(Layout(tmp_path), models, Limits(startup_timeout_s=77), (1, 2)))
    assert entries["load_models"] == "net=net.mar,net-slow=net-slow.mar"
    assert json.loads(entries["models"])["net"]["1.2"] == {
        "defaultVersion": True,
        "marName": "net.mar",
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 8,
        "maxBatchDelay": 3,
        "responseTimeout": 30,
        "startupTimeout": 77,
    }


def test_no_delay_is_the_shortest_delay(models: list[ServedModel], tmp_path: Path) -> None:
    """TorchServe takes 0 for its default of 100 ms."""
    entries = read_properties(properties(Layout(tmp_path), models, Limits(), (1, 2)))
    assert json.loads(entries["models"])["net-slow"]["1.2"]["maxBatchDelay"] == 1


def test_files_are_written(models: list[ServedModel], tmp_path: Path) -> None:
    """The store links to the archives; nothing is copied."""
    root = tmp_path / "run"
    root.mkdir()
    layout = Layout(root)
    write_files(layout, models, Limits(), (1, 2))
    assert os.path.samefile(layout.store / "net-slow.mar", models[0].archive)
    assert (layout.store / "net.mar").is_symlink()
    assert layout.properties.exists()
    assert layout.logging.exists()
    assert layout.temporary.is_dir()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "a=b", "a,b", "ä", "a\nb"])
def test_names_that_torchserve_would_misread_are_refused(name: str) -> None:
    """Names go into URLs, file names and a properties file."""
    with pytest.raises(ValueError, match="letters"):
        ServedModel(name, "1.0", Path("a.mar"))
    with pytest.raises(ValueError, match="letters"):
        ServedModel("a", name, Path("a.mar"))


@pytest.mark.parametrize("figures", [{"workers": 0}, {"batch_size": 0}, {"response_timeout_s": 0}])
def test_senseless_figures_are_refused(figures: dict[str, int]) -> None:
    """A model without a worker, a batch or time could never answer."""
    with pytest.raises(ValueError, match="positive"):
        ServedModel("a", "1.0", Path("a.mar"), **figures)

"""The wheel by itself, and beside the service."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("evaluation", "explainers", "handlers", "model_store", "onboarding", "protos", "quality", "service")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the installed wheel, what it says that it needs, and nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    built = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "client", work / "client", ignore=built)
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(work), str(work / "client"))
    (wheel,) = work.glob("*.whl")
    pip("install", "--no-deps", "--no-index", "--target", str(work / "site"), str(wheel))
    (client,) = importlib.metadata.distributions(path=[str(work / "site")])
    add_requirements(client, work / "site")
    return work / "site"


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=280)


def add_requirements(of: importlib.metadata.Distribution, site: Path) -> None:
    """Link the files of what a package needs, and of what that needs; `google` is shared by several."""
    for requirement in of.requires or ():
        name = re.match(r"[\w.-]+", requirement)
        if name is None or "extra ==" in requirement:
            continue
        needed = importlib.metadata.distribution(name.group())
        for file in needed.files or ():
            parts = file.parts[: 2 if file.parts[0] == "google" else 1]
            link = site.joinpath(*parts)
            if ".." in parts or link.exists() or link.is_symlink():
                continue
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(needed.locate_file(Path(*parts)))  # type: ignore[arg-type]
        add_requirements(needed, site)


def python(code: str, *paths: Path) -> str:
    """What a Python prints that sees these folders and its own library alone."""
    code = f"import sys; sys.path[:0] = {[str(path) for path in paths]}\n{code}"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_imports_without_the_service(site: Path) -> None:
    """Nothing of ours is there, and nothing but what it asks for is needed, to draw too; it is typed."""
    code = f"""
import importlib.util
import whylight_client
from whylight_client.drawing import color_table
print(sorted(name for name in {OURS} + ("torch", "matplotlib", "pydantic") if importlib.util.find_spec(name)))
print(whylight_client.__file__, color_table("viridis").shape)
"""
    absent, place = python(code, site).splitlines()
    assert absent == "[]"
    assert place == f"{site / 'whylight_client' / '__init__.py'} (256, 3)"
    assert (site / "whylight_client" / "py.typed").exists()
    assert list((site / "whylight_client" / "_protos").rglob("*.pyi"))
    assert list(site.glob("whylight_client-*.dist-info/licenses/LICENSE"))


def test_it_names_what_it_needs_and_no_more(site: Path) -> None:
    """No package of the service, of torch or for drawing."""
    (client,) = importlib.metadata.distributions(name="whylight-client", path=[str(site)])
    names = {re.split(r"[<>=]", requirement)[0] for requirement in client.requires or ()}
    assert names == {"googleapis-common-protos", "grpcio", "numpy", "pillow", "protobuf"}


@pytest.mark.parametrize("names", [("protos", "whylight_client._protos"), ("whylight_client._protos", "protos")])
def test_client_and_service_share_a_process(site: Path, names: tuple[str, str]) -> None:
    """Both know the same files of the protocol, whichever comes first, and can read each other's messages."""
    modules = [f"{name}.explain.v1.explanation_service_pb2" for name in names]
    code = f"""
import importlib
one, other = map(importlib.import_module, {modules})
print(one.__file__ != other.__file__, one.DESCRIPTOR.serialized_pb == other.DESCRIPTOR.serialized_pb)
print(other.ExplainRequest.FromString(one.ExplainRequest(model="tiny").SerializeToString()).model)
"""
    assert python(code, site, ROOT).splitlines() == ["True True", "tiny"]


def test_it_asks_for_no_older_libraries_than_its_generated_code_does() -> None:
    """The code says what it was generated for, and refuses older ones when it is imported."""
    folder = ROOT / "client" / "whylight_client" / "_protos" / "explain" / "v1"
    needs = (ROOT / "client" / "pyproject.toml").read_text()
    (grpc,) = re.findall(r"GRPC_GENERATED_VERSION = '(.+)'", (folder / "explanation_service_pb2_grpc.py").read_text())
    (protobuf,) = re.findall(r"Protobuf Python Version: (.+)", (folder / "types_pb2.py").read_text())
    assert f'"grpcio>={grpc}"' in needs
    assert f'"protobuf>={protobuf}"' in needs

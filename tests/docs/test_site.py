"""The site is built without a warning, is whole, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import explainers
import quality
from explainers import METHODS
from protos.explain.v1 import explanation_service_pb2, job_pb2, method_pb2, quality_pb2, types_pb2
from tests.docs.pages import ROOT

pytest.importorskip("mkdocs", reason="needs the extra docs")

ELSEWHERE = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//|@import|url\(["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """The pages are the same without a network: scripts, styles, fonts, pictures."""
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = ELSEWHERE.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(site)}: {found and found.group()}"


def test_formulas_are_drawn(site: Path) -> None:
    """As MathML, one display formula at least for each method; no dollar and no command of TeX is left."""
    page = (site / "methods.html").read_text(encoding="utf-8")
    assert page.count('display="block"') >= len(METHODS)
    prose = re.sub(r"<(script|style|code|math)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert "$" not in prose
    assert "\\" not in re.sub(r"<annotation.*?</annotation>", "", page, flags=re.DOTALL).partition("<body")[2]


def test_every_message_is_in_the_reference(site: Path) -> None:
    """Each message, enum and field of the public API, with what its comment says."""
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for module in (explanation_service_pb2, job_pb2, method_pb2, quality_pb2, types_pb2):
        file = module.DESCRIPTOR
        for name, message in file.message_types_by_name.items():
            assert f'id="{name}"' in page
            assert all(f"<code>{field.name}</code>" in page for field in message.fields)
        assert all(f'id="{name}"' in page for name in file.enum_types_by_name)
    for procedure in explanation_service_pb2.DESCRIPTOR.services_by_name["ExplanationService"].methods:
        assert f"<code>{procedure.name}</code>" in page
    assert "Name of a deployed model." in page
    assert "buf:lint" not in page


@pytest.mark.parametrize("package", [explainers, quality], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(site: Path, package: object) -> None:
    """Each name of `__all__`, under its heading."""
    name = package.__name__  # type: ignore[attr-defined]
    page = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
    missing = [each for each in package.__all__ if f'id="{name}.{each}"' not in page]  # type: ignore[attr-defined]
    assert not missing

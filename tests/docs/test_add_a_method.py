"""docs/add_a_method.md, followed to the letter in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, ROOT, fenced

NAME = "gradient_times_input"
COPIED = ("client", "explainers", "protos", "scripts", "tests/explainers")


def blocks(language: str) -> list[str]:
    """Of the page, in order."""
    return [block.text for block in fenced(DOCS / "add_a_method.md") if block.language == language]


def replaced(path: Path, old: str, new: str) -> None:
    """Replace the first of a text in a file that must have it."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path.name}: {old}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def run(folder: Path, *command: str) -> str:
    """Run Python in the copy; everything that it prints."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_passes_the_contract_test(tmp_path: Path) -> None:
    """The page's method, message, reference and row: the protos compile, and all that methods must keep to holds."""
    for folder in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    method, reference, row = blocks("python")
    field, message = blocks("proto")
    (tmp_path / "explainers" / f"{NAME}.py").write_text(method)
    replaced(tmp_path / "explainers" / "__init__.py", "from explainers.gradient import",
             f"from explainers.{NAME} import GradientTimesInput\nfrom explainers.gradient import")  # fmt: skip
    proto = tmp_path / "protos" / "explain" / "v1" / "method.proto"
    replaced(proto, "  oneof method {\n", "  oneof method {\n" + field)
    proto.write_text(proto.read_text() + "\n" + message)
    cases = tmp_path / "tests" / "explainers" / "cases.py"
    replaced(cases, "import copy\n", "import copy\n\nimport torch\n")
    replaced(cases, "CASES = {\n", f"{reference}\n\nCASES = {{\n{row}")

    run(tmp_path, "scripts/generate_protos.py")
    assert f"    {NAME}: GradientTimesInput" in (proto.parent / "method_pb2.pyi").read_text(encoding="utf-8")
    said = run(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/explainers/test_contract.py",
        "-k",
        NAME,
        "--durations=5",
    )
    assert re.search(r"^[3-9]\d passed|^\d{3} passed", said, re.MULTILINE), said

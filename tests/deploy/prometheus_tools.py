"""Finds promtool and prometheus: on PATH, or out of Debian's package, unpacked into build/ without root."""

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "build" / "prometheus"
PACKAGE = "prometheus"
APT_SECONDS = 80.0  # three commands at most: still within a test's own limit


class ToolsMissingError(Exception):
    """Neither the programs nor a way to get them. The message says what was tried."""


@dataclass(frozen=True)
class PrometheusTools:
    """The two programs."""

    prometheus: Path
    promtool: Path

    def check(self, *words: object, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run promtool with these words; its exit status and output are the answer."""
        command = [str(self.promtool), *map(str, words)]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


@functools.cache
def find_tools() -> PrometheusTools:
    """The programs, unpacked on first use.

    Raises:
        ToolsMissingError: they are not installed, and apt cannot get them.
    """
    found = _on_path() or _unpacked()
    if found is None:
        _unpack()
        found = _unpacked()
    if found is None:
        raise ToolsMissingError("Debian's package prometheus does not hold promtool and prometheus")
    return found


def _on_path() -> PrometheusTools | None:
    programs = [shutil.which(name) for name in ("prometheus", "promtool")]
    return PrometheusTools(Path(programs[0]), Path(programs[1])) if programs[0] and programs[1] else None


def _unpacked() -> PrometheusTools | None:
    folder = UNPACKED / "usr" / "bin"
    tools = PrometheusTools(folder / "prometheus", folder / "promtool")
    return tools if tools.prometheus.exists() and tools.promtool.exists() else None


def _unpack() -> None:
    """Download and unpack the package; build/prometheus appears at once and whole."""
    missing = [name for name in ("apt-get", "dpkg") if not shutil.which(name)]
    if missing:
        raise ToolsMissingError(f"prometheus and promtool are not on PATH, and there is no {' and no '.join(missing)}")
    UNPACKED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED.parent, prefix="prometheus-") as name:
        folder = Path(name)
        _download(folder)
        tree = folder / "tree"
        _run(["dpkg", "-x", str(next(folder.glob(f"{PACKAGE}_*.deb"))), str(tree)], folder)
        shutil.rmtree(UNPACKED, ignore_errors=True)
        try:
            tree.rename(UNPACKED)
        except OSError:  # another run was faster
            if _unpacked() is None:
                raise


def _download(folder: Path) -> None:
    """Have apt put the package into `folder`: by the machine's lists, else by lists of our own, which need no root."""
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
    try:
        _run(download, folder)
    except ToolsMissingError:
        state, cache = folder / "state", folder / "cache"
        for needed in (state / "lists" / "partial", cache / "archives" / "partial"):
            needed.mkdir(parents=True)
        private = ["-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}"]
        private += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", *private, "update"], folder)
        _run([*download, *private], folder)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=APT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolsMissingError(f"prometheus is not on PATH, and {command[0]} did not answer in time") from None
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ToolsMissingError(f"prometheus is not on PATH, and {command[0]} cannot get it: {last}")

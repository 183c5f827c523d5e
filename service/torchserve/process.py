"""One run of TorchServe: a fresh directory, a guardian, Java and its workers."""

import asyncio
import contextlib
import functools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from service.torchserve import guardian, rundir
from service.torchserve.config import Layout, write_files
from service.torchserve.endpoint import Endpoint
from service.torchserve.errors import StartError
from service.torchserve.logs import LogReader
from service.torchserve.model import ServedModel
from service.torchserve.options import SupervisorOptions

log = logging.getLogger(__name__)

_PASSED_ON = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("WHYLIGHT_", "LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH_", "PYTORCH_")
_POLL_INTERVAL = 0.02  # seconds between two attempts to connect while Java starts
_GUARDIAN_TIME = 5.0  # seconds for the guardian to kill everything, before the service does it
_LAST_WORDS = 2.0  # seconds for the rest of the output of processes that have ended


class TorchServeProcess:
    """From start to the last trace removed. Not started twice: every run has a directory of its own."""

    def __init__(self, models: Sequence[ServedModel], options: SupervisorOptions) -> None:
        self._models = models
        self._options = options
        self._directory = rundir.create(options.run_parent)
        self._layout = Layout(self._directory.path)
        self._guardian: subprocess.Popen[bytes] | None = None
        self._output = LogReader()
        self._ended = asyncio.Event()
        self._status = 0
        self.endpoint = Endpoint(
            inference=f"unix:{self._layout.inference_socket}",
            management=f"unix:{self._layout.management_socket}",
            key_file=self._layout.key_file,
        )

    @property
    def metrics_address(self) -> str:
        """Where TorchServe serves its own Prometheus figures."""
        return f"unix:{self._layout.metrics_socket}"

    async def start(self, timeout: float) -> None:
        """Start Java and wait until it answers. Its workers load their models after that.

        Raises:
            StartError: it ended, or was silent for `timeout` seconds. Nothing is left running then.
        """
        try:
            write_files(self._layout, self._models, self._options.limits, _free_ports())
            await self._spawn()
            await self._wait_until_it_listens(timeout)
        except BaseException:
            await self.kill()
            raise

    async def wait(self) -> int:
        """Wait until TorchServe has ended, by itself or not, and nothing is left of it. Returns the exit status."""
        await self._ended.wait()
        with contextlib.suppress(TimeoutError):  # its last words, which tell why
            async with asyncio.timeout(_LAST_WORDS):
                await self._output.closed.wait()
        return self._status

    async def stop(self) -> None:
        """Stop in an orderly way: within the grace period, or by force."""
        if self._guardian is not None and not self._ended.is_set():
            self._tell_guardian(b"s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.grace + _GUARDIAN_TIME):
                    await self._ended.wait()
        await self.kill()

    async def kill(self) -> None:
        """End everything at once."""
        if self._guardian is None:
            self._directory.remove()
            return
        self._tell_guardian(b"")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GUARDIAN_TIME):
                await self._ended.wait()
        if not self._ended.is_set():
            guardian.kill_session(self._guardian.pid)
        await self.wait()

    def _tell_guardian(self, message: bytes) -> None:
        """Write to the guardian; nothing at all means the end of file."""
        pipe = self._guardian.stdin if self._guardian else None
        if pipe is None or pipe.closed:
            return
        with contextlib.suppress(BrokenPipeError):  # it has ended
            if message:
                pipe.write(message)
            else:
                pipe.close()

    async def _spawn(self) -> None:
        self._guardian = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command line; 1 ms
            [*self._guardian_command(), *self._java_command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=self._environment(),
            start_new_session=True,
            pass_fds=(self._directory.lock,),
        )
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(self._guardian.pid)
        loop.add_reader(pidfd, self._clean_up, pidfd)
        await loop.connect_read_pipe(lambda: self._output, self._guardian.stdout)

    def _clean_up(self, pidfd: int) -> None:
        """The guardian has ended. It leaves nothing, unless it was killed itself."""
        assert self._guardian is not None  # noqa: S101 - for the type checker
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        # Before wait(): the id of the session cannot be given to another process as long as its leader is a zombie.
        left = guardian.kill_session(self._guardian.pid)
        if left:
            log.warning("killed what was left of TorchServe: processes %s", left)
        self._status = self._guardian.wait()
        self._tell_guardian(b"")
        self._directory.remove()
        self._ended.set()

    async def _wait_until_it_listens(self, timeout: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not self._ended.is_set():
                    if self._layout.key_file.exists() and await _listens(self._layout.management_socket):
                        return
                    await asyncio.sleep(_POLL_INTERVAL)
                raise StartError(f"TorchServe ended with status {await self.wait()} before it answered; see the log")
        raise StartError(f"TorchServe did not answer within {timeout:g} seconds")

    def _guardian_command(self) -> list[str]:
        grace, directory = str(self._options.grace), str(self._directory.path)
        return [sys.executable, "-I", "-S", guardian.__file__, "--grace", grace, "--directory", directory, "--"]

    def _java_command(self) -> list[str]:
        home = site_packages(self._options.python)
        return [
            str(self._options.java),
            f"-Dmodel_server_home={home}",
            f"-Djava.io.tmpdir={self._layout.temporary}",
            f"-Dlog4j.configurationFile={self._layout.logging.as_uri()}",
            f"-Xmx{self._options.heap}",
            *("-cp", str(home / "ts" / "frontend" / "model-server.jar"), "org.pytorch.serve.ModelServer"),
            *("--python", str(self._options.python)),
            *("-f", str(self._layout.properties)),
            *("-s", str(self._layout.store)),
            "-ncs",  # no snapshots of its state
        ]

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
        }
        return {**inherited, "TMPDIR": str(self._layout.temporary), **self._options.environment}


@functools.cache
def site_packages(python: Path) -> Path:
    """The folder of a Python's packages, where TorchServe's Java program lies.

    Raises:
        StartError: TorchServe is not installed there.
    """
    question = "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('ts').origin).parents[1])"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode != 0:
        raise StartError(f"TorchServe is not installed for {python}: pip install 'whylight[worker]'")
    return Path(answer.stdout.strip())


def _free_ports() -> tuple[int, int]:
    """Two loopback ports that are free now. Somebody may take them before Java does: it ends then, and is restarted."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


async def _listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True

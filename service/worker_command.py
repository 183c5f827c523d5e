"""`whylight worker`: TorchServe with the models of a manifest, for a service in another container of this machine."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from service import parts
from service.settings import Settings
from service.torchserve.endpoint import Endpoint, socket_path
from service.worker import prepare

INFERENCE, MANAGEMENT, KEYS = "inference.sock", "management.sock", "key_file.json"


class Doorplate:
    """Links to the sockets and the keys of the run of the moment, under names that stay the same over restarts.

    Args:
        folder: of the links; made where there is none.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def show(self, endpoint: Endpoint) -> None:
        """Let the links lead to this TorchServe, which listens on unix sockets below the folder."""
        targets = {
            INFERENCE: socket_path(endpoint.inference),
            MANAGEMENT: socket_path(endpoint.management),
            KEYS: endpoint.key_file,
        }
        for name, target in targets.items():
            if target is not None:
                self._link(name, Path(target))

    def remove(self) -> None:
        """Take the links away. May be called again."""
        for name in (INFERENCE, MANAGEMENT, KEYS):
            (self._folder / name).unlink(missing_ok=True)

    def _link(self, name: str, target: Path) -> None:
        """At once: there is never no link between an old one and a new one. Relative: the folder may be mounted."""
        draft = self._folder / f".{name}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.relpath(target, self._folder))
        draft.replace(self._folder / name)


@contextlib.asynccontextmanager
async def running_worker(settings: Settings, folder: Path) -> AsyncIterator[None]:
    """Keep TorchServe running for the length of a block, with links to its sockets and keys in `folder`.

    Its workers load their models after the block has begun.

    Raises:
        ManifestError, ArchiveError, JavaNotFoundError, StartError: it cannot be started.
    """
    doorplate = Doorplate(folder)

    def follow() -> None:
        if supervisor.running:
            doorplate.show(supervisor.endpoint)
        else:
            doorplate.remove()

    doorplate.remove()  # of one that was killed
    quality = parts.policy_of(settings).measures_anything
    supervisor, _ = await prepare(settings, quality=quality, folder=folder, on_change=follow)
    try:
        await supervisor.start()
        yield
    finally:
        await supervisor.stop()

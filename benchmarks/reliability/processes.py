"""The processes of a running service, found from outside."""

import contextlib
import enum
from dataclasses import dataclass

import psutil

from service.launch import Launched


class Kind(enum.StrEnum):
    """What a process is."""

    SERVICE = "service"
    GUARDIAN = "guardian"
    JAVA = "Java"
    WORKER = "worker"


_MARKS = {Kind.GUARDIAN: "guardian.py", Kind.JAVA: "model-server.jar", Kind.WORKER: "model_service_worker"}


@dataclass(frozen=True)
class Sample:
    """What a process holds at one moment.

    Attributes:
        memory: resident bytes.
        descriptors: open files, sockets and pipes.
        threads: number of them.
    """

    memory: int
    descriptors: int
    threads: int


def find(service: Launched, kind: Kind) -> list[psutil.Process]:
    """The living processes of one kind, oldest first."""
    top = psutil.Process(service.process.pid)
    if kind is Kind.SERVICE:
        return [top]
    found = []
    for process in below(service):
        with contextlib.suppress(psutil.Error):
            # Java's own command line has the guardian's mark nowhere, but the guardian's has Java's.
            words = " ".join(process.cmdline())
            is_guardian = _MARKS[Kind.GUARDIAN] in words
            if _MARKS[kind] in words and is_guardian == (kind is Kind.GUARDIAN):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def below(service: Launched) -> list[psutil.Process]:
    """Every process that the service started, and those that they started."""
    try:
        return psutil.Process(service.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(process: psutil.Process) -> bool:
    """Whether a process still does something; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def sample(process: psutil.Process) -> Sample:
    """Look at a process.

    Raises:
        psutil.NoSuchProcess: it has ended.
    """
    with process.oneshot():
        return Sample(process.memory_info().rss, process.num_fds(), process.num_threads())

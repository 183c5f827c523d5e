"""Requests of a batch in threads, and images in the memory from which they are copied."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from handlers import images
from handlers.images import decode
from handlers.parallel import LEAST_BYTES, MOST_THREADS, in_parallel, threads_beside
from handlers.settings import Limits
from handlers.transfer import stack
from tests.handlers.pictures import encode, photograph

LARGE = b"x" * LEAST_BYTES


def test_large_requests_begin_together() -> None:
    """Two wait for each other, which they couldn't one after the other; answers keep their order."""
    both = threading.Barrier(2, timeout=30)

    def begin(body: object) -> object:
        both.wait()
        return body

    assert in_parallel(begin, [LARGE, b"second"], 2) == [LARGE, b"second"]


@pytest.mark.parametrize(("bodies", "threads"), [([LARGE], 2), ([b"small", None], 2), ([LARGE, LARGE], 1)])
def test_others_begin_where_they_are(bodies: list[object], threads: int) -> None:
    """One alone, small ones, and in a worker that has one thread: no thread is started."""
    found = in_parallel(lambda _body: threading.current_thread(), bodies, threads)
    assert set(found) == {threading.current_thread()}


def test_threads_are_few_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as torch has up to the most, and beside a GPU only; afterwards none is left."""
    before = threading.active_count()
    names = in_parallel(lambda _body: threading.current_thread().name, [LARGE] * 50, 3)
    assert len(set(names)) <= 3
    assert threading.active_count() == before
    for threads, expected in ((1, 1), (2, 2), (64, MOST_THREADS)):
        monkeypatch.setattr(torch, "get_num_threads", lambda has=threads: has)
        assert (threads_beside(torch.device("cuda", 0)), threads_beside(torch.device("cpu"))) == (expected, 1)


def test_warnings_are_heard_again() -> None:
    """Decoding in threads leaves the process's filters as they were."""
    data = encode(photograph())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                list(pool.map(lambda _: decode(data, Limits()), range(8)))
        assert list(warnings.filters) == before
        with images._SILENCE, images._SILENCE:
            warnings.warn("not heard", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("heard", UserWarning, stacklevel=1)


def test_stack() -> None:
    """On the way to a CPU a batch is an ordinary one."""
    parts = [torch.rand(3, 4, 5) for _ in range(2)]
    batch = stack(parts, torch.device("cpu"))
    assert torch.equal(batch, torch.stack(parts))
    assert not batch.is_pinned()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_stack_for_cuda() -> None:
    """On the way to a GPU it lies in pinned memory, and arrives as it is."""
    parts = [torch.rand(3, 4, 5) for _ in range(2)]
    batch = stack(parts, torch.device("cuda", 0))
    assert batch.is_pinned()
    assert torch.equal(batch.to("cuda", non_blocking=True).cpu(), torch.stack(parts))

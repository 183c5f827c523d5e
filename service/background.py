"""Work that goes on beside the requests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable


@contextlib.asynccontextmanager
async def repeated(work: Callable[[], Awaitable[None]], interval: float) -> AsyncIterator[None]:
    """Do some work again and again, `interval` seconds apart, for the length of a block."""

    async def repeat() -> None:
        while True:
            await work()
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

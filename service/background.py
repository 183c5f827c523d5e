"""Work that goes on beside the requests."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def repeated(work: Callable[[], Awaitable[None]], interval: float) -> AsyncIterator[None]:
    """Do some work again and again, `interval` seconds apart, for the length of a block; also after it has failed."""

    async def repeat() -> None:
        while True:
            try:
                await work()
            except Exception as error:
                logger.error("work in the background failed: %s", type(error).__name__)
            await asyncio.sleep(interval)

    async with beside(repeat()):
        yield


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have some work done for the length of a block; at its end the work is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

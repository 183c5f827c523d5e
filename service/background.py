"""Work that goes on beside the requests."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

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

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

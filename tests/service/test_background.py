"""Work that goes on beside the requests."""

import asyncio

import pytest

from service.background import repeated


async def test_work_is_repeated_until_the_end_of_the_block(caplog: pytest.LogCaptureFixture) -> None:
    """Also when it fails, whose reason stays out of the log; and not once more afterwards."""
    count = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal count
        count += 1
        if count == 3:
            enough.set()
        raise ValueError("patient Jane Doe")

    async with repeated(work, 0.001):
        await asyncio.wait_for(enough.wait(), 5)
    done = count
    await asyncio.sleep(0.02)
    assert count == done
    assert "ValueError" in caplog.text
    assert "Jane" not in caplog.text


async def test_the_block_ends_while_work_hangs() -> None:
    """Whatever the work waits for."""

    async def work() -> None:
        await asyncio.Event().wait()

    async def block() -> None:
        async with repeated(work, 60):
            await asyncio.sleep(0)

    await asyncio.wait_for(block(), 5)

"""kill -9 of a service in the middle of its jobs."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.service.fakes import front
from tests.service.jobs.asking import create, listed, said, waited

SERVICE = """
import asyncio, sys
from pathlib import Path
from tests.service.fakes import front

async def main():
    async with front(jobs_database=Path(sys.argv[1]), jobs_concurrency=1) as service:
        answer = service.worker.answer
        def slow_after_the_first(request):
            service.worker.gate.clear()
            return answer(request)
        service.worker.answer = slow_after_the_first
        from tests.service.jobs.asking import create, waited
        await waited(service, (await create(service, request_id="0")).name)
        for number in range(1, 4):
            await create(service, request_id=str(number))
        while len(service.worker.requests) < 2:
            await asyncio.sleep(0.01)
        print("busy", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_service_goes_on_where_it_was(tmp_path: Path) -> None:
    """Of four jobs one has ended, one runs, two wait: all are answered by the next service, each once."""
    path = tmp_path / "jobs.sqlite"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(path), stdout=asyncio.subprocess.PIPE, cwd=os.getcwd()
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"busy\n"
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    async with front(jobs_database=path, jobs_concurrency=1) as service:
        again = [await create(service, request_id=str(number)) for number in range(4)]
        ended = [await waited(service, each.name) for each in again]
        assert all(each.HasField("response") for each in ended)
        assert [said(each).attempts for each in ended] == [1, 2, 1, 1]
        assert len(service.worker.requests) == 3
        assert len((await listed(service)).operations) == 4

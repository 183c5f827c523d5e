"""Sends bombs to a worker and to a front that have a memory limit, and says what they cost.

`python -m benchmarks.bombs [--only WORD]`

Both run in processes of their own that may take 1 GiB above what they have when they are ready (RLIMIT_AS). One of each
gets all the bombs, one after the other: a crash, or memory that is not given back, would show in those that follow.
"""

import argparse
import contextlib
import platform
import sys
from datetime import date
from importlib.metadata import version

from tqdm import tqdm

from protos.worker.v1 import worker_pb2
from tests.fuzz.bombed import HEADROOM, MEBIBYTE, Bombed, bombed
from tests.fuzz.bombs import BOMBS
from tests.fuzz.message_bombs import MESSAGES, ask


def worker_row(worker: Bombed, name: str) -> tuple[str, bool]:
    """Have an image decoded; its row, and whether it was answered as it should."""
    make, allowed = BOMBS[name]
    image = make()
    body = worker_pb2.WorkRequest(request_id="r", image=worker_pb2.ImageWork(image=image, top_k=1)).SerializeToString()
    with worker.measured() as costs:
        answer = worker_pb2.WorkResponse.FromString(worker.ask(body))
    status = answer.reason or worker_pb2.WorkStatus.Name(answer.status).removeprefix("WORK_STATUS_")
    return _row(name, len(image), status, costs[0].seconds, costs[0].mebibytes), status in allowed


def front_row(front: Bombed, address: str, name: str) -> tuple[str, bool]:
    """The same of a message."""
    make, compression, expected = MESSAGES[name]
    body = make()
    with front.measured() as costs:
        status = ask(address, body, compression)
    return _row(name, len(body), status, costs[0].seconds, costs[0].mebibytes), status == expected


def _row(name: str, size: int, status: str, seconds: float, mebibytes: float) -> str:
    return f"| {name} | {size / 1e6:.2f} MB | {status} | {seconds:.2f} s | {mebibytes:.0f} MiB |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="only bombs with this in their name")
    only = parser.parse_args().only
    wrong, tables = [], {"worker": [], "front": []}  # type: ignore[var-annotated]
    with contextlib.ExitStack() as stack:
        worker, front = (stack.enter_context(bombed(what)) for what in ("worker", "front"))
        worker.said()
        address = front.said()
        for name in tqdm([name for name in (*BOMBS, *MESSAGES) if only in name], unit=" bombs"):
            target = "worker" if name in BOMBS else "front"
            row, good = worker_row(worker, name) if name in BOMBS else front_row(front, address, name)
            tables[target].append(row)
            if not good:
                wrong.append(name)
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "pillow"))
    print(f"{date.today()}, Python {platform.python_version()}, {packages}, at most {HEADROOM // MEBIBYTE} MiB more")
    for target, rows in tables.items():
        print(f"\n| to the {target} | sent | answer | time | peak memory |\n|---|---|---|---|---|")
        print("\n".join(rows))
    print("\nnot answered as they should be: " + (", ".join(wrong) or "none"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

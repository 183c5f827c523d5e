"""The benchmark of the whole service: what is asked is the same each way, and the tables say what was measured."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from benchmarks.service import bare, load
from benchmarks.service.cases import DIGITS, GRAD_CAM, PICTURES, PREDICTION, Case
from benchmarks.service.load import Block, Measured, Plan
from benchmarks.service.report import p50, ratio, report
from benchmarks.service.setting import BARE as BARE_SERVER
from benchmarks.service.setting import CLIENT, FRONT, JAVA, WORKERS, Setting
from benchmarks.service.ways import BARE, SERVICE, STAGES, TORCHSERVE, Answer, Ways
from protos.worker.v1 import worker_pb2
from service.catalog import Catalog
from service.commands import ExplainCommand
from service.converters import to_command

CASE = Case(DIGITS, GRAD_CAM)
CPU = dict.fromkeys((CLIENT, FRONT, JAVA, WORKERS, BARE_SERVER), 0.001)


def block(*latencies: float, rate: float = 10.0, stages: Sequence[float] = ()) -> Block:
    return Block(latencies, rate, CPU, dict(zip(STAGES, stages, strict=False)))


@pytest.mark.parametrize("work", [PREDICTION, GRAD_CAM, PICTURES])
def test_each_way_is_asked_for_the_same(work: str) -> None:
    """The service makes of the request the very command whose message the others get."""
    case, catalog = Case(DIGITS, work), Catalog()
    catalog.declare(DIGITS)
    catalog.describe(DIGITS, worker_pb2.DescribeResult(methods=[{"name": "grad_cam"}]))
    convert = to_command.to_predict_command if work == PREDICTION else to_command.to_explain_command
    command = convert(case.request(b"image"), catalog.get(DIGITS), 100)
    assert command == case.command(b"image")
    assert command.no_cache
    assert isinstance(command, ExplainCommand) == (work != PREDICTION)


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    """Each round is compared with its own: a slow round of both says nothing."""
    ours, theirs = [block(2.0), block(30.0), block(9.0)], [block(1.0), block(10.0), block(9.0)]
    assert ratio(ours, theirs, p50) == 2.0


def test_the_tables_hold_what_was_measured() -> None:
    """One row for each number of clients; what no stage explains is the front; the limit is the better of the two."""
    blocks = {
        (1, SERVICE): [block(0.010, 0.030, 0.020, rate=40.0, stages=(0, 0.004, 0.002, 0.008, 0.001, 0.001))],
        (1, TORCHSERVE): [block(0.010, rate=80.0)],
        (1, BARE): [block(0.040, rate=20.0)],
    }
    text = report({CASE: Measured(blocks, {1: [30.0], 4: [50.0]})}, 4)
    assert "| digits-cnn | Grad-CAM | 1 | 20.0 | 10.0 | 40.0 | 2.00 | 0.50 |" in text
    assert "| 40.0 | 80.0 | 20.0 | 0.50 | 2.00 |" in text
    assert "| digits-cnn | Grad-CAM | 1 | 20.0 | 0% | 20% | 10% | 40% | 10% | 20% |" in text
    assert "| digits-cnn | Grad-CAM | 30.0 | 50.0 | 40.0 | 80% |" in text
    assert "2.00 to 2.00 times" in text
    assert "80% to 80% of" in text


async def test_a_block_counts_every_answer() -> None:
    """All clients ask until the time is up, and each answer counts once."""
    asked: list[bytes] = []

    async def ask(case: Case, image: bytes) -> Answer:
        asked.append(image)
        return Answer(3, dict.fromkeys(STAGES, float(len(asked))))

    async def limit(case: Case, images: Sequence[bytes], batch: int, seconds: float) -> float:
        return 1.0

    setting = Setting(Ways({SERVICE: ask}, limit), {}, 4)
    found = await load.block(setting, ask, CASE, [b"a", b"b"], Plan(clients=3, seconds=0.01, rounds=1))
    assert len(found.latencies) == len(asked) >= 3
    assert asked[:2] == [b"a", b"b"]
    assert found.stages["decode"] == pytest.approx((len(asked) + 1) / 2)
    assert found.rate > 0


class FakeWorker:
    """Answers with what it was asked, and notes the sizes of batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def answer(self, bodies: Sequence[bytes]) -> list[bytes]:
        self.batches.append(len(bodies))
        return list(bodies)


async def test_the_bare_server_answers_one_at_a_time() -> None:
    """A request reaches the handler alone, of an unknown model nothing does; the limit is asked in full batches."""
    worker = FakeWorker()
    server = grpc.aio.server(handlers=[bare.Handlers({"m": worker}, ThreadPoolExecutor(1))])  # type: ignore[dict-item]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary(f"{bare.HANDLER}m")(b"body") == b"body"
            assert worker.batches == [1]
            metadata = ((bare.BATCH_KEY, "4"), (bare.SECONDS_KEY, "0.01"))
            assert float(await channel.stream_unary(f"{bare.LIMIT}m")(iter([b"a", b"b"]), metadata=metadata)) > 0
            assert set(worker.batches[1:]) == {4}
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(f"{bare.HANDLER}other")(b"body")
    finally:
        await server.stop(None)

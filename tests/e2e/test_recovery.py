"""Processes are killed below the running service, and the service itself: what clients see, and what is left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.launch import Launched, launched
from tests.e2e.conftest import models
from tests.e2e.test_service import explain

pytestmark = pytest.mark.e2e
RECOVERY_SECONDS = 120


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Launched]:
    """A service of the test's own, without lanes."""
    with launched({"manifest": models(tmp_path)}) as running:
        yield running


def processes(service: Launched) -> list[psutil.Process]:
    """Everything below the service: guardian, Java, workers."""
    return psutil.Process(service.process.pid).children(recursive=True)


def only(service: Launched, word: str) -> list[psutil.Process]:
    return [process for process in processes(service) if any(word in part for part in process.cmdline())]


def serving(channel: grpc.Channel, name: str = "") -> bool:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def wait_for(condition: "object", seconds: float) -> float:
    """Seconds until the condition holds."""
    began = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("word", ["model_service_worker", "model-server.jar"], ids=["worker", "java"])
def test_a_killed_process_comes_back_and_health_says_so_meanwhile(victim: Launched, word: str) -> None:
    """After kill -9, health is NOT_SERVING, calls get a typed error, and all recovers without help."""
    with grpc.insecure_channel(victim.address) as channel:
        stub = api_grpc.ExplanationServiceStub(channel)
        assert stub.Explain(explain()).explanations
        for process in only(victim, word):
            process.kill()
        down = wait_for(lambda: not serving(channel), 10)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Explain(explain(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        up = wait_for(lambda: serving(channel), RECOVERY_SECONDS)
        assert stub.Explain(explain(no_cache=True)).explanations
    print(f"{word}: NOT_SERVING after {down:.1f} s, SERVING again {up:.1f} s later")  # noqa: T201 - shown with -s


def test_a_killed_service_leaves_no_process_behind(victim: Launched) -> None:
    """After kill -9 of the service, everything below it ends by itself."""
    below = processes(victim)
    assert len(below) >= 4
    os.kill(victim.process.pid, signal.SIGKILL)
    wait_for(lambda: not any(process.is_running() for process in below), 10)

"""From the worker's own clock to the intervals of a trace."""

from protos.worker.v1 import worker_pb2
from service.observation import Interval

STAGES = ("decode", "compute", "quality", "render")


def place_worker_stages(result: worker_pb2.ImageResult, round_trip: Interval) -> None:
    """Put what a worker did into the round trip to it, at the times at which it did it.

    A worker on another machine has another clock: where its times are not within the round trip, all of them are moved
    so that the way there took as long as the way back.
    """
    began = result.began.get("handler", 0)
    seconds = result.handler.ToNanoseconds() / 1e9
    if not began:  # a worker of an older release
        return
    shift = _shift(round_trip, began, began + int(seconds * 1e9))
    handler = round_trip.place("handler", began + shift, seconds)
    for stage in STAGES:
        duration = getattr(result, stage).ToNanoseconds() / 1e9
        if duration > 0 and stage in result.began:
            handler.place(stage, result.began[stage] + shift, duration)


def _shift(outer: Interval, began: int, ended: int) -> int:
    if outer.began <= began and ended <= outer.ended:
        return 0
    return (outer.began + outer.ended - began - ended) // 2

"""The options of a stream, checked."""

from protos.explain.v1 import explanation_service_pb2 as api
from service.commands import StreamOptions
from service.errors import InvalidRequestError, Violation

SHORTEST_INTERVAL = 0.05
LONGEST_INTERVAL = 60.0
DEFAULT_INTERVAL = 0.1


def to_stream_options(request: api.StreamExplainRequest) -> StreamOptions:
    """What a client wants to see while it waits.

    Raises:
        InvalidRequestError: the interval is out of bounds.
    """
    interval = DEFAULT_INTERVAL
    if request.HasField("progress_interval"):
        interval = request.progress_interval.seconds + request.progress_interval.nanos / 1e9
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        text = f"must be between {SHORTEST_INTERVAL:g} and {LONGEST_INTERVAL:g} seconds"
        violation = Violation("progress_interval", text)
        raise InvalidRequestError(f"unacceptable: {violation.field}", (violation,))
    preview = request.preview if request.HasField("preview") else True
    return StreamOptions(preview=preview, maps=request.progress_maps, interval=interval)

"""What an exception means for the item that caused it. Faults are logged under the request id, never sent."""

import logging
import traceback

import torch

from handlers.errors import FaultError, MemoryWorkError, WorkError

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "Failed to allocate memory",
)
_LONGEST_ID = 64


class DeviceLostError(Exception):
    """The GPU answers nothing any more in this process; only a new worker can go on."""


def to_work_error(error: Exception, request_id: str) -> WorkError:
    """What to answer, after logging what the client must not see."""
    if isinstance(error, WorkError):
        return error
    if is_out_of_memory(error):
        logger.warning("request %s: out of memory", printable(request_id))
        return MemoryWorkError("no memory left for this request")
    logger.error("request %s failed: %s", printable(request_id), place(error))
    return FaultError("internal error")


def place(error: Exception) -> str:
    """The kind of an exception and the functions it came through, innermost first: its own text may hold user data."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join([type(error).__name__, *(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))])


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory of the machine or of the GPU ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # ONNX Runtime's exceptions have no base of their own.
    library = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime.")
    return library and any(text in str(error) for text in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give cached GPU memory back before trying again.

    Raises:
        DeviceLostError: the GPU does not answer.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except Exception as error:
        raise DeviceLostError("the GPU does not answer") from error


def printable(request_id: str) -> str:
    """A request id that cannot forge lines of the log."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in request_id[:_LONGEST_ID])

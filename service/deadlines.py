"""Until when a call is to be answered."""

import time

from service.rpc_types import Context

# Seconds, or a tenth of the time where that is less, for the news of a missed deadline to reach the client. Else its
# own library would end the call, or, its clock being a little behind, say CANCELLED.
ANSWER_MARGIN = 0.05


def answer_by(context: Context, default_timeout: float) -> float:
    """Just before the client stops waiting, so that it hears why; a time of time.monotonic().

    Args:
        context: of the call.
        default_timeout: seconds for a client that sets no deadline.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return time.monotonic() + default_timeout
    return time.monotonic() + remaining - min(ANSWER_MARGIN, remaining / 10)

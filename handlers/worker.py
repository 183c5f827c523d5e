"""A batch of requests as bytes to their answers as bytes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from explainers import METHODS
from handlers.answers import answer
from handlers.assess import assess
from handlers.batch import Outcome, compute
from handlers.converters import from_error, from_seconds, to_deadline
from handlers.describe import describe
from handlers.errors import DeadlineError, InvalidWorkError, ResponseTooLargeError, WorkError
from handlers.faults import to_work_error
from handlers.jobs import Job, prepare
from handlers.loading import LoadedModel
from handlers.sanity import check
from handlers.settings import Limits
from protos.worker.v1.worker_pb2 import WORK_STATUS_OK, SanityResult, WorkRequest, WorkResponse


@dataclass(frozen=True)
class Worker:
    """One model and the limits of a request. Nothing of a request is kept here.

    Attributes:
        model: that answers.
        limits: of a request.
    """

    model: LoadedModel
    limits: Limits

    def answer(self, bodies: Sequence[object]) -> list[bytes]:
        """Answer a batch of serialised WorkRequests with as many serialised WorkResponses.

        Raises:
            DeviceLostError: the GPU does not answer any more.
        """
        began, started = time.time_ns(), time.perf_counter()
        items = [self._begin(body) for body in bodies]
        jobs = [item for item in items if isinstance(item, Job)]
        try:
            outcomes = compute(jobs, self.model)
            finished = iter([self._finish(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)])
        finally:
            for job in jobs:
                job.line.close()
        responses = [next(finished) if isinstance(item, Job) else item for item in items]
        return [self._serialise(response, began, started) for response in responses]

    def _begin(self, body: object) -> Job | WorkResponse:
        """The job to compute, or the answer where there is nothing to compute."""
        request_id = ""
        try:
            request = _parse(body)
            request_id = request.request_id
            if to_deadline(request) <= time.time():
                raise DeadlineError("the deadline has passed")
            match request.WhichOneof("work"):
                case "describe":
                    return WorkResponse(status=WORK_STATUS_OK, description=describe(self.model))
                case "sanity":
                    known = [name for name in request.sanity.methods if name in METHODS]
                    checks = check(self.model, known)
                    return WorkResponse(status=WORK_STATUS_OK, sanity=SanityResult(checks=checks))
                case "image":
                    return prepare(request, self.model, self.limits)
                case _:
                    raise InvalidWorkError("the request asks for nothing that this worker knows")
        except Exception as error:
            return from_error(to_work_error(error, request_id))

    def _finish(self, job: Job, outcome: Outcome) -> WorkResponse:
        """The answer to one job."""
        if isinstance(outcome, WorkError):
            return from_error(outcome)
        try:
            assessment = assess(job, outcome.result, self.model.network)
            result = answer(job, outcome, assessment, self.model, self.limits.max_render_side)
            return WorkResponse(status=WORK_STATUS_OK, image=result)
        except Exception as error:
            return from_error(to_work_error(error, job.request_id))

    def _serialise(self, response: WorkResponse, began: int, started: float) -> bytes:
        if response.HasField("image"):
            response.image.handler.CopyFrom(from_seconds(time.perf_counter() - started))
            response.image.began["handler"] = began
        body = response.SerializeToString()
        if len(body) <= self.limits.max_response_bytes:
            return body
        error = ResponseTooLargeError("the answer is too large: ask for fewer targets or pictures", field="output")
        return from_error(error).SerializeToString()


def _parse(body: object) -> WorkRequest:
    """The request in the body of TorchServe's."""
    if isinstance(body, bytes | bytearray | memoryview):
        try:
            return WorkRequest.FromString(bytes(body))
        except DecodeError:
            pass
    raise InvalidWorkError("the request is malformed", reason="MALFORMED_REQUEST")

"""From jobs to operations, and from answers and errors to what is kept of them."""

from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2
from protos.worker.v1 import worker_pb2
from service.errors import STATUS_CODES, JobCancelledError, ServiceError
from service.jobs.job import Ending, Job, State
from service.status_details import to_status

PREFIX = "operations/"
_STATES = {
    State.QUEUED: job_pb2.JOB_STATE_QUEUED,
    State.RUNNING: job_pb2.JOB_STATE_RUNNING,
    State.SUCCEEDED: job_pb2.JOB_STATE_SUCCEEDED,
    State.FAILED: job_pb2.JOB_STATE_FAILED,
    State.CANCELLED: job_pb2.JOB_STATE_CANCELLED,
}


def succeeded(response: api.ExplainResponse) -> Ending:
    """The end of a job that has an answer."""
    return Ending(State.SUCCEEDED, "OK", response.SerializeToString())


def failed(error: ServiceError) -> Ending:
    """The end of a job that has none: the status is the one that Explain would have answered."""
    state = State.CANCELLED if isinstance(error, JobCancelledError) else State.FAILED
    return Ending(state, STATUS_CODES[type(error)].name, to_status(error).SerializeToString())


def to_operation(job: Job, progress: worker_pb2.Progress | None) -> operations_pb2.Operation:
    """What a client sees of a job."""
    metadata = job_pb2.ExplanationJobMetadata(
        state=_STATES[job.state],
        model=job.model,
        method=job.method,
        request_id=job.request_id,
        create_time=_timestamp(job.created),
        expire_time=_timestamp(job.expires),
        attempts=job.attempts,
    )
    if job.started is not None:
        metadata.start_time.CopyFrom(_timestamp(job.started))
    if job.ended is not None:
        metadata.end_time.CopyFrom(_timestamp(job.ended))
    if progress is not None and job.state is State.RUNNING:
        metadata.step, metadata.steps = progress.step, progress.steps
        if progress.HasField("objective"):
            metadata.objective = progress.objective
    operation = operations_pb2.Operation(name=PREFIX + job.name, done=job.ended is not None)
    operation.metadata.Pack(metadata)
    if job.state is State.SUCCEEDED:
        operation.response.type_url = f"type.googleapis.com/{api.ExplainResponse.DESCRIPTOR.full_name}"
        operation.response.value = job.result
    elif job.ended is not None:
        operation.error.ParseFromString(job.result)
    return operation


def _timestamp(seconds: float) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(round(seconds * 1e6))
    return timestamp

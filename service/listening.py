"""Where the service listens: the gRPC server and the endpoint of the metrics."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.inference import inference_service_pb2_grpc as oip_grpc
from service.identity.tls import server_credentials
from service.identity.watched import UnusableFileError
from service.inference.reflected import BothPools
from service.inference.servicer import NAME as INFERENCE
from service.inference.servicer import InferenceServicer
from service.jobs.servicer import NAME as OPERATIONS
from service.jobs.servicer import OperationsServicer
from service.metrics import Metrics
from service.monitor import SERVICE
from service.servicer import ExplanationServicer
from service.settings import Settings
from service.starting import StartError

ENVELOPE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Servicers:
    """Whatever answers calls."""

    explanations: ExplanationServicer
    operations: OperationsServicer
    inference: InferenceServicer
    health: health.aio.HealthServicer


def grpc_server(
    settings: Settings, servicers: Servicers, interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> tuple[grpc.aio.Server, str]:
    """The server, bound but not started, and its address; the first interceptor is the outermost.

    Raises:
        StartError: the port is taken, or a certificate cannot be used.
    """
    # Twice the image limit: what is somewhat too large gets a typed answer, what is absurd is cut off by gRPC.
    options = [
        ("grpc.max_receive_message_length", 2 * settings.max_image_bytes + ENVELOPE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(interceptors=interceptors, options=options)
    api_grpc.add_ExplanationServiceServicer_to_server(servicers.explanations, server)  # type: ignore[no-untyped-call]
    operations_pb2_grpc.add_OperationsServicer_to_server(servicers.operations, server)
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(servicers.inference, server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(servicers.health, server)
    names = (SERVICE, OPERATIONS, INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, BothPools())
    try:
        port = _listen(server, settings)
    except UnusableFileError as error:
        raise StartError(str(error)) from None
    except RuntimeError as error:
        raise StartError(f"cannot listen on port {settings.port}: is it taken?") from error
    return server, _authority(settings.host, port)


def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    address = _authority(settings.host, settings.port)
    if settings.tls_certificate is None or settings.tls_key is None:
        return server.add_insecure_port(address)
    credentials = server_credentials(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return server.add_secure_port(address, credentials)


def _authority(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def metrics_endpoint(settings: Settings, metrics: Metrics) -> Iterator[str]:
    """Serve the metrics for the length of a block; gives the URL."""
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, metrics.registry)
    except OSError as error:
        raise StartError(f"cannot serve metrics on port {settings.metrics_port}: is it taken?") from error
    try:
        yield f"http://{_authority(settings.metrics_host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""`python -m service.probe`: is the service well? For the health checks of containers: it imports as little as it can.

Kubernetes' own gRPC probe speaks no TLS, and outside loopback the service speaks nothing else.
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ADDRESS = "localhost:50051"


def main(arguments: list[str] | None = None) -> int:
    """Ask once. Returns the exit status: 0 where the answer is good, else 1, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m service.probe", description=__doc__)
    parser.add_argument("--address", default=ADDRESS, help=f"host:port; default: {ADDRESS}")
    parser.add_argument("--service", default="", help="such as models/NAME; default: all models")
    parser.add_argument("--alive", action="store_true", help="any answer will do, also that it is not serving")
    parser.add_argument("--tls-ca", type=Path, help="PEM file to trust; the service's own certificate will do")
    parser.add_argument("--client-cert", type=Path, help="PEM file of a client certificate (mTLS)")
    parser.add_argument("--client-key", type=Path, help="PEM file of its private key")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds; default: 5")
    options = parser.parse_args(arguments)
    try:
        status = _ask(options)
    except OSError as error:
        return _refuse(f"a file cannot be read: {error.strerror}")
    except grpc.RpcError as error:
        return _refuse(error.code().name)
    if status == health_pb2.HealthCheckResponse.SERVING or options.alive:
        return 0
    return _refuse(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


def _ask(options: argparse.Namespace) -> int:
    with _channel(options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=options.service)
        return int(stub.Check(request, timeout=options.timeout).status)


def _channel(options: argparse.Namespace) -> grpc.Channel:
    if options.tls_ca is None:
        return grpc.insecure_channel(options.address)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=options.tls_ca.read_bytes(),
        private_key=options.client_key.read_bytes() if options.client_key else None,
        certificate_chain=options.client_cert.read_bytes() if options.client_cert else None,
    )
    return grpc.secure_channel(options.address, credentials)


def _refuse(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

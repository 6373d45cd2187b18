"""Asks a control plane over TLS whether it serves: `health.py HOST:PORT CA_FILE [NAME]`.

Exit status 0: it does. NAME is what its certificate says, if that is not HOST.
"""

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 4.0


def main(address: str, ca_file: str, name: str = "") -> int:
    """Returns the exit status."""
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
    options = [("grpc.ssl_target_name_override", name)] if name else []
    with grpc.secure_channel(address, credentials, options) as channel:
        request = health_pb2.HealthCheckRequest(service="")
        reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    return 0 if reply.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

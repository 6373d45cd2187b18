"""The gRPC server: where it listens, what a peer may take of it, and how it ends."""

import os
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from grotto_control.certificates import Certificates
from grotto_control.config import BadConfig, ServingBounds
from grotto_control.model.limits import MAX_MESSAGE_BYTES
from grotto_control.rpc.handlers import DESCRIPTOR
from grotto_control.rpc.keyless import Health, Reflection

BACKEND = "grotto.backend"
"""Health of what starts sandboxes; sessions that live go on without it."""
FLUSH_S = 2.0
"""How long the last replies may take to leave when the server ends."""


class Server:
    """Serves the `Sessions` service, health and reflection; the latter two without a key."""

    def __init__(
        self,
        handler: grpc.GenericRpcHandler,
        bounds: ServingBounds,
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self._server = grpc.aio.server(options=_options(bounds))
        self._server.add_generic_rpc_handlers((handler,))
        self._health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (DESCRIPTOR.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        shown = Reflection(names, bounds.keyless_streams)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(shown, self._server)

    def listen_tcp(self, bind: str) -> str:
        """Returns the URL; raises BadConfig if the address cannot be had."""
        scheme = "grpc" if self._certificates is None else "grpcs"
        port = self._bound(bind, self._certificates)
        return f"{scheme}://{bind.rpartition(':')[0]}:{port}"

    def listen_unix(self, path: Path) -> str:
        """Returns the URL. The socket is its owner's alone, and in clear."""
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._bound(f"unix:{path}", None)
        finally:
            os.umask(mask)
        return f"unix://{path.absolute()}"

    async def start(self) -> None:
        await self._server.start()
        serving = health_pb2.HealthCheckResponse.SERVING
        await self._health.set(DESCRIPTOR.full_name, serving)

    async def backend_is(self, up: bool) -> None:
        """Shows in health checks of `BACKEND` whether new sandboxes can be had."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(BACKEND, status.SERVING if up else status.NOT_SERVING)

    async def leave(self) -> None:
        """Says in health checks that nothing new should be sent here; goes on serving."""
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        """Closes the listeners, sends every connection its GOAWAY, ends."""
        await self._server.stop(FLUSH_S)

    def _bound(self, address: str, certificates: Certificates | None) -> int:
        try:
            if certificates is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, _credentials(certificates))
        except RuntimeError as error:
            raise BadConfig(f"cannot listen on {address}: is it in use?") from error


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(certificates.key, certificates.certificate)],
        root_certificates=certificates.client_ca,
        require_client_auth=certificates.client_ca is not None,
    )


def _options(bounds: ServingBounds) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Between the two, gRPC would refuse by chance.
        ("grpc.max_metadata_size", bounds.metadata_bytes),
        ("grpc.absolute_max_metadata_size", bounds.metadata_bytes),
        ("grpc.max_concurrent_streams", bounds.streams),
        ("grpc.max_allowed_incoming_connections", bounds.connections),
        ("grpc.server_handshake_timeout_ms", int(bounds.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", int(bounds.idle_connection_s * 1000)),
        # A peer that is gone without a word is noticed within 50 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", int(bounds.ping_every_s * 1000)),
        ("grpc.http2.max_ping_strikes", 2),
        # Two servers on one port would share its connections, and neither would notice.
        ("grpc.so_reuseport", 0),
    )

"""The gRPC server: where it listens, health and reflection, and how it ends."""

import os
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from grotto_control.config import BadConfig
from grotto_control.model.limits import MAX_MESSAGE_BYTES
from grotto_control.rpc.handlers import DESCRIPTOR

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Two servers on one port would share its connections, and neither would notice.
    ("grpc.so_reuseport", 0),
)


class Server:
    """Serves the `Sessions` service, health and reflection; the latter two without a key."""

    def __init__(self, handler: grpc.GenericRpcHandler) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((handler,))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (DESCRIPTOR.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    def listen_tcp(self, bind: str) -> str:
        """Returns the URL; raises BadConfig if the address cannot be had."""
        port = self._bound(bind)
        return f"grpc://{bind.rpartition(':')[0]}:{port}"

    def listen_unix(self, path: Path) -> str:
        """Returns the URL. The socket is its owner's alone."""
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._bound(f"unix:{path}")
        finally:
            os.umask(mask)
        return f"unix://{path.absolute()}"

    async def start(self) -> None:
        await self._server.start()
        serving = health_pb2.HealthCheckResponse.SERVING
        await self._health.set(DESCRIPTOR.full_name, serving)

    async def drain(self, grace_s: float) -> None:
        """Takes no new calls; running ones get `grace_s` to end, then they are cancelled."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    def _bound(self, address: str) -> int:
        try:
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BadConfig(f"cannot listen on {address}: is it in use?") from error

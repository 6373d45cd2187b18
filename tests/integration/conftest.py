"""One server for the integration tests; each test opens its own sessions."""

from collections.abc import Iterator

import grpc
import pytest
from serving import Server

import grotto
from grotto_proto.v1 import sessions_pb2_grpc


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(url, API key) of a running server."""
    server = Server(tmp_path_factory.mktemp("served"), "--pool", "2")
    server.start()
    yield server.url, server.key("acme")
    server.stop()


@pytest.fixture(scope="session")
def client(served: tuple[str, str]) -> Iterator[grotto.Client]:
    with grotto.connect(*served) as client:
        client.sessions()  # connected now, not within some test
        yield client


@pytest.fixture
def raw(
    served: tuple[str, str],
) -> Iterator[tuple[sessions_pb2_grpc.SessionsStub, tuple[tuple[str, str]]]]:
    """The public service, spoken to without the SDK: (stub, metadata)."""
    url, key = served
    with grpc.insecure_channel(url.removeprefix("grpc://")) as channel:
        yield sessions_pb2_grpc.SessionsStub(channel), (("authorization", f"Bearer {key}"),)

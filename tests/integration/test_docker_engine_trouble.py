"""The engine absent, slow, full, or without its image: said clearly, and over by itself."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from second_engine import IMAGE, SecondEngine, until
from serving import Server

import grotto
from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import AUTHORIZATION
from grotto_proto.v1 import sessions_pb2, sessions_pb2_grpc

BACKEND = "grotto.backend"


@pytest.fixture
def engine(own_engine: SecondEngine) -> Iterator[SecondEngine]:
    """The module's; a test leaves it running and with its image."""
    yield own_engine
    own_engine.clear()


@contextmanager
def served(engine: SecondEngine, folder: Path, pool: int = 0) -> Iterator[Server]:
    options = ("--backend", "docker", "--docker-host", engine.host, "--image", f"bare={IMAGE}")
    server = Server(folder / "data", *options, "--pool", str(pool))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def client_of(server: Server) -> Iterator[grotto.Client]:
    with grotto.connect(server.url, server.key("acme")) as client:
        yield client


def refusal(server: Server) -> str:
    """What a client without patience is told when it asks for a session."""
    client = sessions_pb2.ClientInfo(wire_version=WIRE_VERSION)
    request = sessions_pb2.CreateSessionRequest(client=client)
    metadata = ((AUTHORIZATION, f"Bearer {server.key('acme')}"),)
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        stub = sessions_pb2_grpc.SessionsStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.CreateSession(request, metadata=metadata, timeout=120)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(refused.value.details())


def is_serving(server: Server, service: str = BACKEND) -> bool:
    with grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


def said(server: Server, event: str) -> list[dict[str, str]]:
    """What the server logged of one kind."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line.get("event") == event]


def test_an_absent_engine_is_said_and_its_arrival_is_noticed(
    engine: SecondEngine, tmp_path: Path
) -> None:
    engine.stop()
    with served(engine, tmp_path, pool=1) as server, client_of(server) as client:
        until(lambda: said(server, "backend cannot be asked"))
        assert not is_serving(server)
        assert is_serving(server, "")  # it serves, and what lives goes on
        with pytest.raises(grotto.UnavailableError, match=r"does not answer.*is it running\?"):
            client.session()
        engine.start()
        until(lambda: is_serving(server), server.log.read_text)
        with client.session() as session:
            assert session.execute("6 * 7").result == "42"
        engine.stop()
        until(lambda: not is_serving(server), server.log.read_text)
        engine.start()
        until(lambda: is_serving(server), server.log.read_text)
        assert len(said(server, "backend cannot be asked")) == 2  # once for each change
        assert len(said(server, "engine events not readable")) <= 3
        # It knows better than to try; one may have been starting when the engine went.
        assert len(said(server, "warm start failed")) <= 1


def test_a_slow_engine_keeps_nobody_waiting_for_ever_and_leaves_nothing(
    engine: SecondEngine, tmp_path: Path
) -> None:
    with served(engine, tmp_path) as server, client_of(server) as client:
        session = client.session()
        with engine.paused():
            assert re.search(r"engine at .* is too slow", refusal(server))
            assert session.execute("6 * 7").result == "42"
            assert not is_serving(server)
        until(lambda: is_serving(server), server.log.read_text)
        assert session.execute("6 * 7").result == "42"
        until(lambda: len(engine.containers()) == 1, server.log.read_text)
        session.close()
        until(engine.is_empty, server.log.read_text)


def test_a_full_engine_is_told_in_its_own_words(engine: SecondEngine, tmp_path: Path) -> None:
    with served(engine, tmp_path) as server, client_of(server) as client:
        session = client.session()
        with engine.full():
            assert "no space left on device" in refusal(server)
            assert session.execute("6 * 7").result == "42"
        with client.session() as another:
            assert another.execute("6 * 7").result == "42"
        session.close()
        until(engine.is_empty, server.log.read_text)


def test_a_host_without_processes_left_is_told_in_the_engines_words(
    engine: SecondEngine, tmp_path: Path
) -> None:
    with served(engine, tmp_path) as server, client_of(server) as client:
        client.session().close()  # the engine has made its cgroup by now
        engine.set_limit("pids", "pids.max", "1")
        try:
            told = refusal(server)
            assert "no sandbox could be started: the Docker engine refused: " in told
            assert told.isprintable()
        finally:
            engine.set_limit("pids", "pids.max", "max")
        with client.session() as session:
            assert session.execute("6 * 7").result == "42"
        until(engine.is_empty, server.log.read_text)


def test_an_image_that_was_removed_is_told_and_can_come_back(
    engine: SecondEngine, tmp_path: Path
) -> None:
    with served(engine, tmp_path) as server, client_of(server) as client:
        client.session().close()
        kept = str(tmp_path / "image.tar")
        engine.docker("save", "--output", kept, IMAGE)
        engine.docker("rmi", "--force", IMAGE)
        assert "No such image" in refusal(server)
        engine.docker("load", "--input", kept)
        with client.session() as session:
            assert session.execute("6 * 7").result == "42"
        until(engine.is_empty, server.log.read_text)

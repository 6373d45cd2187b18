"""The warm pool on an engine: bursts, limits of one's own, deaths, creators that vanish."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from docker_engine import DockerEngine
from second_engine import until
from serving import Server

import grotto
from grotto_proto import WIRE_VERSION
from grotto_proto.metadata import AUTHORIZATION
from grotto_proto.v1 import sessions_pb2, sessions_pb2_grpc

BURST, POOL, TENANT_SESSIONS = 20, 2, 16


class Served:
    """A server on the machine's engine, and what is there of it."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self._engine = engine
        image = "bare=grotto-sandbox:bare"
        self.server = Server(
            folder / "data", "--backend", "docker", "--image", image, "--pool", str(POOL)
        )
        self.server.start()
        self.key = self.server.key("acme")

    def containers(self) -> set[str]:
        identity = self.server.data_dir / "identity.json"
        server_id = identity.read_text().partition('"server_id": "')[2].partition('"')[0]
        assert server_id
        label = f"label=dev.grotto.server={server_id}"
        return set(self._engine.docker("ps", "--all", "--quiet", "--filter", label).split())

    def settle(self, sessions: int) -> None:
        """Returns when there are that many sessions' containers and a full pool."""
        until(lambda: len(self.containers()) == sessions + POOL, self.server.log.read_text)


@pytest.fixture(scope="module")
def served(
    docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    one = Served(docker_engine, tmp_path_factory.mktemp("pool"))
    yield one
    one.server.stop()
    assert one.containers() == set()


@pytest.fixture
def client(served: Served) -> Iterator[grotto.Client]:
    served.settle(0)
    with grotto.connect(served.server.url, served.key) as client:
        yield client
        for info in client.sessions():
            client.close_session(info.id)
    served.settle(0)


def test_a_burst_is_served_or_refused_and_the_pool_is_filled_again(
    served: Served, client: grotto.Client
) -> None:
    def created(_: int) -> grotto.Session | grotto.GrottoError:
        try:
            return client.session()
        except grotto.GrottoError as error:
            return error

    with ThreadPoolExecutor(BURST) as threads:
        results = list(threads.map(created, range(BURST), timeout=120))
    sessions = [one for one in results if isinstance(one, grotto.Session)]
    refused = [one for one in results if not isinstance(one, grotto.Session)]
    assert len(sessions) == TENANT_SESSIONS
    assert {type(error) for error in refused} == {grotto.QuotaExceededError}
    for session in sessions:
        assert session.execute("6 * 7").result == "42"
    served.settle(len(sessions))


def test_a_warm_sandbox_takes_a_sessions_own_limits(served: Served, client: grotto.Client) -> None:
    warm = served.containers()
    with client.session(limits=grotto.Limits(cpus=0.5, memory="64MiB", pids=20)) as session:
        assert session.execute("6 * 7").result == "42"
        served.settle(1)
        assert len(served.containers() & warm) == POOL  # one of them is the session's
    assert client.sessions() == []


def test_another_disk_starts_cold_and_leaves_the_pool_alone(
    served: Served, client: grotto.Client
) -> None:
    warm = served.containers()
    with client.session(limits=grotto.Limits(disk="8MiB")) as session:
        assert session.execute("6 * 7").result == "42"
        assert warm < served.containers()


def test_a_warm_sandbox_that_dies_is_replaced(served: Served, client: grotto.Client) -> None:
    warm = served.containers()
    DockerEngine().docker("kill", *warm)
    until(lambda: len(served.containers() - warm) == POOL, served.server.log.read_text)
    served.settle(0)
    with client.session() as session:
        assert session.execute("6 * 7").result == "42"


def test_creators_that_vanish_leave_nothing(served: Served, client: grotto.Client) -> None:
    """Without an idempotency key, nobody can come back for what they asked for."""
    request = sessions_pb2.CreateSessionRequest(
        client=sessions_pb2.ClientInfo(wire_version=WIRE_VERSION),
        limits=sessions_pb2.Limits(disk_bytes=2**23),
    )
    metadata = ((AUTHORIZATION, f"Bearer {served.key}"),)
    with grpc.insecure_channel(served.server.url.removeprefix("grpc://")) as channel:
        stub = sessions_pb2_grpc.SessionsStub(channel)
        calls = [stub.CreateSession.future(request, metadata=metadata) for _ in range(10)]
        until(lambda: len(served.containers()) > POOL)
        for call in calls:
            call.cancel()
        served.settle(0)
    assert client.sessions() == []

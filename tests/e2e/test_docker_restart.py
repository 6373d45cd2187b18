"""Control plane and engine are killed and started again under load: what must live, lives."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from second_engine import SecondEngine, until
from serving import Server

import grotto

SETUP = """
import os
n = 0
generator = (i for i in range(10))
next(generator)
os.getpid()
"""
ORPHAN_GRACE_S = 6
SESSIONS = 3


class Load:
    """Sessions that execute from threads as fast as they can, and what they met."""

    def __init__(self, sessions: Sequence[grotto.Session]) -> None:
        self.sessions = sessions
        self.workers = [session.execute(SETUP).result for session in sessions]
        self.done = [0] * len(sessions)
        self.met: list[grotto.GrottoError] = []
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Executes in every session until the end of the block, and for some time before it."""
        threads = [
            threading.Thread(target=self._go_on, args=(number,))
            for number in range(len(self.sessions))
        ]
        for thread in threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def wait_for_more(self) -> None:
        """Returns when every session has executed something that began after now."""
        before = list(self.done)
        until(lambda: all(now > then + 1 for now, then in zip(self.done, before, strict=True)))

    def check_that_all_survived(self) -> None:
        """Same worker, generator half-consumed, nothing executed twice."""
        for session, worker, done in zip(self.sessions, self.workers, self.done, strict=True):
            assert session.execute("os.getpid()").result == worker
            assert session.execute("next(generator)").result == "1"
            in_doubt = sum(isinstance(one, grotto.UnavailableError) for one in self.met)
            assert done <= int(session.execute("n").result or 0) <= done + in_doubt

    def _go_on(self, number: int) -> None:
        while not self._over.is_set():
            try:
                self.sessions[number].execute("n += 1")
                self.done[number] += 1
            except grotto.GrottoError as error:
                self.met.append(error)
                if isinstance(error, grotto.SessionLostError):
                    return


UNTIL_TOLD = """
import os, time
print("on")
while not os.path.exists("go"):
    time.sleep(0.01)
7
"""


@pytest.fixture
def engine(own_engine: SecondEngine) -> Iterator[SecondEngine]:
    """The module's, with live-restore on and nothing in it."""
    yield own_engine
    own_engine.clear()


@contextmanager
def served(engine: SecondEngine, data_dir: Path, pool: int = 1) -> Iterator[Server]:
    server = Server(
        data_dir,
        *("--backend", "docker", "--docker-host", engine.host),
        *("--image", "bare=grotto-sandbox:bare", "--pool", str(pool)),
        *("--orphan-grace", str(ORPHAN_GRACE_S)),
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def loaded(server: Server) -> Iterator[tuple[grotto.Client, Load]]:
    with grotto.connect(server.url, server.key("acme")) as client:
        yield client, Load([client.session(policy="open") for _ in range(SESSIONS)])
        for info in client.sessions():
            client.close_session(info.id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_sessions_survive_the_end_of_the_control_plane(
    engine: SecondEngine, data_dir: Path, number: signal.Signals
) -> None:
    with served(engine, data_dir) as server, loaded(server) as (client, load):
        with load.running():
            server.stop(number)
            server.start()
            load.wait_for_more()
        load.check_that_all_survived()
        client.session().close()
        until(lambda: len(engine.containers()) == SESSIONS + 1, lambda: server.log.read_text())


def test_what_was_being_started_when_it_was_killed_is_swept(
    engine: SecondEngine, data_dir: Path
) -> None:
    """Control arm: it is there, and unknown to the server that is started next."""

    def create(client: grotto.Client) -> None:
        with suppress(grotto.GrottoError):
            client.session(limits=grotto.Limits(disk=2**21))

    with served(engine, data_dir, pool=0) as server:
        key = server.key("acme")
        with grotto.connect(server.url, key) as client, client.session(policy="open") as session:
            worker = session.execute(SETUP).result
            (kept,) = engine.containers()
            creators = [threading.Thread(target=create, args=(client,)) for _ in range(3)]
            for creator in creators:
                creator.start()
            until(lambda: len(engine.containers()) > 1)
            server.stop(signal.SIGKILL)
            left = set(engine.containers()) - {kept}
            assert left
            server.start()
            for creator in creators:
                creator.join()
            until(lambda: left.isdisjoint(engine.containers()), server.log.read_text)
            assert session.execute("os.getpid()").result == worker
            for info in client.sessions():
                client.close_session(info.id)
        until(engine.is_empty, server.log.read_text)


def test_sessions_survive_a_restart_of_the_engine_with_live_restore(
    engine: SecondEngine, data_dir: Path
) -> None:
    with served(engine, data_dir) as server, loaded(server) as (client, load):
        with load.running():
            long = client.session(policy="open")
            events = long.stream(UNTIL_TOLD, execution_id="long")
            assert isinstance(next(events), grotto.Stdout)
            engine.stop()
            load.wait_for_more()  # without any engine
            engine.start()
            load.wait_for_more()
            (told := data_dir.parent / "go").touch()
            long.upload(told, "go")  # so it ran all the time
            assert long.execution("long").result == "7"
            assert list(events)
        assert load.met == []
        load.check_that_all_survived()
        with client.session() as new:
            assert new.execute("6 * 7").result == "42"
        server.stop(signal.SIGKILL)  # the volumes are no longer mounted on the host
        server.start()
        for session, worker in zip(load.sessions, load.workers, strict=True):
            assert session.execute("os.getpid()").result == worker
    with served(engine, data_dir, pool=0) as server:
        until(lambda: not engine.containers(), server.log.read_text)
        engine.stop()  # an old engine removes those volumes after another restart only
        engine.start()
        until(engine.is_empty, server.log.read_text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_sessions_end_with_an_engine_without_live_restore(
    engine: SecondEngine, data_dir: Path, number: signal.Signals
) -> None:
    engine.stop()
    engine.start(live_restore=False)
    with served(engine, data_dir, pool=0) as server, loaded(server) as (client, load):
        with load.running():
            engine.stop(number)
            engine.start(live_restore=False)
        for session in load.sessions:
            until(lambda one=session: _is_lost(one), server.log.read_text)
            with pytest.raises(grotto.SessionLostError, match=r"is lost: its sandbox .+\."):
                session.execute("n")
        until(engine.is_empty, server.log.read_text)
        with client.session() as new:
            assert new.execute("6 * 7").result == "42"


def test_a_killed_container_ends_its_session_and_no_other(
    engine: SecondEngine, data_dir: Path
) -> None:
    with served(engine, data_dir, pool=0) as server, loaded(server) as (_, load):
        with load.running():
            engine.docker("kill", engine.containers()[0])
            until(lambda: load.met, server.log.read_text)
        lost = [one for one in load.met if isinstance(one, grotto.SessionLostError)]
        assert len(lost) == 1 and "was killed by signal 9" in str(lost[0])
        until(lambda: len(engine.containers()) == SESSIONS - 1, server.log.read_text)


def test_sandboxes_end_when_no_control_plane_comes_back(
    engine: SecondEngine, data_dir: Path
) -> None:
    """They stop, and so use nothing; the next server on the same data removes them."""
    with served(engine, data_dir) as server, loaded(server) as (_, load):
        server.stop(signal.SIGKILL)
        until(lambda: engine.containers() and not engine.docker("ps", "--quiet"))
        server.start()
        for session in load.sessions:
            with pytest.raises(grotto.SessionLostError, match="did not survive"):
                session.execute("1")
    with served(engine, data_dir, pool=0) as server:
        until(engine.is_empty, server.log.read_text)


def _is_lost(session: grotto.Session) -> bool:
    try:
        session.execute("1")
    except grotto.SessionLostError:
        return True
    except grotto.UnavailableError:
        return False
    return False

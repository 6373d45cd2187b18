"""Clients and sessions: their life, and what outages and misuse do to them."""

import multiprocessing
import threading

import grpc
import pytest

import grotto
from grotto._address import parse_url
from grotto._retries import Backoff
from grotto._transport import Transport
from grotto_proto import WIRE_VERSION
from grotto_proto.v1 import errors_pb2, sessions_pb2
from grotto_proto.v1.values_pb2 import Variable


def test_a_session_is_created_with_what_was_asked(client, fake):
    with client.session(
        limits=grotto.Limits(memory="1GiB"), policy="strict", env={"A": "b"}, labels={"c": "d"},
        ttl_s=60, recovery="off", idempotency_key="once",
    ) as session:  # fmt: skip
        assert session.id == "s-1"
        assert session.isolation == grotto.Isolation("fake", "full", ("seccomp",), (), {})
    request = fake.requests["CreateSession"][0]
    assert (request.policy, request.ttl_s, request.idempotency_key) == ("strict", 60, "once")
    assert (request.limits.memory_bytes, dict(request.env)) == (2**30, {"A": "b"})
    assert (request.recovery, dict(request.labels)) == (sessions_pb2.RECOVERY_OFF, {"c": "d"})
    assert request.client.wire_version == WIRE_VERSION and request.client.codecs
    assert [r.session_id for r in fake.requests["CloseSession"]] == ["s-1"]


@pytest.mark.parametrize(
    "wrong",
    [{"recovery": "maybe"}, {"ttl_s": -1}, {"env": {"a": 1}}, {"labels": {"\ud800": "x"}}],
)
def test_a_wrong_session_is_refused_early(client, fake, wrong):
    with pytest.raises(grotto.InvalidArgumentError):
        client.session(**wrong)
    assert not fake.requests["CreateSession"]


def test_detach_leaves_it_running_and_attach_comes_back(client, fake):
    with client.session() as session:
        session.detach()
    assert not fake.requests["CloseSession"]
    with client.attach(session.id):
        pass
    assert len(fake.requests["CloseSession"]) == 1


def test_a_lost_session_cannot_be_attached(client, fake):
    lost = sessions_pb2.SESSION_STATUS_LOST
    fake.session = lambda session_id: sessions_pb2.Session(
        id=session_id, status=lost, status_note="Its sandbox died."
    )
    with pytest.raises(grotto.SessionLostError, match="Its sandbox died"):
        client.attach("s-9")


def test_closing_what_is_gone_is_no_error(client, fake, failure):
    gone = failure(grpc.StatusCode.NOT_FOUND, errors_pb2.ERROR_REASON_NOT_FOUND)
    fake.failures["CloseSession"] = [gone]
    with client.session():
        pass


def test_a_failing_close_does_not_hide_the_block_s_own_error(client, fake, failure):
    broken = failure(grpc.StatusCode.INTERNAL, errors_pb2.ERROR_REASON_INTERNAL)
    fake.failures["CloseSession"] = [broken, broken]
    with pytest.raises(ZeroDivisionError), client.session():
        raise ZeroDivisionError
    with pytest.raises(grotto.GrottoError), client.session():
        pass


def test_the_client_goes_on_after_the_server_was_away(server, client, session):
    server.stop()
    starter = threading.Timer(0.5, server.start)
    starter.start()
    assert len(client.sessions()) == 2
    starter.join()


@pytest.mark.parametrize("call", ["delete", "reset", "interrupt"])
def test_a_call_that_must_not_happen_twice_waits_for_the_server(server, fake, session, call):
    server.stop()
    starter = threading.Timer(0.3, server.start)
    starter.start()
    _ = session.delete("x") if call == "delete" else getattr(session, call)()
    starter.join()
    method = {"delete": "DeleteVariables", "reset": "Reset", "interrupt": "Interrupt"}[call]
    assert len(fake.requests[method]) == 1


def test_a_call_that_must_not_happen_twice_is_not_repeated(fake, session, failure):
    fake.failures["Reset"] = [failure(grpc.StatusCode.UNAVAILABLE)]
    with pytest.raises(grotto.UnavailableError):
        session.reset()
    assert len(fake.requests["Reset"]) == 1


async def test_patience_ends(tmp_path):
    address = parse_url(f"unix://{tmp_path}/nobody.sock")
    transport = Transport(address, "k", new_id=lambda: "i", backoff=Backoff(9, 0.2, 0.01, 0.05))
    with pytest.raises(grotto.UnavailableError, match=r"nobody\.sock"):
        await transport.unary(transport.stub.ListSessions, sessions_pb2.ListSessionsRequest())
    with pytest.raises(grotto.UnavailableError, match=r"nobody\.sock"):
        await transport.once(transport.stub.Reset, sessions_pb2.ResetRequest())
    await transport.close()


async def test_a_server_that_cannot_come_back_is_not_waited_for(tmp_path):
    address = parse_url(f"unix://{tmp_path}/nobody.sock")
    transport = Transport(address, "k", new_id=lambda: "i", gone=lambda: "It has ended.")
    with pytest.raises(grotto.UnavailableError, match="It has ended"):
        await transport.unary(transport.stub.ListSessions, sessions_pb2.ListSessionsRequest())
    await transport.close()


def test_a_closed_client_says_so(server):
    client = grotto.connect(server.url, "k")
    client.close()
    client.close()
    with pytest.raises(grotto.GrottoError, match="closed"):
        client.sessions()


def test_closing_ends_calls_in_progress(server, fake):
    client = grotto.connect(server.url, "k")
    session = client.session()
    fake.batches = [[]]
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            session.execute("code")
        except grotto.GrottoError as error:
            caught.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert fake.running.wait(10)
    client.close()
    waiter.join(10)
    assert len(caught) == 1 and not waiter.is_alive()
    fake.interrupted.set()


def test_a_forked_child_gets_a_sentence_instead_of_a_hang(client):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_use_in_child, args=(client, sender))
    child.start()
    assert receiver.poll(20)
    assert "before a fork" in receiver.recv()
    child.join()
    sender.close()
    receiver.close()
    child.close()


def _use_in_child(client, sender):
    try:
        client.sessions()
    except grotto.GrottoError as error:
        sender.send(str(error))


def test_the_namespace_as_text_for_a_prompt(session, fake):
    fake.variables = [
        Variable(name="sales", type="DataFrame", preview="3 rows", description="Of\x1b one year."),
        Variable(name="change", type="function", signature="(a, b)", doc="In per cent."),
    ]
    text = session.describe()
    assert "def change(a, b)\n    In per cent." in text
    assert "- sales: DataFrame = 3 rows\n    Of\\x1b one year." in text
    assert [variable.name for variable in session.variables()] == ["sales", "change"]


def test_usage_takes_no_nonsense(session):
    usage = session.usage()
    assert (usage.executions, usage.wall_s) == (7, 0.0)


def test_sessions_are_listed(client):
    assert {info.id for info in client.sessions()} == {"a", "b"}


async def test_the_async_core_has_the_same_methods(server, fake, finished):
    public = lambda kind: {name for name in dir(kind) if not name.startswith("_")}  # noqa: E731
    assert public(grotto.Session) == public(grotto.AsyncSession)
    assert public(grotto.Client) == public(grotto.AsyncClient)
    fake.batches = [[finished()]]
    async with await grotto.aconnect(server.url, "k") as client, await client.session() as session:
        assert (await session.execute("1")).ok

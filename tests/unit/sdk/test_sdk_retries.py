"""Repetition: pauses, patience, the budget of a client, and what is never repeated."""

import asyncio
from dataclasses import replace

import grpc
import pytest

import grotto
from grotto._address import parse_url
from grotto._retries import Attempts, Backoff, Retries, RetryBudget, Waiting
from grotto._transport import OPTIONS, Transport
from grotto_proto.v1 import errors_pb2, sessions_pb2

OUTAGE = grotto.UnavailableError("away")


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def waiting(self, chance: float = 1.0) -> Waiting:
        return Waiting(lambda: self.now, self._sleep, lambda: chance)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def until_given_up(attempts: Attempts) -> int:
    """How often a call is repeated that always fails."""
    for count in range(10_000):
        try:
            await attempts.again(OUTAGE)
        except grotto.UnavailableError:
            return count
    raise AssertionError("it goes on for ever")


async def test_pauses_double_up_to_a_ceiling():
    time = Time()
    retries = Retries(Backoff(first_s=0.1, ceiling_s=1.0), time.waiting())
    retries.was_reached = True
    attempts = Attempts(retries)
    for _ in range(6):
        await attempts.again(OUTAGE)
    assert time.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(("chance", "pause_s"), [(0.0, 0.05), (0.5, 0.075), (1.0, 0.1)])
async def test_pauses_are_spread(chance, pause_s):
    time = Time()
    await Attempts(Retries(Backoff(first_s=0.1), time.waiting(chance))).again(OUTAGE)
    assert time.slept == pytest.approx([pause_s])


@pytest.mark.parametrize(("was_reached", "patience_s"), [(False, 3.0), (True, 30.0)])
async def test_patience_is_shorter_before_the_first_contact(was_reached, patience_s):
    time = Time()
    retries = Retries(Backoff(), time.waiting())
    retries.was_reached = was_reached
    assert await until_given_up(Attempts(retries)) > 3
    assert patience_s <= time.now - 100.0 <= patience_s + 1.0


async def test_repetitions_are_counted_and_progress_starts_anew():
    retries = Retries(Backoff(first_s=0.001, ceiling_s=0.001, max_repetitions=7), Time().waiting())
    attempts = Attempts(retries)
    assert await until_given_up(attempts) == 7
    attempts.progress()
    assert await until_given_up(attempts) == 7


def test_all_calls_of_a_client_share_one_budget():
    now = 0.0
    backoff = Backoff(burst=5, refill_per_s=2)
    retries = Retries(backoff, Waiting(clock=lambda: now))
    made = 0
    for step in range(1001):  # ten seconds, in which fifty calls try all the time
        now = step / 100
        made += sum(retries.budget.take() == 0.0 for _ in range(50))
    assert made == 5 + 2 * 10


async def test_a_call_waits_for_the_budget_as_long_as_it_has_patience():
    time = Time()
    backoff = Backoff(burst=1, refill_per_s=0.5, first_s=0.01, ceiling_s=0.01, budget_s=10)
    retries = Retries(backoff, time.waiting())
    retries.was_reached = True
    assert await until_given_up(Attempts(retries)) == 6  # the first, and one each two seconds
    plenty = Retries(replace(backoff, burst=1e9, max_repetitions=10_000), Time().waiting())
    plenty.was_reached = True
    assert await until_given_up(Attempts(plenty)) > 900, "it is the budget that holds it back"


def test_success_fills_the_budget_a_little():
    time = Time()
    budget = RetryBudget(Backoff(burst=1, refill_per_s=0.5, refill_per_success=0.125), lambda: 0.0)
    assert budget.take() == 0.0
    assert budget.take() == pytest.approx(2.0)
    for _ in range(10):
        budget.earn()
    assert budget.take() == 0.0 and time.slept == []


async def test_a_hopeless_server_is_not_waited_for():
    time = Time()

    async def verdict() -> str:
        return "It speaks another language."

    with pytest.raises(grotto.UnavailableError, match="another language"):
        await Attempts(Retries(Backoff(), time.waiting(), diagnose=verdict)).again(OUTAGE)
    assert time.slept == []


@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda c, s: c.sessions(), "ListSessions"),
        (lambda c, s: c.session_info("x"), "GetSession"),
        (lambda c, s: c.session(), "CreateSession"),
        (lambda c, s: s.usage(), "GetUsage"),
        (lambda c, s: s.variables(), "DescribeNamespace"),
        (lambda c, s: s.files(), "ListFiles"),
        (lambda c, s: c.close_session("x"), "CloseSession"),
        (lambda c, s: s.inject("x", 1), "PutValue"),
    ],
)
def test_what_is_safe_to_repeat_is_repeated(client, session, fake, failure, call, method):
    before = len(fake.requests[method])
    fake.failures[method] = [failure(grpc.StatusCode.UNAVAILABLE)] * 2
    call(client, session)
    asked = fake.requests[method][before:]
    assert len(asked) == 3 and all(request == asked[0] for request in asked)


REPEATED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@pytest.mark.parametrize(
    "status", sorted({*grpc.StatusCode} - {*REPEATED, grpc.StatusCode.OK}, key=str)
)
def test_only_an_outage_is_repeated(client, fake, failure, status):
    fake.failures["ListSessions"] = [failure(status)]
    with pytest.raises(grotto.GrottoError):
        client.sessions()
    assert len(fake.requests["ListSessions"]) == 1


@pytest.mark.parametrize(
    ("call", "method"),
    [
        (lambda s: s.reset(), "Reset"),
        (lambda s: s.delete("x"), "DeleteVariables"),
        (lambda s: s.interrupt(), "Interrupt"),
    ],
)
def test_what_may_have_happened_is_not_repeated_and_says_so(session, fake, failure, call, method):
    fake.failures[method] = [failure(grpc.StatusCode.UNAVAILABLE)]
    with pytest.raises(grotto.UnavailableError, match="not known whether the call took effect"):
        call(session)
    assert len(fake.requests[method]) == 1


def test_what_the_server_refused_did_not_happen(session, fake, failure):
    reason = errors_pb2.ERROR_REASON_UNAVAILABLE
    fake.failures["Reset"] = [failure(grpc.StatusCode.UNAVAILABLE, reason, "draining")]
    with pytest.raises(grotto.UnavailableError, match="draining") as caught:
        session.reset()
    assert "not known" not in str(caught.value)


async def test_a_peer_that_is_gone_without_a_word_is_noticed(server, tmp_path, finished, fake):
    """A wire that carries the call, and then nothing any more: keep-alive ends the call."""
    wire = await _Wire.make(str(tmp_path / "wire.sock"), server.url.removeprefix("unix://"))
    names = ("grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms")
    assert sum(dict(OPTIONS)[name] for name in names) <= 40_000
    quick = dict.fromkeys(names, 200)
    transport = Transport(
        parse_url(f"unix://{tmp_path}/wire.sock"), "k", new_id=lambda: "i",
        options=[(name, quick.get(name, value)) for name, value in OPTIONS],
    )  # fmt: skip
    fake.batches = [[]]  # the execution goes on until it is interrupted
    request = sessions_pb2.ExecuteRequest(session_id="s-1")
    running = asyncio.create_task(anext(transport.stream(transport.stub.Execute, request)))
    await asyncio.to_thread(fake.running.wait, 10)
    wire.cut()
    with pytest.raises(grotto.UnavailableError):
        await asyncio.wait_for(running, 20)
    fake.interrupted.set()
    await transport.close()
    await wire.close()


class _Wire:
    """Carries bytes between a client and a server until it is cut; neither end is told."""

    @classmethod
    async def make(cls, path: str, target: str) -> "_Wire":
        wire = cls()
        wire._target, wire._is_cut, wire._writers, wire._tasks = target, False, [], set()
        wire._server = await asyncio.start_unix_server(wire._carry, path)
        return wire

    def cut(self) -> None:
        self._is_cut = True

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._is_cut:
                writer.write(data)

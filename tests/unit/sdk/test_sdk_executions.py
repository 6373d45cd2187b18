"""Executions: events, their folding, repetition after an outage, Ctrl-C."""

import signal
import threading

import grpc
import pytest

import grotto
from grotto._events import Recorder
from grotto_proto.v1 import errors_pb2, execution_pb2

Event = execution_pb2.Event


def out(data: bytes) -> Event:
    return Event(stdout=data)


def display(**data: bytes) -> Event:
    bundle = execution_pb2.MimeBundle(data={k.replace("_", "/"): v for k, v in data.items()})
    return Event(display=bundle)


def result(text: bytes) -> Event:
    return Event(result=execution_pb2.MimeBundle(data={"text/plain": text}))


def test_an_execution_is_the_sum_of_its_events(session, fake, finished):
    fake.batches = [
        [out(b"one "), Event(stderr=b"warn")],
        [out(b"two"), display(image_png=b"\x89PNG", text_plain=b"<fig>"), result(b"42")],
        [finished(dropped_bytes=5)],
    ]
    x = session.execute("code")
    assert x.ok and x.outcome is grotto.Outcome.OK and x.state is grotto.State.KEPT
    assert (x.stdout, x.stderr, x.result, x.truncated) == ("one two", "warn", "42", True)
    assert x.displays == ({"image/png": b"\x89PNG", "text/plain": "<fig>"},)
    assert x.usage == grotto.ExecutionUsage(0.25, 0.125, 4096)
    assert x.raise_if_failed() is x
    assert fake.requests["Execute"][0].spec.execution_id == x.id


def test_the_stream_gives_events_in_order(session, fake, finished):
    fake.batches = [[out(b"a"), Event(stderr=b"b"), display(text_plain=b"d")], [result(b"1")]]
    fake.batches.append([finished()])
    kinds = [type(event).__name__ for event in session.stream("code")]
    assert kinds == ["Stdout", "Stderr", "Display", "Result", "Finished"]


def test_a_character_split_across_events_stays_whole(session, fake, finished):
    euro = "€".encode()
    fake.batches = [[out(euro[:1])], [out(euro[1:]), out(b"\xff"), out(euro[:2])], [finished()]]
    assert session.execute("code").stdout == "€��"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(o, s) for o in list(grotto.Outcome)[1:] for s in grotto.State],
)
def test_every_outcome_and_state_has_its_word(session, fake, finished, outcome, state):
    fake.batches = [
        [
            finished(
                outcome=execution_pb2.Outcome.Value(f"OUTCOME_{outcome.name}"),
                state=execution_pb2.State.Value(f"STATE_{state.name}"),
                state_note="noted",
            )
        ]
    ]
    x = session.execute("code")
    assert (x.outcome, x.state, x.state_note, x.ok) == (outcome, state, "noted", False)
    with pytest.raises(grotto.ExecutionError) as caught:
        x.raise_if_failed()
    assert caught.value.execution is x
    assert state.value in str(caught.value)


@pytest.mark.parametrize("value", [0, 99])
def test_an_unknown_outcome_is_the_platform_s_failure(session, fake, value):
    fake.batches = [[Event(finished=execution_pb2.Finished(outcome=value, state=1))]]
    with pytest.raises(grotto.GrottoError, match="does not know"):
        session.execute("code")


def test_error_and_violations_come_as_values(session, fake, finished):
    fake.batches = [
        [
            finished(
                outcome=execution_pb2.OUTCOME_RAISED,
                error=execution_pb2.TenantError(
                    name="ZeroDivisionError", message="by\x1b[2J zero", traceback="tb", line=3
                ),
            )
        ],
        [
            finished(
                outcome=execution_pb2.OUTCOME_REFUSED,
                violations=[
                    execution_pb2.Violation(
                        layer="ast", rule="import", what="os", line=1, column=2, why="W.", hint="H."
                    )
                ],
            )
        ],
    ]
    raised, refused = session.execute("1/0"), session.execute("import os")
    assert raised.error.line == 3
    assert "ZeroDivisionError" in repr(raised) and "\x1b" not in repr(raised) + str(raised)
    assert refused.violations[0] == grotto.Violation("ast", "import", "os", 1, 2, "W.", "H.")
    assert "line 1, column 2: os: W. H." in str(refused)


def test_a_cut_stream_is_repeated_and_nothing_is_given_twice(session, fake, failure, finished):
    lost = failure(grpc.StatusCode.UNAVAILABLE)
    whole = [out(b"abc"), display(text_plain=b"d1"), out(b"def"), display(text_plain=b"d2")]
    fake.batches = [[out(b"ab"), out(b"c"), display(text_plain=b"d1"), out(b"d")], lost]
    fake.batches += [lost, [*whole, result(b"7")], [finished()]]
    events = list(session.stream("code", execution_id="mine"))
    text = "".join(event.text for event in events if isinstance(event, grotto.Stdout))
    x = events[-1].execution
    assert text == x.stdout == "abcdef"
    assert [bundle["text/plain"] for bundle in x.displays] == ["d1", "d2"]
    assert next(event for event in events if isinstance(event, grotto.Result)).text == "7"
    asked = fake.requests["Execute"]
    assert len(asked) == 3 and {request.spec.execution_id for request in asked} == {"mine"}


def test_a_stream_without_an_end_is_asked_for_again(session, fake, finished):
    fake.batches = [[out(b"a")]]  # the server ends the stream here, and is asked again
    thread = threading.Timer(0.2, lambda: fake.batches.extend([[out(b"a")], [finished()]]))
    thread.start()
    assert session.execute("code").stdout == "a"
    thread.join()
    assert len(fake.requests["Execute"]) > 1


def test_what_fails_otherwise_is_not_repeated(session, fake, failure):
    fake.batches = [failure(grpc.StatusCode.ABORTED, errors_pb2.ERROR_REASON_SESSION_LOST, "gone")]
    with pytest.raises(grotto.SessionLostError):
        session.execute("code")
    assert len(fake.requests["Execute"]) == 1


def test_output_is_bounded_at_the_client_whatever_comes():
    recorder = Recorder("x", max_bytes=10)
    batch = execution_pb2.EventBatch(events=[out(b"a" * 8), out(b"b" * 8), display(text_plain=b"")])
    given = list(recorder.feed(batch))
    end = execution_pb2.Finished(outcome=1, state=1)
    list(recorder.feed(execution_pb2.EventBatch(events=[Event(finished=end)])))
    assert [event.text for event in given] == ["a" * 8, "bb"]
    assert recorder.finished.truncated and not recorder.finished.displays


def test_an_execution_can_be_attached_to_again(session, fake, finished):
    fake.batches = [[out(b"again")], [finished()]]
    assert session.execution("mine").stdout == "again"
    assert fake.requests["WatchExecution"][0].execution_id == "mine"


@pytest.mark.parametrize("execution_id", ["a b", "x" * 65, "ü", "a\n"])
def test_a_bad_execution_id(session, execution_id):
    with pytest.raises(grotto.InvalidArgumentError, match="execution id"):
        session.execution(execution_id)


def test_a_lone_surrogate_is_refused_with_its_place(session, fake):
    with pytest.raises(grotto.InvalidArgumentError, match="line 2, column 6"):
        session.execute("a = 1\nb = '\ud800'")
    assert not fake.requests["Execute"]


def test_source_over_the_limit_is_refused_before_anything_is_sent(session, fake, finished):
    with pytest.raises(grotto.InvalidArgumentError, match="262,144"):
        session.execute("#" * (256 * 1024 + 1))
    assert not fake.requests["Execute"]
    fake.batches = [[finished()]]
    assert session.execute("#" * (256 * 1024)).ok


def test_nul_goes_through(session, fake, finished):
    fake.batches = [[finished()]]
    session.execute("a\0b")
    assert fake.requests["Execute"][0].spec.source == "a\0b"


def _press(running: threading.Event, main: int) -> None:
    assert running.wait(10)
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.parametrize("how", ["execute", "stream"])
def test_ctrl_c_interrupts_the_sandbox_and_then_raises(session, fake, finished, how):
    stopped = finished(outcome=execution_pb2.OUTCOME_INTERRUPTED)
    fake.batches = [[], [stopped]]
    presser = threading.Thread(target=_press, args=(fake.running, threading.get_ident()))
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        _ = session.execute("code") if how == "execute" else list(session.stream("code"))
    presser.join()
    assert fake.interrupted.is_set()
    fake.batches = [[finished()]]
    assert session.execute("next").ok


def test_a_stream_left_early_ends_quietly(session, fake, finished):
    fake.batches = [[out(b"a")], [], [finished()]]
    for event in session.stream("code"):
        assert event == grotto.Stdout("a")
        break
    assert session.interrupt() is True

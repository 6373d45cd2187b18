"""Output that comes while nothing executes: it is nobody's, and holds nobody up."""

import pytest

import grotto

CHATTER = """
import threading
stop = threading.Event()
def chat():
    while not stop.is_set():
        print('noise' * 1000, flush=True)
threading.Thread(target=chat).start()
"""


def test_a_thread_that_never_stops_printing_holds_up_no_recovery_point(client):
    with client.session(policy="open") as session:
        session.execute(CHATTER + "x = 1").raise_if_failed()
        for _ in range(3):
            ran = session.execute("x += 1")
            assert (ran.outcome, ran.state_note) == (grotto.Outcome.OK, "")
        died = session.execute("import os\nos._exit(1)")
        assert died.state is grotto.State.RESTORED
        assert session.execute("x").result == "4"


@pytest.mark.parametrize("call", ["retrieve", "variables", "inject"])
def test_values_travel_while_something_prints(client, call):
    with client.session(policy="open") as session:
        session.execute(CHATTER + "x = 1").raise_if_failed()
        answer = {
            "retrieve": lambda: session.retrieve("x"),
            "variables": lambda: session.variables(),
            "inject": lambda: session.inject("y", 1),
        }
        answer[call]()
        assert session.execute("stop.set()\nx").result == "1"

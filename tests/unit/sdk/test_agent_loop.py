"""The agent's loop: what the model is told, when it ends, what it may not do."""

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

import grotto
from grotto import Execution, ExecutionUsage, Outcome, State, TenantError, Violation
from grotto.agent import (
    Agent,
    Answered,
    Completion,
    Executed,
    LiteLLMModel,
    ModelError,
    Reply,
    ScriptedModel,
    ScriptExhaustedError,
    Status,
    TokenUsage,
)
from grotto.agent._observation import observe
from grotto.agent._prompt import find_code


def execution(**fields: Any) -> Execution:
    known: dict[str, Any] = {
        "id": "x", "outcome": Outcome.OK, "state": State.KEPT, "state_note": "", "stdout": "",
        "stderr": "", "result": None, "displays": (), "error": None, "violations": (),
        "usage": ExecutionUsage(1.5, 0.1, 1), "truncated": False,
    }  # fmt: skip
    return Execution(**{**known, **fields})


class StubSession:
    """A session whose executions are given by a function of the code."""

    def __init__(self, answer: Callable[[str], Execution]) -> None:
        self.answer = answer
        self.ran: list[str] = []

    def describe(self) -> str:
        return "- sales: DataFrame"

    def execute(self, code: str) -> Execution:
        self.ran.append(code)
        return self.answer(code)


class Spy(ScriptedModel):
    """A scripted model that keeps what it was shown."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__(answers)
        self.shown: list[list[Any]] = []

    def complete(self, messages):
        self.shown.append(list(messages))
        return super().complete(messages)


CODE = "I compute.\n\n```python\nprint(1)\n```\n"


def test_code_runs_until_an_answer_has_none():
    session = StubSession(lambda code: execution(stdout="1\n"))
    model = Spy([CODE, "It is 1."])
    events = list(Agent(model, session, "Be brief.").stream("What is it?"))
    assert [type(event) for event in events] == [Answered, Executed, Answered, Reply]
    reply = events[-1]
    assert (reply.text, reply.status, reply.steps) == ("It is 1.", Status.ANSWERED, 2)
    assert session.ran == ["print(1)\n"] and len(reply.executions) == 1
    system, question = model.shown[0]
    assert system["content"].startswith("Be brief.") and "- sales: DataFrame" in system["content"]
    assert question == {"role": "user", "content": "What is it?"}
    assert model.shown[1][-1]["content"] == "Observation:\nOutput:\n1"


def test_tokens_are_summed_over_the_steps():
    model = Spy([CODE, "It is 1."])
    reply = Agent(model, StubSession(lambda code: execution())).run("?")
    prompt_tokens = sum(model.count_tokens(messages) for messages in model.shown)
    assert reply.usage == TokenUsage(prompt_tokens, len(CODE) // 4 + 1 + 2)
    assert reply.usage.total_tokens == prompt_tokens + len(CODE) // 4 + 3


def test_max_steps_end_the_run():
    session = StubSession(lambda code: execution())
    reply = Agent(ScriptedModel([CODE] * 5), session, max_steps=3).run("?")
    assert (reply.status, reply.steps, len(reply.executions)) == (Status.MAX_STEPS, 3, 3)


def test_a_failing_model_ends_the_run_with_its_sentence():
    class Broken(ScriptedModel):
        def complete(self, messages):
            raise ModelError("The model is asleep.")

    reply = Agent(Broken([]), StubSession(lambda code: execution())).run("?")
    assert (reply.status, reply.text) == (Status.MODEL_FAILED, "The model is asleep.")


def test_an_exhausted_script_is_an_error_of_its_own():
    agent = Agent(ScriptedModel([CODE]), StubSession(lambda code: execution()))
    with pytest.raises(ScriptExhaustedError, match="1 answers"):
        agent.run("?")


def test_a_failing_platform_is_raised():
    def lost(code: str) -> Execution:
        raise grotto.SessionLostError("gone")

    with pytest.raises(grotto.SessionLostError):
        Agent(ScriptedModel([CODE]), StubSession(lost)).run("?")


@pytest.mark.parametrize("wrong", ["max_steps", "max_output_chars", "context_window"])
def test_bounds_must_be_positive(wrong):
    with pytest.raises(grotto.InvalidArgumentError, match=wrong):
        Agent(ScriptedModel([]), StubSession(lambda code: execution()), **{wrong: 0})


def test_old_steps_go_when_the_window_is_full():
    long = execution(stdout="x" * 4000)
    model = Spy([CODE] * 6 + ["Done."])
    agent = Agent(model, StubSession(lambda code: long), context_window=4000)
    assert agent.run("the question").status is Status.ANSWERED
    last = model.shown[-1]
    assert ScriptedModel([]).count_tokens(last) <= 3200
    assert "the question" in last[1]["content"] and "left out" in last[1]["content"]
    assert last[-1]["content"].startswith("Observation:")
    assert "left out" not in model.shown[0][1]["content"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("text only", None),
        ("```\nplain fence\n```", None),
        ("```python\n\n```", None),
        ("a\n```python\nx = 1\n```\nOutput: 5\n```python\ny\n```", "x = 1\n"),
        ("```py\nx\n```", "x\n"),
        ("```Python\nx\n```", "x\n"),
        ("```python\nunclosed = 1\n", "unclosed = 1\n"),
        ('```python\ns = "a ``` b"\n```\n', 's = "a ``` b"\n'),
        ("inline ```python x``` is no block", None),
    ],
)
def test_the_first_block_is_the_code(answer, code):
    found = find_code(answer)
    assert (found and found[1]) == code


def test_what_a_model_makes_up_after_its_code_is_dropped():
    text, _ = find_code("a\n```python\nx\n```\nThe output is 5.")
    assert "The output is 5." not in text


def test_long_output_is_replaced_not_cut():
    secret = "needle" + "x" * 6000
    told = observe(execution(stdout=secret), 5000)
    assert "needle" not in told
    assert "6,006 characters" in told and "5,000" in told and ".head()" in told
    assert "needle" in observe(execution(stdout=secret), 6006)


def test_truncated_output_is_replaced_too():
    assert "more than 3 characters" in observe(execution(stdout="abc", truncated=True), 5000)


def test_silence_is_said():
    assert observe(execution(), 100) == "The code ran and printed nothing."
    assert "1 displays" in observe(execution(displays=({"image/png": b""},)), 100)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"outcome": Outcome.RAISED, "error": TenantError("KeyError", "'q'", "tb", 3)},
            "The code raised KeyError in line 3: 'q'",
        ),
        (
            {
                "outcome": Outcome.REFUSED,
                "violations": (Violation("ast", "import", "os", 1, 8, "Bad.", "Use pathlib."),),
            },
            "nothing ran:\n- line 1, column 8: os: Bad. Use pathlib.",
        ),
        ({"outcome": Outcome.TIMED_OUT}, "stopped after 1.5 s"),
        (
            {"outcome": Outcome.KILLED, "state": State.RESTORED, "state_note": "By SIGSEGV."},
            "All variables are as they were before this code. By SIGSEGV.",
        ),
        ({"outcome": Outcome.KILLED, "state": State.LOST}, "All variables are gone"),
        ({"outcome": Outcome.INTERRUPTED}, "The code was interrupted."),
    ],
)
def test_failures_are_told_with_what_to_do(fields, says):
    assert says in observe(execution(**fields), 5000)


def test_output_before_a_failure_is_shown_with_it():
    error = TenantError("E", "m", "tb", 2)
    told = observe(execution(outcome=Outcome.RAISED, stdout="so far\n", error=error), 100)
    assert told == "Output:\nso far\n\nThe code raised E in line 2: m"


def test_litellm_answers_and_failures(monkeypatch):
    class Fake:
        def completion(self, model, messages, **options):
            assert (model, options) == ("m", {"temperature": 0})
            if messages[-1]["content"] == "fail":
                raise RuntimeError("no quota")
            message = type("M", (), {"content": "hi"})
            usage = type("U", (), {"prompt_tokens": 3, "completion_tokens": 1})
            choice = type("C", (), {"message": message})
            return type("R", (), {"choices": [choice], "usage": usage})

        def token_counter(self, model, messages):
            raise KeyError(model)

    monkeypatch.setitem(sys.modules, "litellm", Fake())
    model = LiteLLMModel("m", temperature=0)
    asked = [{"role": "user", "content": "hello"}]
    assert model.complete(asked) == Completion("hi", TokenUsage(3, 1))
    assert model.count_tokens(asked) == 6
    with pytest.raises(ModelError, match=re.escape("m did not answer: RuntimeError: no quota")):
        model.complete([{"role": "user", "content": "fail"}])


def test_a_missing_litellm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ModelError, match=re.escape("pip install 'grotto[agent]'")):
        LiteLLMModel("gpt-4o")

"""The loop: prompt, code, execution, observation, until an answer without code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from grotto._blocking import Session
from grotto._execution import Execution
from grotto.agent._models import Completion, LiteLLMModel, Message, Model, ModelError, TokenUsage
from grotto.agent._observation import observe
from grotto.agent._prompt import find_code, system_prompt
from grotto.errors import InvalidArgumentError

_ANSWER_RESERVE = 0.2
_FORGOTTEN = "(Earlier steps were left out to save room; the variables they made are there.)"


class Status(StrEnum):
    """How a run ended."""

    ANSWERED = "answered"
    MAX_STEPS = "max_steps"
    MODEL_FAILED = "model_failed"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a run gave: the answer, the number of model calls, tokens, executions in order."""

    text: str
    status: Status
    steps: int
    usage: TokenUsage
    executions: tuple[Execution, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """The model answered; `code` is what will run, or None when the answer is final."""

    text: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Executed:
    """The code ran; `observation` is what the model is told of it."""

    execution: Execution
    observation: str


AgentEvent: TypeAlias = Answered | Executed | Reply


class Agent:
    """Answers prompts by having a model write code that runs in a session.

    `model` is a LiteLLM name or a `Model`; `max_steps` bounds the model calls of a run,
    `max_output_chars` what the model is shown of one execution, `context_window` the
    tokens of a conversation. Every run is a new conversation; the session's variables
    stay. Errors of the session (`GrottoError`) are raised; the model's end the run.

    >>> Agent("gpt-4o", session).run("Total revenue by region?").text    # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Model,
        session: Session,
        instructions: str = "",
        max_steps: int = 10,
        max_output_chars: int = 5000,
        context_window: int = 128_000,
    ) -> None:
        for name, number in (
            ("max_steps", max_steps),
            ("max_output_chars", max_output_chars),
            ("context_window", context_window),
        ):
            if number < 1:
                raise InvalidArgumentError(f"{name}={number!r} must be at least 1.")
        self._model = LiteLLMModel(model) if isinstance(model, str) else model
        self._session = session
        self._instructions = instructions
        self._max_steps = max_steps
        self._max_output_chars = max_output_chars
        self._max_prompt_tokens = int(context_window * (1 - _ANSWER_RESERVE))

    def run(self, prompt: str) -> Reply:
        """Returns the reply to a prompt."""
        for event in self.stream(prompt):
            if isinstance(event, Reply):
                return event
        raise AssertionError("a run ends with its reply")

    def stream(self, prompt: str) -> Iterator[AgentEvent]:
        """Yields Answered and Executed as they happen, and the Reply at last."""
        messages = self._opening(prompt)
        usage, executions = TokenUsage(), []
        text, status, step = "", Status.MAX_STEPS, 0
        for step in range(1, self._max_steps + 1):  # noqa: B007 - reported after the loop
            try:
                completion = self._ask(messages)
            except ModelError as error:
                text, status = str(error), Status.MODEL_FAILED
                break
            usage += completion.usage
            found = find_code(completion.text)
            text = found[0] if found else completion.text
            yield Answered(text, found[1] if found else None)
            if found is None:
                status = Status.ANSWERED
                break
            execution = self._session.execute(found[1])
            executions.append(execution)
            observation = observe(execution, self._max_output_chars)
            yield Executed(execution, observation)
            messages += _step(text, observation)
        yield Reply(text, status, step, usage, tuple(executions))

    def _opening(self, prompt: str) -> list[Message]:
        system = system_prompt(self._instructions, self._session.describe())
        return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]

    def _ask(self, messages: list[Message]) -> Completion:
        return self._model.complete(self._fitted(messages))

    def _fitted(self, messages: list[Message]) -> Sequence[Message]:
        """Returns the messages, without the oldest steps when they do not fit the window."""
        opening, steps = messages[:2], messages[2:]
        while (
            len(steps) > 2 and self._model.count_tokens(opening + steps) > self._max_prompt_tokens
        ):
            del steps[:2]
        if len(opening) + len(steps) == len(messages):
            return messages
        asked = opening[1]["content"]
        return [opening[0], {"role": "user", "content": f"{asked}\n\n{_FORGOTTEN}"}, *steps]


def _step(answer: str, observation: str) -> list[Message]:
    return [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": f"Observation:\n{observation}"},
    ]

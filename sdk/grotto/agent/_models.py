"""What an agent asks: the `Model` protocol, LiteLLM's models, and a scripted one."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol, TypedDict

from grotto.errors import GrottoError

_CHARS_PER_TOKEN = 4
_MESSAGE_TOKENS = 4


class Message(TypedDict):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one or several completions."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model."""

    text: str
    usage: TokenUsage


class ModelError(GrottoError):
    """The model could not be asked, or failed to answer."""


class ScriptExhaustedError(GrottoError):
    """A scripted model was asked more often than it has answers."""


class Model(Protocol):
    """What an agent needs of a model."""

    def complete(self, messages: Sequence[Message]) -> Completion:
        """Returns the next answer; raises ModelError."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Returns how many tokens the messages take, roughly."""
        ...


class LiteLLMModel:
    """Any model that LiteLLM reaches by name, e.g. "gpt-4o"; `options` go to its `completion`.

    Raises ModelError when LiteLLM is not installed.
    """

    def __init__(self, model: str, **options: Any) -> None:
        self._model = model
        self._options = options
        self._litellm = _import_litellm()

    def complete(self, messages: Sequence[Message]) -> Completion:
        """Asks the model; raises ModelError for whatever goes wrong there."""
        try:
            answer = self._litellm.completion(
                model=self._model, messages=list(messages), **self._options
            )
            text = answer.choices[0].message.content or ""
            used = getattr(answer, "usage", None)
        except Exception as error:
            raise ModelError(
                f"{self._model} did not answer: {type(error).__name__}: {error}"
            ) from error
        return Completion(
            text,
            TokenUsage(
                int(getattr(used, "prompt_tokens", 0) or 0),
                int(getattr(used, "completion_tokens", 0) or 0),
            ),
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Counts with the model's own tokenizer where LiteLLM has it."""
        try:
            return int(self._litellm.token_counter(model=self._model, messages=list(messages)))
        except Exception:
            return count_roughly(messages)


class ScriptedModel:
    """Plays recorded answers in order and counts tokens roughly (four characters each).

    >>> ScriptedModel(["It is 4."]).complete([{"role": "user", "content": "2 + 2?"}]).text
    'It is 4.'
    """

    def __init__(self, answers: Iterable[str]) -> None:
        self._answers = list(answers)
        self._next = 0

    def complete(self, messages: Sequence[Message]) -> Completion:
        """Returns the next recorded answer; raises ScriptExhaustedError after the last."""
        if self._next >= len(self._answers):
            raise ScriptExhaustedError(
                f"The script has {len(self._answers)} answers; the agent asked for one more.",
                hint="Record another answer, or lower max_steps.",
            )
        text = self._answers[self._next]
        self._next += 1
        return Completion(text, TokenUsage(count_roughly(messages), _tokens(text)))

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Counts four characters as one token."""
        return count_roughly(messages)


def count_roughly(messages: Sequence[Message]) -> int:
    """Returns an estimate that needs no tokenizer."""
    return sum(_tokens(message["content"]) + _MESSAGE_TOKENS for message in messages)


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)


def _import_litellm() -> ModuleType:
    try:
        return importlib.import_module("litellm")
    except ImportError as error:
        raise ModelError(
            "LiteLLM is not installed.", hint="Install it: pip install 'grotto[agent]'."
        ) from error

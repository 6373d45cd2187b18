"""What became of one execution, and the events it gave on the way: immutable values.

Every string in here came from a sandbox and is data, never an instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from grotto._printable import printable
from grotto.errors import ExecutionError

Bundle: TypeAlias = Mapping[str, str | bytes]
"""One display by MIME type: text types as str, all others as bytes."""


class Outcome(StrEnum):
    """What became of the code."""

    OK = "ok"
    RAISED = "raised"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    KILLED = "killed"


class State(StrEnum):
    """What became of the session's namespace."""

    KEPT = "kept"
    RESTORED = "restored"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Violation:
    """One reason why code was refused; `line` and `column` count from 1."""

    layer: str
    rule: str
    what: str
    line: int
    column: int
    why: str
    hint: str

    def __str__(self) -> str:
        return (
            f"line {self.line}, column {self.column}: {self.what}: {self.why} {self.hint}".rstrip()
        )


@dataclass(frozen=True, slots=True)
class TenantError:
    """The exception the code raised; `line` of the source counts from 1, 0 when unknown."""

    name: str
    message: str
    traceback: str
    line: int


@dataclass(frozen=True, slots=True)
class ExecutionUsage:
    """What one execution used."""

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Execution:
    """One finished execution.

    `result` is the text of the last expression as the REPL shows it, or None;
    `displays` are MIME bundles; `error` is set when the code raised, `violations`
    when it was refused. `truncated` says that output over `output_bytes` was dropped.

    >>> x = session.execute("1 + 1")      # doctest: +SKIP
    >>> x.ok, x.result                    # doctest: +SKIP
    (True, '2')
    """

    id: str
    outcome: Outcome
    state: State
    state_note: str
    stdout: str
    stderr: str
    result: str | None
    displays: tuple[Bundle, ...]
    error: TenantError | None
    violations: tuple[Violation, ...]
    usage: ExecutionUsage
    truncated: bool

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end."""
        return self.outcome is Outcome.OK

    def raise_if_failed(self) -> Execution:
        """Returns itself when `ok`; raises ExecutionError, which carries it, otherwise."""
        if self.ok:
            return self
        raise ExecutionError(f"{self.failure()} State: {self.state.value}.", self)

    def failure(self) -> str:
        """Returns one printable paragraph on why it is not ok; empty when it is."""
        if self.ok:
            return ""
        if self.error is not None:
            where = f" (line {self.error.line})" if self.error.line else ""
            return printable(f"{self.error.name}: {self.error.message}{where}")
        if self.violations:
            return printable("The code was refused: " + "; ".join(map(str, self.violations)))
        return printable(f"The code was {self.outcome.value.replace('_', ' ')}. {self.state_note}")

    def __repr__(self) -> str:
        parts = [f"{self.outcome.value}, state {self.state.value}, {self.usage.wall_s:.3f} s"]
        if not self.ok:
            parts.append(self.failure())
        for name in ("result", "stdout", "stderr"):
            text = getattr(self, name)
            if text:
                parts.append(f"{name}={printable(text, 200, keep='')}")
        if self.displays:
            parts.append(f"{len(self.displays)} displays")
        return f"<Execution {self.id}: {'; '.join(parts)}>"

    def __str__(self) -> str:
        shown = [self.stdout, self.result or "", self.stderr, self.failure()]
        return printable("\n".join(part.rstrip("\n") for part in shown if part), 100_000)


@dataclass(frozen=True, slots=True)
class Stdout:
    """Text the code, or a process it started, wrote to standard output."""

    text: str


@dataclass(frozen=True, slots=True)
class Stderr:
    """Text the code, or a process it started, wrote to standard error."""

    text: str


@dataclass(frozen=True, slots=True)
class Display:
    """Something the code displayed."""

    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Result:
    """The value of the last expression: its text, and all its representations."""

    text: str
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole execution."""

    execution: Execution


Event: TypeAlias = Stdout | Stderr | Display | Result | Finished

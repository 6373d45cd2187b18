"""What a model is told about an execution. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from grotto._execution import Execution, Outcome, State
from grotto._printable import printable

_MAX_PROBLEM_CHARS = 2000
_MAX_VIOLATIONS = 20


def observe(execution: Execution, max_output_chars: int) -> str:
    """Returns the observation: output, result, what went wrong and what to do about it.

    Output over `max_output_chars` is replaced by guidance, not cut: half a table misleads.
    """
    sections = [_output(execution, max_output_chars), *_problems(execution)]
    if execution.state is not State.KEPT:
        sections.append(_state(execution))
    return "\n\n".join(section for section in sections if section)


def _output(execution: Execution, max_output_chars: int) -> str:
    parts = [("Output", execution.stdout), ("Errors printed", execution.stderr)]
    parts.append(("Result", execution.result or ""))
    shown = [(title, text) for title, text in parts if text.strip()]
    size = sum(len(text) for _, text in shown)
    if size > max_output_chars or execution.truncated:
        return _guidance(size, max_output_chars, execution.truncated)
    if shown:
        return "\n\n".join(
            f"{title}:\n{printable(text, max_output_chars).rstrip()}" for title, text in shown
        )
    if execution.displays:
        return f"{len(execution.displays)} displays were shown, no text."
    return "The code ran and printed nothing." if execution.ok else ""


def _guidance(size: int, limit: int, truncated: bool) -> str:
    least = "more than " if truncated else ""
    return (
        f"The output is not shown: it has {least}{size:,} characters, the limit is {limit:,}. "
        "The variables are there. Print less: use .head(), .describe(), len(), or a summary."
    )


def _problems(execution: Execution) -> Iterator[str]:
    if execution.violations:
        shown = execution.violations[:_MAX_VIOLATIONS]
        lines = [f"- {printable(str(violation), 500)}" for violation in shown]
        yield "The code was refused by the session's policy; nothing ran:\n" + "\n".join(lines)
    elif execution.error is not None:
        where = f" in line {execution.error.line}" if execution.error.line else ""
        text = printable(
            f"{execution.error.name}{where}: {execution.error.message}", _MAX_PROBLEM_CHARS
        )
        yield f"The code raised {text}"
    elif execution.outcome is Outcome.TIMED_OUT:
        yield f"The code was stopped after {execution.usage.wall_s:.1f} s, its time limit."
    elif not execution.ok:
        yield execution.failure()


def _state(execution: Execution) -> str:
    if execution.state is State.RESTORED:
        text = "All variables are as they were before this code."
    else:
        text = "All variables are gone: the interpreter is a new one."
    return f"{text} {printable(execution.state_note, 500)}".rstrip()

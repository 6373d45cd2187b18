"""Turns an exception of tenant code into text, trimmed to the tenant's own frames."""

import traceback
from types import TracebackType

from grotto_wire.frames import Problem

MAX_MESSAGE_CHARS = 4000
MAX_TRACEBACK_CHARS = 20_000
MAX_CHAIN = 8
CELL_PREFIX = "<cell "


def describe(error: BaseException, source_lines: int) -> Problem:
    """Returns name, message, trimmed traceback and the line of the cell that failed."""
    return Problem(
        name=_sendable(type(error).__name__[:200]),
        message=_sendable(_head(_message(error), MAX_MESSAGE_CHARS)),
        traceback=_sendable(_middle_out(_render(error), MAX_TRACEBACK_CHARS)),
        line=_line(error, source_lines),
    )


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        return str(error)
    except Exception:  # a tenant's __str__ may do anything
        return "<the exception has no readable message>"


def _render(error: BaseException) -> str:
    """The usual Python text, without frames of the interpreter's own libraries."""
    try:
        trace = traceback.TracebackException.from_exception(error, compact=True)
        current: traceback.TracebackException | None = trace
        for _ in range(MAX_CHAIN):
            if current is None:
                break
            current.stack = traceback.StackSummary.from_list(
                [frame for frame in current.stack if frame.filename.startswith(CELL_PREFIX)]
            )
            current = current.__cause__ or current.__context__
        return "".join(trace.format())
    except Exception:
        return f"{type(error).__name__}: <the traceback cannot be shown>\n"


def _line(error: BaseException, source_lines: int) -> int:
    """The last line of the newest cell on the stack; of the text itself if it did not parse."""
    line = 0
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL_PREFIX):
        line = error.lineno or 0
    trace: TracebackType | None = error.__traceback__
    newest = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.startswith(CELL_PREFIX) and (not newest or name == newest):
            newest, line = name, trace.tb_lineno
        trace = trace.tb_next
    return line if 0 < line <= source_lines + 1 else 0


def _sendable(text: str) -> str:
    """The text with lone surrogates, which no frame can carry, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _head(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + f"… ({len(text)} characters)"


def _middle_out(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - limit} characters left out …\n{text[-half:]}"

"""Checks what a caller passes, before anything is sent: clear, early errors. Pure.

The sandbox checks all of it again; these checks are for the caller's sake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from grotto.errors import InvalidArgumentError
from grotto.limits import Limits, check_seconds
from grotto_proto.v1 import execution_pb2
from grotto_wire.names import EXECUTION_ID, InvalidName, check_name, check_readable

MAX_SOURCE_BYTES = 256 * 1024
MAX_PATH_BYTES = 1024
MAX_NAMES = 1000

UNSET: Final[Any] = object()
"""Tells an absent value from None, which can be injected."""


def check_source(code: str) -> str:
    """Returns the code; raises InvalidArgumentError when it is no UTF-8 or too big."""
    if not isinstance(code, str):
        raise InvalidArgumentError(f"The code is {type(code).__name__}, not str.")
    try:
        size = len(code.encode())
    except UnicodeEncodeError as error:
        line = code.count("\n", 0, error.start) + 1
        column = error.start - (code.rfind("\n", 0, error.start) + 1) + 1
        raise InvalidArgumentError(
            f"The code has a lone surrogate ({code[error.start]!a}) at line {line}, "
            f"column {column}.",
            hint="It is no text; look at how the code was decoded.",
        ) from error
    if size > MAX_SOURCE_BYTES:
        raise InvalidArgumentError(
            f"The code has {size:,} bytes; at most {MAX_SOURCE_BYTES:,} are taken.",
            hint="Inject data as variables, or upload a file, instead of writing it as code.",
        )
    return code


def check_execution_id(execution_id: str) -> str:
    """Returns the id; raises InvalidArgumentError unless it is well-formed."""
    if not isinstance(execution_id, str) or not EXECUTION_ID.fullmatch(execution_id):
        raise InvalidArgumentError(
            f"{str(execution_id)[:80]!a} is no execution id.",
            hint="Use 1 to 64 letters, digits, hyphens and underscores.",
        )
    return execution_id


def check_session_id(session_id: str) -> str:
    """Returns the id; raises InvalidArgumentError when it cannot be one."""
    if not isinstance(session_id, str) or not 1 <= len(session_id) <= 200:
        raise InvalidArgumentError("A session id is a text of 1 to 200 characters.")
    return check_text(session_id, "session id")


def check_path(path: str) -> str:
    """Returns a workspace path; raises InvalidArgumentError for one that leaves it."""
    shown = repr(path)[:100]
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidArgumentError(f"{shown} is no path in the workspace.")
    if len(check_text(path, "path").encode()) > MAX_PATH_BYTES:
        raise InvalidArgumentError(f"The path {shown}… is over {MAX_PATH_BYTES} bytes.")
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidArgumentError(
            f"{shown} leaves the workspace.", hint="Use a path relative to it, without '..'."
        )
    return path


def check_text(text: str, what: str) -> str:
    """Returns the text; raises InvalidArgumentError when it cannot be sent as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"The {what} has a lone surrogate: {text[:80]!a}.") from error
    return text


def text_map(items: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """Returns a copy of a str → str mapping; raises InvalidArgumentError for anything else."""
    for key, value in (items or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidArgumentError(f"{what} maps str to str; {key!r} does not.")
        check_text(key, what)
        check_text(value, what)
    return dict(items or {})


def execution_limits(timeout: float | None, limits: Limits | None) -> execution_pb2.ExecutionLimits:
    """Returns the limits of one execution; `timeout` in seconds is its wall_s."""
    chosen = limits or Limits()
    if timeout is not None:
        if chosen.wall_s is not None:
            raise InvalidArgumentError("timeout= and limits.wall_s are the same limit; give one.")
        chosen = replace(chosen, wall_s=check_seconds(timeout, "timeout"))
    return chosen.to_execution_wire()


def retrieve_names(names: tuple[str, ...]) -> list[str]:
    """Returns the names; raises InvalidArgumentError for none or a bad one."""
    if not 1 <= len(names) <= MAX_NAMES:
        raise InvalidArgumentError(f"Give 1 to {MAX_NAMES} names, not {len(names)}.")
    for name in names:
        try:
            check_readable(name)
        except InvalidName as error:
            raise InvalidArgumentError(f"{error}.") from error
    return list(names)


def inject_request(
    name_or_items: str | Mapping[str, object] | None,
    value: object,
    description: str | Mapping[str, str] | None,
    items: Mapping[str, object],
) -> tuple[dict[str, object], dict[str, str]]:
    """Returns (values by name, descriptions by name) of the three forms of `inject`."""
    if isinstance(name_or_items, str):
        return _one(name_or_items, value, description, items)
    if value is not UNSET:
        raise InvalidArgumentError('The name comes first: inject("name", value).')
    bound = _merged(name_or_items, items)
    if not 1 <= len(bound) <= MAX_NAMES:
        raise InvalidArgumentError(f"Give 1 to {MAX_NAMES} values to inject, not {len(bound)}.")
    return bound, _descriptions(description, bound)


def _one(
    name: str,
    value: object,
    description: str | Mapping[str, str] | None,
    items: Mapping[str, object],
) -> tuple[dict[str, object], dict[str, str]]:
    if value is UNSET:
        raise InvalidArgumentError(f"There is no value for {name[:80]!a}: inject(name, value).")
    if items:
        raise InvalidArgumentError("Give inject() one name and value, or several, not both.")
    bound = _merged({name: value}, {})
    if isinstance(description, str):
        return bound, {name: check_text(description, "description")}
    return bound, _descriptions(description, bound)


def _merged(first: Mapping[str, object] | None, more: Mapping[str, object]) -> dict[str, object]:
    if first is not None and not isinstance(first, Mapping):
        raise InvalidArgumentError(
            f"inject() takes a name or a mapping, not {type(first).__name__}."
        )
    bound = dict(first or {})
    for name, value in more.items():
        if name in bound:
            raise InvalidArgumentError(f"{name!a} is given twice.")
        bound[name] = value
    for name in bound:
        try:
            check_name(name)
        except InvalidName as error:
            raise InvalidArgumentError(f"{error}.") from error
    return bound


def _descriptions(
    description: str | Mapping[str, str] | None, bound: Mapping[str, object]
) -> dict[str, str]:
    if isinstance(description, str):
        raise InvalidArgumentError(
            "description= of several values is a mapping from name to text.",
            hint='To inject a variable called description, use inject({"description": …}).',
        )
    descriptions = text_map(description, "description")
    for name in descriptions:
        if name not in bound:
            raise InvalidArgumentError(f"There is a description, but no value, for {name[:80]!a}.")
    return descriptions

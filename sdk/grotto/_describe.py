"""Writes what a namespace holds as text for a model's prompt. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from grotto._printable import printable
from grotto._records import Variable

_CALLABLE = ("function", "type", "class", "method", "builtin_function_or_method")
_MAX_ENTRY_CHARS = 600


def describe(variables: Iterable[Variable]) -> str:
    """Returns sections of functions and variables: names, signatures, types, docs, descriptions."""
    everything = list(variables)
    functions = [_callable(v) for v in everything if _is_callable(v)]
    values = [_value(v) for v in everything if not _is_callable(v)]
    sections = [
        "\n".join([title, *entries])
        for title, entries in (("Functions and classes:", functions), ("Variables:", values))
        if entries
    ]
    return "\n\n".join(sections) or "The namespace is empty."


def _is_callable(variable: Variable) -> bool:
    return bool(variable.signature) or variable.type in _CALLABLE


def _callable(variable: Variable) -> str:
    word = "def" if variable.type == "function" else "class"
    return _entry(f"- {word} {variable.name}{variable.signature or '(...)'}", variable)


def _value(variable: Variable) -> str:
    preview = f" = {variable.preview}" if variable.preview else ""
    return _entry(f"- {variable.name}: {variable.type}{preview}", variable)


def _entry(head: str, variable: Variable) -> str:
    notes = [note for note in (variable.description, variable.doc) if note]
    lines = [head, *(f"    {line}" for note in notes for line in note.splitlines())]
    return printable("\n".join(lines), _MAX_ENTRY_CHARS)

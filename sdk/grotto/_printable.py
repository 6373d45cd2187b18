"""Makes text from a sandbox safe to show: nothing in it moves a cursor or hides a character."""

import re
import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_ESCAPE_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_]?"
)


def printable(text: str, max_chars: int = 2000, *, keep: str = "\n\t") -> str:
    """Returns `text` with control, format and bidirectional characters escaped, and capped.

    Characters in `keep` stay as they are.
    """
    shown = "".join(c if c in keep or not _hidden(c) else _escaped(c) for c in text[:max_chars])
    return shown if len(text) <= max_chars else f"{shown}… ({len(text):,} characters)"


def without_escapes(text: str) -> str:
    """Returns program output with terminal escape sequences removed and the rest made printable."""
    return printable(_ESCAPE_SEQUENCE.sub("", text), max_chars=len(text), keep="\n\t")


def _hidden(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) in _INVISIBLE


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""How text from a sandbox or a client is made fit to be shown or logged."""

import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls (C0, C1), format characters (bidi overrides among them), surrogates, separators."""


def visible(text: str, max_chars: int) -> str:
    """Returns `text` cut to `max_chars`, every character that could act on a terminal escaped."""
    cut = text[:max_chars]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_escaped, cut))
    return shown if len(text) <= max_chars else shown + "…"


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN:
        return character.encode("unicode_escape").decode("ascii")
    return character

"""Which names may be bound in a session's namespace, and which ids are well-formed.

The same rules hold at the client (early, clear errors) and in the daemon (the
client is not trusted). Source text is never built from a name.
"""

import keyword
import re
import unicodedata

MAX_NAME_CHARS = 128
EXECUTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

RESERVED = frozenset({"In", "Out", "get_ipython", "exit", "quit", "_", "__", "___"})
"""Names the shell itself binds."""


class InvalidName(ValueError):
    """The name cannot be bound; the message says why and what to do."""


def check_name(name: str) -> None:
    """Raises InvalidName unless `name` can be injected under exactly that spelling."""
    problem = _problem(name)
    if problem:
        raise InvalidName(f"{_shown(name)} cannot be a variable name: {problem}")


def check_readable(name: str) -> None:
    """Raises InvalidName unless `name` can be retrieved: as `check_name`, and `_` as well."""
    if name != "_":
        check_name(name)


def _problem(name: str) -> str | None:
    if not isinstance(name, str):
        return f"it is {type(name).__name__}, not str"
    if not name or len(name) > MAX_NAME_CHARS:
        return f"use 1 to {MAX_NAME_CHARS} characters"
    if not name.isidentifier():
        return "use letters, digits and underscores, not starting with a digit"
    if unicodedata.normalize("NFKC", name) != name:
        return "Python would fold it to another spelling (NFKC); use that spelling"
    if keyword.iskeyword(name):
        return "it is a Python keyword"
    if name in RESERVED or (name.startswith("__") and name.endswith("__")):
        return "it is reserved by the interpreter"
    return None


def _shown(name: object) -> str:
    return ascii(name) if isinstance(name, str) and len(name) <= 40 else ascii(str(name)[:40]) + "…"

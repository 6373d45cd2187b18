"""Time and identity as parameters, so that tests choose them."""

import secrets
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns Unix seconds."""

SESSION_PREFIX = "s_"
_SESSION_CHARS = 22  # 128 bits, url-safe base64
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def new_session_id() -> str:
    return SESSION_PREFIX + secrets.token_urlsafe(16)


def new_sandbox_id() -> str:
    """Short and lower case: it is a directory and part of a socket's path."""
    return "b" + secrets.token_hex(8)


def new_token() -> str:
    """Returns 256 bits that authenticate the control plane to one sandbox."""
    return secrets.token_urlsafe(32)


def is_session_id(text: str) -> bool:
    return (
        len(text) == len(SESSION_PREFIX) + _SESSION_CHARS
        and text.startswith(SESSION_PREFIX)
        and _ALPHABET.issuperset(text)
    )

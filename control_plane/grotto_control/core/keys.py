"""API keys: their text, their digest. What is stored never gives the key back."""

import hashlib
import re
import secrets

from grotto_control.model.errors import InvalidArgument
from grotto_control.model.records import KeyRecord

_KEY = re.compile(r"grotto_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
MAX_LABEL_CHARS = 100


def new_key() -> str:
    """Returns a key with 256 random bits: `grotto_<key id>_<secret>`."""
    return f"grotto_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def key_id_of(key: str) -> str | None:
    """Returns the public id inside a key, or None if the text is not a key."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def record_for(key: str, tenant: str, label: str, now_s: float) -> KeyRecord:
    """Returns what is stored of a key. Raises InvalidArgument on a bad tenant, label or key."""
    key_id = key_id_of(key)
    if key_id is None:
        raise InvalidArgument("this is not an API key of Grotto.")
    if not _TENANT.fullmatch(tenant):
        raise InvalidArgument(
            "a tenant's name has 1 to 63 characters of a-z, 0-9, '_', '.' and '-', "
            "and starts with a letter or digit."
        )
    if len(label) > MAX_LABEL_CHARS or not label.isprintable():
        raise InvalidArgument(f"a key's label has at most {MAX_LABEL_CHARS} printable characters.")
    return KeyRecord(key_id, digest_of(key), tenant, label, now_s)

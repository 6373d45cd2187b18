"""Checks of what clients ask for; every refusal names what was wrong and what to do."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence

from grotto_control.core.limits import check_execution_limits
from grotto_control.model.errors import InvalidArgument, ValueTooLarge, VersionMismatch
from grotto_control.model.limits import KIB
from grotto_control.model.text import visible
from grotto_policy import UnknownPolicy, load
from grotto_proto import WIRE_VERSION
from grotto_proto.v1 import execution_pb2, sessions_pb2, values_pb2

MAX_SOURCE_BYTES = 256 * KIB
MAX_PATH_CHARS = 4096
MAX_NAMES = 4096
MAX_MAP_ENTRIES = 64
MAX_MAP_VALUE_BYTES = 8 * KIB
MIN_LIFETIME_S = 1.0
DEFAULT_POLICY = "standard"

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}")
_EXECUTION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")


def check_client(client: sessions_pb2.ClientInfo) -> None:
    """Raises VersionMismatch unless the client speaks this server's wire version."""
    if client.wire_version != WIRE_VERSION:
        raise VersionMismatch(
            f"the client speaks wire version {client.wire_version}, this server {WIRE_VERSION}.",
            "install the same version of grotto on both sides.",
        )


def checked_policy(name: str) -> str:
    """Returns the policy's name; raises InvalidArgument that names the known ones."""
    try:
        load(name or DEFAULT_POLICY)
    except UnknownPolicy as error:
        raise InvalidArgument(f"policy: {visible(str(error), 300)}") from error
    return name or DEFAULT_POLICY


def checked_image(name: str, offered: Sequence[str]) -> str:
    """Returns an offered image's name, the first for ""; raises InvalidArgument."""
    if not name:
        return offered[0] if offered else ""
    if name not in offered:
        there = ", ".join(offered) or "none: its backend has no images"
        raise InvalidArgument(
            f"image {visible(name, 80)!r} is not offered.", f"this server's images: {there}."
        )
    return name


def check_env(env: Mapping[str, str]) -> None:
    _check_map("env", env, _ENV_NAME, "letters, digits and '_', not starting with a digit")


def check_labels(labels: Mapping[str, str]) -> None:
    _check_map("labels", labels, _LABEL_NAME, "letters, digits, '_', '-', '.' and '/'")


def checked_lifetime_s(name: str, asked_s: float, default_s: float, max_s: float) -> float:
    """Returns seconds; 0 means the default. Raises InvalidArgument."""
    if asked_s == 0:
        return default_s
    if math.isfinite(asked_s) and MIN_LIFETIME_S <= asked_s <= max_s:
        return asked_s
    raise InvalidArgument(
        f"{name} is {asked_s}; this server allows {MIN_LIFETIME_S:g} to {max_s:g} seconds.",
        "leave it 0 for the server's default.",
    )


def checked_idempotency_key(key: str) -> str | None:
    if not key:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidArgument(
            "idempotency_key must be 1 to 128 printable ASCII characters without spaces."
        )
    return key


def digest_of(request: sessions_pb2.CreateSessionRequest) -> bytes:
    """Returns what tells one creation from another under the same idempotency key."""
    content = sessions_pb2.CreateSessionRequest()
    content.CopyFrom(request)
    content.ClearField("client")
    content.ClearField("idempotency_key")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()


def check_execution(spec: execution_pb2.ExecutionSpec) -> None:
    check_execution_id(spec.execution_id)
    check_execution_limits(spec.limits)
    if len(spec.source) > MAX_SOURCE_BYTES or len(spec.source.encode()) > MAX_SOURCE_BYTES:
        raise InvalidArgument(
            f"the source is larger than {MAX_SOURCE_BYTES} bytes.",
            "put data into a variable with inject instead of into source text.",
        )


def check_execution_id(execution_id: str) -> None:
    if not _EXECUTION_ID.fullmatch(execution_id):
        raise InvalidArgument(
            f"execution_id {_quoted(execution_id)} must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-'."
        )


def check_put(spec: values_pb2.PutSpec, max_bytes: int) -> None:
    check_names(len(spec.names))
    if spec.size_bytes > max_bytes:
        raise ValueTooLarge(
            f"the value has {spec.size_bytes} bytes, the session allows {max_bytes}.",
            "inject less, or create the session with a higher limits.value_bytes.",
        )


def check_names(count: int) -> None:
    if not 1 <= count <= MAX_NAMES:
        raise InvalidArgument(f"{count} names were given; give 1 to {MAX_NAMES}.")


def check_path(path: str, may_be_empty: bool = False) -> None:
    """Bounds the text; what it may point at is the sandbox's own affair."""
    if "\0" in path or len(path) > MAX_PATH_CHARS or not (path or may_be_empty):
        raise InvalidArgument(
            f"path {_quoted(path)} must have 1 to {MAX_PATH_CHARS} characters and no NUL.",
            "give it relative to the workspace.",
        )


def _check_map(what: str, entries: Mapping[str, str], name: re.Pattern[str], rule: str) -> None:
    if len(entries) > MAX_MAP_ENTRIES:
        raise InvalidArgument(f"{what} has {len(entries)} entries; at most {MAX_MAP_ENTRIES}.")
    for key, value in entries.items():
        if not name.fullmatch(key):
            raise InvalidArgument(f"{what} name {_quoted(key)} must be 1 to 64 of {rule}.")
        if len(value.encode()) > MAX_MAP_VALUE_BYTES or "\0" in value:
            raise InvalidArgument(
                f"{what}[{_quoted(key)}] must have at most {MAX_MAP_VALUE_BYTES} bytes and no NUL."
            )


def _quoted(text: str) -> str:
    return f"'{visible(text, 60)}'"

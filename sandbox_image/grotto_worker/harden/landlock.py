"""Landlock rulesets by system call (Documentation/userspace-api/landlock.rst).

Asks for every right the kernel's ABI can handle, so that whatever is not listed is refused.
"""

import ctypes
import os
import stat
import struct

from grotto_worker.harden.paths import WorkerSpec
from grotto_worker.harden.syscalls import architecture, call

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = EXECUTE | READ_FILE | READ_DIR
_DEVICE = READ_FILE | WRITE_FILE | _TRUNCATE
_NET_BIND_TCP, _NET_CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2

SCOPES_ABI = 6


def abi() -> int:
    """Returns the kernel's Landlock ABI version, 0 where there is none."""
    if not architecture():
        return 0
    try:
        return call("landlock_create_ruleset", 0, 0, _CREATE_VERSION)
    except OSError:
        return 0


def restrict_worker(spec: WorkerSpec, version: int) -> list[str]:
    """Puts the ruleset of `spec` in force and returns the names of what it brings.

    Needs no_new_privs. Raises FileNotFoundError for a write path that does not exist.
    """
    handled = _handled_files(version)
    ruleset = _create(handled, version, scoped=version >= SCOPES_ABI)
    try:
        for path in spec.read_paths:
            if os.path.exists(path):
                _allow(ruleset, path, _READ & handled)
        for path in spec.write_paths:
            _allow(ruleset, path, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _MAKE_SOCK | _IOCTL_DEV))
        for path in _devices(spec):
            if os.path.exists(path):
                _allow(ruleset, path, _DEVICE & handled)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return [layer for layer, since in LAYERS_BY_ABI.items() if version >= since]


LAYERS_BY_ABI = {
    "landlock_files": 1,
    "landlock_truncate": 3,
    "landlock_tcp": 4,
    "landlock_devices": 5,
    "landlock_scopes": SCOPES_ABI,
}
"""What Landlock brings, and the ABI version that brought it."""


def restrict_scopes() -> None:
    """One more layer, with nothing but the scopes of signals and abstract sockets (ABI 6)."""
    # A layer that says nothing of REFER refuses it: moves between folders would end with EXDEV.
    attributes = struct.pack("=QQQ", _REFER, 0, _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL)
    ruleset = _create_from(attributes)
    try:
        _allow(ruleset, "/", _REFER)
        call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _devices(spec: WorkerSpec) -> list[str]:
    # A shared mapping of /dev/zero is shared anonymous memory by another name.
    return [p for p in spec.device_paths if not (spec.deny_shared_anonymous and p == "/dev/zero")]


def _handled_files(version: int) -> int:
    bits = 13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16
    return (1 << bits) - 1


def _create(handled: int, version: int, *, scoped: bool) -> int:
    net = _NET_BIND_TCP | _NET_CONNECT_TCP if version >= 4 else 0
    scopes = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if scoped else 0
    fields = 3 if version >= SCOPES_ABI else 2 if version >= 4 else 1
    return _create_from(struct.pack("=QQQ", handled, net, scopes)[: 8 * fields])


def _create_from(attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return call("landlock_create_ruleset", ctypes.addressof(buffer), len(attributes), 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(descriptor)

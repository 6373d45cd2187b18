"""Gives up capabilities of the calling process, for good, and tells which it has."""

import contextlib
import ctypes

from grotto_worker.harden.syscalls import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_SET_SECUREBITS,
    call,
    prctl,
)

KILL, SETGID, SETUID = 5, 6, 7

_VERSION_3 = 0x2008_0522
_LAST_CONCEIVABLE = 63
# NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off and locked, NO_CAP_AMBIENT_RAISE, each with its lock.
_SECUREBITS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80


def drop_all() -> None:
    """Empties the ambient, bounding, inheritable, permitted and effective sets."""
    keep_only(())


def keep_only(kept: tuple[int, ...]) -> None:
    """Empties all sets but for `kept` in the permitted and effective ones.

    The bounding set and the secure bits can only be changed with CAP_SETPCAP. A process
    without it has nothing in its permitted set to regain, and no_new_privs, which the
    caller sets, keeps execve from granting any.
    """
    drop_bounding()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(PermissionError):
        prctl(PR_SET_SECUREBITS, _SECUREBITS)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    bits = sum(1 << capability for capability in kept)
    low, high = bits & 0xFFFF_FFFF, bits >> 32
    # struct __user_cap_data_struct[2]: effective, permitted, inheritable; low words first.
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    call("capset", ctypes.addressof(header), ctypes.addressof(data))


def permitted() -> frozenset[int]:
    """Returns the capabilities this process has or may give itself."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    call("capget", ctypes.addressof(header), ctypes.addressof(data))
    bits = data[1] | data[4] << 32
    return frozenset(one for one in range(_LAST_CONCEIVABLE + 1) if bits >> one & 1)


def bounding() -> frozenset[int]:
    """Returns the capabilities that a program this process executes could be given."""
    found = set()
    for capability in range(_LAST_CONCEIVABLE + 1):
        try:
            if prctl(PR_CAPBSET_READ, capability):
                found.add(capability)
        except OSError:  # EINVAL: past the last one
            break
    return frozenset(found)


def drop_bounding() -> None:
    """Empties the bounding set, if CAP_SETPCAP is there: so before a change of uid."""
    for capability in bounding():
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # EPERM: no CAP_SETPCAP (see keep_only).
            return

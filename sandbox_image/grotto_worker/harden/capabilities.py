"""Gives up every capability of the calling process, for good."""

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

_VERSION_3 = 0x2008_0522
# NOROOT, NO_SETUID_FIXUP, KEEP_CAPS off and locked, NO_CAP_AMBIENT_RAISE, each with its lock.
_SECUREBITS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80


def drop_all() -> None:
    """Empties the ambient, bounding, inheritable, permitted and effective sets.

    The bounding set and the secure bits can only be changed with CAP_SETPCAP. A process
    without it has nothing in its permitted set to regain, and no_new_privs, which the
    caller sets, keeps execve from granting any.
    """
    drop_bounding()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    with contextlib.suppress(PermissionError):
        prctl(PR_SET_SECUREBITS, _SECUREBITS)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    empty = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.addressof(header), ctypes.addressof(empty))


def drop_bounding() -> None:
    """Empties the bounding set, if CAP_SETPCAP is there: so before a change of uid."""
    for capability in range(64):
        try:
            if prctl(PR_CAPBSET_READ, capability):
                prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # EINVAL: past the last capability; EPERM: no CAP_SETPCAP (see drop_all).
            return

"""Turns rules into a seccomp filter and puts it in force. Holds no policy.

The filter finds a call by binary search over ranges of call numbers (about eight comparisons),
so its cost does not grow with the number of rules. Source: the kernel's
Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes

from grotto_worker.harden.bpf import Assembler
from grotto_worker.harden.numbers import LAST_REVIEWED, number
from grotto_worker.harden.rules import ENOSYS, EPERM, Check, Rule, Rules
from grotto_worker.harden.syscalls import architecture, call

_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_FLAG_TSYNC = 1
_KILL_PROCESS, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000

# Offsets in struct seccomp_data; both architectures are little-endian.
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT = 0x4000_0000

_Range = tuple[int, Rule | None]  # first call number, rule (None: allowed)


def available() -> bool:
    """Whether this kernel and architecture can run the filters made here."""
    if architecture() not in _AUDIT_ARCH:
        return False
    action = ctypes.c_uint32(_KILL_PROCESS)
    try:
        call("seccomp", _GET_ACTION_AVAIL, 0, ctypes.addressof(action))
    except OSError:
        return False
    return True


def install(program: bytes) -> None:
    """Puts an assembled filter in force on every thread, for good and for all children.

    Needs no_new_privs. Raises OSError when the kernel refuses it.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    code = ctypes.create_string_buffer(program, len(program))
    head = Program(len(program) // 8, ctypes.addressof(code))
    unsynchronised = call("seccomp", _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.addressof(head))
    if unsynchronised:
        raise OSError(EPERM, f"thread {unsynchronised} could not take the seccomp filter")


def compile_rules(rules: Rules, arch: str) -> bytes:
    """Returns the filter for one architecture as an array of `struct sock_filter`."""
    out = Assembler()
    out.load(_ARCH)
    out.jump_if("==", _AUDIT_ARCH[arch], otherwise="kill")
    out.load(_NR)
    if arch == "x86_64":
        out.jump_if(">=", _X32_BIT, then="kill")
    out.jump("search")
    out.label("kill")
    out.ret(_KILL_PROCESS)
    out.label("search")
    _emit_search(out, _ranges(rules, arch))
    return out.assemble()


def _ranges(rules: Rules, arch: str) -> list[_Range]:
    """Cuts the line of call numbers into stretches of the same fate, in ascending order."""
    by_number = {nr: rule for name, rule in rules.items() if (nr := number(name, arch)) is not None}
    ranges: list[_Range] = [(0, None)]
    for nr in sorted(by_number):
        _append(ranges, nr, by_number[nr])
        _append(ranges, nr + 1, None)
    _append(ranges, LAST_REVIEWED + 1, Rule(errno=ENOSYS))
    return ranges


def _append(ranges: list[_Range], first: int, rule: Rule | None) -> None:
    if ranges and ranges[-1][0] == first:
        ranges.pop()
    if not ranges or ranges[-1][1] != rule or (rule is not None and rule.checks):
        ranges.append((first, rule))


def _emit_search(out: Assembler, ranges: list[_Range]) -> None:
    if len(ranges) == 1:
        _emit_rule(out, ranges[0][1])
        return
    middle = len(ranges) // 2
    right, left = out.fresh(), out.fresh()
    # A conditional jump reaches 255 instructions; the plain jump behind it reaches all.
    out.jump_if(">=", ranges[middle][0], otherwise=left)
    out.jump(right)
    out.label(left)
    _emit_search(out, ranges[:middle])
    out.label(right)
    _emit_search(out, ranges[middle:])


def _emit_rule(out: Assembler, rule: Rule | None) -> None:
    if rule is None:
        out.ret(_ALLOW)
        return
    if rule.checks:
        refused = out.fresh()
        for check in rule.checks:
            _emit_check(out, check, refused)
        out.ret(_ALLOW)
        out.label(refused)
    out.ret(_ERRNO | rule.errno)


def _emit_check(out: Assembler, check: Check, refused: str) -> None:
    out.load(_ARGUMENTS + 8 * check.argument)
    if check.mask != 0xFFFF_FFFF:
        out.mask(check.mask)
    passed = out.fresh()
    for value in check.values:
        out.jump_if("==", value, then=refused if check.refuse else passed)
    if not check.refuse:
        out.jump(refused)
    out.label(passed)

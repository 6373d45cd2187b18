"""The seccomp filter as a program: every rule, both architectures, run by an interpreter here."""

import re
import struct
from pathlib import Path

import pytest

from grotto_worker.harden import WorkerSpec, numbers, rules, seccomp
from grotto_worker.harden.bpf import Assembler
from grotto_worker.harden.numbers import ARCHITECTURES, number

KILL, ALLOW, ERRNO = 0x8000_0000, 0x7FFF_0000, 0x0005_0000
AUDIT = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
REDUCED = WorkerSpec(read_paths=(), write_paths=())
FULL = WorkerSpec(read_paths=(), write_paths=(), allow_sockets=True, level="full")
COMMON = {  # calls that every program makes; the numbers are not in the table of rules
    "x86_64": {"read": 0, "write": 1, "futex": 202, "execve": 59, "exit_group": 231, "wait4": 61},
    "aarch64": {
        "read": 63,
        "write": 64,
        "futex": 98,
        "execve": 221,
        "exit_group": 94,
        "wait4": 260,
    },
}


def run(program: bytes, data: bytes) -> tuple[int, int]:
    """Interprets a filter; returns its verdict and how many instructions it took."""
    at, accumulator, steps = 0, 0, 0
    while True:
        code, then, otherwise, k = struct.unpack_from("=HBBI", program, 8 * at)
        at, steps = at + 1, steps + 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            at += k
        elif code == 0x06:
            return k, steps
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
            at += then if holds else otherwise


def verdict(program: bytes, arch: str, nr: int, *args: int, audit: int | None = None) -> int:
    words = [*args, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=iIQ6Q", nr, audit or AUDIT[arch], 0, *(w & (2**64 - 1) for w in words))
    return run(program, data)[0]


def compiled(spec: WorkerSpec, arch: str) -> bytes:
    return seccomp.compile_rules(rules.worker_rules(spec), arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("spec", [REDUCED, FULL], ids=["reduced", "full"])
def test_every_unconditional_rule_refuses_and_common_calls_pass(
    arch: str, spec: WorkerSpec
) -> None:
    program = compiled(spec, arch)
    for name, rule in rules.worker_rules(spec).items():
        nr = number(name, arch)
        if nr is not None and not rule.checks:
            assert verdict(program, arch, nr, 5, 5, 5) == ERRNO | rule.errno, name
    for name, nr in COMMON[arch].items():
        assert verdict(program, arch, nr, 2**63, 7) == ALLOW, name


ARGUMENT_CASES = [
    # call, arguments that must pass, arguments that must not
    ("prlimit64", [(0, 7)], [(1, 0), (4242, 0), (-1, 0)]),
    ("sched_setaffinity", [(0,)], [(1,)]),
    ("sched_setscheduler", [(0,)], [(77,)]),
    ("sched_setparam", [(0,)], [(77,)]),
    ("sched_setattr", [(0,)], [(77,)]),
    ("setpriority", [(0, 0, 5)], [(0, 9, 5), (1, 0, 5), (2, 0, 5)]),
    ("ioprio_set", [(1, 0)], [(1, 9), (2, 0), (3, 0)]),
    ("kill", [(0, 15), (4242, 9), (-4242, 9)], [(1, 0), (-1, 9)]),
    ("tkill", [(77,)], [(1,)]),
    ("tgkill", [(77, 78)], [(1, 78), (77, 1)]),
    ("fcntl", [(3, 1), (3, 4), (3, 1030)], [(3, 8), (3, 10), (3, 15)]),
    ("ioctl", [(0, 0x5401), (0, 0x5413)], [(0, 0x8901), (0, 0x8902), (0, 0x5412), (0, 0x541C)]),
    ("prctl", [(15,), (22,), (38, 1)], [(4, 1), (35,), (36, 1), (62,), (0x59616D61,)]),
    ("personality", [(0xFFFFFFFF,)], [(0x0040000,), (8,)]),
    ("clone", [(17,), (0x3D0F00,)], [(0x10000000 | 17,), (0x20000,), (0x8000,), (0x40000000,)]),
    ("mmap", [(0, 9, 3, 0x22), (0, 9, 1, 0x01)], [(0, 9, 3, 0x21), (0, 9, 3, 0x122)]),
    ("socketpair", [(1, 1), (1, 0x80801), (1, 5)], [(1, 2), (1, 3), (1, 0x80802), (2, 1)]),
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("name", "passing", "refused"), ARGUMENT_CASES)
def test_arguments_are_judged(
    arch: str, name: str, passing: list[tuple[int, ...]], refused: list[tuple[int, ...]]
) -> None:
    program, nr = compiled(FULL, arch), number(name, arch)
    assert nr is not None
    for args in passing:
        assert verdict(program, arch, nr, *args) == ALLOW, args
    for args in refused:
        assert verdict(program, arch, nr, *args) == ERRNO | rules.EPERM, args


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("name", "passing", "refused"), ARGUMENT_CASES)
def test_rubbish_in_the_upper_half_of_an_argument_changes_nothing(
    arch: str, name: str, passing: list[tuple[int, ...]], refused: list[tuple[int, ...]]
) -> None:
    """The kernel takes these as 32-bit integers, so a filter that compared 64 bits would miss."""
    program, nr = compiled(FULL, arch), number(name, arch)
    assert nr is not None
    for args in refused:
        dirty = [(word & 0xFFFF_FFFF) | 0xDEAD_0000_0000 for word in args]
        assert verdict(program, arch, nr, *dirty) == ERRNO | rules.EPERM, args


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_socket_families_by_level(arch: str) -> None:
    nr = number("socket", arch)
    assert nr is not None
    full, reduced = compiled(FULL, arch), compiled(REDUCED, arch)
    for family, kind, protocol in [(2, 1, 0), (10, 2, 17), (2, 0x80801, 6)]:
        assert verdict(full, arch, nr, family, kind, protocol) == ALLOW
        assert verdict(reduced, arch, nr, family, kind, protocol) == ERRNO | rules.EPERM
    # UNIX, NETLINK, PACKET, ALG, VSOCK; MPTCP, SCTP; raw
    refused = [(1, 1, 0), (16, 3, 0), (17, 3, 0), (38, 5, 0), (40, 1, 0), (2, 1, 262), (2, 1, 132)]
    for family, kind, protocol in [*refused, (2, 3, 1), (10, 3, 58)]:
        assert verdict(full, arch, nr, family, kind, protocol) == ERRNO | rules.EPERM


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_foreign_architectures_and_x32_are_killed(arch: str) -> None:
    program = compiled(REDUCED, arch)
    for audit in (0x4000_0003, 0x4000_0028, AUDIT[{"x86_64": "aarch64"}.get(arch, "x86_64")]):
        assert verdict(program, arch, 39, audit=audit) == KILL
    if arch == "x86_64":
        assert verdict(program, arch, 0x4000_0000 | 39) == KILL


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_calls_that_nobody_reviewed_do_not_exist(arch: str) -> None:
    program = compiled(REDUCED, arch)
    assert verdict(program, arch, numbers.LAST_REVIEWED + 1) == ERRNO | rules.ENOSYS
    assert verdict(program, arch, 0x3FFF_FFFF) == ERRNO | rules.ENOSYS
    assert verdict(program, arch, 435) == ERRNO | rules.ENOSYS  # clone3: glibc falls back to clone


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("spec", [REDUCED, FULL], ids=["reduced", "full"])
def test_the_filter_is_short_and_every_call_costs_little(arch: str, spec: WorkerSpec) -> None:
    program = compiled(spec, arch)
    assert len(program) // 8 < 1024  # the kernel takes 4096
    longest = max(
        run(program, struct.pack("=iIQ6Q", nr, AUDIT[arch], 0, *[0] * 6))[1] for nr in range(500)
    )
    assert longest <= 40


def test_numbers_agree_with_this_machines_headers() -> None:
    """The headers of another machine know older or newer calls; those they share must be equal."""
    headers = {
        "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        "aarch64": Path("/usr/include/asm-generic/unistd.h"),
    }
    compared = 0
    for arch, header in headers.items():
        if not header.exists():
            continue
        defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
        for name, nr in numbers.numbers(arch).items():
            if name in defined:
                assert int(defined[name]) == nr, (arch, name)
                compared += 1
    if not compared:
        pytest.skip("no kernel headers here (linux-libc-dev) to compare the numbers with")


def test_the_assembler_refuses_jumps_that_the_kernel_would_misread() -> None:
    backwards = Assembler()
    backwards.label("start")
    backwards.jump("start")
    with pytest.raises(ValueError, match="jump of -1"):
        backwards.assemble()
    far = Assembler()
    far.jump_if("==", 1, then="end")
    for _ in range(256):
        far.ret(0)
    far.label("end")
    far.ret(0)
    with pytest.raises(ValueError, match="jump of 256"):
        far.assemble()

"""Which system calls the processes of a sandbox are refused (control B of the threat model).

Policy only: a table of rules per call name. `seccomp` turns it into a filter. Arguments that
the kernel takes as `int` are compared by their low 32 bits, because it ignores the others.
"""

from dataclasses import dataclass

from grotto_worker.harden.paths import WorkerSpec

EPERM = 1
ENOSYS = 38

_ANY = 0xFFFF_FFFF
_MINUS_ONE = 0xFFFF_FFFF


@dataclass(frozen=True)
class Check:
    """One look at one argument: its low word and `mask` must be in `values`, or must not be."""

    argument: int
    values: tuple[int, ...]
    mask: int = _ANY
    refuse: bool = False
    """True: refuse when it is among the values; False: refuse when it is not."""


@dataclass(frozen=True)
class Rule:
    """Refuses a call with `errno`: always without checks, else when one of them fails."""

    checks: tuple[Check, ...] = ()
    errno: int = EPERM


Rules = dict[str, Rule]

_REFUSED = Rule()
_ABSENT = Rule(errno=ENOSYS)

# Other processes' memory, registers, descriptors and timing.
_OTHER_PROCESSES = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
    "pidfd_getfd", "kcmp", "move_pages", "migrate_pages", "perf_event_open",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo",
)  # fmt: skip
# Objects of the kernel that outlive their process or belong to a user as a whole.
_OWNERLESS = (
    "keyctl", "add_key", "request_key",
    "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl", "semtimedop",
    "msgget", "msgsnd", "msgrcv", "msgctl",
    "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
    "inotify_init", "inotify_init1", "inotify_add_watch", "fanotify_init", "fanotify_mark",
)  # fmt: skip
# Rarely used entry points with a history of holes, and memory that no limit counts.
_SURFACE = (
    "userfaultfd", "memfd_secret", "modify_ldt", "bpf", "vmsplice", "name_to_handle_at",
    "open_by_handle_at", "uselib", "ustat", "sysfs", "_sysctl", "lookup_dcookie", "nfsservctl",
    "lsm_set_self_attr", "create_module", "get_kernel_syms", "query_module",
)  # fmt: skip
_NAMESPACES = (
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr",
    "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount",
    "listmount",
)  # fmt: skip
_ADMINISTRATION = (
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "swapon",
    "swapoff", "reboot", "acct", "quotactl", "quotactl_fd", "syslog", "settimeofday", "adjtimex",
    "clock_settime", "clock_adjtime", "sethostname", "setdomainname", "iopl", "ioperm", "vhangup",
)  # fmt: skip
_METADATA = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat",
    "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
    "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
    "utime", "utimes", "utimensat", "futimesat", "file_setattr",
)  # fmt: skip

_CLONE_NEW_ANYTHING = 0x7E02_0000
_CLONE_PARENT = 0x8000
_PERSONALITY_QUERY = 0xFFFF_FFFF

_PR_SET_DUMPABLE, _PR_SET_MM, _PR_SET_CHILD_SUBREAPER = 4, 35, 36
_PR_SCHED_CORE, _PR_SET_PTRACER = 62, 0x5961_6D61
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX = 0x8901, 0x8902, 0x5412, 0x541C

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_TYPE = 1, 2, 5, 0xF
_DEFAULT, _TCP, _UDP = 0, 6, 17

_MAP_SHARED_ANONYMOUS, _MAP_GROWSDOWN = 0x21, 0x100


def daemon_rules() -> Rules:
    """For the daemon: the kernel's rare entry points. It may signal, listen and make memory."""
    rules = dict.fromkeys(
        _OTHER_PROCESSES + _OWNERLESS + _SURFACE + _NAMESPACES + _ADMINISTRATION, _REFUSED
    )
    # glibc falls back to clone, whose flags a filter can see; clone3 hides them behind a pointer.
    rules |= dict.fromkeys(
        ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"), _ABSENT
    )
    rules["clone"] = Rule((Check(0, (0,), mask=_CLONE_NEW_ANYTHING | _CLONE_PARENT),))
    rules["personality"] = Rule((Check(0, (_PERSONALITY_QUERY,)),))
    rules["socket"] = Rule((Check(0, (_AF_UNIX, _AF_INET, _AF_INET6)),))
    return rules


def worker_rules(spec: WorkerSpec) -> Rules:
    """For processes that run, judge or will run tenant code: list B, complete."""
    rules = daemon_rules() | _on_oneself_only() | _signals() | _sockets(spec)
    if spec.deny_memfd:
        rules["memfd_create"] = _REFUSED
    if spec.deny_shared_anonymous:
        rules["mmap"] = Rule(
            (
                _unless(3, _MAP_SHARED_ANONYMOUS, mask=_MAP_SHARED_ANONYMOUS),
                # Counted as stack, which RLIMIT_DATA leaves out.
                _unless(3, _MAP_GROWSDOWN, mask=_MAP_GROWSDOWN),
            )
        )
    if spec.level == "reduced":
        rules |= dict.fromkeys(_METADATA, _REFUSED)
    return rules


def _unless(argument: int, *values: int, mask: int = _ANY) -> Check:
    return Check(argument, values, mask, refuse=True)


def _on_oneself_only() -> Rules:
    self_only = Rule((Check(0, (0,)),))
    prio_process, ioprio_who_process = 0, 1
    return {
        "prlimit64": self_only,
        "sched_setaffinity": self_only,
        "sched_setscheduler": self_only,
        "sched_setparam": self_only,
        "sched_setattr": self_only,
        "setpriority": Rule((Check(0, (prio_process,)), Check(1, (0,)))),
        "ioprio_set": Rule((Check(0, (ioprio_who_process,)), Check(1, (0,)))),
        "prctl": Rule(
            (
                _unless(
                    0,
                    _PR_SET_DUMPABLE,
                    _PR_SET_MM,
                    _PR_SET_CHILD_SUBREAPER,  # orphans must reach the daemon
                    _PR_SCHED_CORE,
                    _PR_SET_PTRACER,
                ),
            )
        ),
    }


def _signals() -> Rules:
    return {
        "kill": Rule((_unless(0, 1, _MINUS_ONE),)),
        "tkill": Rule((_unless(0, 1),)),
        "tgkill": Rule((_unless(0, 1), _unless(1, 1))),
        "pidfd_send_signal": _REFUSED,
        "fcntl": Rule((_unless(1, _F_SETOWN, _F_SETOWN_EX, _F_SETSIG),)),
        "ioctl": Rule((_unless(1, _FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX),)),
    }


def _sockets(spec: WorkerSpec) -> Rules:
    pairs = Rule(
        (
            Check(0, (_AF_UNIX,)),
            # A datagram pair can still send to any path; a connected stream cannot be turned round.
            Check(1, (_SOCK_STREAM, _SOCK_SEQPACKET), mask=_SOCK_TYPE),
        )
    )
    if not spec.allow_sockets:
        return {"socket": _REFUSED, "socketpair": pairs}
    internet = Rule(
        (
            Check(0, (_AF_INET, _AF_INET6)),
            Check(1, (_SOCK_STREAM, _SOCK_DGRAM), mask=_SOCK_TYPE),
            # By number, so that MPTCP (262), SCTP and what comes next are refused.
            Check(2, (_DEFAULT, _TCP, _UDP)),
        )
    )
    return {"socket": internet, "socketpair": pairs}

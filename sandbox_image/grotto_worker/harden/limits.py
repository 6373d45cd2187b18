"""Resource limits of one worker process, by rlimit and affinity. Best effort where no cgroup is.

They hold per process: the daemon adds up the tree. `apply_worker` refuses the allocations
that RLIMIT_DATA does not see.
"""

import math
import mmap
import os
import resource

_STACK_BYTES = 64 * 1024 * 1024
_PAGE_BYTES = mmap.PAGESIZE
_PRECISION_BYTES = 256 * 1024
_LARGEST_BYTES = 1 << 46


def limit_worker(
    memory_bytes: int,
    pids: int | None,
    cpus: float,
    *,
    file_bytes: int | None = None,
    open_files: int = 1024,
) -> list[str]:
    """Limits the calling process and its children, for good; returns the layers.

    Args:
        memory_bytes: how much private memory the process may add to what it has now.
        pids: processes and threads. Only in an own user namespace, where the kernel counts
            them for the sandbox alone; elsewhere pass None, because all of the uid's
            processes on the machine would count.
        cpus: rounded up to whole processors; advisory, the process can widen it again.
        file_bytes: largest file it may write.
        open_files: descriptors of one process.
    """
    layers = _limit_memory(memory_bytes)
    # Not 0: that would still start a core handler behind a pipe, and 1 stops both (core(5)).
    _lower(resource.RLIMIT_CORE, 1)
    _lower(resource.RLIMIT_NOFILE, open_files)
    _lower(resource.RLIMIT_STACK, _STACK_BYTES)
    _lower(resource.RLIMIT_MEMLOCK, 64 * 1024)
    if file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, file_bytes)
    layers.append("rlimits")
    if pids is not None:
        _lower(resource.RLIMIT_NPROC, pids)
        layers.append("pid_limit")
    return layers + _limit_processors(cpus)


def _lower(which: int, value: int) -> None:
    """Sets soft and hard limit, never above the hard limit that is there."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _limit_memory(memory_bytes: int) -> list[str]:
    held = data_bytes()
    if held is None:
        return []
    _lower(resource.RLIMIT_DATA, held + memory_bytes)
    return ["memory_limit"]


def data_bytes() -> int | None:
    """Returns this process's private writable memory (VmData), at most 256 KiB too high.

    Found by trying, because a hardened worker has no /proc. None when the kernel does not
    hold processes to RLIMIT_DATA.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = _LARGEST_BYTES if hard == resource.RLIM_INFINITY else hard
    low, high = _PAGE_BYTES, ceiling
    try:
        if _fits(low, hard):
            return None
        while high - low > _PRECISION_BYTES:
            middle = (low + high) // 2
            low, high = (low, middle) if _fits(middle, hard) else (middle, high)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return high


def _fits(limit_bytes: int, hard: int) -> bool:
    """Whether one more page can be had under this limit."""
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))
        mmap.mmap(-1, _PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return False
    return True


def _limit_processors(cpus: float) -> list[str]:
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = sorted(os.sched_getaffinity(0))
    wanted = max(1, math.ceil(cpus))
    if wanted < len(allowed):
        # Chosen at random, so that sandboxes do not all sit on the first processor.
        first = os.urandom(1)[0] % len(allowed)
        os.sched_setaffinity(0, (allowed + allowed)[first : first + wanted])
    return ["cpu_affinity"]

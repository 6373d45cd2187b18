"""What a process takes from itself: Landlock, seccomp, capabilities, resource limits.

Standard library and ctypes only, and nothing of ours: daemon, zygote, worker and checker
harden themselves with it before they import anything else, in a namespace or in a
container alike. It never decides *whether* a machine is good enough; that is
`grotto_runtime.enclosure.choose`. A control that the machine offers and that then cannot be
put in force raises; one that it does not offer is listed as missing.
"""

from grotto_worker.harden.apply import (
    Applied,
    apply_checker,
    apply_daemon,
    apply_worker,
    scope_worker,
)
from grotto_worker.harden.interpreter import interpreter_paths
from grotto_worker.harden.limits import limit_worker
from grotto_worker.harden.paths import (
    DEVICE_PATHS,
    SYSTEM_FILES,
    SYSTEM_PATHS,
    WorkerSpec,
)
from grotto_worker.harden.probe import Offer, probe

__all__ = [
    "DEVICE_PATHS",
    "SYSTEM_FILES",
    "SYSTEM_PATHS",
    "Applied",
    "Offer",
    "WorkerSpec",
    "apply_checker",
    "apply_daemon",
    "apply_worker",
    "interpreter_paths",
    "limit_worker",
    "probe",
    "scope_worker",
]

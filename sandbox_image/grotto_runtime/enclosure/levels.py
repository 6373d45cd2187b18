"""Which isolation level a machine gets. A pure decision over what `harden.probe` found."""

from grotto_worker.harden import Offer, probe

LEVELS = ("auto", "full", "reduced", "none")

NAMESPACE_LAYERS = (
    "user_namespace",
    "pid_namespace",
    "mount_namespace",
    "network_namespace",
    "ipc_namespace",
    "uts_namespace",
    "private_root",
    "disk_quota",
)
"""What level "full" puts around the daemon."""

_SCOPES_ABI = 6
_WORKER_LAYERS = ("no_capabilities", "no_new_privileges", "undumpable", "landlock_files", "seccomp")
_HINT = (
    "Run the sandboxes in containers (the docker backend), which then are the boundary, use a "
    "newer kernel, or pass --allow-unsandboxed to run tenant code with no isolation at all."
)


class EnclosureRefused(Exception):
    """This machine cannot give what was asked for; `message` says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def choose(requested: str, offer: Offer | None = None) -> tuple[str, list[str]]:
    """Returns the level to use ("full", "reduced" or "none") and the layers it will lack.

    "auto" is "full" where the machine offers it, else "reduced". "none" is only ever
    returned when it was asked for by name.

    Raises:
        ValueError: an unknown level.
        EnclosureRefused: the machine does not offer the level.
    """
    if requested not in LEVELS:
        raise ValueError(f"isolation {requested!r} is not one of {', '.join(LEVELS)}")
    offer = offer or probe()
    if not offer.architecture:
        raise EnclosureRefused(
            f"sandboxes need Linux on x86_64 or aarch64; {offer.user_namespaces_obstacle}.",
            "Use a control plane on a Linux machine, or in a container.",
        )
    if requested == "none":
        return "none", [*NAMESPACE_LAYERS, *_WORKER_LAYERS]
    level = requested
    if requested == "auto":
        level = "full" if offer.user_namespaces else "reduced"
    lacking = _lacking(level, offer)
    if requested == "auto" and level == "reduced":
        # Without them full was the other way out, so a refusal names them too.
        lacking = [*_lacking_namespaces(offer), *lacking] if lacking else []
    if not lacking:
        return level, list(NAMESPACE_LAYERS) if level == "reduced" else _missing_in_full(offer)
    raise EnclosureRefused(f"this kernel ({offer.kernel}) has {_listed(lacking)}.")


def _missing_in_full(offer: Offer) -> list[str]:
    return [] if offer.landlock_abi >= _SCOPES_ABI else ["landlock_scopes"]


def _lacking(level: str, offer: Offer) -> list[str]:
    if level == "full":
        return _lacking_namespaces(offer) + _lacking_landlock(offer, 1) + _lacking_seccomp(offer)
    return _lacking_landlock(offer, _SCOPES_ABI) + _lacking_seccomp(offer)


def _lacking_namespaces(offer: Offer) -> list[str]:
    if offer.user_namespaces:
        return []
    return [f"no usable user namespaces ({offer.user_namespaces_obstacle})"]


def _lacking_landlock(offer: Offer, needed: int) -> list[str]:
    if offer.landlock_abi >= needed:
        return []
    if offer.landlock_abi == 0:
        return [f"no Landlock (ABI {needed} needed)"]
    return [f"Landlock ABI {offer.landlock_abi} ({needed} needed)"]


def _lacking_seccomp(offer: Offer) -> list[str]:
    return [] if offer.seccomp else ["no seccomp filters"]


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)

"""`python -I -m grotto_runtime doctor`: what isolation this machine gives, by building it once.

Prints one JSON object. What it lists as layers was in force in a sandbox that was really made.
"""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
from typing import Any

from grotto_runtime.enclosure import EnclosureRefused, EnclosureSpec, choose, enter
from grotto_worker import harden

# Below the range that sandboxes get their uids from.
_TRIAL_UID = 1_610_612_735
_MAX_REPORT_BYTES = 64 * 1024
_TRIAL = "from grotto_runtime import doctor; doctor.report_from_inside()"


def main() -> int:
    """Prints the report; 0 when tenant code can be isolated here, else 1."""
    report = examine()
    print(json.dumps(report))  # noqa: T201  (this is the command's output)
    return 0 if report["level"] else 1


def examine() -> dict[str, Any]:
    """Returns {level, layers, missing, kernel, landlock_abi, python, notes}; level "" if none."""
    offer = harden.probe()
    report: dict[str, Any] = {
        "level": "",
        "layers": [],
        "missing": [],
        "kernel": offer.kernel,
        "landlock_abi": offer.landlock_abi,
        "python": platform.python_version(),
        "notes": [],
    }
    try:
        level, missing = choose("auto", offer)
        layers, also_missing = _try(level)
    except EnclosureRefused as refused:
        report["notes"] = [refused.message, refused.hint]
        return report
    missing += [layer for layer in also_missing if layer not in missing]
    report.update(level=level, layers=layers, missing=missing, notes=_notes(level, offer))
    return report


def _notes(level: str, offer: harden.Offer) -> list[str]:
    notes = ["Memory is held by RLIMIT_DATA and by watching the processes: best effort."]
    if level == "reduced":
        notes.append(
            f"User namespaces cannot be used ({offer.user_namespaces_obstacle}), so sandboxes "
            "share this machine's process list and user: let only one trusted user run code."
        )
        notes.append(
            "To get level full, allow unprivileged user namespaces, for instance with "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu."
        )
    if offer.landlock_abi < 6:
        notes.append(
            f"Landlock ABI {offer.landlock_abi} does not confine signals: code can end the other "
            "processes of its own sandbox. Linux 6.12 and later can."
        )
    return notes


def _try(level: str) -> tuple[list[str], list[str]]:
    """Builds a sandbox at this level; returns its layers and what it lacks."""
    folder = tempfile.mkdtemp(prefix="grotto-doctor-")
    read, write = os.pipe()
    try:
        uid = _TRIAL_UID if os.geteuid() == 0 else None
        if uid is not None:
            os.chown(folder, uid, uid)
        child = os.fork()
        if child == 0:
            os.dup2(write, 1)
            os.close(write)
            os.close(read)
            _build(EnclosureSpec(level, folder, folder, uid, 1 << 20, 64))
        os.close(write)
        with open(read, "rb") as pipe:
            lines = pipe.read(_MAX_REPORT_BYTES).splitlines()
        os.waitpid(child, 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    said = json.loads(lines[-1]) if lines else {}
    if "layers" not in said:
        raise EnclosureRefused(said.get("error", "The trial sandbox died without a word."))
    return said["layers"], said["missing"]


def _build(spec: EnclosureSpec) -> None:
    """In a child: enters, has an inner process harden itself, and ends with it."""
    answer: dict[str, Any] = {}
    try:
        entered = enter(spec)
        shape = (entered.read_paths, entered.write_paths, entered.device_paths, spec.level)
        daemon_layers = entered.layers + harden.apply_daemon()
        read, write = os.pipe()
        argv = [sys.executable, "-I", "-c", _TRIAL, json.dumps(shape)]
        inner = entered.spawn_inner(argv, {1: write})
        os.close(write)
        with open(read, "rb") as pipe:
            answer = json.loads(pipe.read(_MAX_REPORT_BYTES) or b"{}")
        os.waitpid(inner, 0)
        answer["layers"] = list(dict.fromkeys(daemon_layers + answer["layers"]))
    except BaseException as error:
        answer = {"error": f"A trial sandbox could not be made: {error}"}
    finally:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(answer).encode() + b"\n")
        os._exit(0)


def report_from_inside() -> None:
    """Run by the trial's inner process: hardens it as a worker and tells what came of it."""
    read_paths, write_paths, device_paths, level = json.loads(sys.argv[1])
    applied = harden.apply_worker(
        harden.WorkerSpec(
            tuple(read_paths),
            tuple(write_paths),
            tuple(device_paths),
            allow_sockets=level == "full",
            level=level,
        )
    )
    layers = applied.layers + harden.scope_worker() + harden.limit_worker(1 << 30, None, 1)
    os.write(1, json.dumps(dataclasses.asdict(harden.Applied(layers, applied.missing))).encode())

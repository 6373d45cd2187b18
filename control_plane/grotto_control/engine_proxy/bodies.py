"""The bodies of create and update, rebuilt from their checked variable fields. Pure.

A body passes when it equals what the control plane's own template makes of the fields
found in it; then what the template made is sent, and never the body itself.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from grotto_control.backends.docker import template
from grotto_control.backends.docker.template import ContainerSpec, Resources
from grotto_control.engine_proxy.rules import (
    MAX_DISK_BYTES,
    NAMELESS,
    SANDBOX_ID,
    ImageUnknown,
    Refused,
    Rules,
    check_resources,
    integer,
    require,
)
from grotto_control.model.limits import MIB

_SEAL = re.compile(r"[A-Za-z0-9_=-]{32,128}")
_NAME = re.compile(rf"grotto-({SANDBOX_ID.pattern})")
_DISK = re.compile(r"size=([1-9][0-9]{0,15}),.*")


def sandbox_of(name: str) -> str:
    """Returns the sandbox id in a container's name; raises Refused."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise Refused(f"a container is named grotto-<sandbox id>, and not {name!a}.")
    return found[1]


def checked_create(name: str, body: Any, rules: Rules) -> bytes:
    """Returns the body of a create call to send on; raises Refused."""
    spec = _spec(sandbox_of(name), body, rules)
    expected = template.create_body(spec)
    _require_equal(body, expected, "")
    return json.dumps(expected).encode()


def checked_update(body: Any) -> bytes:
    """Returns the body of an update call to send on; raises Refused."""
    resources = _resources(_object(body, "the body"))
    expected = template.update_body(resources)
    _require_equal(body, expected, "")
    return json.dumps(expected).encode()


def _spec(sandbox_id: str, body: Any, rules: Rules) -> ContainerSpec:
    body = _object(body, "the body")
    host = _object(body.get("HostConfig"), "HostConfig")
    image_id, runtime = body.get("Image"), host.get("Runtime")
    if not isinstance(image_id, str) or image_id not in rules.images:
        raise ImageUnknown
    require(
        isinstance(runtime, str) and runtime in rules.runtimes,
        "the runtime is not one that this proxy was started for.",
    )
    daemon_uid, worker_uid = _uids(body)
    resources = _resources(host)
    return ContainerSpec(
        sandbox_id=sandbox_id,
        image_id=image_id,
        image_env=rules.images[image_id],
        runtime=str(runtime),
        daemon_uid=daemon_uid,
        worker_uid=worker_uid,
        socket_gid=rules.socket_gid,
        disk_bytes=_disk(host),
        resources=resources,
        labels=_labels(sandbox_id, body, rules),
    )


def _uids(body: Mapping[str, Any]) -> tuple[int, int | None]:
    command = body.get("Cmd")
    require(isinstance(command, list), "Cmd is not a list.", 400)
    assert isinstance(command, list)
    daemon_uid = _uid_after(command, "--daemon-uid")
    require(daemon_uid is not None, "Cmd names no --daemon-uid.")
    assert daemon_uid is not None
    worker_uid = _uid_after(command, "--worker-uid")
    is_a_sandboxs = template.FIRST_UID <= daemon_uid <= template.LAST_UID
    require(is_a_sandboxs, f"uid {daemon_uid} is not a sandbox's.")
    require(worker_uid in (None, daemon_uid + 1), "the worker's uid is not the daemon's plus one.")
    return daemon_uid, worker_uid


def _uid_after(command: list[Any], option: str) -> int | None:
    if option not in command[:-1]:
        return None
    word = command[command.index(option) + 1]
    require(
        isinstance(word, str) and re.fullmatch("[0-9]{1,10}", word), f"{option} is no uid.", 400
    )
    return int(word)


def _resources(body: Mapping[str, Any]) -> Resources:
    resources = Resources(
        memory_bytes=integer(body.get("Memory"), "Memory"),
        cpu_quota_us=integer(body.get("CpuQuota"), "CpuQuota"),
        pids=integer(body.get("PidsLimit"), "PidsLimit"),
    )
    check_resources(resources)
    return resources


def _disk(host: Mapping[str, Any]) -> int:
    options = _object(host.get("Tmpfs"), "Tmpfs").get(template.WORKSPACE)
    found = _DISK.fullmatch(options) if isinstance(options, str) else None
    if found is None:
        raise Refused("Tmpfs has no workspace of a known size.")
    disk_bytes = int(found[1])
    require(
        MIB <= disk_bytes <= MAX_DISK_BYTES,
        f"the workspace has {disk_bytes} bytes; the proxy allows {MIB} to {MAX_DISK_BYTES}.",
    )
    return disk_bytes


def _labels(sandbox_id: str, body: Mapping[str, Any], rules: Rules) -> dict[str, str]:
    require(rules.server_id, NAMELESS)
    seal = _object(body.get("Labels"), "Labels").get(template.SEAL_LABEL)
    require(isinstance(seal, str) and _SEAL.fullmatch(seal), "the seal is none.")
    return {
        template.SERVER_LABEL: rules.server_id,
        template.SANDBOX_LABEL: sandbox_id,
        template.SEAL_LABEL: str(seal),
    }


def _object(value: Any, what: str) -> dict[str, Any]:
    require(isinstance(value, dict), f"{what} is not a JSON object.", 400)
    assert isinstance(value, dict)
    return value


def _require_equal(given: Any, expected: Any, where: str) -> None:
    """Raises Refused, naming the first place where the two differ."""
    if isinstance(given, dict) and isinstance(expected, dict):
        for key in sorted(given.keys() | expected.keys()):
            place = f"{where}.{key}" if where else key
            require(key in expected, f"{place[:100]!a} is not part of a sandbox container.")
            require(key in given, f"{place} is missing.")
            _require_equal(given[key], expected[key], place)
        return
    same = type(given) is type(expected) and given == expected
    require(same, f"{where} is not as every sandbox container has it.")

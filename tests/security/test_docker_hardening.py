"""Every line of a sandbox container's hardening: as the engine reports it, as the host sees it,
and as tenant code under policy "open" runs into it. The system calls are in
`test_docker_engine_filter.py`."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine
from docker_worlds import BARE, DISK_BYTES, Tenants, docker_backend, spec, tenants
from fakes.control import short_folder

from grotto_control.backends.docker.backend import DockerBackend
from grotto_control.backends.docker.template import PYTHON, seccomp_profile
from grotto_control.core.clock import new_sandbox_id
from grotto_control.model.limits import MIB, Limits
from grotto_proto.v1 import sessions_pb2

ENOSPC = 28
KILL, SETUID, SETGID = 5, 7, 6


@pytest.fixture
async def world(docker_engine: DockerEngine) -> AsyncIterator[Tenants]:
    async with short_folder() as folder, tenants(folder) as made:
        yield made


@pytest.fixture
async def backend(docker_engine: DockerEngine) -> AsyncIterator[DockerBackend]:
    async with short_folder() as folder, docker_backend(folder) as made:
        yield made


def small(**changes: Any) -> sessions_pb2.Limits:
    fields = {"disk_bytes": 8 * MIB, "memory_bytes": 96 * MIB, "pids": 24, **changes}
    return sessions_pb2.Limits(**fields)


# ---- as the engine reports it ----


async def test_the_engine_reports_every_line(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    handle = await backend.start(spec())
    found = json.loads(docker_engine.docker("inspect", handle.container_id or ""))[0]
    host, config = found["HostConfig"], found["Config"]
    expected = {
        "Binds": None, "CapAdd": ["KILL", "SETGID", "SETUID"],
        "CapDrop": ["ALL"], "CgroupnsMode": "private", "CgroupParent": "", "Devices": None,
        "DeviceCgroupRules": None, "DeviceRequests": None, "GroupAdd": None, "Init": False,
        "IpcMode": "private", "LogConfig": {"Type": "none", "Config": {}}, "NetworkMode": "none",
        "OomKillDisable": False, "OomScoreAdj": 500, "PidMode": "", "PortBindings": None,
        "Privileged": False, "PublishAllPorts": False, "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ShmSize": 16 * MIB,
        "UsernsMode": "", "UTSMode": "", "VolumesFrom": None,
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp_profile()}"],
    }  # fmt: skip
    assert {name: host[name] or None for name in expected} == {
        name: value or None for name, value in expected.items()
    }
    assert host["MemorySwap"] == host["Memory"] > 0
    assert host["PidsLimit"] > 0 and host["CpuQuota"] > 0 and host["CpuPeriod"] == 100_000
    limits = {one["Name"]: (one["Soft"], one["Hard"]) for one in host["Ulimits"]}
    assert limits["core"] == (1, 1) and limits["msgqueue"] == (0, 0)
    assert limits["nofile"] == (4096, 4096) and limits["rtprio"] == (0, 0)
    masked = {"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kallsyms", "/sys/firmware"}
    assert masked <= set(host["MaskedPaths"]) and "/sys/fs/cgroup" in host["MaskedPaths"]
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(host["ReadonlyPaths"])
    assert set(host["Tmpfs"]) == {"/workspace", "/tmp"}
    assert (config["User"], config["Volumes"], config["OpenStdin"]) == ("0:0", None, False)
    assert set(found["NetworkSettings"]["Networks"]) <= {"none"}
    (volume,) = found["Mounts"]
    assert (volume["Type"], volume["Destination"]) == ("volume", "/run/grotto")


async def test_the_host_sees_a_daemon_with_kill_alone_and_the_rest_with_nothing(
    backend: DockerBackend,
) -> None:
    handle = await backend.start(spec())
    uid = handle.uid or 0
    seen = {pid: status_of(pid) for pid in processes_in(handle.pid)}
    daemon = seen.pop(handle.pid)
    assert {int(daemon[name], 16) for name in ("CapPrm", "CapEff")} == {1 << KILL}
    assert int(daemon["CapBnd"], 16) & ~(1 << KILL | 1 << SETUID | 1 << SETGID) == 0
    assert set(daemon["Uid"].split()) == {str(uid)} and daemon["Groups"] == str(uid + 1)
    assert seen, "there is no worker"
    for status in seen.values():
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(uid + 1)}
        assert status["Groups"] == ""
        assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}
    for status in (daemon, *seen.values()):
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def processes_in(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += processes_in(int(child))
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


LOOK = """
import json, os
def tried(work):
    try: return work()
    except OSError as error: return error.errno
mounts = {}
for line in open("/proc/mounts"):
    _, at, kind, options, *_ = line.split()
    mounts[at] = [kind, options.split(",")]
print(json.dumps({
    "mounts": mounts,
    "devices": sorted(os.listdir("/dev")),
    "networks": os.listdir("/sys/class/net"),
    "routes": len(open("/proc/net/route").readlines()),
    "masked": {p: tried(lambda: os.listdir(p) if os.path.isdir(p) else open(p, "rb").read(1).hex())
               for p in ("/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kallsyms",
                         "/proc/timer_list", "/proc/acpi", "/proc/bus", "/sys/firmware",
                         "/sys/fs/cgroup", "/sys/kernel") if os.path.exists(p)},
    "written": {p: tried(lambda: os.close(os.open(p, os.O_WRONLY)))
                for p in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory",
                          "/proc/sysrq-trigger", "/etc/passwd", "/opt/grotto/bin/activate",
                          "/proc/irq/default_smp_affinity") if os.path.exists(p)},
    "made": {p: tried(lambda: open(p + "/x", "w").close())
             for p in ("/", "/etc", "/opt", "/var", "/dev", "/sys", "/proc", "/run")},
    "nodes": tried(lambda: os.mknod("/tmp/node", 0o20666, os.makedev(1, 1))),
    "queues": tried(lambda: open("/dev/mqueue/x", "w").close()),
}))
"""


async def test_from_inside_without_any_wall_of_the_workers_own(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    """A process of the engine's in the container, as root there: the walls are the engine's."""
    handle = await backend.start(spec())
    words = ["exec", "--user", "0:0", handle.container_id or "", PYTHON, "-I", "-c", LOOK]
    found = json.loads(docker_engine.docker(*words))
    mounts = found["mounts"]
    assert "ro" in mounts["/"][1]
    for at in ("/workspace", "/tmp", "/run/grotto", "/dev/shm"):
        kind, options = mounts[at]
        assert kind == "tmpfs" and {"rw", "nosuid", "nodev", "noexec"} <= set(options), at
    assert {"size=64k", "nr_inodes=8", "mode=2770"} <= set(mounts["/run/grotto"][1])
    assert {f"size={DISK_BYTES // 1024}k", "mode=2770"} <= set(mounts["/workspace"][1])
    assert "size=16384k" in mounts["/dev/shm"][1]
    writable = {at for at, (kind, options) in mounts.items() if "rw" in options}
    real = {at for at in writable if not at.startswith(("/proc/", "/sys/", "/dev"))}
    assert real == {"/proc", "/workspace", "/tmp", "/run/grotto"}
    assert set(found["devices"]) == {
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero",
    } | ({"core"} & set(found["devices"]))  # fmt: skip
    assert found["networks"] == ["lo"] and found["routes"] == 1
    assert all(said in ([], "") or isinstance(said, int) for said in found["masked"].values())
    assert all(isinstance(said, int) for said in found["written"].values()), found["written"]
    refused = {at: said for at, said in found["made"].items() if at != "/dev"}
    assert all(isinstance(said, int) for said in refused.values()), refused
    assert isinstance(found["nodes"], int) and isinstance(found["queues"], int)


async def test_an_ordinary_container_has_few_of_these_walls(docker_engine: DockerEngine) -> None:
    """The control arm: with one capability and unmasked paths, nearly all of it is open."""
    run = ["run", "--rm", "--user", "0:0", "--security-opt", "systempaths=unconfined"]
    options = ["--network", "none", "--cap-add", "SYS_ADMIN", "--device", "/dev/zero:/dev/extra"]
    words = [*run, *options, "--entrypoint", PYTHON, BARE["bare"], "-I", "-c", LOOK]
    found = json.loads(docker_engine.docker(*words))
    assert "rw" in found["mounts"]["/"][1] and "extra" in found["devices"]
    assert found["made"]["/etc"] is None and found["nodes"] is None and found["queues"] is None
    assert found["written"]["/etc/passwd"] is None
    assert found["written"]["/proc/sys/kernel/core_pattern"] is None
    assert found["masked"]["/proc/kallsyms"] not in ("", [])


# ---- limits ----

FILL = """
import errno, json, os
def bytes_in(folder):
    count = 0
    with open(folder + "/much", "wb", buffering=0) as file:
        try:
            while count < 1 << 30: count += file.write(bytes(1 << 16))
        except OSError as error: said = error.errno
    os.unlink(folder + "/much")
    return [count, said]
def files_in(folder):
    os.mkdir(folder + "/many")
    count = 0
    try:
        while count < 100_000:
            os.close(os.open(f"{folder}/many/{count}", os.O_CREAT | os.O_WRONLY)); count += 1
        said = 0
    except OSError as error: said = error.errno
    for number in range(count): os.unlink(f"{folder}/many/{number}")
    os.rmdir(folder + "/many")
    return [count, said]
folders = ("/workspace", "/tmp", "/dev/shm")
print(json.dumps({"bytes": {f: bytes_in(f) for f in folders},
                  "files": {f: files_in(f) for f in folders[:2]}}))
"""


async def test_what_can_be_written_is_limited_in_bytes_and_files(world: Tenants) -> None:
    session = await world.session(limits=small())
    found = await session.value(FILL)
    sizes = {"/workspace": 8 * MIB, "/tmp": 8 * MIB, "/dev/shm": 16 * MIB}
    for folder, size in sizes.items():
        written, said = found["bytes"][folder]
        assert size // 2 < written <= size and said == ENOSPC, folder
    for folder in ("/workspace", "/tmp"):
        count, said = found["files"][folder]
        assert count < 8 * MIB // 4096 and said == ENOSPC, folder


def in_cgroup(handle_id: str, v1: str, v2: str) -> str:
    """What the kernel holds a container to; on cgroup v1 in the controller's own tree."""
    controller, _, name = v1.partition("/")
    first = Path("/sys/fs/cgroup") / controller / "docker" / handle_id / name
    places = [
        first,
        Path("/sys/fs/cgroup/docker") / handle_id / v2,
        Path(f"/sys/fs/cgroup/system.slice/docker-{handle_id}.scope") / v2,
    ]
    (found,) = [place for place in places if place.exists()]
    return found.read_text().strip()


@pytest.mark.parametrize("limits", [Limits(), Limits(cpus=0.5, memory_bytes=200 * MIB, pids=40)])
async def test_the_kernel_holds_it_to_the_limits_of_the_session(
    backend: DockerBackend, limits: Limits
) -> None:
    handle = await backend.start(spec())
    await backend.apply(handle, limits, DISK_BYTES)
    container = handle.container_id or ""
    memory = 2 * limits.memory_bytes + 2 * DISK_BYTES + (16 + 256) * MIB
    assert int(in_cgroup(container, "memory/memory.limit_in_bytes", "memory.max")) == memory
    swap = in_cgroup(container, "memory/memory.memsw.limit_in_bytes", "memory.swap.max")
    assert int(swap) in (memory, 0)  # v1: the sum of both
    assert int(in_cgroup(container, "pids/pids.max", "pids.max")) == limits.pids + 64
    quota = in_cgroup(container, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0]
    assert int(quota) == round(limits.cpus * 100_000)


HOG = """
if os.fork() == 0:
    os.setsid()
held = []
while True:
    held.append(bytearray(8 << 20))
"""
BOMB = """
while True:
    try: os.fork()
    except OSError: pass
"""
MANY_FILES = """
number = 0
while True:
    number += 1
    open(f"/dev/shm/{number}", "w").close()
"""


@pytest.mark.parametrize("attack", [HOG, BOMB, MANY_FILES], ids=["memory", "forks", "inodes"])
async def test_exhaustion_costs_its_own_session_only(world: Tenants, attack: str) -> None:
    limits = small(wall_s=3.0)
    neighbour = await world.session("bob", limits=small())
    assert await neighbour.value("x = 1; print(x)") == 1
    attacker = await world.session("eve", limits=limits)
    attacking = asyncio.create_task(attacker.run(attack))
    pids = int(in_cgroup(attacker.handle.container_id or "", "pids/pids.max", "pids.max"))
    while not attacking.done():
        assert await neighbour.value("x += 1; print(x)") > 1
        await asyncio.sleep(0.1)
    assert (await attacking).outcome in ("killed", "timed_out", "raised", "interrupted")
    assert pids <= 24 + 64
    assert await neighbour.value("x += 1; print(x)") > 1


# ---- neighbours ----


async def test_every_sandbox_has_two_uids_of_its_own(world: Tenants) -> None:
    sessions = [await world.session(tenant, limits=small()) for tenant in ("ada", "bob", "eve")]
    daemons = {session.handle.uid or 0 for session in sessions}
    workers = {await session.value("import os; print(os.getuid())") for session in sessions}
    assert len(daemons | workers) == 6
    assert workers == {uid + 1 for uid in daemons} and all(uid % 2 == 0 for uid in daemons)


IN_FLIGHT = """
import array, errno, os, socket
null = os.open("/dev/null", os.O_RDONLY)
held, said, count = [], 0, 0
while not said and count < 20_000:
    held.append(socket.socketpair())
    rights = array.array("i", [null] * BATCH)
    try:
        held[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        count += BATCH
    except OSError as error: said = error.errno
print(said, flush=True)
"""
ETOOMANYREFS = 109
FLOOD, ONE = IN_FLIGHT.replace("BATCH", "250"), IN_FLIGHT.replace("BATCH", "1")
ONE = ONE.replace("20_000", "1")


async def test_descriptors_in_flight_are_counted_for_each_sandbox_alone(world: Tenants) -> None:
    attacker = await world.session("eve", limits=small())
    neighbour = await world.session("bob", limits=small())
    assert await attacker.value(FLOOD) == ETOOMANYREFS
    assert await attacker.value(ONE) == ETOOMANYREFS
    assert await neighbour.value(ONE) == 0


def test_with_one_uid_in_two_containers_the_neighbour_starves(docker_engine: DockerEngine) -> None:
    """The control arm: the kernel counts by uid, whatever the container."""
    name = f"grotto-test-{new_sandbox_id()}"
    run = ["run", "--network", "none", "--user", "2079000000:2079000000", "--ulimit", "nofile=4096"]
    program = ["--entrypoint", PYTHON, BARE["bare"], "-I", "-c"]
    assert docker_engine.docker(*run, "--rm", *program, ONE) == "0"
    stays = FLOOD + "\nimport time; open('/tmp/done', 'w').close(); time.sleep(600)"
    docker_engine.docker(*run, "--detach", "--name", name, *program, stays)
    try:
        wait = "import os, time\nwhile not os.path.exists('/tmp/done'): time.sleep(0.01)"
        docker_engine.docker("exec", name, PYTHON, "-I", "-c", wait)
        assert docker_engine.docker(*run, "--rm", *program, ONE) == str(ETOOMANYREFS)
    finally:
        docker_engine.docker("rm", "--force", name)


UDP = """
import socket
held = []
for _ in range(16):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held.append(one)
    one.bind(("127.0.0.1", 0)); one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    try:
        for _ in range(140): one.sendto(bytes(60000), one.getsockname())
    except OSError: pass
"""


def udp_pages() -> int:
    (line,) = [
        line for line in Path("/proc/net/sockstat").read_text().splitlines() if "UDP:" in line
    ]
    return int(line.split()[-1])


async def test_the_hosts_budget_of_socket_buffers_is_out_of_reach(
    world: Tenants, docker_engine: DockerEngine
) -> None:
    """Of all containers together, counted to none of them on cgroup v1, and for the host as well:
    a loopback suffices. The control arm holds some of it in a container without a network."""
    session = await world.session(limits=small())
    ran = await session.run(UDP)
    assert "PermissionError" in ran.error
    name = f"grotto-test-{new_sandbox_id()}"
    program = UDP + "\nimport time; open('/tmp/done', 'w').close(); time.sleep(600)"
    run = ["run", "--detach", "--network", "none", "--name", name, "--entrypoint", PYTHON]
    before = udp_pages()
    docker_engine.docker(*run, BARE["bare"], "-I", "-c", program)
    try:
        wait = "import os, time\nwhile not os.path.exists('/tmp/done'): time.sleep(0.01)"
        docker_engine.docker("exec", name, PYTHON, "-I", "-c", wait)
        assert udp_pages() - before > 1000
    finally:
        docker_engine.docker("rm", "--force", name)

"""Finds what the servers of this run left on the engine, and what the engine left of theirs.

Asked only around tests that use the engine, and once for the whole run. A server is this
run's if the file with its identity lies in one of the run's folders; one of wider scope
than a test is checked when the run ends.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

LABEL = "dev.grotto.server"
TEST_CONTAINER = f"grotto-test-{os.getpid()}-"
"""How the containers are called that tests start themselves."""
_IDENTITY = "identity.json"
_DEPTHS = (_IDENTITY, f"*/{_IDENTITY}", f"*/*/{_IDENTITY}", f"*/*/*/{_IDENTITY}")
_CGROUPS = ("docker/*", "*/docker/*", "system.slice/docker-*.scope")
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_VOLUME_MOUNT = re.compile(r"/volumes/([0-9a-f]{64})/_data$")
_CONTAINER_MOUNT = re.compile(r"/containers/([0-9a-f]{64})/")


def servers(folders: tuple[Path, ...]) -> frozenset[str]:
    """Returns the ids of the servers whose data lies below these folders."""
    places = (*folders, Path(tempfile.gettempdir()))
    files = (file for place in places for depth in _DEPTHS for file in place.glob(depth))
    return frozenset(json.loads(file.read_text())["server_id"] for file in files)


def left_by(own: frozenset[str], whole_run: bool = False) -> list[str]:
    """Returns what there is of these servers, and of no container or volume at all.

    Containers that tests start themselves are looked for when the whole run is over.
    """
    if not _answers():
        return []
    return [*_of_servers(own), *_of_nothing(), *(_of_tests() if whole_run else ())]


def _of_servers(own: frozenset[str]) -> Iterator[str]:
    kinds = {
        "container": ("ps", "--all", "--no-trunc"),
        "volume": ("volume", "ls"),
        "network": ("network", "ls", "--no-trunc"),
    }
    for kind, words in kinds.items():
        names = "{{.ID}}" if kind == "container" else "{{.Name}}"
        form = f'{names} {{{{.Label "{LABEL}"}}}}'
        for line in _asked(*words, "--filter", f"label={LABEL}", "--format", form):
            name, _, server = line.partition(" ")
            if server in own:
                yield f"{kind} {name} of server {server}"


def _of_tests() -> Iterator[str]:
    for name in _asked("ps", "--all", "--format", "{{.Names}}"):
        if name.startswith(TEST_CONTAINER):
            yield f"container {name}"


def _of_nothing() -> Iterator[str]:
    """What stays of a container or volume that the engine does not know any more."""
    # Looked at before the engine is asked: what is made meanwhile is no stray.
    cgroups = [path for form in _CGROUPS for path in Path("/sys/fs/cgroup").glob(form)]
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    containers = set(_asked("ps", "--all", "--no-trunc", "--quiet"))
    volumes = set(_asked("volume", "ls", "--quiet"))
    for path in cgroups:
        found = _CONTAINER_ID.search(path.name)
        if found and found[0] not in containers and path.is_dir():
            yield f"cgroup {path}"
    still = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}
    for place in filter(still.__contains__, places):
        volume, container = _VOLUME_MOUNT.search(place), _CONTAINER_MOUNT.search(place)
        if (volume and volume[1] not in volumes) or (container and container[1] not in containers):
            yield f"mount {place}"


def _answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


def _asked(*words: str) -> list[str]:
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    return done.stdout.splitlines()

"""What comes from a hostile image, or from somebody else on the same engine, changes nothing.

Images are derived from the real one and removed again. Control arms use the engine's own
command line: there, each of these things has its effect.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine
from docker_worlds import BARE, docker_backend, spec
from fakes.control import running, short_folder

from grotto_control.backends.docker.backend import DockerBackend
from grotto_control.backends.docker.identity import Identity
from grotto_control.backends.docker.images import ImageRefused, checked
from grotto_control.backends.docker.template import (
    PREFIX,
    PYTHON,
    SANDBOX_LABEL,
    SEAL_LABEL,
    SERVER_LABEL,
    container_name,
)
from grotto_control.core.clock import new_sandbox_id
from grotto_control.core.plan import PlanRules
from grotto_control.model.errors import BackendFailure

DEADLINE_S = 30.0
IDENTITY = Identity("hostile-image-tests", b"k" * 32)

Build = Callable[[str], str]


@pytest.fixture
def build(docker_engine: DockerEngine) -> Iterator[Build]:
    """Makes an image from lines after `FROM` the bare one; returns its reference."""
    made: list[str] = []

    def from_lines(lines: str) -> str:
        reference = f"grotto-test-hostile:{new_sandbox_id()}"
        text = f"FROM {BARE['bare']}\n{lines}\n"
        done = subprocess.run(
            ["docker", "build", "--force-rm", "--network", "none", "--tag", reference, "-"],
            input=text,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        made.append(reference)
        return reference

    yield from_lines
    for reference in made:
        docker_engine.docker("rmi", "--force", reference)


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    async with short_folder() as made:
        yield made


@pytest.fixture
async def backend(docker_engine: DockerEngine, folder: Path) -> AsyncIterator[DockerBackend]:
    async with docker_backend(folder, identity=IDENTITY) as made:
        yield made


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("VOLUME /data", "declares volumes"),
        ("HEALTHCHECK CMD touch /tmp/x", "declares a health check"),
        ("ONBUILD RUN true", "declares ONBUILD"),
        (f"LABEL {SERVER_LABEL}=x", "has labels of ours"),
        (f"LABEL {PREFIX}other=x", "has labels of ours"),
        (f"LABEL own={'x' * 65_000}\nLABEL also={'y' * 1000}", "carries too many labels"),
        (f"ENV {' '.join(f'V{number}=1' for number in range(2000))}", "sets too many variables"),
    ],
)
async def test_an_image_that_acts_outside_its_container_is_refused_at_the_start(
    build: Build, folder: Path, lines: str, why: str
) -> None:
    with pytest.raises(ImageRefused, match=why):
        async with docker_backend(folder, {"bare": build(lines)}):
            raise AssertionError("it was opened")


@pytest.mark.parametrize("entry", ["", "=x"])
def test_a_variable_that_the_engine_cannot_take_away_is_refused(entry: str) -> None:
    """The engine answers a create call that names it with an error: nothing would ever start."""
    with pytest.raises(ImageRefused, match="without a name"):
        checked("x", {"Os": "linux", "Id": "sha256:1", "Config": {"Env": [entry]}})


def test_without_the_check_volumes_write_on_the_host_and_labels_are_believed(
    build: Build, docker_engine: DockerEngine
) -> None:
    image = build(f"VOLUME /data\nHEALTHCHECK CMD true\nLABEL {SERVER_LABEL}=x")
    name = f"grotto-test-{new_sandbox_id()}"
    sleep = ["--entrypoint", "/bin/sh", image, "-c", "echo much > /data/file && exec sleep 60"]
    docker_engine.docker(
        "run", "--detach", "--network", "none", "--read-only", "--name", name, *sleep
    )
    try:
        found = json.loads(docker_engine.docker("inspect", name))[0]
        assert found["Config"]["Labels"][SERVER_LABEL] == "x"
        assert "Health" in found["State"]
        (volume,) = found["Mounts"]
        assert (volume["Type"], volume["Destination"]) == ("volume", "/data")
    finally:
        docker_engine.docker("rm", "--force", "--volumes", name)


HOSTILE_SETTINGS = """
ENV LD_PRELOAD=/evil.so LD_AUDIT=/evil.so PYTHONPATH=/tmp PYTHONSTARTUP=/tmp/x GLIBC_TUNABLES=x=y
ENV PATH=/tmp LANG=xx_YY HTTP_PROXY=http://192.0.2.1 GRPC_VERBOSITY=debug
ENTRYPOINT ["/bin/false"]
CMD ["nothing"]
USER 12345:12345
WORKDIR /tmp
STOPSIGNAL SIGCONT
EXPOSE 80
"""


async def test_an_images_own_settings_do_not_reach_the_sandbox(
    build: Build, folder: Path, docker_engine: DockerEngine
) -> None:
    image = build(HOSTILE_SETTINGS)
    control = ["run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/env", image]
    assert "PYTHONSTARTUP=/tmp/x" in docker_engine.docker(*control)
    async with docker_backend(folder, {"bare": image}) as backend:
        handle = await backend.start(spec())
        process = Path(f"/proc/{handle.pid}")
        entries = (process / "environ").read_text().strip("\0").split("\0")
        environment = dict(entry.split("=", 1) for entry in entries)
        assert environment.pop("HOME") and environment.pop("HOSTNAME") == "sandbox"  # the engine's
        assert environment == {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        assert (process / "cmdline").read_text().split("\0")[:2] == [PYTHON, "-I"]
        config = json.loads(docker_engine.docker("inspect", handle.container_id or ""))[0]["Config"]
        assert (config["User"], config["StopSignal"], config["Tty"]) == ("0:0", "SIGKILL", False)
        assert config["WorkingDir"] == "/"
        assert config["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.parametrize("program", ["#!/bin/false", "#!/usr/bin/env -S echo no", "#!/nowhere"])
async def test_an_image_whose_program_is_not_ours_costs_its_own_start_only(
    build: Build, folder: Path, docker_engine: DockerEngine, program: str
) -> None:
    image = build(
        f"USER 0\nRUN rm {PYTHON} && printf '{program}\\n' > {PYTHON} && chmod 755 {PYTHON}"
    )
    async with docker_backend(folder, {"bare": BARE["bare"], "evil": image}) as backend:
        with pytest.raises(BackendFailure):
            await asyncio.wait_for(backend.start(spec("evil")), DEADLINE_S)
        assert await backend.list() == []
        handle = await backend.start(spec())
        assert [found.handle.sandbox_id for found in await backend.list()] == [handle.sandbox_id]


async def test_a_tag_that_moves_leaves_the_pinned_image_in_use(
    build: Build, folder: Path, docker_engine: DockerEngine
) -> None:
    image, other = build("LABEL version=1"), build("LABEL version=2")
    async with docker_backend(folder, {"bare": image}) as backend:
        docker_engine.docker("tag", image, f"{image}-kept")
        docker_engine.docker("tag", other, image)
        try:
            handle = await backend.start(spec())
            asked = ("inspect", "--format", "{{.Config.Labels.version}}", handle.container_id or "")
            assert docker_engine.docker(*asked) == "1"
            await backend.destroy(handle)
        finally:
            docker_engine.docker("rmi", f"{image}-kept")
    async with docker_backend(folder, {"bare": image}) as restarted:  # control arm
        handle = await restarted.start(spec())
        asked = ("inspect", "--format", "{{.Config.Labels.version}}", handle.container_id or "")
        assert docker_engine.docker(*asked) == "2"


# ---- what somebody else made on this engine ----


def forged(sandbox_id: str) -> dict[str, dict[str, str]]:
    """Labels by what is wrong with them."""
    true = IDENTITY.labels(sandbox_id)
    return {
        "no seal": {name: true[name] for name in (SERVER_LABEL, SANDBOX_LABEL)},
        "wrong seal": {**true, SEAL_LABEL: "0" * 64},
        "empty seal": {**true, SEAL_LABEL: ""},
        "a seal that is no ASCII": {**true, SEAL_LABEL: "é" * 64},
        "another sandbox's seal": {**true, SANDBOX_LABEL: new_sandbox_id()},
        "another key": replace(IDENTITY, key=b"x" * 32).labels(sandbox_id),
        "another server": Identity("another", IDENTITY.key).labels(sandbox_id),
    }


class Strangers:
    """Containers and volumes that are made by the engine's command line, and removed."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.containers: list[str] = []
        self.volumes: list[str] = []

    def add(self, labels: dict[str, str], name: str = "") -> str:
        words = [word for pair in labels.items() for word in ("--label", "=".join(pair))]
        named = ["--name", name] if name else []
        made = self._engine.docker("create", *named, *words, BARE["bare"])
        self.containers.append(made)
        self.volumes.append(self._engine.docker("volume", "create", *words))
        return made

    def are_there(self) -> bool:
        with suppress(AssertionError):
            self._engine.docker("inspect", *self.containers)
            self._engine.docker("volume", "inspect", *self.volumes)
            return True
        return False

    def remove(self) -> None:
        if self.containers:
            self._engine.docker("rm", "--force", *self.containers)
            self._engine.docker("volume", "rm", "--force", *self.volumes)


@pytest.fixture
def strangers(docker_engine: DockerEngine) -> Iterator[Strangers]:
    made = Strangers(docker_engine)
    yield made
    made.remove()


@pytest.mark.parametrize("what", forged("s"))
async def test_what_is_not_sealed_by_this_server_is_not_listed(
    backend: DockerBackend, strangers: Strangers, what: str
) -> None:
    sandbox_id = new_sandbox_id()
    strangers.add(forged(sandbox_id)[what], container_name(sandbox_id))
    assert await backend.list() == []
    strangers.add(IDENTITY.labels(sandbox_id))  # control arm: the true seal
    assert [found.handle.sandbox_id for found in await backend.list()] == [sandbox_id]


async def test_a_server_sweeps_what_it_sealed_and_nothing_else(
    backend: DockerBackend, strangers: Strangers, folder: Path, docker_engine: DockerEngine
) -> None:
    for labels in forged(new_sandbox_id()).values():
        strangers.add(labels)
    stray, given = await backend.start(spec()), cast_to_fake(backend)
    rules = PlanRules(pool_size=0, dangling_grace_s=0.0)
    async with running(folder, given, rules=rules):
        await asyncio.wait_for(backend.wait(stray), DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            while await backend.list():
                await asyncio.sleep(0.05)
    assert strangers.are_there()


def cast_to_fake(backend: DockerBackend) -> Any:
    return backend


async def test_a_strangers_container_of_a_sandboxs_name_is_left_alone(
    backend: DockerBackend, strangers: Strangers
) -> None:
    """A name that is taken is a failed start, and what undoes it must not remove the holder."""
    asked = spec()
    strangers.add({}, container_name(asked.sandbox_id))
    with pytest.raises(BackendFailure, match="already in use"):
        await backend.start(asked)
    assert strangers.are_there()


async def test_a_left_over_volume_does_not_lead_to_a_strangers_container(
    backend: DockerBackend, strangers: Strangers, docker_engine: DockerEngine
) -> None:
    sandbox_id = new_sandbox_id()
    words = [w for pair in IDENTITY.labels(sandbox_id).items() for w in ("--label", "=".join(pair))]
    volume = docker_engine.docker("volume", "create", *words)
    strangers.add({}, container_name(sandbox_id))
    (found,) = await backend.list()
    await backend.destroy(found.handle)
    assert strangers.are_there()
    assert await backend.list() == []
    with pytest.raises(AssertionError):
        docker_engine.docker("volume", "inspect", volume)

"""What is in the images, and what is not: seen from inside and by `docker inspect`."""

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = "/opt/grotto/bin/python"
PROBE = Path(__file__).with_name("image_probe.py")
STRANGER = 2_080_000_000
SANDBOXES = ("grotto-sandbox:bare", "grotto-sandbox:data")
CONTROL = "grotto-control:latest"
SOURCES = {
    "grotto_proto": "proto",
    "grotto_wire": "proto",
    "grotto_policy": "proto",
    "grotto_runtime": "sandbox_image",
    "grotto_worker": "sandbox_image",
    "grotto": "sdk",
    "grotto_control": "control_plane",
}
IN_A_SANDBOX = {"grotto_proto", "grotto_wire", "grotto_policy", "grotto_runtime", "grotto_worker"}
IN_CONTROL = {"grotto_proto", "grotto_wire", "grotto_policy", "grotto", "grotto_control"}


def probe(image: str, *options: str, first: str = "true") -> dict[str, Any]:
    """Runs the probe in a container of the image, after the shell command `first`."""
    run = ["docker", "run", "--rm", "--interactive", "--network", "none", *options]
    command = ["--entrypoint", "/bin/sh", image, "-c", f"{first} && exec {PYTHON} -I -"]
    done = subprocess.run([*run, *command], input=PROBE.read_text(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module", params=[*SANDBOXES, CONTROL])
def image(request: pytest.FixtureRequest, docker_engine: DockerEngine) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def seen(image: str) -> dict[str, Any]:
    """The image as root sees it."""
    return probe(image, "--user", "0:0")


def inspected(engine: DockerEngine, image: str) -> dict[str, Any]:
    return dict(json.loads(engine.docker("image", "inspect", image))[0])


def checkout_sources(root: Path, package: str) -> dict[str, str]:
    folder = root / SOURCES[package] / package
    return {
        f"{package}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_only_its_own_packages_are_in_an_image_and_they_are_the_checkouts(
    checkout_root: Path, image: str, seen: dict[str, Any]
) -> None:
    expected = IN_CONTROL if image == CONTROL else IN_A_SANDBOX
    assert {name for name, held in seen["ours"].items() if held} == expected
    for package in expected:
        found, wanted = seen["ours"][package], checkout_sources(checkout_root, package)
        assert found == wanted, f"{image} is older than the checkout: `make image`"


@pytest.mark.parametrize("sandbox", SANDBOXES)
@pytest.mark.parametrize("package", ["grotto", "grotto_control", "docker", "sqlalchemy", "pip"])
def test_a_sandbox_cannot_import_what_is_not_its_own(
    docker_engine: DockerEngine, sandbox: str, package: str
) -> None:
    run = ["run", "--rm", "--network", "none", "--entrypoint", PYTHON, sandbox, "-I", "-c"]
    with pytest.raises(AssertionError, match=f"No module named '{package}'"):
        docker_engine.docker(*run, f"import {package}")
    docker_engine.docker(*run, "import grotto_runtime, grotto_worker")


def test_no_program_changes_who_runs_it_and_nothing_is_open_to_all(seen: dict[str, Any]) -> None:
    assert seen["setuid"] == []
    assert seen["open"] == []
    assert seen["not_roots"] == []


def test_the_probe_sees_what_it_looks_for(docker_engine: DockerEngine) -> None:
    """The control arm of the tests beside it."""
    spoil = (
        "cp /bin/true /opt/raised && chmod 4755 /opt/raised && echo x > /opt/open"
        " && chmod 0666 /opt/open && echo x > /opt/grotto/secret.py"
        " && chown 1:1 /opt/grotto/secret.py && chmod 0600 /opt/grotto/secret.py"
    )
    spoilt = probe(SANDBOXES[0], "--user", "0:0", first=spoil)
    assert spoilt["setuid"] == ["/opt/raised"]
    assert spoilt["open"] == ["/opt/open"]
    assert spoilt["closed"] == spoilt["not_roots"] == ["/opt/grotto/secret.py"]
    assert spoilt["not_compiled"] == ["/opt/grotto/secret.py"]


def test_a_uid_that_nobody_knows_can_read_all_of_it_from_a_read_only_root(image: str) -> None:
    options = ["--user", f"{STRANGER}:{STRANGER}", "--read-only", "--cap-drop", "ALL"]
    found = probe(image, *options)
    assert found["uid"] == STRANGER
    assert found["closed"] == []
    assert found["not_compiled"] == []
    assert not any(place.startswith(("/root", "/home")) for place in found["path"])


def test_everything_installed_finds_what_it_requires(seen: dict[str, Any]) -> None:
    """What `pip check` would say; there is no pip in the image."""
    environment = {
        **default_environment(),
        "python_version": seen["python"].rpartition(".")[0],
        "python_full_version": seen["python"],
        "platform_machine": seen["machine"],
        "extra": "",
    }
    installed = {canonicalize_name(name): one for name, one in seen["distributions"].items()}
    assert installed
    for name, one in installed.items():
        for requirement in map(Requirement, one["requires"]):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                held = installed.get(canonicalize_name(requirement.name))
                assert held, f"{name} requires {requirement}"
                assert requirement.specifier.contains(held["version"]), f"{name}: {requirement}"


@pytest.mark.parametrize(
    ("locked", "lock"),
    [
        ("grotto-sandbox:bare", "sandbox_image/requirements/bare.txt"),
        ("grotto-sandbox:data", "sandbox_image/requirements/data.txt"),
        (CONTROL, "control_plane/requirements.txt"),
    ],
)
def test_what_is_installed_is_what_the_lock_says(
    docker_engine: DockerEngine, checkout_root: Path, locked: str, lock: str
) -> None:
    pinned = set(re.findall(r"^(\S+)==(\S+)", (checkout_root / lock).read_text(), re.MULTILINE))
    found = {
        (canonicalize_name(name), str(one["version"]))
        for name, one in probe(locked, "--user", "0:0")["distributions"].items()
        if name != "grotto"
    }
    assert found
    assert found <= pinned
    assert {name for name, _ in found} == {name for name, _ in pinned}


def test_an_image_brings_no_volume_health_check_trigger_or_label_of_ours(
    docker_engine: DockerEngine, image: str
) -> None:
    config = inspected(docker_engine, image)["Config"]
    assert not config.get("Volumes")
    assert not config.get("Healthcheck")
    assert not config.get("OnBuild")
    assert not config.get("ExposedPorts")
    assert not [label for label in config["Labels"] or {} if label.startswith("dev.grotto.")]


def test_where_the_packages_came_from_is_not_in_the_history(
    docker_engine: DockerEngine, image: str
) -> None:
    history = docker_engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "/opt/grotto" in history
    assert "PIP_" not in history


def test_a_sandbox_starts_in_the_root_folder_without_an_entry_point(
    docker_engine: DockerEngine,
) -> None:
    for sandbox in SANDBOXES:
        config = inspected(docker_engine, sandbox)["Config"]
        assert (config["WorkingDir"], config["Entrypoint"]) == ("/", None)


def test_the_control_image_runs_the_command_line_as_its_own_user(
    docker_engine: DockerEngine,
) -> None:
    assert inspected(docker_engine, CONTROL)["Config"]["User"] == "10001:10001"
    run = ["run", "--rm", "--network", "none"]
    said = docker_engine.docker(*run, CONTROL, "--version")
    assert re.fullmatch(r"grotto, version \d+\.\d+\.\d+\S*", said)
    assert "--backend" in docker_engine.docker(*run, CONTROL, "serve", "--help")
    look = ["--entrypoint", "stat", CONTROL, "-c", "%u:%g %a", "/var/lib/grotto"]
    assert docker_engine.docker(*run, *look) == "10001:10001 700"


def test_the_control_image_says_that_it_has_no_sandboxes_of_its_own(
    docker_engine: DockerEngine,
) -> None:
    run = ["run", "--rm", "--network", "none", CONTROL, "serve", "--backend", "local"]
    with pytest.raises(AssertionError, match=r"grotto_runtime.*use --backend docker"):
        docker_engine.docker(*run)

"""The locks of the images: complete, hashed, and in step with what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

PYTHONS = ("3.11.2", "3.12.7", "3.13.1")
MACHINES = ("x86_64", "aarch64")
OF_THE_COMMAND_LINE = {"click", "rich"}
LOCKS = {
    "bare": "sandbox_image/requirements/bare.txt",
    "data": "sandbox_image/requirements/data.txt",
    "control": "control_plane/requirements.txt",
}


def read_lock(path: Path) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [
        (Requirement(re.split(r"\s--hash", line)[0]), re.findall(r"--hash=(\S+)", line))
        for line in lines
    ]


def versions(path: Path, python: str, machine: str) -> dict[str, str]:
    """What a lock installs on such a machine, name to version."""
    environment = {
        **default_environment(),
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    found: dict[str, str] = {}
    for requirement, _ in read_lock(path):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is locked twice"
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def wanted(root: Path, image: str) -> list[Requirement]:
    """What pyproject.toml asks for of all that goes into an image."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = list(project["dependencies"])
    needed += {"bare": [], "data": extras["data"], "control": extras["server"] + extras["docker"]}[
        image
    ]
    asked = [Requirement(one) for one in needed]
    if image == "control":
        return asked
    sandbox = [Requirement(one) for one in extras["sandbox"]]
    return [one for one in asked if one.name not in OF_THE_COMMAND_LINE] + sandbox


@pytest.mark.parametrize("image", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_lock_satisfies_every_requirement_of_its_image(
    checkout_root: Path, image: str, python: str, machine: str
) -> None:
    locked = versions(checkout_root / LOCKS[image], python, machine)
    for requirement in wanted(checkout_root, image):
        assert requirement.name in locked, f"{requirement} is not in {LOCKS[image]}"
        assert requirement.specifier.contains(locked[requirement.name]), str(requirement)


@pytest.mark.parametrize("image", LOCKS)
def test_every_line_of_a_lock_is_one_version_with_its_hashes(
    checkout_root: Path, image: str
) -> None:
    lock = read_lock(checkout_root / LOCKS[image])
    assert lock
    for requirement, hashes in lock:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), str(requirement)
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), str(requirement)


@pytest.mark.parametrize("image", ["bare", "data"])
def test_a_lock_holds_what_its_list_names(checkout_root: Path, image: str) -> None:
    listed = (checkout_root / LOCKS[image]).with_suffix(".in").read_text().splitlines()
    locked = versions(checkout_root / LOCKS[image], PYTHONS[0], MACHINES[0])
    for line in listed:
        if not line.startswith(("#", "-r")):
            requirement = Requirement(line)
            assert requirement.specifier.contains(locked[requirement.name]), line


def test_both_sandboxes_have_the_same_versions_of_what_both_have(checkout_root: Path) -> None:
    bare, data = (
        versions(checkout_root / LOCKS[image], PYTHONS[0], MACHINES[0])
        for image in ("bare", "data")
    )
    assert bare.items() <= data.items()

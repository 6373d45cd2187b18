"""The import contracts of pyproject.toml hold, and each one breaks when it is violated."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = ("proto", "sdk", "control_plane", "sandbox_image")
MODULE = "planted"
CONTROL = "control_plane/grotto_control"

PLANTS = [
    ("proto", "proto/grotto_proto", "grotto_wire.frames"),
    ("wire", "proto/grotto_wire", "grotto_policy"),
    ("policy", "proto/grotto_policy", "grotto_proto.metadata"),
    ("sdk", "sdk/grotto", "grotto_control"),
    ("control", f"{CONTROL}/core", "grotto_wire.frames"),
    ("runtime", "sandbox_image/grotto_runtime", "grotto_worker.namespace"),
    ("worker", "sandbox_image/grotto_worker", "grotto_proto.v1"),
    ("harden", "sandbox_image/grotto_worker/harden", "msgspec"),
    ("control-layers", f"{CONTROL}/model", "grotto_control.core.sessions"),
    ("control-layers", f"{CONTROL}/core", "grotto_control.rpc"),
    ("control-layers", f"{CONTROL}/rpc", "grotto_control.runtime_client"),
    ("control-layers", f"{CONTROL}/runtime_client", "grotto_control.server"),
    ("control-layers", CONTROL, "json"),  # a module that no layer names
    ("worker-without-grpc", "sandbox_image/grotto_worker", "grpc"),
    ("sqlalchemy", f"{CONTROL}/core", "sqlalchemy"),
    ("docker", f"{CONTROL}/core", "docker"),
    ("prometheus", f"{CONTROL}/core", "prometheus_client"),
    ("litellm", "sdk/grotto", "litellm"),
    ("ipython", "sandbox_image/grotto_runtime", "IPython"),
    ("dill", "proto/grotto_wire", "dill"),
    ("command-line", "sdk/grotto", "rich"),
]
"""Contract, the folder a module is planted in, and what that module imports."""


def contracts(checkout_root: Path) -> dict[str, str]:
    """Returns the name of every contract by its id."""
    config = tomllib.loads((checkout_root / "pyproject.toml").read_text())
    return {c["id"]: c["name"] for c in config["tool"]["importlinter"]["contracts"]}


def broken(checkout: Path) -> set[str]:
    """Runs the contracts on a checkout; returns the names of those that are broken."""
    paths = os.pathsep.join(str(checkout / root) for root in ROOTS)
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    found = set(re.findall(r"^(.*\S)\s*BROKEN(?: \(.*\))?$", run.stdout, re.MULTILINE))
    assert bool(found) == bool(run.returncode), run.stdout
    return found


@pytest.fixture(scope="module")
def copy(checkout_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their configuration, to plant in."""
    folder = tmp_path_factory.mktemp("contracts")
    shutil.copy(checkout_root / "pyproject.toml", folder)
    for root in ROOTS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout_root / root, folder / root, ignore=ignored)
    return folder


@pytest.fixture
def plant(copy: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The copy with one module planted that should not be."""
    folder, imported = request.param
    path = copy / folder / f"{MODULE}.py"
    path.write_text(f"import {imported}\n")
    yield copy
    path.unlink()


@pytest.fixture(scope="module")
def broken_before(copy: Path) -> set[str]:
    return broken(copy)


def test_every_contract_holds(broken_before: set[str]) -> None:
    assert broken_before == set()


def test_every_contract_has_a_planted_violation(checkout_root: Path) -> None:
    assert {contract for contract, _, _ in PLANTS} == set(contracts(checkout_root))


@pytest.mark.parametrize(
    ("contract", "plant"),
    [(contract, (folder, imported)) for contract, folder, imported in PLANTS],
    ids=[f"{contract}-{imported}" for contract, _, imported in PLANTS],
    indirect=["plant"],
)
def test_a_planted_violation_breaks_that_contract_alone(
    contract: str, broken_before: set[str], plant: Path, checkout_root: Path
) -> None:
    assert broken(plant) - broken_before == {contracts(checkout_root)[contract]}

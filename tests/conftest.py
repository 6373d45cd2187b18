"""What every test shares: where the checkout and the corpora are, and the leak check.

Each run has a temporary folder of its own, so that whatever is left in it is the run's.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import engine_leaks
import pytest
from docker_engine import docker_engine  # noqa: F401  (a fixture of every folder)
from leaks import Snapshot, leaks
from second_engine import own_engine  # noqa: F401

CHECKOUT = Path(__file__).resolve().parents[1]
ENGINE_FIXTURE = "docker_engine"


def pytest_configure(config: pytest.Config) -> None:
    """Gives this run its temporary folder; pytest's own tmp_path stays where it is."""
    outer = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", outer)
    folder = tempfile.mkdtemp(prefix="gt-", dir=outer)  # short: socket paths end at 107 bytes
    os.chmod(folder, 0o755)  # as passable as the one it replaces
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ["GROTTO_DATA_DIR"] = f"{folder}/data"
    os.environ["GROTTO_BACKEND"] = "local"  # a test that wants another one says so
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs first what forks this process into namespaces of its own, before gRPC runs in it.

    A child that has threads is refused them, and gRPC may start some in every child.
    """
    forking = ("test_enclosure_", "test_harden_")
    items.sort(key=lambda item: not item.path.name.startswith(forking))


@pytest.fixture(autouse=True, scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """Fails the run whose fixtures of wider scope leave something behind.

    Its value is what single tests have been failed for already.
    """
    known: set[str] = set()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # pytest-asyncio asks for one, and would leave it open
    before = Snapshot.take()
    strays = set(engine_leaks.left_by(frozenset()))
    yield known
    own = engine_leaks.servers((tmp_path_factory.getbasetemp(),))
    on_engine = partial(engine_leaks.left_by, own, whole_run=True)
    found = leaks(before, elsewhere=lambda: [one for one in on_engine() if one not in strays])
    left = [line for line in found if line not in known]
    loop.close()
    _fail_for("the whole run", left)


@pytest.fixture(autouse=True)
def leak_check(
    request: pytest.FixtureRequest, reported: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fails the test that leaves a process, a descriptor, a folder or a mount behind, or, if it
    uses the engine, anything of a server of its own there.

    Set up after the fixtures of wider scope and before the test's own, so a server that
    a module shares is not held against one test.
    """
    before = Snapshot.take()
    if ENGINE_FIXTURE in request.fixturenames:
        folders = (tmp_path_factory.getbasetemp(),)
        others = engine_leaks.servers(folders)
        strays = set(engine_leaks.left_by(frozenset()))
        yield
        own = engine_leaks.servers(folders) - others
        on_engine = partial(engine_leaks.left_by, own)
        left = leaks(before, elsewhere=lambda: [one for one in on_engine() if one not in strays])
    else:
        yield
        left = leaks(before)
    reported.update(left)
    _fail_for("this test", left)


def _fail_for(whose: str, left: list[str]) -> None:
    if left:
        pytest.fail(f"left behind by {whose}:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(scope="session")
def checkout_root() -> Path:
    """The root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of the corpora: GROTTO_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("GROTTO_SHARED") or CHECKOUT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no corpora: {folder} is not there; GROTTO_SHARED names another place")
    return folder

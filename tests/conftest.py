"""What every test shares: where the checkout and the corpora are, and the leak check.

Each run has a temporary folder of its own, so that whatever is left in it is the run's.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from leaks import Snapshot, leaks

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Gives this run its temporary folder; pytest's own tmp_path stays where it is."""
    outer = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", outer)
    folder = tempfile.mkdtemp(prefix="gt-", dir=outer)  # short: socket paths end at 107 bytes
    os.chmod(folder, 0o755)  # as passable as the one it replaces
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ["GROTTO_DATA_DIR"] = f"{folder}/data"
    # It would start threads in every child that a test forks, and a process with threads
    # cannot make a user namespace. Those children use no gRPC.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(autouse=True, scope="session")
def reported() -> Iterator[set[str]]:
    """Fails the run whose fixtures of wider scope leave something behind.

    Its value is what single tests have been failed for already.
    """
    known: set[str] = set()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # pytest-asyncio asks for one, and would leave it open
    before = Snapshot.take()
    yield known
    left = [line for line in leaks(before) if line not in known]
    loop.close()
    _fail_for("the whole run", left)


@pytest.fixture(autouse=True)
def leak_check(reported: set[str]) -> Iterator[None]:
    """Fails the test that leaves a process, a descriptor or a folder behind.

    Set up after the fixtures of wider scope and before the test's own, so a server that
    a module shares is not held against one test.
    """
    before = Snapshot.take()
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

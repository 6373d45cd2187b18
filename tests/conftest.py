"""What every test shares: where the checkout and the corpora are, and the leak check.

Each run has a temporary folder of its own, so that whatever is left in it is the run's.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))

from leaks import Snapshot, leaks  # noqa: E402  (a module beside this file, which no package holds)


def pytest_configure(config: pytest.Config) -> None:
    """Gives this run its temporary folder; pytest's own tmp_path stays where it is."""
    outer = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", outer)
    folder = tempfile.mkdtemp(prefix="gt-", dir=outer)  # short: socket paths end at 107 bytes
    os.chmod(folder, 0o755)  # as passable as the one it replaces
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ["GROTTO_DATA_DIR"] = f"{folder}/data"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[None]:
    """Fails the test that leaves a process, a descriptor or a folder behind.

    Set up after the fixtures of wider scope and before the test's own, so a server that
    a module shares is not held against one test.
    """
    before = Snapshot.take()
    yield
    left = leaks(before)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


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

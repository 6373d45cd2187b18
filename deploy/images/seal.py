"""Makes the files of an image ready to be read by any uid from a read-only root.

Run by the Dockerfiles during a build, with a folder, or with --system for the base image.
Standard library only: nothing else is installed at that time.
"""

import compileall
import os
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

NOT_OF_THE_IMAGE = ("/proc", "/sys", "/dev")
# Their test suites are a fifth of the scientific stack. NumPy's stays: its public testing
# module imports from it.
WITHOUT_TESTS = {"matplotlib", "mpl_toolkits", "pandas", "pyarrow", "scipy", "sklearn"}


def seal(folder: Path) -> None:
    """Compiles the folder for good and lets everybody read it and nobody but root write."""
    _remove_tests(folder)
    # The files never change again, so no import has to look at their dates.
    compileall.compile_dir(
        folder, quiet=2, force=True, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    for path in _files(folder):
        mode = path.lstat().st_mode
        executable = 0o111 if stat.S_ISDIR(mode) or mode & 0o100 else 0
        path.chmod(0o644 | executable)


def seal_system() -> None:
    """Compiles what the base image did not, and takes every setuid and setgid bit away."""
    compileall.compile_dir(sysconfig.get_path("stdlib"), quiet=2, workers=0)
    for path in _files(Path("/")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(mode & 0o777)


def _remove_tests(folder: Path) -> None:
    for packages in folder.glob("lib/python3.*/site-packages"):
        for name in WITHOUT_TESTS:
            for tests in list((packages / name).rglob("tests")):
                shutil.rmtree(tests)


def _files(folder: Path) -> Iterator[Path]:
    """Everything below the folder but symbolic links, and the folder itself."""
    yield folder
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(place, name) not in NOT_OF_THE_IMAGE]
        for name in (*folders, *files):
            path = Path(place, name)
            if not path.is_symlink():
                yield path


if __name__ == "__main__":
    if sys.argv[1:] == ["--system"]:
        seal_system()
    else:
        seal(Path(sys.argv[1]))

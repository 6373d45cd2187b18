"""Which folders this interpreter and our packages are read from. Decides nothing about them."""

import importlib.util
import os
import sys
from collections.abc import Iterable

_PACKAGES = ("grotto_proto", "grotto_wire", "grotto_policy", "grotto_runtime", "grotto_worker")
_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


def interpreter_paths() -> tuple[str, ...]:
    """Returns the absolute folders to read for Python, its libraries and our packages.

    In an editable install our packages are named one by one, so that what lies beside
    them in the checkout stays out of reach. Folders below another one are left out.
    """
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    found.update(_executable_folders())
    found.update(path for path in sys.path if os.path.basename(path) in _LIBRARY_FOLDERS)
    found.update(_package_folders())
    return _outermost(os.path.abspath(path) for path in found if os.path.isdir(path))


def _executable_folders() -> list[str]:
    """Every folder on the chain of symbolic links from sys.executable to the program."""
    folders: list[str] = []
    path = sys.executable
    for _ in range(8):
        if not path:
            break
        # A link may lie anywhere, even in somebody's home; only a folder of programs is opened.
        if os.path.basename(os.path.dirname(path)) == "bin":
            folders.append(os.path.dirname(path))
        if not os.path.islink(path):
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    return folders


def _package_folders() -> list[str]:
    folders: list[str] = []
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders.extend(spec.submodule_search_locations)
    return folders


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for path in sorted(paths):
        if not any(path == one or path.startswith(one + "/") for one in kept):
            kept.append(path)
    return tuple(kept)

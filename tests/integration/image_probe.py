"""Runs in a container, as a program on standard input: prints what the image holds, as JSON.

Standard library only; it is never imported.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = ("grotto", "grotto_proto", "grotto_wire", "grotto_policy", "grotto_runtime",
        "grotto_worker", "grotto_control")  # fmt: skip
ELSEWHERE = {"/proc", "/sys", "/dev"}
HOME = "/opt/grotto"


def files() -> Iterator[tuple[str, os.stat_result]]:
    for place, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(place, name) not in ELSEWHERE]
        for name in (*folders, *names):
            path = os.path.join(place, name)
            yield path, os.lstat(path)


def is_open_to_all(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH) and not stat.S_ISLNK(mode) and not mode & stat.S_ISVTX


def is_closed(path: str, mode: int) -> bool:
    needed = 0o005 if stat.S_ISDIR(mode) else 0o004
    return path.startswith(HOME) and not stat.S_ISLNK(mode) and mode & needed != needed


def sources(package: str) -> dict[str, str]:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return {}
    root = Path(found.origin).parent
    return {
        f"{package}/{path.relative_to(root)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def not_compiled() -> list[str]:
    return [
        str(path)
        for path in Path(HOME).rglob("*.py")
        if not Path(importlib.util.cache_from_source(str(path))).exists()
    ]


def distributions() -> dict[str, dict[str, object]]:
    return {
        found.metadata["Name"]: {"version": found.version, "requires": found.requires or []}
        for found in importlib.metadata.distributions()
    }


def main() -> None:
    every = list(files())
    setuid = stat.S_ISUID | stat.S_ISGID
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "machine": platform.machine(),
                "uid": os.getuid(),
                "path": sys.path,
                "setuid": [p for p, s in every if stat.S_ISREG(s.st_mode) and s.st_mode & setuid],
                "open": [p for p, s in every if is_open_to_all(s.st_mode)],
                "closed": [p for p, s in every if is_closed(p, s.st_mode)],
                "not_roots": [p for p, s in every if p.startswith(HOME) and s.st_uid],
                "not_compiled": not_compiled(),
                "ours": {name: sources(name) for name in OURS},
                "distributions": distributions(),
            }
        )
    )


main()

"""Writes down which version of the project an image holds, for `grotto --version`.

Run by Dockerfile.control with the path of pyproject.toml and the folder of the packages: they are
copied, not installed, which keeps the build backend out of the build.
"""

import sys
import tomllib
from pathlib import Path


def describe(pyproject: Path, packages: Path) -> None:
    """Writes the project's name and version where importlib.metadata looks for them."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    folder = packages / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )


if __name__ == "__main__":
    describe(Path(sys.argv[1]), Path(sys.argv[2]))

"""The repository speaks of itself alone: no place of the machine it was written on."""

import re
from pathlib import Path

import pytest

TEXTS = {
    ".py",
    ".toml",
    ".md",
    ".proto",
    ".pyi",
    ".yml",
    ".yaml",
    ".sh",
    ".txt",
    ".json",
    ".cfg",
    "",
}
SKIPPED = {"build", "dist", "__pycache__"}
HIDDEN = {".ci", ".gitignore"}
"""The hidden names that are the project's; other tools make the rest."""
PRIVATE = re.compile(
    r"(?<![\w.$-])/(?:work|root|home/\w+|Users/\w+|opt/(?:wheels|pypi)\w*)(?:/[\w.-]+)+"
    r"|https?://[\w.-]*(?:artifactory|nexus|pypi-proxy|internal|corp)\b[\w./:-]*"
    r"|--(?:extra-)?index-url[ =]\S+"
    r"|\.pyenv/versions"
)
"""A path of somebody's machine, a private registry."""
EXEMPT = {"tests/arch/test_hygiene.py"}


def is_ours(parts: tuple[str, ...]) -> bool:
    """Whether a path below the checkout is one of the project's own."""
    return not any(part in SKIPPED or (part[0] == "." and part not in HIDDEN) for part in parts)


def texts(checkout_root: Path) -> list[Path]:
    return [
        path
        for path in checkout_root.rglob("*")
        if path.suffix in TEXTS
        and is_ours(path.relative_to(checkout_root).parts)
        and str(path.relative_to(checkout_root)) not in EXEMPT
        and path.is_file()
    ]


def test_no_text_names_a_place_of_somebodys_machine(checkout_root: Path) -> None:
    paths = texts(checkout_root)
    assert len(paths) > 40, "the scan found too few files to mean anything"
    found = {str(path): PRIVATE.findall(path.read_text(errors="replace")) for path in paths}
    assert not {path: places for path, places in found.items() if places}


HOME = "/".join(["", "root"])  # put together, so that this text does not name it


@pytest.mark.parametrize(
    "planted",
    [
        f"open('{HOME}/project/x.py')",
        "see /home/ada/notes.md",
        "pip install --index-url https://example.org/simple x",
        "https://artifactory.example.org/api/pypi",
        f"{HOME}/.venvs/some/bin/python",
    ],
)
def test_a_planted_place_is_found(planted: str) -> None:
    assert PRIVATE.search(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "sandbox_image/grotto_worker/x.py",
        "/workspace/data.csv",
        "/usr/bin/python3",
        "~/.local/share/grotto",
    ],
)
def test_a_place_of_every_machine_is_not(harmless: str) -> None:
    assert not PRIVATE.search(harmless)

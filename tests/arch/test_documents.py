"""The documents name files and tests that exist, so that a rename reaches them too."""

import re
from pathlib import Path

import pytest

NAMED = re.compile(r"`([\w./-]+\.(?:py|proto|toml|md|png|json|ya?ml))(?:::(\w+))?`")
"""A file, and what is defined in it."""
DOCUMENTS = (
    "README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "docs/decisions/*.md",
)  # fmt: skip
SKIPPED = {".git", ".venv", "__pycache__"}


def missing(text: str, files: list[Path]) -> list[str]:
    """Returns what a text names and no file is, or no file defines."""
    return sorted(
        f"{name}::{member}" if member else name
        for name, member in set(NAMED.findall(text))
        if not name.startswith("/") and not _is_there(name.removeprefix("./"), member, files)
    )


def _is_there(name: str, member: str, files: list[Path]) -> bool:
    # `runtime/server.py` may stand for `grotto_runtime/server.py`.
    ends = (f"/{name}", f"/grotto_{name}")
    found = [path for path in files if path.as_posix().endswith(ends)]
    defined = re.compile(rf"^\s*(?:(?:async )?def|class) {member}\b", re.MULTILINE)
    return any(not member or defined.search(path.read_text()) for path in found)


@pytest.fixture(scope="module")
def files(checkout_root: Path) -> list[Path]:
    """Every file of the checkout."""
    paths = [path for path in checkout_root.rglob("*") if path.is_file()]
    return [p for p in paths if not SKIPPED.intersection(p.relative_to(checkout_root).parts)]


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_what_a_document_names_exists(pattern: str, files: list[Path], checkout_root: Path) -> None:
    documents = list(checkout_root.glob(pattern))
    assert documents, f"{pattern} is missing"
    found = {path.name: missing(path.read_text(), files) for path in documents}
    assert not {name: absent for name, absent in found.items() if absent}


@pytest.mark.parametrize("planted", ["core/planted.py", "test_documents.py::test_planted"])
def test_what_is_not_there_is_found(planted: str, files: list[Path]) -> None:
    there = "see `core/plan.py`, `runtime/server.py` and `test_documents.py::missing`"
    assert missing(f"{there}, `{planted}`", files) == [planted]

"""The documents name files that exist, so that a renamed one is renamed there too."""

import re
from pathlib import Path

import pytest

NAMED = re.compile(r"`([\w./-]+\.(?:py|proto|toml|md|png|json|ya?ml))`")
DOCUMENTS = (
    "README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "docs/decisions/*.md",
)  # fmt: skip
SKIPPED = {".git", ".venv", "__pycache__"}


def missing(text: str, files: list[str]) -> list[str]:
    """Returns the files that a text names and no path ends with."""
    named = {name.removeprefix("./") for name in NAMED.findall(text) if not name.startswith("/")}
    return sorted(
        name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)
    )


@pytest.fixture(scope="module")
def files(checkout_root: Path) -> list[str]:
    """Every file of the checkout, relative to it."""
    paths = [path.relative_to(checkout_root) for path in checkout_root.rglob("*") if path.is_file()]
    return [path.as_posix() for path in paths if not SKIPPED.intersection(path.parts)]


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_every_file_a_document_names_exists(
    pattern: str, files: list[str], checkout_root: Path
) -> None:
    documents = list(checkout_root.glob(pattern))
    assert documents, f"{pattern} is missing"
    found = {path.name: missing(path.read_text(), files) for path in documents}
    assert not {name: absent for name, absent in found.items() if absent}


def test_a_file_that_is_not_there_is_found(files: list[str]) -> None:
    assert missing("see `core/planted.py` and `core/plan.py`", files) == ["core/planted.py"]

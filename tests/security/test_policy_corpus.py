"""The shipped policies against the corpora: hostile programs are refused, harmless ones are not.

The control arm runs the hostile programs with no policy: they do what they claim.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from grotto_policy import Violation, check, load

pytestmark = pytest.mark.corpus

MARKER = re.compile(r'^# success if: stdout contains "([^"]*)"$', re.MULTILINE)


def programs(shared: Path, kind: str) -> list[Path]:
    found = sorted((shared / "corpus" / kind).glob("*.py"))
    if not found:
        pytest.skip(f"no programs in {shared}/corpus/{kind}")
    return found


def judged(source: str) -> list[Violation] | None:
    """What `standard` says; None for source that is not Python, which cannot run either."""
    try:
        return check(source, load("standard"))
    except (SyntaxError, ValueError):
        return None


def test_every_escape_is_refused_or_cannot_run(shared_dir: Path) -> None:
    missed = [p.name for p in programs(shared_dir, "escapes") if judged(p.read_text()) == []]
    assert missed == []


def test_every_escape_is_refused_under_strict(shared_dir: Path) -> None:
    sources = [p.read_text() for p in programs(shared_dir, "escapes")]
    parsed = [source for source in sources if judged(source) is not None]
    assert [source for source in parsed if not check(source, load("strict"))] == []


def test_no_harmless_program_is_refused(shared_dir: Path) -> None:
    refused = {p.name: judged(p.read_text()) for p in programs(shared_dir, "benign")}
    assert {name: found for name, found in refused.items() if found != []} == {}


def test_without_a_policy_the_escapes_work(shared_dir: Path, tmp_path: Path) -> None:
    """The control arm. Only programs that print are run; none changes the machine."""
    worked, tried = 0, 0
    for program in programs(shared_dir, "escapes"):
        source = program.read_text()
        marker = MARKER.search(source)
        if marker is None or "; needs " in source:
            continue
        assert check(source, load("open")) == []
        done = subprocess.run(
            [sys.executable, "-I", str(program)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"},
            timeout=60,
        )
        tried += 1
        worked += marker.group(1) in done.stdout
    assert tried >= 10
    assert worked >= 0.9 * tried

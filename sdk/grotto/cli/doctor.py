"""`grotto doctor`: what isolation this machine offers, and what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import click

from grotto import UnavailableError
from grotto._embedded import check_installed
from grotto._printable import printable
from grotto.cli._failures import PlatformFailed
from grotto.cli._terminal import print_json, print_table

_DEADLINE_S = 60.0
_VERDICTS = {
    "full": "Sandboxes here are fully isolated: own namespaces, Landlock and seccomp.",
    "reduced": "Sandboxes here are isolated in part: let only one trusted user run code.",
}
_NONE = "This machine offers too little to isolate code; Grotto refuses to run it here."


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Build a sandbox once and say what was in force in it."""
    check_installed()
    report = _examine()
    if as_json:
        print_json(report)
    else:
        _tell(report)
    if not report.get("level"):
        raise PlatformFailed(_NONE)


def _examine() -> dict[str, Any]:
    command = [sys.executable, "-I", "-m", "grotto_runtime", "doctor"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_DEADLINE_S, check=False, stdin=subprocess.DEVNULL
        )
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError("The examination did not end in time.") from error
    except ValueError as error:
        said = printable(done.stderr.decode("utf-8", "replace")[-2000:])
        raise UnavailableError(f"The examination failed: {said or 'it said nothing.'}") from error
    if not isinstance(report, dict):
        raise UnavailableError("The examination gave no report.")
    return report


def _tell(report: dict[str, Any]) -> None:
    level = str(report.get("level", ""))
    if level:
        click.echo(_VERDICTS.get(level, f"Sandboxes here are isolated at level {level}."))
    rows = [("level", level or "none")]
    rows += [("in force", layer) for layer in report.get("layers", ())]
    rows += [("missing", layer) for layer in report.get("missing", ())]
    rows += [(key, report[key]) for key in ("kernel", "landlock_abi", "python") if key in report]
    print_table(("WHAT", "FOUND"), rows)
    for note in report.get("notes", ()):
        click.echo(printable(str(note)))

"""Writes the results as a table for readers and as JSON for programs."""

import json
import math
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks import engine
from benchmarks.measure import FLOOR, GROTTO, KERNEL, Bound, Result, Summary

HEAD = """# Benchmarks

Written by `make bench`: everything below was measured in one run on one machine, the arms of a row
in turn. **Read the ratios.** The times are of a machine that may have been busy; they are there to
give the ratios a scale.

"""
COLUMNS = (
    "what", "budget", "÷ floor", "÷ ipykernel", "met", "Grotto", "floor", "ipykernel",
)  # fmt: skip
PACKAGES = ("grpcio", "protobuf", "numpy", "pandas", "ipython", "ipykernel", "jupyter_client")


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "root": os.geteuid() == 0,
        "docker": engine.version(),
        "date": datetime.now(UTC).date().isoformat(),
        "packages": {name: version(name) for name in PACKAGES},
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
    }


def as_json(results: list[Result], where: dict[str, object]) -> str:
    """Every figure, in seconds or bytes; what could not be measured is null."""
    rows = [_row_as_data(result) for result in results]
    return json.dumps({"machine": where, "rows": rows}, indent=2, allow_nan=False) + "\n"


def as_markdown(results: list[Result], where: dict[str, object]) -> str:
    """The page: machine, table, notes, samples."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(result)) + " |" for result in results]
    docker = f"Docker engine {where['docker']}" if where["docker"] else "no Docker engine"
    return (
        HEAD
        + f"{where['cores']} cores, Linux {where['kernel']}, Python {where['python']}, {docker}, "
        + f"{where['date']}. Each figure is a median (90th percentile).\n\n"
        + "\n".join(lines)
        + "\n\n![The same as bars](results.png)\n\n## Notes\n\n"
        + "\n".join(_notes(results))
        + "\n"
    )


def line(result: Result) -> str:
    """One line for the terminal."""
    if result.error:
        return f"{'absent' if result.is_absent else 'failed'}: {result.error}"
    figures = [f"{name} {figure(s, result)}" for name, s in result.arms.items()]
    verdicts = [f"{_text(b, result)}: {_met(result, b)}" for b in result.row.bounds]
    return ", ".join(figures) + (f"  [{'; '.join(verdicts)}]" if verdicts else "")


def figure(summary: Summary | None, result: Result) -> str:
    """Median and 90th percentile with a unit, or the error."""
    if summary is None:
        return "–"
    if summary.error:
        return summary.error.removeprefix("TimeoutError: ")
    if result.row.unit == "bytes":
        return f"{summary.median / 1e6:.0f} MB"
    text = f"{_time(summary.median)} ({_time(summary.p90)})"
    if result.row.payload_bytes:
        text += f", {result.row.payload_bytes / summary.median / 1e6:.0f} MB/s"
    return text


def _cells(result: Result) -> list[str]:
    row = result.row
    if result.error:
        return [row.what, "; ".join(_text(b, result) for b in row.bounds), *["–"] * 3,
                result.error, *["–"] * 2]  # fmt: skip
    return [
        row.what,
        "; ".join(_text(bound, result) for bound in row.bounds) or "–",
        _ratio(result.ratio(FLOOR)),
        _ratio(result.ratio(KERNEL)),
        "; ".join(_met(result, bound) for bound in row.bounds) or "–",
        *(figure(result.arms.get(name), result) for name in (GROTTO, FLOOR, KERNEL)),
    ]


def _text(bound: Bound, result: Result) -> str:
    if bound.is_excess:
        return f"≤ {bound.against} + {_amount(bound.limit, result)}"
    if bound.against:
        return f"≤ {bound.limit:.3g} × {bound.against}"
    return f"≤ {_amount(bound.limit, result)}"


def _amount(limit: float, result: Result) -> str:
    return f"{limit / 1e6:.0f} MB" if result.row.unit == "bytes" else f"{limit * 1e3:.0f} ms"


def _met(result: Result, bound: Bound) -> str:
    return "yes" if result.met(bound) else "**no**"


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _notes(results: list[Result]) -> list[str]:
    notes = []
    for result in results:
        counts = ", ".join(f"{name} {s.samples}" for name, s in result.arms.items())
        remarks = [s.remark for s in result.arms.values()]
        parts = [result.row.note, *remarks, f"Samples: {counts}" if counts else ""]
        notes.append(f"- **{result.row.key}**: " + ". ".join(part for part in parts if part) + ".")
    return notes


def _row_as_data(result: Result) -> dict[str, object]:
    return {
        "key": result.row.key,
        "what": result.row.what,
        "unit": result.row.unit,
        "error": result.error,
        "absent": result.is_absent,
        "arms": {
            name: {
                "samples": s.samples,
                "median": _number(s.median),
                "p90": _number(s.p90),
                "least": _number(s.least),
                "error": s.error,
                "remark": s.remark,
            }
            for name, s in result.arms.items()
        },
        "bounds": [
            {
                "limit": bound.limit,
                "against": bound.against,
                "is_excess": bound.is_excess,
                "value": _number(result.value(bound)),
                "met": result.met(bound),
            }
            for bound in result.row.bounds
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value

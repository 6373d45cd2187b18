"""Draws the results as bars on a logarithmic scale, one group per row."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import FLOOR, GROTTO, KERNEL, Result
from benchmarks.report import figure

COLOURS = {GROTTO: "#1b6ca8", FLOOR: "#9aa5b1", KERNEL: "#d98e04"}
BAR = 0.26


def draw(results: list[Result], where: dict[str, object], path: Path) -> None:
    """Writes a PNG of every row that was measured in seconds."""
    matplotlib.use("Agg")
    rows = [r for r in results if not r.error and r.row.unit == "s"]
    canvas = Figure(figsize=(11, 1.2 + 0.95 * len(rows)), layout="constrained")
    axes = canvas.add_subplot()
    for index, result in enumerate(rows):
        _group(axes, index, result)
    axes.set_xscale("log")
    axes.margins(y=0.01)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 12)  # room for the figures beside the bars
    axes.set_yticks(range(len(rows)), [r.row.what.replace("`", "") for r in rows])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, median, logarithmic; shorter is better")
    axes.set_title(
        f"Grotto beside its floors and ipykernel ({where['cores']} cores, Python {where['python']})"
    )
    axes.grid(axis="x", alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    canvas.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3)
    canvas.savefig(path, dpi=130)


def _group(axes: Axes, index: int, result: Result) -> None:
    for offset, (name, colour) in enumerate(COLOURS.items()):
        summary = result.arms.get(name)
        if summary is None:
            continue
        place = index + (offset - 1) * BAR
        if summary.error:
            words = f"{name}: {figure(summary, result)}"
            where = ("axes fraction", "data")
            axes.annotate(words, (0.01, place), xycoords=where, va="center", fontsize=7)
            continue
        axes.barh(place, summary.median * 1e3, BAR * 0.9, color=colour, label=name)
        axes.text(
            summary.median * 1e3 * 1.06, place, figure(summary, result), va="center", fontsize=7
        )

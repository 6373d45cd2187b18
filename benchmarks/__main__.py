"""`python -m benchmarks` measures every row and writes results.json, RESULTS.md, results.png.

With keys of rows as arguments it measures those and writes nothing. The exit code is
1 when a row could not be measured, whatever the figures of the others; what this
machine lacks, as a Docker engine, is no failure.
"""

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import cells, containers, memory, sessions, values
from benchmarks.measure import Result, Row, measure
from benchmarks.plot import draw
from benchmarks.report import as_json, as_markdown, line, machine

HERE = Path(__file__).resolve().parent
PARTS = (cells, sessions, values, memory)


def main(keys: list[str]) -> int:
    """Runs the rows of the given keys, or all of them."""
    rows = all_rows()
    unknown = set(keys) - {row.key for row in rows}
    if unknown:
        print(f"no such row: {', '.join(sorted(unknown))}. Rows: {', '.join(r.key for r in rows)}")
        return 2
    results = [run(row) for row in rows if not keys or row.key in keys]
    if not keys:
        write(results)
    return int(any(result.failed for result in results))


def all_rows() -> list[Row]:
    """Every row: on the local backend, then on Docker."""
    on_docker = [*(row for part in PARTS for row in part.rows("docker")), *containers.rows()]
    return [row for part in PARTS for row in part.rows("local")] + [
        replace(row, key=f"docker-{row.key}", what=f"Docker: {row.what}") for row in on_docker
    ]


def run(row: Row) -> Result:
    """Measures one row and says so."""
    print(f"{row.key}: {row.what} ...", flush=True)
    result = measure(row)
    print(f"    {line(result)}", flush=True)
    return result


def write(results: list[Result]) -> None:
    """Writes the three files beside this one."""
    where = machine()
    (HERE / "results.json").write_text(as_json(results, where))
    (HERE / "RESULTS.md").write_text(as_markdown(results, where))
    draw(results, where, HERE / "results.png")
    print(f"written: {HERE / 'RESULTS.md'}, results.json, results.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

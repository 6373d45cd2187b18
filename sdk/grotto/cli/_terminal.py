"""What reaches the terminal: consoles, tables, JSON, and text of a sandbox made harmless."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grotto._printable import printable, without_escapes

_MAX_CELL_CHARS = 200


def console() -> Console:
    """Returns a console on standard output."""
    return Console(highlight=False)


def error_console() -> Console:
    """Returns a console on standard error."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Prints one JSON value; non-ASCII is escaped, so no control character gets through."""
    click.echo(json.dumps(value, ensure_ascii=True, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; every cell is taken as hostile text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell), _MAX_CELL_CHARS)) for cell in row))
    console().print(table)


def write_output(text: str, *, err: bool = False) -> None:
    """Writes program output as it comes; escape sequences do not reach a terminal."""
    stream = sys.stderr if err else sys.stdout
    stream.write(without_escapes(text) if stream.isatty() else _encodable(text, stream.encoding))
    stream.flush()


def _encodable(text: str, encoding: str | None) -> str:
    name = encoding or "utf-8"
    return text.encode(name, "backslashreplace").decode(name)

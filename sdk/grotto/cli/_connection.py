"""Which server a command talks to: `--url`, `--api-key`, their variables, or an embedded one."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

import grotto
from grotto._chunks import OnTransfer, Transfer
from grotto._printable import printable
from grotto.cli._failures import WrongCommand
from grotto.cli._terminal import error_console

F = TypeVar("F", bound=Callable[..., Any])


def server_options(command: F) -> F:
    """Adds `--url` and `--api-key`, given to the command as one `Server`."""

    @click.option("--url", envvar="GROTTO_URL", help="Server, e.g. grpc://127.0.0.1:50151.")
    @click.option("--api-key", envvar="GROTTO_API_KEY", help="Key; better by GROTTO_API_KEY.")
    @functools.wraps(command)
    def with_server(*args: Any, url: str | None, api_key: str | None, **options: Any) -> Any:
        return command(*args, server=Server(url, api_key), **options)

    return with_server  # type: ignore[return-value]


class Server:
    """The server a command was given, if any."""

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key

    @contextlib.contextmanager
    def client(self, on_transfer: OnTransfer | None = None) -> Iterator[grotto.Client]:
        """Connects, or starts an embedded control plane when no URL was given."""
        if self._url:
            client = grotto.connect(self._url, self._api_key, on_transfer=on_transfer)
        else:
            client = grotto.local(on_transfer=on_transfer)
        with client:
            yield client

    @contextlib.contextmanager
    def remote(self) -> Iterator[grotto.Client]:
        """Connects; without a URL there is nothing this could be about."""
        if not self._url:
            raise WrongCommand("There is no server: pass --url or set GROTTO_URL.")
        with grotto.connect(self._url, self._api_key) as client:
            yield client


@contextlib.contextmanager
def progress() -> Generator[OnTransfer | None, None, None]:
    """Gives a callback that draws transfers on standard error, or None where nobody looks."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=error_console(), transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    """One progress bar a transfer."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[tuple[str, str], Any] = {}

    def __call__(self, transfer: Transfer) -> None:
        key = (transfer.kind, transfer.name)
        if key not in self._tasks:
            title = printable(f"{transfer.kind} {transfer.name}", 40).replace("[", r"\[")
            self._tasks[key] = self._bars.add_task(title, total=transfer.total_bytes)
        self._bars.update(self._tasks[key], completed=transfer.done_bytes)

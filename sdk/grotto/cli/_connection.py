"""Which server a command talks to: `--url` and what belongs to it, or an embedded one."""

from __future__ import annotations

import contextlib
import dataclasses
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
    """Adds the options of a connection, given to the command as one `Server`."""

    @click.option("--url", envvar="GROTTO_URL", help="Server, e.g. grpcs://grotto.example:50151.")
    @click.option("--api-key", envvar="GROTTO_API_KEY", help="Key; better by GROTTO_API_KEY.")
    @click.option("--ca-file", envvar="GROTTO_CA_FILE", help="Authorities to trust, PEM.")
    @click.option("--client-cert", envvar="GROTTO_CLIENT_CERT", help="Certificate to show, PEM.")
    @click.option("--client-key", envvar="GROTTO_CLIENT_KEY", help="Its key, if in another file.")
    @click.option("--insecure", is_flag=True, help="Allow clear text to another machine.")
    @functools.wraps(command)
    def with_server(*args: Any, **options: Any) -> Any:
        given = {field.name: options.pop(field.name) for field in dataclasses.fields(Server)}
        return command(*args, server=Server(**given), **options)

    return with_server  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """The server a command was given, if any."""

    url: str | None
    api_key: str | None
    ca_file: str | None
    client_cert: str | None
    client_key: str | None
    insecure: bool

    @contextlib.contextmanager
    def client(self, on_transfer: OnTransfer | None = None) -> Iterator[grotto.Client]:
        """Connects, or starts an embedded control plane when no URL was given."""
        with (
            self._connect(on_transfer) if self.url else grotto.local(on_transfer=on_transfer) as (
                client
            )
        ):
            yield client

    @contextlib.contextmanager
    def remote(self) -> Iterator[grotto.Client]:
        """Connects; without a URL there is nothing this could be about."""
        if not self.url:
            raise WrongCommand("There is no server: pass --url or set GROTTO_URL.")
        with self._connect() as client:
            yield client

    def _connect(self, on_transfer: OnTransfer | None = None) -> grotto.Client:
        is_tls = (self.url or "").startswith("grpcs:")  # the variables may be set for all servers
        pair = (self.client_cert, self.client_key or self.client_cert) if self.client_cert else None
        return grotto.connect(
            self.url,
            self.api_key,
            ca_file=self.ca_file if is_tls else None,
            client_cert=pair if is_tls else None,
            insecure=self.insecure,
            on_transfer=on_transfer,
        )


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

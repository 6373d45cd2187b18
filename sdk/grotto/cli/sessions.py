"""`grotto sessions`: look at and end the sessions of a key's tenant."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import click

from grotto import SessionInfo
from grotto.cli._connection import Server, server_options
from grotto.cli._terminal import console, print_json, print_table


@click.group()
def sessions() -> None:
    """List, show and remove sessions."""


@sessions.command("ls")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(server: Server, as_json: bool) -> None:
    """List the sessions of this key's tenant."""
    with server.remote() as client:
        found = client.sessions()
    if as_json:
        print_json([_plain(info) for info in found])
    elif not found:
        console().print("There are no sessions.")
    else:
        rows = [
            (i.id, i.status.value, i.policy, i.isolation.level, _time(i.created_s), _labels(i))
            for i in found
        ]
        print_table(("ID", "STATUS", "POLICY", "ISOLATION", "CREATED", "LABELS"), rows)


@sessions.command("show")
@click.argument("session_id")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_session(session_id: str, server: Server, as_json: bool) -> None:
    """Show one session: limits, isolation, how long it lives."""
    with server.remote() as client:
        info = client.session_info(session_id)
    if as_json:
        print_json(_plain(info))
        return
    limits = dataclasses.asdict(info.limits)
    rows = [
        ("id", info.id),
        ("status", f"{info.status.value} {info.status_note}".strip()),
        ("policy", info.policy),
        ("isolation", info.isolation),
        ("created", _time(info.created_s)),
        ("expires", _time(info.expires_s)),
        ("python", info.python_version),
        ("labels", _labels(info)),
        *((f"limit {name}", value) for name, value in limits.items() if value is not None),
    ]
    print_table(("FIELD", "VALUE"), rows)


@sessions.command("rm")
@click.argument("session_ids", nargs=-1, required=True)
@server_options
def remove_sessions(session_ids: tuple[str, ...], server: Server) -> None:
    """End sessions and their sandboxes."""
    with server.remote() as client:
        for session_id in session_ids:
            client.close_session(session_id)
            click.echo(f"Session {session_id} is closed.", err=True)


def _plain(info: SessionInfo) -> dict[str, Any]:
    return dataclasses.asdict(info)


def _time(unix_s: float) -> str:
    if not 0 < unix_s < 1e11:
        return "-"
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _labels(info: SessionInfo) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(info.labels.items()))

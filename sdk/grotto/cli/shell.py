"""`grotto shell`: a prompt on a live session."""

from __future__ import annotations

import ast
import codeop
import contextlib

import click

from grotto import Session
from grotto._printable import printable
from grotto.cli._connection import Server, server_options
from grotto.cli._terminal import error_console
from grotto.cli.run import show_events, tell_failure

_FIRST, _MORE = ">>> ", "... "


@click.command()
@click.option("--attach", "session_id", metavar="ID", help="Use a session that is there already.")
@click.option("--policy", default="standard", show_default=True, help="strict, standard or open.")
@server_options
def shell(session_id: str | None, policy: str, server: Server) -> None:
    """Type Python into a live session; Ctrl-D ends it."""
    with server.client() as client:
        session = client.attach(session_id) if session_id else client.session(policy=policy)
        if session_id:
            session.detach()
        with session:
            _greet(session)
            _converse(session)


def _greet(session: Session) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - line editing for input()
    text = f"Session {session.id}; {session.isolation}. Ctrl-C interrupts, Ctrl-D ends."
    error_console().print(printable(text), markup=False, soft_wrap=True)


def _converse(session: Session) -> None:
    while True:
        try:
            source = _read_statement()
        except EOFError:
            click.echo(err=True)
            return
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            continue
        if source.strip():
            _run(session, source)


def _run(session: Session, source: str) -> None:
    try:
        execution = show_events(session, source)
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        return
    if not execution.ok:
        text = tell_failure(execution)
        if execution.state_note or execution.state.value != "kept":
            text += f"\nState: {execution.state.value}. {printable(execution.state_note)}"
        error_console().print(text, markup=False, soft_wrap=True)


def _read_statement() -> str:
    """Returns the lines of one whole statement, as Python's own prompt reads them."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    lines = [input(_FIRST)]
    while not _is_whole(compiler, "\n".join(lines)):
        lines.append(input(_MORE))
    return "\n".join(lines)


def _is_whole(compiler: codeop.CommandCompiler, source: str) -> bool:
    try:
        return compiler(source, symbol="single") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True  # the session says what is wrong with it

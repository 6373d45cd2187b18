"""`grotto run`: run one file in a fresh session, objects in and out by files."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path

import click

from grotto import Execution, Finished, InvalidArgumentError, Result, Session, Stderr, Stdout
from grotto._printable import printable
from grotto.cli._connection import Server, progress, server_options
from grotto.cli._failures import CodeFailed
from grotto.cli._formats import FORMATS, check_suffix, load, save
from grotto.cli._terminal import print_json, write_output

_BINDING = "NAME=PATH"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--inject", multiple=True, metavar=_BINDING, help=f"Bind a {FORMATS} file.")
@click.option("--retrieve", multiple=True, metavar=_BINDING, help="Save a variable afterwards.")
@click.option("--policy", default="standard", show_default=True, help="strict, standard or open.")
@click.option("--timeout", type=float, help="Seconds the code may take.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution as JSON.")
@server_options
def run(
    file: str,
    inject: tuple[str, ...],
    retrieve: tuple[str, ...],
    policy: str,
    timeout: float | None,
    as_json: bool,
    server: Server,
) -> None:
    """Run FILE in a session of its own ("-": standard input).

    Exits with 1 when the code fails or is refused.
    """
    code, wanted = _read(file), [_binding(text) for text in retrieve]
    values = {name: load(path) for name, path in map(_binding, inject)}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(server.client(stack.enter_context(progress())))
        session = stack.enter_context(client.session(policy=policy))
        if values:
            session.inject(values)
        execution = (
            session.execute(code, timeout) if as_json else show_events(session, code, timeout)
        )
        if execution.ok:
            for name, path in wanted:
                save(session.retrieve(name), path)
    if as_json:
        print_json(_plain(execution))
    if not execution.ok:
        raise CodeFailed(tell_failure(execution))


def show_events(session: Session, code: str, timeout: float | None = None) -> Execution:
    """Runs code, writes its output and result as they come, and returns the execution."""
    for event in session.stream(code, timeout):
        match event:
            case Stdout(text):
                write_output(text)
            case Stderr(text):
                write_output(text, err=True)
            case Result(text):
                write_output(text + "\n")
            case Finished(execution):
                return execution
    raise AssertionError("a stream ends with Finished")


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{file} is no UTF-8 text: {error.reason}.") from error
    except OSError as error:
        raise InvalidArgumentError(f"{file} cannot be read: {error.strerror}.") from error


def _binding(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise InvalidArgumentError(f"{text!r} is not {_BINDING}.")
    check_suffix(Path(path))
    return name, Path(path)


def tell_failure(execution: Execution) -> str:
    """Returns why an execution is not ok, printable, with its traceback or every violation."""
    if execution.error is not None and execution.error.traceback:
        return printable(execution.error.traceback, 20_000).rstrip()
    if execution.violations:
        lines = [printable(f"  {violation}", 500) for violation in execution.violations]
        return "\n".join(["The code was refused; nothing ran.", *lines])
    return execution.failure()


def _plain(execution: Execution) -> dict[str, object]:
    plain = dataclasses.asdict(execution)
    plain["displays"] = [sorted(bundle) for bundle in execution.displays]
    return {**plain, "ok": execution.ok}

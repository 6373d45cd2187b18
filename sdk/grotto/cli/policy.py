"""`grotto policy`: judge a file by a policy, on this machine, without running it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

import grotto_policy
from grotto import InvalidArgumentError
from grotto._printable import printable
from grotto._requests import check_source
from grotto.cli._failures import CodeFailed
from grotto.cli._terminal import print_json


@click.group()
def policy() -> None:
    """Check code against a policy."""


@policy.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--policy", "name", default="standard", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: Path, name: str, as_json: bool) -> None:
    """Say what the policy refuses in FILE; exits with 1 when it refuses anything."""
    violations = _judge(file, name)
    if as_json:
        print_json([dataclasses.asdict(violation) for violation in violations])
    else:
        for found in violations:
            place = f"{file}:{found.line}:{found.column}"
            click.echo(printable(f"{place}: {found.what}: {found.why} {found.hint}", 1000))
    if violations:
        raise CodeFailed(f"Policy {name} refuses {len(violations)} things.")
    click.echo(f"Policy {name} refuses nothing in {file}.", err=True)


def _judge(file: Path, name: str) -> list[grotto_policy.Violation]:
    try:
        document = grotto_policy.load(name)
        source = check_source(file.read_text("utf-8"))
        return grotto_policy.check(source, document)
    except grotto_policy.UnknownPolicy as error:
        raise InvalidArgumentError(str(error)) from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{file} is no UTF-8 text: {error.reason}.") from error
    except OSError as error:
        raise InvalidArgumentError(f"{file} cannot be read: {error.strerror}.") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CodeFailed(
            printable(f"{file} cannot be parsed: {type(error).__name__}: {error}")
        ) from error

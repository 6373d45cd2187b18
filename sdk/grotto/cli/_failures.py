"""Exit codes, and how a failure is told: one sentence on standard error."""

from __future__ import annotations

from typing import IO, Any

import click

from grotto.cli._terminal import error_console
from grotto.errors import GrottoError, InvalidArgumentError


class Failure(click.ClickException):
    """Ends the command with a sentence; each kind has its exit code."""

    def show(self, file: IO[Any] | None = None) -> None:
        error_console().print(self.message, markup=False, highlight=False, soft_wrap=True)


class CodeFailed(Failure):
    """The code failed or was refused."""

    exit_code = 1


class WrongCommand(Failure):
    """The command was wrong."""

    exit_code = 2


class PlatformFailed(Failure):
    """The platform failed."""

    exit_code = 3


class Interrupted(Failure):
    """Ctrl-C, with the code a shell gives it."""

    exit_code = 130


def failure_of(error: GrottoError) -> Failure:
    """Returns the failure that tells an exception of the SDK."""
    wrong = isinstance(error, InvalidArgumentError)
    return WrongCommand(str(error)) if wrong else PlatformFailed(str(error))

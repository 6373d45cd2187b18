"""The command line: `grotto`.

Exit codes: 0 done; 1 the code failed or was refused, or a check of the demo failed;
2 the command was wrong; 3 the platform failed; 130 interrupted. Errors are sentences
on standard error, never tracebacks.
"""

from __future__ import annotations

from typing import Any

import click

from grotto.cli._failures import Interrupted, failure_of
from grotto.cli.demo import demo
from grotto.cli.doctor import doctor
from grotto.cli.keys import keys
from grotto.cli.policy import policy
from grotto.cli.run import run
from grotto.cli.serve import serve
from grotto.cli.sessions import sessions
from grotto.cli.shell import shell
from grotto.errors import GrottoError


class _Commands(click.Group):
    """A group that turns the SDK's exceptions into sentences and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GrottoError as error:
            raise failure_of(error) from error
        except KeyboardInterrupt:
            raise Interrupted("Interrupted.") from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 code failed or refused, 2 wrong command, 3 platform failed.",
)
@click.version_option(package_name="grotto")
def main() -> None:
    """Live, hardened Python sessions for agents."""


for _command in (demo, doctor, keys, policy, run, serve, sessions, shell):
    main.add_command(_command)

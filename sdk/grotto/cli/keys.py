"""`grotto keys`: API keys of the server whose data directory is on this machine."""

from __future__ import annotations

import click

from grotto.cli._control import become_control_plane

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: tuple[str, ...]) -> None:
    """Make, list and revoke API keys (create, ls, revoke); `grotto keys --help` says more."""
    become_control_plane(["keys", *arguments])

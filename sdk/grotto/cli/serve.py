"""`grotto serve`: run a control plane in the foreground."""

from __future__ import annotations

import click

from grotto.cli._control import become_control_plane

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.command(context_settings=_PASS_ON, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> None:
    """Run a control plane; `grotto serve --help` lists its options."""
    become_control_plane(["serve", *arguments])

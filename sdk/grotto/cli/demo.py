"""`grotto demo`: the main job, from a DataFrame in to a DataFrame out, with every claim checked."""

from __future__ import annotations

import click

from grotto import demo as job
from grotto.cli._connection import Server, progress, server_options
from grotto.cli._failures import CodeFailed
from grotto.cli._terminal import console


@click.command()
@server_options
def demo(server: Server) -> None:
    """Let an agent answer a question about 100,000 rows, and check what it did.

    The model is GROTTO_MODEL (any LiteLLM name); without it recorded answers are played.
    """
    screen = console()

    def say(text: str) -> None:
        screen.print(text, markup=False, soft_wrap=True)

    job.check_installed()
    say("Starting …")
    with progress() as on_transfer, server.client(on_transfer) as client:
        passed = job.run(client, say)
    if not passed:
        raise CodeFailed("A check of the demo failed.")

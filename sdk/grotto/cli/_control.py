"""Hands a command over to the control plane's own command line, which the SDK never imports."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from grotto._embedded import check_server_installed


def become_control_plane(arguments: Sequence[str]) -> NoReturn:
    """Replaces this process by `python -m grotto_control ARGUMENTS`."""
    check_server_installed()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(  # noqa: S606 - no shell: our own module, with the user's own arguments
        sys.executable, [sys.executable, "-m", "grotto_control", *arguments]
    )

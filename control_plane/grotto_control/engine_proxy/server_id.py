"""Which control plane the proxy serves: the first one that lists what is its own, for good."""

import os
from pathlib import Path

from grotto_control.config import BadConfig
from grotto_control.engine_proxy.rules import SERVER_ID


class ServerId:
    """A server's id, learnt once and kept in a file.

    The proxy cannot read the control plane's own files, and need not: what it must see to
    is that a control plane that fell into other hands does not become another server.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadConfig for a file that holds no id."""
        self._path = path
        self._known = _read(path)

    def known(self, named: str | None) -> str:
        """Returns the id, "" while there is none; `named` becomes it then."""
        if not self._known and named is not None and SERVER_ID.fullmatch(named):
            draft = self._path.with_suffix(".new")
            draft.write_text(named)
            os.replace(draft, self._path)
            self._known = named
        return self._known


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise BadConfig(f"--server-id-file: there is no directory {path.parent}.") from None
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"--server-id-file {path} cannot be read.") from error
    if not SERVER_ID.fullmatch(text):
        raise BadConfig(f"--server-id-file {path} holds no server id: remove it to have a new one.")
    return text

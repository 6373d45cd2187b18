"""Whose a container is: labels with a seal that only this server can make."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grotto_control.backends.docker.template import SANDBOX_LABEL, SEAL_LABEL, SERVER_LABEL


@dataclass(frozen=True, slots=True)
class Identity:
    """A server's name on an engine, and the key of its seals."""

    server_id: str
    key: bytes

    def labels(self, sandbox_id: str) -> dict[str, str]:
        return {
            SERVER_LABEL: self.server_id,
            SANDBOX_LABEL: sandbox_id,
            SEAL_LABEL: self._seal(sandbox_id),
        }

    def sandbox_of(self, labels: Mapping[str, str]) -> str | None:
        """Returns the id of the sandbox the labels seal; None if they are not this server's."""
        sandbox_id = labels.get(SANDBOX_LABEL, "")
        if labels.get(SERVER_LABEL) != self.server_id:
            return None
        said = labels.get(SEAL_LABEL, "").encode()  # of a text, it compares ASCII alone
        is_ours = hmac.compare_digest(said, self._seal(sandbox_id).encode())
        return sandbox_id if is_ours else None

    def _seal(self, sandbox_id: str) -> str:
        text = f"{self.server_id}\n{sandbox_id}".encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()


def kept_identity(path: Path) -> Identity:
    """Returns the identity in a file, made with mode 0600 if it is not there."""
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        known = {"server_id": secrets.token_hex(8), "key": secrets.token_hex(32)}
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(known))
        draft.rename(path)
    return Identity(known["server_id"], bytes.fromhex(known["key"]))

"""Value codecs: Python objects as an envelope of typed parts, and back.

Owns the format that docs/wire-format.md describes. It unpickles nothing and looks no
class up by a name; numpy and pandas are imported only when a value needs them.
"""

from grotto_wire.values.decoder import decode
from grotto_wire.values.encoder import encode
from grotto_wire.values.envelope import Segment, size
from grotto_wire.values.errors import BadEnvelope, Untransferable, type_name

CODECS: tuple[str, ...] = ("scalars", "containers", "datetime", "ndarray", "pandas", "foreign")
"""Exchanged when a session is created; `foreign` travels from client to sandbox only."""

__all__ = [
    "CODECS",
    "BadEnvelope",
    "Segment",
    "Untransferable",
    "decode",
    "encode",
    "size",
    "type_name",
]

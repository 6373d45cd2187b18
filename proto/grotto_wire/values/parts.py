"""What a codec gives the encoder: a node, or a part that still needs its children."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from grotto_wire.values import nodes
from grotto_wire.values.errors import type_name

Foreign = Callable[[object, str], bytes]


class Sink(Protocol):
    """Where codecs put what travels outside the node table."""

    def buffer(self, data: bytes | memoryview) -> int: ...

    def dtype(self, key: Any, describe: Callable[[], nodes.DType]) -> int: ...


class Part(NamedTuple):
    """A node to be: `build` makes it from the cells of its children, in their order."""

    children: Sequence[Any]
    build: Callable[[list[Any]], nodes.Node]
    label: Callable[[int], str]
    type_name: str
    fills_later: bool = False
    """The reader can make it empty and fill it at the end, so it may contain itself."""
    levels: int = 1


def item_label(index: int) -> str:
    return f"[{index}]"


def key_label(key: object) -> str:
    """Returns `["key"]`; a key whose text could be long, or somebody's code, gives its type."""
    if type(key) in (int, float, bool, type(None)):
        return f"[{key!r}]" if type(key) is not int or abs(key) < 10**20 else "[<int>]"
    if type(key) is str:
        shown = ascii(key[:60])[1:-1].replace('"', '\\"')
        return f'["{shown}{"…" if len(key) > 60 else ""}"]'
    return f"[<{type_name(type(key))}>]"

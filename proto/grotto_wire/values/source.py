"""What a codec may ask of the reader while it builds one node."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from grotto_wire.values import nodes


class Source(Protocol):
    """Every method raises BadEnvelope for what the envelope does not soundly hold."""

    foreign: Callable[[bytes], object] | None

    def value(self, cell: nodes.Cell) -> Any:
        """Returns what a cell stands for."""

    def values(self, cells: Sequence[nodes.Cell]) -> list[Any]:
        """Returns what the cells stand for; may be the given list itself."""

    def keys(self, cells: Sequence[nodes.Cell]) -> list[Any]:
        """As `values`, after a check that hashing and comparing them costs little."""

    def check_hashes(self, cell: nodes.Cell, found: list[Any]) -> None:
        """Makes that check for the items of the array or index that a cell stands for."""

    def first_look(self, cell: nodes.Cell) -> bool:
        """Whether this is asked about a cell for the first time."""

    def buffer(self, number: int) -> memoryview:
        """Returns a buffer; each can be had once."""

    def dtype(self, number: int) -> Any:
        """Returns a numpy data type."""

    def is_foreign(self, cell: nodes.Cell) -> bool:
        """Whether a cell is an object that only a sandbox rebuilds."""

    def spend(self, steps: int) -> None:
        """Takes steps of work from the budget that the size of the envelope gives."""

    def weigh(self, steps: int) -> None:
        """Says that hashing or comparing the value being built costs so many steps more."""

    def weigh_keys(self, cells: Sequence[nodes.Cell]) -> None:
        """As `weigh`, by the weights of the items of the value being built."""

    def at_end(self, action: Callable[[], None]) -> None:
        """Has something done once every list, dict and set is filled."""

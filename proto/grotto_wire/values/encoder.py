"""Turns an object graph into the node table of an envelope.

Owns the walk: identity, order, depth, paths. What a type looks like on the wire is
its codec's. The walk keeps its own stack, so depth costs no recursion, and it
appends a node after the nodes it consists of.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import Any, NamedTuple

from grotto_wire.values import containers, nodes, scalars, temporal
from grotto_wire.values.envelope import Segment, TooLarge, pack
from grotto_wire.values.errors import Untransferable, type_name
from grotto_wire.values.limits import INLINE_CHARS, MAX_DEPTH, MAX_NODES
from grotto_wire.values.parts import Foreign, Part

INT_LOW, INT_HIGH = -(2**63), 2**64 - 1
_PENDING = -1


class _Frame(NamedTuple):
    """A part on the walk's stack: `cells` grows as its children are done."""

    part: Part
    ref: list[int]
    children: Iterator[Any]
    cells: list[Any]
    depth: list[int]  # of the deepest child so far


class Encoder:
    """One walk over one value. It is the sink that codecs put buffers into."""

    def __init__(self, foreign: Foreign | None, label: str, labels: Sequence[str]) -> None:
        self._foreign = foreign
        self._label = label
        self._labels = labels
        self._memo: dict[int, tuple[list[int], object]] = {}
        self._nodes: list[Any] = []
        self._depths: list[int] = []
        self._stack: list[_Frame] = []
        self._open: dict[int, bool] = {}
        self._codecs: dict[type, Callable[[Any, Any], Any]] = {
            **scalars.ENCODERS,
            **temporal.ENCODERS,
            **containers.ENCODERS,
        }
        self._data_codecs_known = False
        self._dtypes: dict[Any, int] = {}
        self._dtype_table: list[nodes.DType] = []
        self._buffers: list[memoryview] = []

    def run(self, value: object) -> list[Segment]:
        try:
            root = self._cell(value)
            while self._stack:
                self._advance(self._stack[-1])
            header = nodes.Header(root, self._nodes, self._dtype_table, self._buffers_lengths())
            return pack(header, self._buffers)
        except Untransferable:
            raise
        except Exception as error:
            reason = (
                str(error) if isinstance(error, TooLarge) else f"{type(error).__name__}: {error}"
            )
            raise Untransferable(self._path(), type_name(type(value)), reason[:500]) from error

    # ---- what codecs call ----

    def buffer(self, data: Segment) -> int:
        """Returns the number under which the bytes will travel."""
        self._buffers.append(memoryview(data).cast("B"))
        return len(self._buffers) - 1

    def dtype(self, key: Any, describe: Callable[[], nodes.DType]) -> int:
        """Returns the number of a data type, described when it is new."""
        found = self._dtypes.get(key)
        if found is None:
            description = describe()
            found = self._dtypes[key] = len(self._dtype_table)
            self._dtype_table.append(description)
        return found

    # ---- the walk ----

    def _advance(self, frame: _Frame) -> None:
        cells, stack_height = frame.cells, len(self._stack)
        for child in frame.children:
            cell = self._cell(child)
            cells.append(cell)
            if len(self._stack) != stack_height:
                return
            if type(cell) is list:
                self._note(frame, cell)
        node = frame.part.build(cells)
        self._stack.pop()
        self._emit(node, frame.ref, frame.depth[0] + frame.part.levels)
        if self._stack:
            self._note(self._stack[-1], frame.ref)

    def _note(self, frame: _Frame, ref: list[int]) -> None:
        if ref[0] != _PENDING:
            frame.depth[0] = max(frame.depth[0], self._depths[ref[0]])
        elif not (frame.part.fills_later or self._open[id(ref)]):
            raise self._refusal(frame.part, "it contains itself in a way that cannot be rebuilt")

    def _cell(self, value: object) -> Any:
        kind = type(value)
        if kind in _AS_THEY_ARE or (kind in _SMALL and _SMALL[kind](value)):
            return value
        known = self._memo.get(id(value))
        if known is not None:
            return known[0]
        part = self._codec(kind)(value, self)
        if part is NotImplemented:
            part = self._leave(value)
        ref = [_PENDING]
        self._memo[id(value)] = (ref, value)
        if not isinstance(part, Part):
            self._emit(part, ref, 1)
            return ref
        if len(self._stack) >= MAX_DEPTH:
            raise self._refusal(part, f"it is nested deeper than {MAX_DEPTH} levels")
        self._open[id(ref)] = part.fills_later
        self._stack.append(_Frame(part, ref, iter(part.children), [], [0]))
        return ref

    def _emit(self, node: Any, ref: list[int], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self._refusal(None, f"it is nested deeper than {MAX_DEPTH} levels")
        if len(self._nodes) == MAX_NODES:
            raise TooLarge(
                f"it has more than {MAX_NODES:,} objects; an array or a DataFrame holds more"
            )
        self._open.pop(id(ref), None)
        ref[0] = len(self._nodes)
        self._nodes.append(node)
        self._depths.append(depth)

    def _codec(self, kind: type) -> Callable[[Any, Any], Any]:
        codec = self._codecs.get(kind)
        if codec is None and not self._data_codecs_known:
            self._learn_data_codecs()
            codec = self._codecs.get(kind)
        return codec or _no_codec

    def _learn_data_codecs(self) -> None:
        """An object of a library exists only when that library has been imported."""
        self._data_codecs_known = True
        if "numpy" in sys.modules:
            from grotto_wire.values import ndarrays

            self._codecs.update(ndarrays.encoders())
        if "pandas" in sys.modules:
            from grotto_wire.values import indexes, pandas_arrays, pandas_scalars, tables

            for module in (tables, indexes, pandas_arrays, pandas_scalars):
                self._codecs.update(module.encoders())

    def _leave(self, value: object) -> nodes.Node:
        if self._foreign is None:
            raise Untransferable(self._path(), type_name(type(value)))
        return nodes.Foreign(self.buffer(self._foreign(value, self._path())))

    # ---- paths ----

    def _path(self) -> str:
        """Returns the expression that leads to the child the walk is at."""
        places = [(frame.part, _position(frame)) for frame in self._stack if frame.part.children]
        pieces = [part.label(position) for part, position in places]
        if places and places[0][1] < len(self._labels):
            return self._labels[places[0][1]] + "".join(pieces[1:])
        return self._label + "".join(pieces)

    def _refusal(self, part: Part | None, reason: str) -> Untransferable:
        return Untransferable(self._path(), part.type_name if part else "object", reason)

    def _buffers_lengths(self) -> list[int]:
        return [buffer.nbytes for buffer in self._buffers]


def encode(
    value: object,
    *,
    foreign: Foreign | None = None,
    label: str = "result",
    labels: Sequence[str] = (),
) -> list[Segment]:
    """Returns the segments whose concatenation is the envelope of a value.

    Big contiguous memory is passed on as a view, not copied: do not change the value
    before the segments are written. `foreign(object, path)` gives the bytes of what has
    no codec; without it such a part raises Untransferable. `label` is what paths start
    with; `labels` names the items of the value instead, when it is a tuple or the like.
    """
    return Encoder(foreign, label, labels).run(value)


def _no_codec(_value: object, _sink: object) -> Any:
    return NotImplemented


def _position(frame: _Frame) -> int:
    """Number of the child that the walk took last."""
    return max(len(frame.part.children) - length_hint(frame.children) - 1, 0)


def _small_text(value: Any) -> bool:
    return len(value) <= INLINE_CHARS and (value.isascii() or not scalars.has_surrogates(value))


_AS_THEY_ARE = frozenset({type(None), bool, float})
_SMALL: dict[type, Callable[[Any], bool]] = {
    int: lambda value: INT_LOW <= value <= INT_HIGH,
    str: _small_text,
}

"""Builds the value of an envelope from its node table.

Owns order, references and the caps that keep a hostile envelope cheap. It looks
nothing up by a name from the envelope and runs no code of the value's: what can be
built is the fixed table of codecs. Whatever fails is a BadEnvelope.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from grotto_wire.values import containers, nodes, scalars, temporal
from grotto_wire.values.envelope import unpack
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import (
    ARRAY_DEPTH,
    MAX_COLLISIONS,
    MAX_DEPTH,
    PANDAS_STEPS,
    SLICE_DEPTH,
)

_ABSENT = object()
_HEAVY = 2**40
_FREE_STEPS = 1_000_000


class Decoder:
    """One pass over one envelope. It is the source that codecs read from."""

    def __init__(
        self,
        header: nodes.Header,
        buffers: list[memoryview],
        foreign: Callable[[bytes], object] | None,
        max_depth: int,
        free_steps: int,
    ) -> None:
        self.foreign = foreign
        self._header = header
        self._nodes: list[Any] = header.nodes
        self._buffers: list[memoryview | None] = list(buffers)
        self._max_depth = max_depth
        self._values: list[Any] = []
        self._depths = [0] * len(header.nodes)
        self._weights = [1] * len(header.nodes)
        self._at = 0
        self._steps_left = free_steps
        self._dtypes: list[Any] | None = None
        self._looked_at: set[nodes.Cell] = set()
        self._last: list[Callable[[], None]] = []

    def run(self) -> object:
        empty = containers.EMPTY
        self._values = [
            empty[type(node)]() if type(node) in empty else _ABSENT for node in self._nodes
        ]
        for index, node in enumerate(self._nodes):
            self._at = index
            self._measure(node)
            if type(node) not in empty:
                self._values[index] = _builder(type(node))(node, self)
        for node, target in zip(self._nodes, self._values, strict=True):
            if type(node) in empty:
                containers.FILLERS[type(node)](node, target, self)
        for action in self._last:
            action()
        if any(buffer is not None for buffer in self._buffers):
            raise BadEnvelope("nothing uses one of its buffers")
        return self.value(self._header.root)

    # ---- what codecs call ----

    def value(self, cell: nodes.Cell) -> Any:
        if type(cell) is not tuple:
            return cell
        index = self._index(cell)
        found = self._values[index]
        if found is _ABSENT:
            raise BadEnvelope("a part refers to one that comes after it")
        return found

    def values(self, cells: Sequence[nodes.Cell]) -> list[Any]:
        self._steps_left += 2 * len(cells)
        if tuple not in set(map(type, cells)):
            return list(cells)
        return [self.value(cell) if type(cell) is tuple else cell for cell in cells]

    def keys(self, cells: Sequence[nodes.Cell]) -> list[Any]:
        kinds = set(map(type, cells))
        found = self.values(cells)
        if kinds <= {str}:
            return found
        self.spend(self._weight(cells))
        _check_collisions(found)
        return found

    def check_hashes(self, cell: nodes.Cell, found: list[Any]) -> None:
        self.spend(self._weight([cell]))
        _check_collisions(found)

    def first_look(self, cell: nodes.Cell) -> bool:
        new = cell not in self._looked_at
        self._looked_at.add(cell)
        return new

    def buffer(self, number: int) -> memoryview:
        if not 0 <= number < len(self._buffers):
            raise BadEnvelope("a part refers to a buffer that is not there")
        found, self._buffers[number] = self._buffers[number], None
        if found is None:
            raise BadEnvelope("two parts use one buffer")
        return found

    def dtype(self, number: int) -> Any:
        if self._dtypes is None:
            from grotto_wire.values.dtypes import read_table

            self._dtypes = read_table(self._header.dtypes)
        if not 0 <= number < len(self._dtypes):
            raise BadEnvelope("a part refers to a data type that is not there")
        return self._dtypes[number]

    def is_foreign(self, cell: nodes.Cell) -> bool:
        return type(cell) is tuple and type(self._nodes[self._index(cell)]) is nodes.Foreign

    def spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise BadEnvelope("it costs more work to build than its size accounts for")

    def weigh(self, steps: int) -> None:
        self._weights[self._at] = min(self._weights[self._at] + steps, _HEAVY)

    def weigh_keys(self, cells: Sequence[nodes.Cell]) -> None:
        self.weigh(self._weight(cells))

    def at_end(self, action: Callable[[], None]) -> None:
        self._last.append(action)

    # ---- bounds ----

    def _index(self, cell: tuple[int]) -> int:
        if not 0 <= cell[0] < len(self._nodes):
            raise BadEnvelope("a part refers to one that is not there")
        return cell[0]

    def _measure(self, node: nodes.Node) -> None:
        """Bounds how deep the node lies by what it refers to before itself.

        A reference forward leads to a list, dict or set, whose freeing is not recursive.
        """
        deepest = 0
        for cell in _references(node):
            index = self._index(cell)
            if index < self._at:
                deepest = max(deepest, self._depths[index])
        levels = _LEVELS.get(type(node), 1)
        self._depths[self._at] = deepest + levels
        if deepest + levels > self._max_depth:
            raise BadEnvelope(f"it is nested deeper than {self._max_depth} levels")

    def _weight(self, cells: Sequence[nodes.Cell]) -> int:
        weights = self._weights
        return len(cells) + sum(weights[self._index(c)] for c in cells if type(c) is tuple)


def decode(
    payload: memoryview | bytes | bytearray,
    *,
    foreign: Callable[[bytes], object] | None = None,
    max_depth: int = MAX_DEPTH,
) -> object:
    """Returns the value of an envelope; raises BadEnvelope for anything unsound.

    Arrays and the columns of tables are views on `payload`, as writable as it is, and
    keep it alive. `foreign` rebuilds what only a sandbox may; without it such a part
    is refused unread.
    """
    try:
        view = memoryview(payload).cast("B")
        header, buffers = unpack(view)
        steps = _FREE_STEPS + view.nbytes // 4
        return Decoder(header, buffers, foreign, max_depth, steps).run()
    except BadEnvelope:
        raise
    except ImportError as error:
        raise BadEnvelope(f"it needs a library: pip install 'grotto[data]' ({error})") from error
    except Exception as error:
        what = ascii(str(error)[:200])
        raise BadEnvelope(f"it does not decode: {type(error).__name__}: {what}") from error


def _check_collisions(found: list[Any]) -> None:
    """Hashes of numbers can be chosen, and equal ones make a dictionary quadratic."""
    if len(found) > MAX_COLLISIONS:
        _, most = Counter(map(hash, found)).most_common(1)[0]
        if most > MAX_COLLISIONS:
            raise BadEnvelope("too many keys have the same hash")


def _references(node: nodes.Node) -> list[tuple[int]]:
    found: list[tuple[int]] = []
    for field in node.__struct_fields__:
        content = getattr(node, field)
        if type(content) is tuple:
            found.append(content)
        elif type(content) is list and tuple in set(map(type, content)):
            found += [cell for cell in content if type(cell) is tuple]
    return found


def _builder(kind: type) -> Callable[[Any, Any], object]:
    for table in _BUILDERS:
        if kind in table:
            return table[kind]
    from grotto_wire.values import indexes, ndarrays, pandas_arrays, pandas_scalars, tables

    if kind in ndarrays.BUILDERS:
        return ndarrays.BUILDERS[kind]
    for table in (t.BUILDERS for t in (tables, indexes, pandas_arrays, pandas_scalars)):
        if kind in table:
            return _charged(table[kind])
    raise BadEnvelope("it has a node that nothing builds")


def _charged(build: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    """pandas takes its time for each object, however few bytes announce it."""

    def charged(node: Any, source: Decoder) -> object:
        source.spend(PANDAS_STEPS)
        return build(node, source)

    return charged


_LEVELS = {nodes.ObjectArray: ARRAY_DEPTH, nodes.Slice: SLICE_DEPTH}
_BUILDERS = (scalars.BUILDERS, temporal.BUILDERS, containers.BUILDERS)

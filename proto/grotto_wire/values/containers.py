"""Codecs of list, dict, set, tuple, frozenset, range and slice.

Lists, dicts and sets are made empty and filled at the end, so they may contain
themselves; the others are built once their items are there.
"""

from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.limits import INLINE_CHARS, SLICE_DEPTH
from grotto_wire.values.parts import Part, Sink, item_label, key_label
from grotto_wire.values.source import Source

INT_LOW, INT_HIGH = -(2**63), 2**64 - 1
_SIMPLE = frozenset({type(None), bool, float})


def all_inline(values: list[Any]) -> bool:
    """Whether each value is certainly its own cell; found in C, without a look at each."""
    kinds = set(map(type, values)) - _SIMPLE
    if not kinds <= {int, str}:
        return False
    numbers = [value for value in values if type(value) is int] if int in kinds else []
    if numbers and not (min(numbers) >= INT_LOW and max(numbers) <= INT_HIGH):
        return False
    texts = [value for value in values if type(value) is str] if str in kinds else []
    return not texts or (max(map(len, texts)) <= INLINE_CHARS and all(map(str.isascii, texts)))


# ---- encode ----


def _sequence(node: type, later: bool) -> Callable[[Any, Sink], Any]:
    def encode(value: Any, _: Sink) -> Any:
        items = list(value)
        if all_inline(items):
            return node(items)
        name = type(value).__name__
        return Part(items, node, item_label, name, fills_later=later)

    return encode


def _unordered(node: type, later: bool) -> Callable[[Any, Sink], Any]:
    def encode(value: Any, _: Sink) -> Any:
        items = list(value)
        if all_inline(items):
            return node(items)
        name = type(value).__name__
        return Part(items, node, lambda i: key_label(items[i]), name, fills_later=later)

    return encode


def _dict(value: dict[Any, Any], _: Sink) -> Any:
    pairs = list(value.items())
    keys, values = [key for key, _ in pairs], [item for _, item in pairs]
    count = len(keys)
    if not all_inline(keys):
        return Part(
            keys + values,
            lambda cells: nodes.Dict(cells[:count], cells[count:]),
            lambda i: key_label(keys[i % count]) + ("" if i >= count else " (the key)"),
            "dict",
            fills_later=True,
        )
    if all_inline(values):
        return nodes.Dict(keys, values)
    return Part(
        values,
        lambda cells: nodes.Dict(keys, cells),
        lambda i: key_label(keys[i]),
        "dict",
        fills_later=True,
    )


def _range(value: range, _: Sink) -> Part:
    ends = (value.start, value.stop, value.step)
    return Part(ends, lambda cells: nodes.Range(*cells), item_label, "range")


def _slice(value: slice, _: Sink) -> Part:
    ends = (value.start, value.stop, value.step)
    return Part(ends, lambda cells: nodes.Slice(*cells), item_label, "slice", levels=SLICE_DEPTH)


ENCODERS: dict[type, Callable[[Any, Sink], Any]] = {
    list: _sequence(nodes.List, later=True),
    tuple: _sequence(nodes.Tuple, later=False),
    set: _unordered(nodes.Set, later=True),
    frozenset: _unordered(nodes.FrozenSet, later=False),
    dict: _dict,
    range: _range,
    slice: _slice,
}


# ---- decode ----

EMPTY: dict[type, Callable[[], Any]] = {nodes.List: list, nodes.Dict: dict, nodes.Set: set}
"""Made before anything else; `FILLERS` completes them after everything else."""


def _fill_list(node: nodes.List, target: list[Any], source: Source) -> None:
    target.extend(source.values(node.items))


def _fill_dict(node: nodes.Dict, target: dict[Any, Any], source: Source) -> None:
    if len(node.keys) != len(node.values):
        raise BadEnvelope("a dictionary has keys without values")
    target.update(zip(source.keys(node.keys), source.values(node.values), strict=True))
    if len(target) != len(node.keys):
        raise BadEnvelope("a dictionary has a key twice")


def _fill_set(node: nodes.Set, target: set[Any], source: Source) -> None:
    target.update(source.keys(node.items))
    if len(target) != len(node.items):
        raise BadEnvelope("a set has an item twice")


FILLERS: dict[type, Callable[[Any, Any, Source], None]] = {
    nodes.List: _fill_list,
    nodes.Dict: _fill_dict,
    nodes.Set: _fill_set,
}


def _read_tuple(node: nodes.Tuple, source: Source) -> tuple[Any, ...]:
    source.weigh_keys(node.items)
    return tuple(source.values(node.items))


def _read_frozenset(node: nodes.FrozenSet, source: Source) -> frozenset[Any]:
    source.weigh_keys(node.items)
    found = frozenset(source.keys(node.items))
    if len(found) != len(node.items):
        raise BadEnvelope("a frozenset has an item twice")
    return found


def _read_range(node: nodes.Range, source: Source) -> range:
    ends = source.values([node.start, node.stop, node.step])
    if any(type(end) is not int for end in ends):
        raise BadEnvelope("an end of a range is no integer")
    source.weigh_keys([node.start, node.stop, node.step])
    return range(*ends)


def _read_slice(node: nodes.Slice, source: Source) -> slice:
    ends = [node.start, node.stop, node.step]
    source.weigh_keys(ends)
    return slice(*source.values(ends))


BUILDERS: dict[type, Callable[[Any, Source], object]] = {
    nodes.Tuple: _read_tuple,
    nodes.FrozenSet: _read_frozenset,
    nodes.Range: _read_range,
    nodes.Slice: _read_slice,
}

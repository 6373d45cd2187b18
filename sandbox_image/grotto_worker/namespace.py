"""Describes what the namespace holds, without running tenant code where it can be helped.

Classes are told by `type(value)` and identity: `isinstance` and `==` ask the value.
What of a variable cannot be read is left empty. Sizes are of the object itself (bytes);
previews are made only of builtin types, arrays and frames, never by a tenant's `__repr__`.
"""

import inspect
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from grotto_wire.frames import VariableInfo

MAX_VARIABLES = 2000
MAX_TOTAL_BYTES = 3 * 1024 * 1024
MAX_TEXT_BYTES = 400
MAX_DOC_BYTES = 800
MAX_DESCRIPTION_BYTES = 2000
_MAX_SIZE_BYTES = 2**62
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_qualified_name = type.__dict__["__qualname__"].__get__
"""A metaclass has no say in it."""

T = TypeVar("T")


def describe(
    namespace: Mapping[str, Any], names: list[str], injected: Mapping[str, str]
) -> list[VariableInfo]:
    """Returns one entry a name, in the order they were bound; modules are left out.

    It ends after MAX_VARIABLES or MAX_TOTAL_BYTES, whichever comes first.
    """
    found: list[VariableInfo] = []
    left_bytes = MAX_TOTAL_BYTES
    for name in names:
        value = _attempt(namespace.__getitem__, name, _GONE)
        if value is _GONE or issubclass(type(value), types.ModuleType):
            continue
        info = _variable(name, value, injected)
        left_bytes -= len(msgspec.msgpack.encode(info))
        if left_bytes < 0 or len(found) == MAX_VARIABLES:
            break
        found.append(info)
    return found


_GONE = object()
"""Stands for a variable that a thread has deleted meanwhile."""


def text(given: str, max_bytes: int) -> str:
    """Returns what of a string can be sent: valid UTF-8, cut, and an exact `str`."""
    head = str.__getitem__(given, slice(max_bytes))
    return head.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


def type_name(value: object) -> str:
    """Returns the name of a value's class, whatever the class says of itself."""
    kind = type(value)
    if _one_of(kind, _FUNCTIONS):
        return "function"
    return text(_qualified_name(kind), MAX_TEXT_BYTES)


def _variable(name: str, value: object, injected: Mapping[str, str]) -> VariableInfo:
    return VariableInfo(
        name=text(name, MAX_TEXT_BYTES),
        type=type_name(value),
        size_bytes=max(0, min(_attempt(_size_bytes, value, 0), _MAX_SIZE_BYTES)),
        preview=text(_attempt(_preview, value, ""), MAX_TEXT_BYTES),
        description=text(injected.get(name, ""), MAX_DESCRIPTION_BYTES),
        origin="injected" if name in injected else "created",
        signature=text(_attempt(_signature, value, ""), MAX_TEXT_BYTES),
        doc=text(_attempt(_doc, value, ""), MAX_DOC_BYTES),
    )


def _attempt(read: Callable[[Any], T], value: object, otherwise: T) -> T:
    """Returns what was read of a value; it may run tenant code, which may raise anything."""
    try:
        return read(value)
    except BaseException:
        return otherwise


def _one_of(kind: type, known: tuple[type, ...]) -> bool:
    return any(kind is one for one in known)


def _size_bytes(value: object) -> int:
    if _is(value, "numpy", "ndarray"):
        return int(value.nbytes)  # type: ignore[attr-defined]
    if _is(value, "pandas", "DataFrame"):
        return int(value.memory_usage(index=True).sum())  # type: ignore[attr-defined]
    if _is(value, "pandas", "Series"):
        return int(value.memory_usage(index=True))  # type: ignore[attr-defined]
    return int(sys.getsizeof(value))


def _preview(value: object) -> str:
    if _one_of(type(value), _SCALARS):
        return reprlib.repr(value)
    if _one_of(type(value), _CONTAINERS):
        return f"{len(value)} items"  # type: ignore[arg-type]
    if _is(value, "numpy", "ndarray"):
        return f"shape {value.shape}, dtype {value.dtype}"  # type: ignore[attr-defined]
    if _is(value, "pandas", "DataFrame"):
        return _frame_preview(value)
    if _is(value, "pandas", "Series"):
        return f"{len(value)} rows, dtype {value.dtype}"  # type: ignore[arg-type, attr-defined]
    return ""


def _frame_preview(frame: Any) -> str:
    rows, columns = frame.shape
    names = ", ".join(
        f"{name} ({dtype})"
        for name, dtype in zip(frame.columns[:20], frame.dtypes[:20], strict=True)
        if _one_of(type(name), (str, int))
    )
    return f"{rows} rows × {columns} columns: {names}"


def _is(value: object, package: str, name: str) -> bool:
    """Whether the value is exactly that class of a library that is loaded."""
    module = sys.modules.get(package)
    return module is not None and type(value) is getattr(module, name, None)


def _explains_itself(value: object) -> bool:
    """Whether it is a function or a class, which have a signature and a docstring."""
    return type(value) is types.FunctionType or issubclass(type(value), type)


def _signature(value: Any) -> str:
    return str(inspect.signature(value)) if _explains_itself(value) else ""


def _doc(value: object) -> str:
    doc = value.__doc__ if _explains_itself(value) else None
    return doc.strip().split("\n\n")[0] if type(doc) is str else ""

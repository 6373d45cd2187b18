"""Describes what the namespace holds, without running tenant code where it can be helped.

Sizes are of the object itself (bytes); previews are made only of builtin types,
arrays and frames, never by a tenant's `__repr__`.
"""

import inspect
import reprlib
import sys
import types
from collections.abc import Mapping
from typing import Any

from grotto_wire.frames import VariableInfo

MAX_VARIABLES = 2000
MAX_TEXT_CHARS = 300
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (list, tuple, dict, set, frozenset)


def describe(
    namespace: Mapping[str, Any], names: list[str], injected: Mapping[str, str]
) -> list[VariableInfo]:
    """Returns one entry a name, in the order they were bound; modules are left out."""
    found = [
        (name, namespace[name])
        for name in names
        if not isinstance(namespace[name], types.ModuleType)
    ]
    return [_variable(name, value, injected) for name, value in found[:MAX_VARIABLES]]


def _variable(name: str, value: object, injected: Mapping[str, str]) -> VariableInfo:
    return VariableInfo(
        name=name[:MAX_TEXT_CHARS],
        type=_type_name(value)[:MAX_TEXT_CHARS],
        size_bytes=_size_bytes(value),
        preview=_preview(value),
        description=injected.get(name, ""),
        origin="injected" if name in injected else "created",
        signature=_signature(value),
        doc=_doc(value),
    )


def _type_name(value: object) -> str:
    kind = type(value)
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return "function"
    return str(kind.__qualname__)


def _size_bytes(value: object) -> int:
    try:
        if _is(value, "numpy", "ndarray"):
            return int(value.nbytes)  # type: ignore[attr-defined]
        if _is(value, "pandas", "DataFrame"):
            return int(value.memory_usage(index=True).sum())  # type: ignore[attr-defined]
        if _is(value, "pandas", "Series"):
            return int(value.memory_usage(index=True))  # type: ignore[attr-defined]
        return sys.getsizeof(value)
    except Exception:
        return 0


def _preview(value: object) -> str:
    if type(value) in _SCALARS:
        return reprlib.repr(value)[:MAX_TEXT_CHARS]
    if type(value) in _CONTAINERS:
        return f"{len(value)} items"  # type: ignore[arg-type]
    if _is(value, "numpy", "ndarray"):
        return f"shape {value.shape}, dtype {value.dtype}"[:MAX_TEXT_CHARS]  # type: ignore[attr-defined]
    if _is(value, "pandas", "DataFrame"):
        return _frame_preview(value)
    if _is(value, "pandas", "Series"):
        return f"{len(value)} rows, dtype {value.dtype}"[:MAX_TEXT_CHARS]  # type: ignore[arg-type, attr-defined]
    return ""


def _frame_preview(frame: Any) -> str:
    rows, columns = frame.shape
    names = ", ".join(
        f"{name} ({dtype})"
        for name, dtype in zip(frame.columns[:20], frame.dtypes[:20], strict=True)
        if type(name) in (str, int)
    )
    return f"{rows} rows × {columns} columns: {names}"[:MAX_TEXT_CHARS]


def _is(value: object, package: str, name: str) -> bool:
    """Whether the value is exactly that class of a library that is loaded."""
    module = sys.modules.get(package)
    return module is not None and type(value) is getattr(module, name, None)


def _signature(value: object) -> str:
    if not isinstance(value, types.FunctionType | type):
        return ""
    try:
        return str(inspect.signature(value))[:MAX_TEXT_CHARS]
    except (TypeError, ValueError):
        return ""


def _doc(value: object) -> str:
    if not isinstance(value, types.FunctionType | type):
        return ""
    doc = value.__doc__
    return doc.strip().split("\n\n")[0][: 2 * MAX_TEXT_CHARS] if isinstance(doc, str) else ""

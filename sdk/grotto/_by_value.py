"""Pickles what has no codec, for the sandbox alone; nothing is unpickled here.

dill takes functions and classes of `__main__` along by value and refers to all others
by name. The sandbox has the installed libraries at best, so what the user's own
modules define travels by value too.
"""

import enum
import io
import operator
import os
import sys
import sysconfig
import types
from types import FunctionType, ModuleType
from typing import Any

import dill

_LIBRARY_FOLDERS = ("site-packages", "dist-packages")


def dump(value: object) -> bytes:
    """Returns the pickle of an object; raises whatever dill or the object's own code raises."""
    stream = io.BytesIO()
    _pickler()(stream, recurse=True, byref=False).dump(value)
    return stream.getvalue()


def travels_by_value(module_name: object) -> bool:
    """Whether what a module defines must travel along: it is no installed library's."""
    if type(module_name) is not str:
        return False
    top = module_name.partition(".")[0]
    module = sys.modules.get(module_name)
    if top in sys.stdlib_module_names or top in sys.builtin_module_names or module is None:
        return False
    path = getattr(module, "__file__", None)
    if not isinstance(path, str):
        return False
    parts = os.path.abspath(path).split(os.sep)
    standard = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
    return not (set(parts) & set(_LIBRARY_FOLDERS) or os.path.abspath(path).startswith(standard))


def _pickler() -> Any:
    """Returns dill's pickler with one question of its own answered differently.

    dill asks its `_locate_function` whether a function or class can be found by name.
    Its two savers run here over a copy of its globals, so that dill itself, which the
    user's process may use meanwhile, stays as it is.
    """
    known = dill.Pickler.dispatch
    located = known[FunctionType].__globals__["_locate_function"]

    def locate(obj: Any, pickler: Any = None) -> bool:
        by_value = travels_by_value(getattr(obj, "__module__", None))
        return not by_value and bool(located(obj, pickler))

    save_function, save_class = (_answering(known[kind], locate) for kind in (FunctionType, type))

    def save_type(pickler: Any, kind: Any, **options: Any) -> None:
        if issubclass(type(kind), enum.EnumMeta) and not locate(kind, pickler):
            _save_enum(pickler, kind)
        else:
            save_class(pickler, kind, **options)

    def save_module(pickler: Any, module: ModuleType) -> None:
        if travels_by_value(module.__name__):
            _save_module(pickler, module)
        else:
            known[ModuleType](pickler, module)

    table = _Dispatch(known)
    table.update({FunctionType: save_function, type: save_type, ModuleType: save_module})
    return type("Pickler", (dill.Pickler,), {"dispatch": table})


class _Dispatch(dict[type, Any]):
    """As dill's own table: an instance of any metaclass is saved as a class."""

    def get(self, key: type, default: Any = None) -> Any:
        return self[key] if key in self else self[type] if issubclass(key, type) else default


def _answering(saver: Any, locate: Any) -> Any:
    space = {**saver.__globals__, "_locate_function": locate}
    return FunctionType(saver.__code__, space, saver.__name__, saver.__defaults__)


def _save_enum(pickler: Any, kind: Any) -> None:
    """dill would name the class while it makes its members; make them with the class."""
    if "__new_member__" in vars(kind):
        raise TypeError(f"the enum {kind.__qualname__} has a __new__ of its own")
    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    later = {}
    for name, item in vars(kind).items():
        if name in _ENUM_HOOKS and isinstance(item, FunctionType | staticmethod | classmethod):
            body[name] = item
        elif isinstance(item, FunctionType | staticmethod | classmethod | property):
            later[name] = item
    body.update((name, member._value_) for name, member in kind.__members__.items())
    made: tuple[Any, ...] = (
        kind.__name__,
        kind.__bases__,
        {},
        operator.methodcaller("update", body),
    )
    pickler.save_reduce(types.new_class, made, obj=kind)
    for name, item in later.items():
        if name not in _ENUM_OWN:
            pickler.save_reduce(setattr, (kind, name, item))
            pickler.write(_POP)


def _save_module(pickler: Any, module: ModuleType) -> None:
    content = {name: item for name, item in vars(module).items() if name not in _MODULE_OWN}
    pickler.save_reduce(ModuleType, (module.__name__,), state=content, obj=module)


_ENUM_HOOKS = frozenset({"__init__", "_missing_", "_generate_next_value_"})
_ENUM_OWN = frozenset({"__new__", "__reduce_ex__", "__format__", "_generate_next_value_"})
"""What the enum module itself puts into a class."""
_MODULE_OWN = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__", "__file__"})
_POP = b"0"
"""Takes the result of the call before from the stack, where nobody wants it."""

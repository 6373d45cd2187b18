"""What can be wrong with a value or an envelope."""

MAX_PATH_CHARS = 500
MAX_TYPE_NAME_CHARS = 200


class Untransferable(Exception):
    """A value, or a part of it, cannot travel.

    `path` leads to the part, as an expression (`result["model"]`); `type_name` is
    its type as module.qualname.
    """

    def __init__(self, path: str, type_name: str, reason: str = "") -> None:
        self.path = _shortened(path)
        self.type_name = type_name
        self.reason = reason or "there is no codec for its type"
        super().__init__(f"{self.path} : {type_name} cannot be transferred: {self.reason}")


class BadEnvelope(Exception):
    """The bytes are no sound envelope, or hold what this end does not take."""


def type_name(kind: type) -> str:
    """Returns module.qualname of a type, without running code of a metaclass."""
    qualname = type.__dict__["__qualname__"].__get__(kind)
    module = type.__dict__["__dict__"].__get__(kind).get("__module__")
    if type(module) is not str:
        module = "?" if type.__dict__["__flags__"].__get__(kind) & _HEAP_TYPE else _module(kind)
    shown = qualname if module == "builtins" else f"{module}.{qualname}"
    return str(shown)[:MAX_TYPE_NAME_CHARS]


_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: made by a class statement."""


def _module(kind: type) -> str:
    return str(type.__dict__["__module__"].__get__(kind))


def _shortened(path: str) -> str:
    if len(path) <= MAX_PATH_CHARS:
        return path
    half = MAX_PATH_CHARS // 2
    return f"{path[:half]}…{path[-half:]}"

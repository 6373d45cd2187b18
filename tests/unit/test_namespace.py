"""What is said of a session's variables, whatever they are."""

import sys
import types
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from grotto_wire.frames import MAX_FRAME_BYTES, Done, VariableInfo
from grotto_worker import namespace


def described(value: object, name: str = "it") -> VariableInfo:
    (found,) = namespace.describe({name: value}, [name], {})
    msgspec.msgpack.encode(Done(1, variables=[found]))
    return found


def hostile(raised: type[BaseException]) -> dict[str, object]:
    """Values that raise at whatever asks them."""

    def refuse(*_: object, **__: object) -> Any:
        raise raised

    metaclass = type(
        "Meta",
        (type,),
        {
            "__eq__": refuse,
            "__hash__": type.__hash__,
            "__getattribute__": refuse,
            "__instancecheck__": refuse,
            "__subclasscheck__": refuse,
            "__call__": refuse,
            "__repr__": refuse,
            "__signature__": property(refuse),
        },
    )
    kind = types.new_class("Hostile", (), {"metaclass": metaclass})

    class Getter:
        __class__ = property(refuse)
        __getattribute__ = __repr__ = __sizeof__ = __eq__ = __hash__ = refuse

    class Shown:
        __repr__ = __str__ = refuse

    def function(given: object = Shown()) -> None:
        """Its default cannot be shown."""

    return {
        "class": kind,
        "instance": object.__new__(kind),
        "getter": Getter(),
        "function": function,
        "kept": 1,
    }


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_hostile_values_are_listed_with_name_and_type(raised):
    values = hostile(raised)
    found = namespace.describe(values, list(values), {})
    assert [info.name for info in found] == list(values)
    assert [info.type.rpartition(".")[2] for info in found] == [
        "Meta",
        "Hostile",
        "Getter",
        "function",
        "int",
    ]
    assert found[3].doc == "Its default cannot be shown." and found[3].signature == ""
    assert found[4].preview == "1"


def test_ordinary_values_are_shown():
    def area(r: float = 2.0) -> float:
        """Of a circle.

        Not of a square.
        """
        return r

    assert (described(area).type, described(area).signature) == (
        "function",
        "(r: float = 2.0) -> float",
    )
    assert described(area).doc == "Of a circle."
    assert (described(len).type, described(len).signature) == ("function", "")
    assert described([1, 2]).preview == "2 items"
    assert described("x" * 1000).preview.startswith("'xxx")
    array = described(np.zeros((3, 4)))
    assert (array.preview, array.size_bytes) == ("shape (3, 4), dtype float64", 96)
    assert described(pd.DataFrame({"a": [1]})).preview == "1 rows × 1 columns: a (int64)"
    assert described(pd.Series([1, 2])).preview == "2 rows, dtype int64"
    assert described(1j).preview == "1j"
    assert described(10**5000).size_bytes == sys.getsizeof(10**5000)


def test_modules_and_what_is_gone_are_left_out():
    assert namespace.describe({"sys": sys, "x": 1}, ["sys", "gone", "x"], {})[0].name == "x"


class Text(str):
    def __getitem__(self, _: object) -> str:
        raise RuntimeError

    encode = strip = __getitem__


@pytest.mark.parametrize(
    "given",
    ["\ud800", "x\0", Text("own class"), "\N{GRINNING FACE}" * 5000],
    ids=["surrogate", "nul", "own class", "long"],
)
def test_texts_of_any_kind_can_be_sent(given):
    def function() -> None:
        pass

    kind = type("Kind", (), {})
    function.__doc__ = given
    function.__annotations__ = {"return": given}
    with suppress(UnicodeError):  # Python refuses what is no Unicode for some of them
        kind.__doc__ = given
        kind.__qualname__ = given
    for value in (function, kind, kind(), given):
        info = described(value, "n" if type(given) is not str else given)
        assert all(
            type(part) is str and len(part.encode()) <= namespace.MAX_DOC_BYTES
            for part in (info.name, info.type, info.preview, info.signature, info.doc)
        )


def test_sizes_can_be_sent(monkeypatch):
    """A tenant may put a class of its own where numpy's array is looked for."""
    for claimed, said in ((-1, 0), (2**80, 2**62)):
        kind = type("ndarray", (), {"nbytes": claimed})
        monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(ndarray=kind))
        assert described(kind()).size_bytes == said


def test_a_full_namespace_fits_in_a_frame():
    def function() -> None:
        pass

    function.__doc__ = "\N{GRINNING FACE}" * 5000
    names = [f"{n:04}" + "\N{GRINNING FACE}" * 500 for n in range(namespace.MAX_VARIABLES + 10)]
    found = namespace.describe(
        dict.fromkeys(names, function), names, dict.fromkeys(names, "\N{GRINNING FACE}" * 5000)
    )
    assert 500 < len(found) < namespace.MAX_VARIABLES
    assert len(msgspec.msgpack.encode(Done(1, variables=found))) < MAX_FRAME_BYTES
    assert len(namespace.describe(dict.fromkeys(names, 1), names, {})) == namespace.MAX_VARIABLES

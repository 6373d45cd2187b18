"""What has no codec reaches the sandbox by value: functions, classes, instances."""

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from grotto import _values
from grotto._by_value import travels_by_value
from grotto_wire.values import BadEnvelope, Untransferable
from grotto_worker import values as worker

MODULE = """
import abc, collections, dataclasses, enum, math
import pandas as pd

RATE = 0.2

def helper(x):
    return x * RATE

def uses_globals(x):
    return math.floor(helper(x)) + len(pd.Series([1]))

def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

def plus_one(f):
    def inner(*args):
        return f(*args) + 1
    return inner

@plus_one
def decorated(x):
    return x

@dataclasses.dataclass
class Point:
    x: int
    def doubled(self):
        return Point(self.x * 2)

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1
    @property
    def other(self):
        return Color.BLUE if self is Color.RED else Color.RED
    @classmethod
    def first(cls):
        return cls.RED

class Flags(enum.Flag):
    X = enum.auto()
    Y = enum.auto()

Pair = collections.namedtuple("Pair", "a b")

class Base:
    def hello(self):
        return "base"

class Derived(Base):
    def hello(self):
        return super().hello() + " derived"

class Abstract(abc.ABC):
    @abc.abstractmethod
    def rate(self): ...

class Concrete(Abstract):
    def rate(self):
        return RATE

class Slots:
    __slots__ = ("a",)
    def __init__(self):
        self.a = 3

class Counted(dict):
    pass

def numbers():
    yield from range(3)

async def later():
    return 5

def red():
    return Color.RED
"""

IN_THE_SANDBOX = """
import sys
from grotto_worker import values
found = values.decode(memoryview(bytearray(sys.stdin.buffer.read())))["v"]
assert {check}, found
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A module that the client can import and a sandbox cannot."""
    path = tmp_path_factory.mktemp("own") / "grotto_users_own.py"
    path.write_text(textwrap.dedent(MODULE))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def arrives(value: object, check: str) -> None:
    payload = b"".join(_values.encode_items({"v": value}))
    code = IN_THE_SANDBOX.format(check=check)
    done = subprocess.run([sys.executable, "-I", "-c", code], input=payload, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


CASES = {
    "function": (lambda m: m.uses_globals, "found(10) == 3"),
    "recursive function": (lambda m: m.factorial, "found(5) == 120"),
    "closure": (lambda m: m.decorated, "found(1) == 2"),
    "lambda that uses the module": (lambda m: lambda x: m.helper(x), "found(10) == 2"),
    "dataclass instance": (lambda m: m.Point(3), "found.doubled().x == 6"),
    "class": (lambda m: m.Point, "found(3) == found(3)"),
    "enum": (lambda m: m.Color, "found.RED.other is found.BLUE and found.CRIMSON is found.first()"),
    "enum member": (lambda m: m.Color.RED, "found.name == 'RED' and found.other.value == 2"),
    "flag": (lambda m: m.Flags.X | m.Flags.Y, "found.value == 3"),
    "function that uses an enum": (lambda m: m.red, "found().name == 'RED'"),
    "namedtuple": (lambda m: m.Pair(1, 2), "found.a == 1 and type(found).__name__ == 'Pair'"),
    "super": (lambda m: m.Derived(), "found.hello() == 'base derived'"),
    "bound method": (lambda m: m.Derived().hello, "found() == 'base derived'"),
    "abstract base": (lambda m: m.Concrete(), "found.rate() == 0.2"),
    "slots": (lambda m: m.Slots(), "found.a == 3"),
    "subclass of dict": (lambda m: m.Counted(a=1), "found['a'] == 1 and type(found) is not dict"),
    "generator function": (lambda m: m.numbers, "list(found()) == [0, 1, 2]"),
    "coroutine function": (lambda m: m.later, "__import__('asyncio').run(found()) == 5"),
    "in containers": (
        lambda m: [m.helper, {"k": (m.Point(1),)}],
        "found[0](10) == 2 and found[1]['k'][0].x == 1",
    ),
    "library function": (lambda m: __import__("numpy").linspace, "len(found(0, 1, 3)) == 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_users_own_code_arrives_where_its_module_is_not(own: Any, name: str) -> None:
    make, check = CASES[name]
    arrives(make(own), check)


def test_functions_of_this_test_module_arrive() -> None:
    arrives(shout, "found('a') == 'A!'")


def shout(text: str) -> str:
    return text.upper() + MARK


MARK = "!"


def test_main_arrives_by_value(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from grotto import _values\n"
        "SIZE = 3\n"
        "class Box:\n"
        "    def size(self): return SIZE\n"
        "def f(x): return Box().size() + x\n"
        "sys.stdout.buffer.write(b''.join(_values.encode_items({'v': [f, Box()]})))\n"
    )
    made = subprocess.run([sys.executable, str(script)], capture_output=True, check=True)
    code = IN_THE_SANDBOX.format(check="found[0](1) == 4 and found[1].size() == 3")
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=made.stdout, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_installed_libraries_travel_by_name() -> None:
    assert not travels_by_value("numpy") and not travels_by_value("json")
    assert not travels_by_value("builtins") and not travels_by_value("no_such_module")
    assert travels_by_value(__name__)


def test_encoding_leaves_dill_itself_as_it_is() -> None:
    import dill

    before = dict(dill.Pickler.dispatch)
    _values.encode_items({"f": shout})
    assert dict(dill.Pickler.dispatch) == before


def test_what_dill_cannot_take_is_named_by_path(tmp_path: Path) -> None:
    with pytest.raises(Untransferable) as caught:
        _values.encode_items({"rows": [1, {"it": (n for n in range(3))}]})
    assert caught.value.path == 'rows[1]["it"]'
    assert caught.value.type_name == "generator"
    assert "pickled" in str(caught.value)


def test_an_object_whose_reduction_fails_is_untransferable() -> None:
    class Stubborn:
        def __reduce__(self) -> Any:
            raise SystemExit("no")

    with pytest.raises(Untransferable, match="SystemExit"):
        _values.encode_items({"v": Stubborn()})


def test_items_share_and_paths_start_with_the_name() -> None:
    shared = [1]
    found: Any = worker.decode(
        memoryview(bytearray(b"".join(_values.encode_items({"a": shared, "b": [shared]}))))
    )
    assert list(found) == ["a", "b"] and found["a"] is found["b"][0]


def test_what_the_sandbox_lacks_is_said_with_a_hint() -> None:
    from grotto_wire.values import encode

    segments = encode([object()], foreign=lambda _, __: b"cno_such_library\nThing\n.")
    with pytest.raises(worker.Undecodable, match="no_such_library") as caught:
        worker.decode(memoryview(b"".join(segments)))
    assert "library" in caught.value.hint


def test_the_worker_sends_no_objects_back() -> None:
    with pytest.raises(worker.Untransferable) as caught:
        worker.encode(({"m": shout},), ["model"])
    assert caught.value.path == 'model["m"]' and caught.value.type_name == "function"


def test_the_worker_maps_a_bad_envelope() -> None:
    with pytest.raises(worker.Undecodable):
        worker.decode(memoryview(b"nonsense"))
    with pytest.raises(BadEnvelope):
        _values.decode(memoryview(b"nonsense"))

"""Attacks on the client by the envelope a hostile sandbox sends (security.md, caveagent.md).

Every hostile encoding ends as BadEnvelope, soon and in little memory; none runs code.
"""

import contextlib
import os
import pickle
import random
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import dill
import msgspec
import numpy as np
import pandas as pd
import pytest

from grotto import _values
from grotto_wire.values import BadEnvelope, decode, encode

CPU_S, EXTRA_BYTES = 20, 512 * 1024 * 1024
"""What one hostile envelope may cost; an attack that works costs far more."""


def envelope(
    root: Any = (0,), nodes: Any = (), dtypes: Any = (), buffers: tuple[bytes, ...] = (), **odd: Any
) -> bytes:
    """An envelope with exactly these contents, however wrong they are."""
    lengths = odd.get("lengths", [len(buffer) for buffer in buffers])
    payload = msgspec.msgpack.encode([root, nodes, dtypes, lengths])
    payload = struct.pack("<4sHHQ", b"GRTV", odd.get("version", 1), 0, len(payload)) + payload
    for buffer in buffers:
        payload += bytes(-len(payload) % 64) + buffer
    return payload


def array(shape: Any, dtype: str, data: bytes, **odd: Any) -> bytes:
    return envelope(nodes=[[31, 0, shape, False, 0]], dtypes=[dtype], buffers=(data,), **odd)


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


INT64, UINT8, BOOL = "<i8", "|u1", "|b1"
int64s = np.arange(3, dtype="<i8").tobytes()
A = [31, 0, [3], False, 0]  # an int64 array of three
B = [31, 0, [3], False, 1]
COLUMN = [60, (0,), None, None]  # an index over node 0


def table(*nodes: Any, dtypes: Any = (INT64,), buffers: Any = None) -> bytes:
    """An envelope whose root is the last node; each array holds the same three numbers."""
    if buffers is None:
        buffers = [int64s for node in nodes if node[0] == 31]
    return envelope((len(nodes) - 1,), list(nodes), list(dtypes), tuple(buffers))


def nested(depth: int, innermost: Any, tag: int) -> list[Any]:
    return [innermost, *([tag, [(i,)]] for i in range(depth))]


def doubling(levels: int, tag: int) -> list[Any]:
    """A tuple of two tuples of two tuples …: small here, exponential to hash."""
    return [[tag, [1, 2]], *([tag, [(i,), (i,), i]] for i in range(levels))]


def sets_of_sets(levels: int) -> list[Any]:
    """Each frozenset holds the one before, and a tuple of it: two ways down at every level."""
    found: list[Any] = [[11, [1]]]
    for _ in range(levels):
        found += [[7, [(len(found) - 1,)]], [11, [(len(found) - 1,), (len(found),)]]]
    return found[:-1]


HOSTILE: dict[str, dict[str, bytes]] = {
    "it is shorter than the prefix of an envelope": {
        "nothing": b"",
        "text": b"hello",
    },
    "it does not start like an envelope": {
        "raw pickle": pickle.dumps([1]),
    },
    "its header is cut off or over the limit": {
        "pickle after the magic": b"GRTV\x01\x00\x00\x00" + pickle.dumps([1]),
        "header of 2^63 bytes": struct.pack("<4sHHQ", b"GRTV", 1, 0, 2**63),
    },
    "it is of version 2, this end reads version 1": {
        "other version": envelope(None, version=2),
    },
    "does not decode: ValidationError": {
        "header is a map": struct.pack("<4sHHQ", b"GRTV", 1, 0, 1) + b"\x80",
        "header of nested arrays": struct.pack("<4sHHQ", b"GRTV", 1, 0, 100_000)
        + b"\x91" * 100_000,
        "root has two indexes": envelope([0, 1], [[8, []]]),
        "unknown tag": envelope(nodes=[[99, 1]]),
        "tag is text": envelope(nodes=[["list", []]]),
        "field too many": envelope(nodes=[[8, [], 1]]),
        "field missing": envelope(nodes=[[9, []]]),
        "wrong type of a field": envelope(nodes=[[8, "abc"]]),
        "map as a cell": envelope(nodes=[[8, [{}]]]),
        "bytes as a cell": envelope(nodes=[[8, [b"x"]]]),
        "extension type as a cell": envelope(nodes=[[8, [msgspec.msgpack.Ext(1, b"x")]]]),
    },
    "does not decode: DecodeError": {
        "header claims 2^32 nodes": struct.pack("<4sHHQ", b"GRTV", 1, 0, 7)
        + b"\x94\x00\xdd\xff\xff\xff\xff",
    },
    "its header announces 21": {
        "trailing bytes": envelope(1) + b"x",
    },
    "a part refers to one that is not there": {
        "root is nowhere": envelope((3,), [[8, []]]),
        "root is negative": envelope((-1,), [[8, []]]),
    },
    "does not decode: UnicodeDecodeError": {
        "bad UTF-8": envelope(nodes=[[2, b"\xff\xfe"]]),
        "bad UTF-8 out of band": envelope(nodes=[[2, 0]], buffers=(b"\xff" * 5000,)),
    },
    "it holds an object that only a sandbox may rebuild": {
        "foreign object": envelope(nodes=[[23, 0]], buffers=(pickle.dumps([1]),)),
    },
    "a part refers to a buffer that is not there": {
        "negative buffer": envelope(nodes=[[3, -1]], buffers=(b"x",)),
        "buffer that is not there": envelope(nodes=[[3, 7]], buffers=(b"x",)),
    },
    "a buffer lies outside it": {
        "buffer length 2^60": envelope(nodes=[[3, 0]], buffers=(b"x",), lengths=[2**60]),
        "negative buffer length": envelope(nodes=[[3, 0]], buffers=(b"x",), lengths=[-1]),
    },
    "two parts use one buffer": {
        "buffer used twice": envelope((2,), [[3, 0], [3, 0], [7, [(0,), (1,)]]], (), (b"x",)),
    },
    "nothing uses one of its buffers": {
        "buffer used by nobody": envelope(None, buffers=(b"x",)),
    },
    "an integer is over the limit": {
        "integer over the limit": envelope(nodes=[[1, bytes(2**20 + 1)]]),
    },
    "does not decode: InvalidOperation": {
        "Decimal that is none": envelope(nodes=[[20, "1; import os"]]),
    },
    "a Decimal is over the limit": {
        "Decimal over the limit": envelope(nodes=[[20, "1" * (2**20 + 1)]]),
    },
    "does not decode: ValueError": {
        "date that is none": envelope(nodes=[[14, 2024, 13, 1]]),
        "time zone out of range": envelope(nodes=[[18, 9, 0, 0, None]]),
        "UUID of two bytes": envelope(nodes=[[21, b"xx"]]),
        "range without a step": envelope(nodes=[[12, 0, 1, 0]]),
        "period of no frequency": envelope(nodes=[[52, 1, "os"]]),
        "intervals the wrong way round": table(
            A,
            B,
            [58, (0,), (1,), "left"],
            buffers=(int64s, np.array([-1, -1, -1], "<i8").tobytes()),
        ),
    },
    "a time zone's name is no name": {
        "time zone that climbs": envelope(nodes=[[19, "../../etc/passwd"]]),
        "time zone with a dot": envelope(nodes=[[19, "os.path"]]),
        "absolute time zone": envelope(nodes=[[19, "/etc/localtime"]]),
    },
    "a time zone is something else": {
        "list as a time zone": envelope((1,), [[8, []], [15, 0, 0, 0, 0, 0, (0,)]]),
    },
    "an unknown kind of path": {
        "unknown kind of path": envelope(nodes=[[22, 9, b"x"]]),
    },
    "an unknown constant": {
        "unknown constant": envelope(nodes=[[6, 9]]),
    },
    "an end of a range is no integer": {
        "range of texts": envelope(nodes=[[12, "a", "b", "c"]]),
    },
    "does not decode: TypeError": {
        "list as a key": envelope((1,), [[8, []], [9, [(0,)], [1]]]),
        "list in a tuple as a key": envelope((2,), [[8, []], [7, [(0,)]], [9, [(1,)], [1]]]),
        "dict as an item of a set": envelope((1,), [[9, [], []], [10, [(0,)]]]),
        "set that holds itself": envelope(nodes=[[10, [(0,)]]]),
        "dtype of 2^31 bytes": array([1], "|V9999999999", bytes(8)),
        "name is a list": table(A, [8, []], [60, (0,), (1,), None]),
    },
    "a dictionary has keys without values": {
        "keys without values": envelope(nodes=[[9, ["a"], []]]),
    },
    "a dictionary has a key twice": {
        "key twice": envelope(nodes=[[9, ["a", "a"], [1, 2]]]),
    },
    "a set has an item twice": {
        "item twice": envelope(nodes=[[10, [1, True]]]),
    },
    "a part refers to one that comes after it": {
        "tuple that holds itself": envelope(nodes=[[7, [(0,)]]]),
        "tuples that hold each other": envelope(nodes=[[7, [(1,)]], [7, [(0,)]]]),
        "tuple that refers forward": envelope(nodes=[[7, [(1,)]], [7, []]]),
    },
    "it is nested deeper than 1000 levels": {
        "lists 5,000 deep": table(*nested(5000, [8, []], 8)),
        "tuples 100,000 deep": table(*nested(100_000, [7, []], 7)),
        "frozensets 5,000 deep": table(*nested(5000, [11, []], 11)),
        "object arrays 100 deep": table([8, []], *([32, [1], [(i,)]] for i in range(100))),
    },
    "it costs more work to build than its size accounts for": {
        "tuple key of 2^200 items": table(*doubling(200, 7), [9, [(200,)], [1]]),
        "frozenset of 2^200 items": table(*sets_of_sets(200), [10, [(399,)]]),
        "big integer as the key of 20,000 dicts": table(
            [1, b"\x01" * 2**20], *([9, [(0,)], [1]] for _ in range(20_000)), [8, []]
        ),
        "frame of 2^60 empty columns": table(
            [61, 0, 2**60, 1, None], [64, (0,), (0,), [], [], None]
        ),
    },
    "too many keys have the same hash": {
        "numbers of one hash": envelope(
            (3000,),
            [
                *([1, (i * (2**61 - 1)).to_bytes(16, "little")] for i in range(3000)),
                [10, [(i,) for i in range(3000)]],
            ],
        ),
    },
    "an array's shape does not fit its buffer": {
        "shape of 2^60": array([2**60], INT64, bytes(8)),
        "shapes whose product overflows": array([2**32, 2**32], UINT8, bytes(8)),
        "shape larger than the buffer": array([4], INT64, bytes(24)),
        "shape smaller than the buffer": array([2], INT64, bytes(24)),
    },
    "an array has no possible shape": {
        "negative shape": array([-1], INT64, bytes(8)),
        "two negative shapes": array([-1, -1], INT64, bytes(8)),
        "100 dimensions": array([1] * 100, UINT8, b"x"),
    },
    "an array has too many elements for its bytes": {
        "2^60 items of no bytes": array([2**60], "<U0", b""),
    },
    "a data type is not one that travels": {
        "object dtype": array([1], "|O", bytes(8)),
        "object dtype in code": array([1], "O8", bytes(8)),
        "dtype of Python's eval": array([1], "i4,(2,)O", bytes(8)),
        "dtype of a class name": array([1], "os.system", bytes(8)),
    },
    "a part refers to a data type that is not there": {
        "dtype that is not there": envelope(nodes=[[31, 5, [1], False, 0]], buffers=(bytes(8),)),
    },
    "a boolean is neither 0 nor 1": {
        "boolean of 255": array([2], BOOL, b"\x01\xff"),
        "boolean scalar of 7": envelope(nodes=[[30, 0, b"\x07"]], dtypes=[BOOL]),
        "boolean of 2 in a record": envelope(
            nodes=[[31, 1, [1], False, 0]],
            dtypes=[BOOL, [3, False, [["f", None, 0, [3], 0]]]],
            buffers=(b"\0\x02\0",),
        ),
    },
    "a character is no Unicode code point": {
        "character over the last": array([1], "<U1", b"\xff\xff\xff\x7f"),
    },
    "a field lies outside its record": {
        "field outside its record": envelope(
            nodes=[[31, 1, [1], False, 0]],
            dtypes=[INT64, [8, False, [["f", None, 0, [], 4]]]],
            buffers=(bytes(8),),
        ),
        "field before its record": envelope(
            nodes=[[31, 1, [1], False, 0]],
            dtypes=[INT64, [8, False, [["f", None, 0, [], -8]]]],
            buffers=(bytes(8),),
        ),
        "field of 2^60 items": envelope(
            nodes=[[34, 1]], dtypes=[UINT8, [8, False, [["f", None, 0, [2**30, 2**30], 0]]]]
        ),
    },
    "a field refers to a data type that comes after it": {
        "record of itself": envelope(nodes=[[34, 0]], dtypes=[[8, False, [["f", None, 0, [], 0]]]]),
    },
    "a data type has more than 10000 fields": {
        "records that double 40 times": envelope(
            nodes=[[34, 40]],
            dtypes=[
                UINT8,
                *([1, False, [["a", None, i, [], 0], ["b", None, i, [], 0]]] for i in range(40)),
            ],
        ),
    },
    "a numpy scalar's bytes do not fit its type": {
        "scalar of too few bytes": envelope(nodes=[[30, 0, b"x"]], dtypes=[INT64]),
    },
    "an object array's shape does not fit its items": {
        "object array with a hole": envelope(nodes=[[32, [2**60], [1]]]),
    },
    "a string has no possible length": {
        "strings with a negative length": envelope(
            nodes=[[33, [2], 0, 1]], buffers=(struct.pack("<2q", -1, 2), b"x")
        ),
        "strings longer than their text": envelope(
            nodes=[[33, [1], 0, 1]], buffers=(struct.pack("<q", 2**60), b"x")
        ),
    },
    "a code of a table points at nothing": {
        "codes beyond the categories": table(
            A,
            B,
            [60, (1,), None, None],
            [57, (0,), (2,), False],
            buffers=(np.array([0, 1, 3], "<i8").tobytes(), int64s),
        ),
        "codes below −1": table(
            A,
            B,
            [60, (1,), None, None],
            [57, (0,), (2,), False],
            buffers=(np.array([0, 1, -2], "<i8").tobytes(), int64s),
        ),
        "codes of a multi-index beyond its level": table(
            A,
            B,
            [60, (1,), None, None],
            [62, [(2,)], [(0,)], [None]],
            buffers=(np.array([0, 1, 99], "<i8").tobytes(), int64s),
        ),
    },
    "categories or levels of a table repeat": {
        "categories that repeat": table(
            A,
            B,
            [60, (1,), None, None],
            [57, (0,), (2,), False],
            buffers=(int64s, np.array([1, 1, 2], "<i8").tobytes()),
        ),
    },
    "categories or levels of a table are too many": {
        "categories of 2^60": table(A, [61, 0, 2**60, 1, None], [57, (0,), (1,), False]),
    },
    "categories of a table are no index": {
        "categories are a list": table(A, [8, []], [57, (0,), (1,), False]),
    },
    "a multi-index has levels without codes or names": {
        "multi-index of nothing": table(A, [62, [], [], []]),
        "multi-index without names": table(A, COLUMN, [62, [(1,)], [(0,)], []]),
    },
    "a mask does not fit its array": {
        "mask of another length": table(
            [31, 0, [3], False, 0],
            [31, 1, [2], False, 1],
            [55, (0,), (1,)],
            dtypes=(INT64, BOOL),
            buffers=(int64s, b"\0\1"),
        ),
    },
    "an array of a table is of another kind": {
        "mask that is no mask": table([31, 0, [3], False, 0], [55, (0,), (0,)]),
    },
    "a column is not as long as the index": {
        "series longer than its index": table(A, [61, 0, 2, 1, None], [63, (0,), (1,), None, None]),
    },
    "a column is no array": {
        "series of a list": table([8, [1]], [61, 0, 1, 1, None], [63, (0,), (1,), None, None]),
        "ends of intervals of 2^60": table([61, 0, 2**60, 1, None], [58, (0,), (0,), "left"]),
    },
    "an index of a table is something else": {
        "index of a frame is a list": table([8, [1]], [64, (0,), (0,), [], [], None]),
    },
    "a table has columns without places": {
        "columns without places": table(A, COLUMN, [64, (1,), (1,), [(0,)], [], None]),
    },
    "the places of a table's columns do not fit its columns": {
        "two columns in one place": table(
            A,
            [31, 0, [2], False, 1],
            [61, 0, 3, 1, None],
            [61, 0, 2, 1, None],
            [64, (2,), (3,), [(0,), (0,)], [(1,), (1,)], None],
            buffers=(int64s, bytes(16)),
        ),
        "place beyond the columns": table(
            A,
            [31, 0, [1], False, 1],
            [61, 0, 3, 1, None],
            [61, 0, 1, 1, None],
            [64, (2,), (3,), [(0,)], [(1,)], None],
            buffers=(int64s, struct.pack("<q", 2**40)),
        ),
    },
    "a block of a table has another shape": {
        "block of another shape": table(
            [31, 0, [1, 3], False, 0],
            [31, 0, [1], False, 1],
            [61, 0, 9, 1, None],
            [61, 0, 1, 1, None],
            [64, (2,), (3,), [(0,)], [(1,)], None],
            buffers=(int64s, bytes(8)),
        ),
    },
    "attrs of a table are no dictionary": {
        "attrs are a list": table(A, [61, 0, 3, 1, None], [8, []], [63, (0,), (1,), None, (2,)]),
    },
    "a frequency is none": {
        "frequency that is code": table(
            [31, 0, [3], False, 0], [60, (0,), None, "__import__('os')"], dtypes=("<M8[1ns]",)
        ),
    },
    "an index without points in time has a frequency": {
        "frequency of numbers": table(A, [60, (0,), None, "D"]),
    },
    "an unknown unit of time": {
        "unknown unit": envelope(nodes=[[50, 1, "generic", None]]),
    },
    "a table has points in time in a unit that pandas has not": {
        "points in time by the year": table(
            [31, 0, [3], False, 0], [54, (0,), None], dtypes=("<M8[1Y]",)
        ),
    },
    "an interval is closed on no side there is": {
        "interval closed nowhere": envelope(nodes=[[53, 0, 1, "x"]]),
    },
    "an unknown storage of strings": {
        "strings kept by a module": envelope(
            nodes=[[56, 0, 1, None, "os", False]], buffers=(struct.pack("<q", 1), b"x")
        ),
    },
}
"""By the reason that the refusal must give, so that no case passes for another flaw."""

CASES = [(reason, name) for reason, cases in HOSTILE.items() for name in cases]


@pytest.mark.parametrize(("reason", "name"), CASES, ids=[name for _, name in CASES])
def test_a_hostile_envelope_is_refused_cheaply(reason: str, name: str) -> None:
    payload = HOSTILE[reason][name]
    cpu, memory = _cpu_s(), _peak_bytes()
    with pytest.raises(BadEnvelope, match=re.escape(reason)):
        _values.decode(memoryview(payload))
    assert _cpu_s() - cpu < CPU_S
    assert _peak_bytes() - memory < EXTRA_BYTES


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_the_hostile_envelopes_are_wrong_in_one_thing_only() -> None:
    """Control: what they are made of decodes when nothing is wrong."""
    assert decode(envelope((0,), [[8, [1, "a"]]])) == [1, "a"]
    assert decode(array([3], INT64, int64s)).tolist() == [0, 1, 2]  # type: ignore[attr-defined]
    assert decode(array([2], BOOL, b"\0\1")).tolist() == [False, True]  # type: ignore[attr-defined]
    assert decode(envelope(nodes=[[19, "Europe/Paris"]])).key == "Europe/Paris"  # type: ignore[attr-defined]
    found: Any = decode(table(A, B, [60, (1,), None, None], [57, (0,), (2,), False],
                              buffers=(int64s, int64s)))  # fmt: skip
    assert list(found) == [0, 1, 2]
    frame: Any = decode(
        table(A, [31, 0, [1], False, 1], [61, 0, 3, 1, None], [61, 0, 1, 1, None],
              [64, (2,), (3,), [(0,)], [(1,)], None], buffers=(int64s, bytes(8)))
    )  # fmt: skip
    assert frame[0].tolist() == [0, 1, 2]
    assert decode(table(*nested(900, [8, []], 8)))
    assert decode(table(*doubling(5, 7), [9, [(5,)], [1]]))


# ---- code that would run at load ----


def pickled(canary: Path) -> bytes:
    return dill.dumps(Canary(canary))


def test_a_pickle_in_any_place_runs_nothing_at_the_client(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickled(canary)
    framed = b"".join(encode([object()], foreign=lambda _, __: data))
    for payload in (data, framed, envelope(nodes=[[23, 0]], buffers=(data,)), b"GRTV" + data):
        with pytest.raises(BadEnvelope):
            _values.decode(memoryview(payload))
    harmless = [
        envelope(nodes=[[3, 0]], buffers=(data,)),
        envelope(nodes=[[4, 0]], buffers=(data,)),
    ]
    assert [bytes(_values.decode(memoryview(p))) for p in harmless] == [data, data]  # type: ignore[call-overload]
    assert not canary.exists()


def test_control_the_same_pickle_does_run_where_it_is_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = "import dill, sys; dill.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", code], input=pickled(canary), check=True)
    assert canary.exists()


def test_control_the_same_envelope_does_run_in_a_worker(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickled(canary)
    payload = b"".join(encode([object()], foreign=lambda _, __: data))
    code = (
        "import sys; from grotto_worker import values; "
        "values.decode(memoryview(sys.stdin.buffer.read()))"
    )
    subprocess.run([sys.executable, "-I", "-c", code], input=payload, check=True)
    assert canary.exists()


def test_control_pandas_believes_a_boolean_over_one() -> None:
    """Why booleans are checked: their bytes are trusted."""
    mask = np.frombuffer(bytearray(b"\x00\x01\x02\x07\xff"), bool)
    assert pd.Series(mask).nunique() > 2


def test_control_hashing_deep_tuples_ends_the_process() -> None:
    """Why depth is bounded: the interpreter hashes tuples by unchecked recursion."""
    code = "t = ()\nfor _ in range(1_000_000): t = (t,)\nhash(t)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode < 0


# ---- damaged envelopes ----


def sample() -> bytes:
    shared = ["x" * 70, 2**70]
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "s": ["a", None],
            "c": pd.Categorical(["u", "v"]),
            "z": pd.to_datetime(["2024-01-01", "2024-01-02"]).tz_localize("Europe/Paris"),
            "n": pd.array([1, None], dtype="Int64"),
        },
        index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
    )
    record = np.zeros(1, [("a", "?"), ("b", "U2", (2,))])
    return b"".join(encode({"f": frame, "l": [shared, shared], "r": record, "k": {(1, 2): None}}))


SAMPLE = sample()
SMALL = b"".join(encode({"a": [1, (2, "x" * 70)], "b": np.arange(4)}))


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_an_envelope_cut_at_any_byte_is_refused(length: int) -> None:
    with pytest.raises(BadEnvelope):
        decode(SMALL[:length])


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_raise_nothing_but_bad_envelope(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(100):
        damaged = bytearray(SAMPLE)
        for _ in range(generator.choice((1, 1, 2, 8))):
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        with contextlib.suppress(BadEnvelope):
            decode(damaged)


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bits_of_the_header_raise_nothing_but_bad_envelope(seed: int) -> None:
    generator = random.Random(1000 + seed)
    header_bytes = 16 + struct.unpack_from("<Q", SAMPLE, 8)[0]
    refused = 0
    for _ in range(100):
        damaged = bytearray(SAMPLE)
        damaged[generator.randrange(header_bytes)] ^= 1 << generator.randrange(8)
        try:
            decode(damaged)
        except BadEnvelope:
            refused += 1
    assert refused


def test_a_reader_with_a_lower_cap_refuses_what_another_takes() -> None:
    payload = b"".join(encode([[[[1]]]]))
    assert decode(payload, max_depth=4) == [[[[1]]]]
    with pytest.raises(BadEnvelope, match="deeper"):
        decode(payload, max_depth=3)


def test_running_out_of_memory_is_a_bad_envelope() -> None:
    """In a process of its own: an address space that the value does not fit."""
    payload = b"".join(encode(["x" * 60] * 3_000_000))
    code = (
        "import resource, sys\n"
        "from grotto_wire.values import decode, BadEnvelope\n"
        "payload = sys.stdin.buffer.read()\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 50_000_000,) * 2)\n"
        "try: decode(payload)\n"
        "except BadEnvelope as error: print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True)
    assert done.stdout.startswith(b"refused"), done.stderr.decode()[-500:]

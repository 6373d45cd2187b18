"""Native objects through a real session, both ways; and a sandbox that answers with a pickle."""

import dataclasses
import datetime
import decimal
import uuid

import numpy as np
import pandas as pd
import pytest

import grotto


@pytest.fixture
def session(client):
    with client.session(policy="open") as session:
        yield session


FRAME = pd.DataFrame(
    {
        "region": pd.Categorical(["north", "south", "north"]),
        "when": pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin"),
        "units": pd.array([1, None, 3], dtype="Int64"),
        "revenue": [1.5, float("nan"), -0.0],
        "note": ["a", None, "ü"],
        7: [1 + 2j, 0j, 3j],
    },
    index=pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["a", None]),
)


def test_a_frame_comes_back_as_it_went(session):
    session.inject("frame", FRAME)
    pd.testing.assert_frame_equal(session.retrieve("frame"), FRAME)
    assert session.execute("type(frame).__name__, frame.shape").result == "('DataFrame', (3, 6))"


@pytest.mark.parametrize(
    "value",
    [
        None,
        2**200,
        float("inf"),
        "ünï\0cödé",
        b"\0" * 5000,
        {"a": (1, [2.5, {3}]), 4: frozenset({5})},
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        datetime.timedelta(days=-1, microseconds=1),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_come_back_equal_and_of_the_same_type(session, value):
    session.inject("value", value)
    back = session.retrieve("value")
    assert back == value
    assert type(back) is type(value)


def test_arrays_come_back_with_dtype_and_shape_and_can_be_written_there(session):
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    session.inject(array=array, big=np.zeros(500_000))
    session.execute("array[0, 0] = 99\nbig += 1").raise_if_failed()
    back, big = session.retrieve("array", "big")
    assert (back.dtype, back.shape, back[0, 0], big.sum()) == (array.dtype, (4, 3), 99, 500_000)
    assert array[0, 0] == 0  # the client's own is untouched


def test_aliases_and_cycles_survive_in_both_directions(session):
    shared: list[object] = [1]
    loop: dict[str, object] = {}
    loop["self"] = loop
    session.inject(a=shared, b={"inner": shared}, loop=loop)
    assert session.execute("a is b['inner'], loop['self'] is loop").result == "(True, True)"
    a, b = session.retrieve("a", "b")
    assert a is b["inner"]
    assert (back := session.retrieve("loop"))["self"] is back


def tax(amount: float, rate: float = 0.2) -> float:
    """What is due on an amount."""
    return float(np.round(amount * rate, 2))


@dataclasses.dataclass
class Order:
    amount: float

    def due(self) -> float:
        return tax(self.amount)


def test_functions_classes_and_instances_go_in_and_work_there(session):
    session.inject("tax", tax)
    session.inject("order", Order(10.0))
    session.inject("Order", Order)
    session.inject("nested", {"double": lambda n: n * 2})
    assert session.execute("tax(10.0)").result == "2.0"
    assert session.execute("order.due(), Order(5.0).amount").result == "(2.0, 5.0)"
    assert session.execute("nested['double'](4)").result == "8"


@pytest.mark.parametrize(
    ("source", "path", "kind"),
    [
        ("value = {'model': [1, object()]}", "value['model'][1]", "object"),
        ("value = (n for n in [])", "value", "generator"),
        ("class Own: pass\nvalue = {'a': Own()}", "value['a']", "Own"),
        ("value = [lambda: 1]", "value[0]", "function"),
        ("class D(dict): pass\nvalue = D()", "value", "D"),
    ],
)
def test_what_cannot_come_back_is_named_by_path_and_type(session, source, path, kind):
    session.execute(source).raise_if_failed()
    with pytest.raises(grotto.UntransferableError) as caught:
        session.retrieve("value")
    assert path in str(caught.value).replace('"', "'")
    assert kind in str(caught.value)


FORGERY = """
import pickle
from grotto_worker import values
class Evil:
    def __reduce__(self):
        return (open, ({canary!r}, "w"))
values.encode = lambda *_: [pickle.dumps((Evil(),))]
1
"""


def test_a_hostile_sandbox_that_answers_with_a_pickle_achieves_nothing(session, tmp_path):
    canary = tmp_path / "canary"
    session.execute(FORGERY.format(canary=str(canary))).raise_if_failed()
    session.execute("x = 1")
    with pytest.raises(grotto.GrottoError) as caught:
        session.retrieve("x")
    assert not canary.exists()
    assert not isinstance(caught.value, grotto.SessionLostError)


def test_control_the_same_pickle_would_have_had_its_effect(tmp_path):
    import pickle

    canary = tmp_path / "canary"
    namespace: dict[str, object] = {}
    exec(  # the forger's class, unpickled as a careless client would
        "class Evil:\n    def __reduce__(self):\n        return (open, (path, 'w'))",
        {"path": str(canary)},
        namespace,
    )
    pickle.loads(pickle.dumps((namespace["Evil"](),)))[0].close()
    assert canary.exists()

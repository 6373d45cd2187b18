"""The main job, end to end, with every claim checked: what `grotto demo` runs.

A DataFrame and a function go in, an agent answers a question by writing code, the
answer comes back as a DataFrame and is held against pandas here. Then: refused code,
and code that crashes the interpreter. Prints through `say` alone.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

from grotto._blocking import Client, Session
from grotto._execution import Execution, Outcome, State
from grotto._printable import printable
from grotto.agent import (
    Agent,
    Answered,
    Executed,
    LiteLLMModel,
    Model,
    Reply,
    ScriptedModel,
    Status,
)
from grotto.errors import GrottoError, UnavailableError

Say = Callable[[str], None]

ROWS = 100_000
QUESTION = "What is the revenue by region, and which region fell most from Q1 to Q4?"
INSTRUCTIONS = """\
You are a careful data analyst. Use the function `change` for relative changes.
Leave the answer in a DataFrame `by_region`: one row a region (index `region`), columns
Q1, Q2, Q3, Q4 and total with the revenue, and change_pct with the change from Q1 to Q4.
In your answer, name the region that fell most."""

RECORDED_ANSWERS = (
    """\
I look at the data first.

```python
print(sales.head())
print(sales.groupby("region").revenue.describe().round(1))
```
""",
    """\
One row a sale. I add up revenue by region and quarter, and compare Q1 with Q4.

```python
by_region = sales.pivot_table(index="region", columns="quarter", values="revenue", aggfunc="sum")
by_region.columns = [str(quarter) for quarter in by_region.columns]
by_region["total"] = by_region.sum(axis=1)
by_region["change_pct"] = [change(q1, q4) for q1, q4 in zip(by_region.Q1, by_region.Q4)]
worst = by_region.change_pct.idxmin()
print(by_region.round(1))
print("fell most:", worst)
```
""",
    """\
Revenue by region is in `by_region`. The region that fell most from Q1 to Q4 is North:
its fourth quarter is about a quarter below its first.
""",
)
"""What a model answered to QUESTION once; played when GROTTO_MODEL is not set."""

REFUSED = """\
import subprocess
subprocess.run(["id"])
"""

BEFORE_CRASH = """\
squares = (n * n for n in range(10))
first = [next(squares) for _ in range(3)]
"""

CRASH = """\
deep = iter([1])
for _ in range(2_000_000):
    deep = map(abs, deep)
next(deep)
"""
"""Two million nested iterators overflow the C stack: the interpreter itself dies."""


def run(client: Client, say: Say, model: Model | None = None) -> bool:
    """Runs the whole job in one session; returns whether every check passed.

    `model` defaults to the one GROTTO_MODEL names, or to the recorded answers.
    """
    check_installed()
    checks = Checks(say)
    sales = sales_frame()
    with client.session(labels={"purpose": "demo"}) as session:
        _isolation(session, checks)
        _inject(session, sales, checks)
        reply = _ask(session, model or _model(say), say)
        _answer(session, sales, reply, checks)
        _refusal(session, checks)
        _crash(session, checks)
    say("Every check passed." if not checks.failed else f"{checks.failed} checks failed.")
    return not checks.failed


class Checks:
    """Tells each check as it is made, and counts the failed ones."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.failed = 0

    def check(self, passed: bool, sentence: str) -> None:
        self.failed += not passed
        self.say(f"{'✓' if passed else '✗'} {sentence}")


def check_installed() -> None:
    """Raises UnavailableError unless pandas is there."""
    if importlib.util.find_spec("pandas") is None:
        raise UnavailableError(
            "The demo needs pandas.", hint="Install it: pip install 'grotto[local,data]'."
        )


def sales_frame(rows: int = ROWS, seed: int = 2025) -> Any:
    """Returns a DataFrame of sales, the same for the same seed: one row a sale.

    Columns: region, quarter, product, units, revenue (in euros).
    """
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(seed)
    trend = {"North": -0.09, "South": 0.06, "East": -0.02, "West": 0.03}
    prices = {"lamp": 39.0, "chair": 89.0, "desk": 249.0}
    frame = pd.DataFrame(
        {
            "region": random.choice(list(trend), rows),
            "quarter": random.choice(["Q1", "Q2", "Q3", "Q4"], rows),
            "product": random.choice(list(prices), rows, p=[0.5, 0.35, 0.15]),
            "units": random.integers(1, 12, rows),
        }
    )
    season = frame["quarter"].str[1].astype(int) - 1
    factor = (1 + frame["region"].map(trend).astype(float)) ** season
    noise = random.normal(1.0, 0.05, rows)
    price = frame["product"].map(prices).astype(float)
    frame["revenue"] = (frame["units"] * price * factor * noise).round(2)
    return frame


def change(before: float, after: float) -> float:
    """Relative change from `before` to `after`, in per cent: -25.0 is a quarter less."""
    return (after - before) / before * 100.0


def expected_table(sales: Any) -> Any:
    """Returns the answer as pandas computes it here."""
    table = sales.groupby(["region", "quarter"])["revenue"].sum().unstack()
    table.columns = list(table.columns)
    table["total"] = table.sum(axis=1)
    table["change_pct"] = (table["Q4"] - table["Q1"]) / table["Q1"] * 100.0
    return table


def difference(table: Any, expected: Any) -> str:
    """Returns how an answer table differs from the expected one; empty when it does not."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        return f"it is a {type(table).__name__}, not a DataFrame"
    try:
        pd.testing.assert_frame_equal(
            table, expected, check_like=True, check_names=False, rtol=1e-9
        )
    except AssertionError as error:
        return str(error)
    return ""


def _model(say: Say) -> Model:
    name = os.environ.get("GROTTO_MODEL")
    if name:
        say(f"The model is {name} (GROTTO_MODEL).")
        return LiteLLMModel(name)
    say("GROTTO_MODEL is not set: a scripted model plays recorded answers. The code runs for real.")
    return ScriptedModel(RECORDED_ANSWERS)


def _isolation(session: Session, checks: Checks) -> None:
    isolation = session.isolation
    checks.say(f"\nSession {session.id}: isolation in force")
    for layer in isolation.layers:
        checks.say(f"    {printable(layer)}")
    for layer in isolation.missing:
        checks.say(f"    not in force: {printable(layer)}")
    checks.check(
        isolation.level in ("full", "reduced") and bool(isolation.layers),
        f"The sandbox is hardened: backend {isolation.backend}, level {isolation.level}.",
    )


def _inject(session: Session, sales: Any, checks: Checks) -> None:
    started = time.perf_counter()
    session.inject(
        {"sales": sales, "change": change},
        description={"sales": "Sales of one year, one row a sale; revenue in euros."},
    )
    took_s = time.perf_counter() - started
    names = {variable.name for variable in session.variables()}
    checks.check(
        {"sales", "change"} <= names,
        f"A DataFrame of {len(sales):,} rows and a function went in, in {took_s:.2f} s.",
    )


def _ask(session: Session, model: Model, say: Say) -> Reply:
    say(f"\nQuestion: {QUESTION}")
    for event in Agent(model, session, INSTRUCTIONS).stream(QUESTION):
        match event:
            case Answered(text):
                say("\n" + _indented(text, "agent   │ "))
            case Executed(_, observation):
                say(_indented(observation, "sandbox │ "))
            case Reply():
                tokens = f"{event.usage.total_tokens:,} tokens"
                say(f"\n{event.steps} steps, {tokens}, {len(event.executions)} executions.")
                return event
    raise AssertionError("a run ends with its reply")


def _answer(session: Session, sales: Any, reply: Reply, checks: Checks) -> None:
    expected = expected_table(sales)
    worst = str(expected["change_pct"].idxmin())
    checks.check(
        reply.status is Status.ANSWERED and worst in reply.text,
        f"The agent answered, and names the region that fell most: {worst}.",
    )
    try:
        table = session.retrieve("by_region")
    except GrottoError as error:
        checks.check(False, f"The answer table did not come back: {error}")
        return
    checks.say(f"\nThe answer, a native {type(table).__module__}.{type(table).__name__} here:")
    checks.say(_indented(printable(str(table)), "    "))
    problem = difference(table, expected)
    checks.check(
        not problem,
        problem or "It came back as a DataFrame and equals what pandas computes here.",
    )


def _refusal(session: Session, checks: Checks) -> None:
    checks.say("\nCode that the policy refuses:\n" + _indented(REFUSED, "    "))
    refused = session.execute(REFUSED)
    for violation in refused.violations:
        checks.say(_indented(printable(str(violation)), "    "))
    checks.check(
        refused.outcome is Outcome.REFUSED
        and refused.state is State.KEPT
        and any(violation.hint for violation in refused.violations),
        "It was refused before anything ran, with a hint.",
    )


def _crash(session: Session, checks: Checks) -> None:
    session.execute(BEFORE_CRASH).raise_if_failed()
    checks.say("\nCode that crashes the interpreter:\n" + _indented(CRASH, "    "))
    started = time.perf_counter()
    crashed = session.execute(CRASH, timeout=60)
    after = session.execute("first + [next(squares), len(sales), len(by_region)]")
    took_s = time.perf_counter() - started
    checks.say(_indented(_told(crashed), "    "))
    checks.check(
        crashed.outcome is Outcome.KILLED and crashed.state is State.RESTORED,
        f"The interpreter died and was restored; the next cell was done {took_s:.2f} s later.",
    )
    checks.check(
        after.result == "[0, 1, 4, 9, 100000, 4]",
        f"All variables are intact, the half-used generator goes on: {_told(after)}",
    )


def _told(execution: Execution) -> str:
    if execution.ok:
        return printable(execution.result or "")
    text = f"outcome {execution.outcome.value}, state {execution.state.value}."
    return printable(f"{text} {execution.state_note or execution.failure()}")


def _indented(text: str, margin: str) -> str:
    return "\n".join(margin + line for line in text.rstrip().splitlines())

"""A DataFrame goes into a live sandbox, an agent works on it, a DataFrame comes back.

    python examples/quickstart.py                # an embedded control plane, nothing else needed
    GROTTO_URL=grpc://127.0.0.1:50151 GROTTO_API_KEY=… python examples/quickstart.py

The model is GROTTO_MODEL (any LiteLLM name); without it, recorded answers are played.
"""

import os
import sys

import pandas as pd

import grotto
from grotto.agent import Agent, LiteLLMModel, ScriptedModel
from grotto.demo import BEFORE_CRASH, CRASH, INSTRUCTIONS, QUESTION, RECORDED_ANSWERS, sales_frame


def change(before: float, after: float) -> float:
    """Relative change from `before` to `after`, in per cent: -25.0 is a quarter less."""
    return (after - before) / before * 100.0


def check(passed: bool, sentence: str) -> None:
    print("✓" if passed else "✗", sentence)
    if not passed:
        sys.exit(1)


def main() -> None:
    sales = sales_frame()  # 100,000 rows: region, quarter, product, units, revenue
    name = os.environ.get("GROTTO_MODEL")
    print("Model:", name or "scripted (recorded answers; set GROTTO_MODEL for a real one)")
    model = LiteLLMModel(name) if name else ScriptedModel(RECORDED_ANSWERS)

    client = grotto.connect() if os.environ.get("GROTTO_URL") else grotto.local()
    with client, client.session(limits=grotto.Limits(wall_s=60)) as session:
        print("Isolation:", session.isolation)

        # Native objects go in. The function's code travels with it.
        session.inject("sales", sales, description="One row a sale; revenue in euros.")
        session.inject(change=change)
        print(session.describe())

        # An agent answers by writing code that runs in the sandbox.
        reply = Agent(model, session, INSTRUCTIONS).run(QUESTION)
        print(f"\n{QUESTION}\n{reply.text}")

        # A native object comes back: a DataFrame, checked against pandas here.
        by_region = session.retrieve("by_region")
        print(f"{by_region}\n")
        expected = sales.groupby(["region", "quarter"])["revenue"].sum().unstack()
        pd.testing.assert_frame_equal(
            by_region[["Q1", "Q2", "Q3", "Q4"]], expected, check_names=False
        )
        check(True, "the answer is a DataFrame and equals what pandas computes here")
        worst = ((expected["Q4"] - expected["Q1"]) / expected["Q1"]).idxmin()
        check(worst in reply.text, f"the agent names the region that fell most: {worst}")

        # Code that the policy refuses does not run, and says what to do instead.
        refused = session.execute("import subprocess\nsubprocess.run(['id'])")
        print("\n".join(str(violation) for violation in refused.violations))
        check(refused.outcome is grotto.Outcome.REFUSED, "the policy refused it; nothing ran")

        # Code that crashes the interpreter costs that execution only.
        session.execute(BEFORE_CRASH).raise_if_failed()
        crashed = session.execute(CRASH)
        print(repr(crashed))
        check(crashed.state is grotto.State.RESTORED, "the interpreter died and was restored")
        after = session.execute("first + [next(squares), len(sales)]").result
        check(after == "[0, 1, 4, 9, 100000]", "variables and a half-used generator are intact")


if __name__ == "__main__":
    main()

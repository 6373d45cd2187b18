"""What `strict` refuses beyond `standard`, and what still works under it."""

from grotto_policy import check, load

ONLY_STRICT_REFUSES = [
    "import threading",
    "import asyncio",
    "import concurrent.futures",
    "import pathlib",
    "import sqlite3",
    "import tempfile",
    "import sys",
    "import gc; gc.collect()",
    "import some_unknown_library",
    "from math import *",
    "open('data.txt')",
    "getattr(x, 'name')",
    "setattr(x, 'name', 1)",
    "from operator import attrgetter\nkey = attrgetter('name')",
    "import io; io.open('data.txt')",
]
STRICT_ACCEPTS = [
    "import numpy as np, pandas as pd\nnp.linalg.norm(pd.DataFrame({'a': [1]}).to_numpy())",
    "from collections import Counter\nCounter('abc').most_common(1)",
    "import json, re, math, statistics\njson.dumps({'a': math.pi})",
    "from __future__ import annotations\nfrom dataclasses import dataclass",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])",
    "class A:\n  def __init__(self): super().__init__()\n  def __repr__(self): return 'A'",
    "df.groupby('k').agg({'v': 'sum'}).reset_index()",
    "import io, pandas as pd\npd.read_csv(io.StringIO('a,b'))",
    "pd.read_csv('data/sales.csv')",
]


def refused(sources: list[str], policy: str) -> list[str]:
    return [source for source in sources if check(source, load(policy))]


def test_strict_refuses_what_standard_accepts() -> None:
    assert refused(ONLY_STRICT_REFUSES, "standard") == []
    assert refused(ONLY_STRICT_REFUSES, "strict") == ONLY_STRICT_REFUSES


def test_data_work_passes_under_strict() -> None:
    assert refused(STRICT_ACCEPTS, "strict") == []

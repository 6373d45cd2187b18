"""Innocent modules hold refused ones under names of their own; none of those names may pass.

Asked of the standard library of the Python that runs this, not of a list: a process of its own
imports every module a policy accepts and lists the members that are refused modules or builtins.
"""

import json
import subprocess
import sys

import pytest

from grotto_policy import check, load

LIST_PIVOTS = """
import importlib, json, sys, types, warnings
from grotto_policy import check, load

policy = load(sys.argv[1])
refused_builtins = (eval, exec, compile, __import__, globals, vars)
limited = {"sys", "gc", "inspect", "tracemalloc"}


def leads_out(value):
    if isinstance(value, types.ModuleType):
        root = value.__name__.partition(".")[0]
        return root in limited or bool(check(f"import {root}", load("standard")))
    return any(value is builtin for builtin in refused_builtins)


def members(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return vars(importlib.import_module(name))
        except Exception:
            return {}


names = sorted(n for n in sys.stdlib_module_names if n not in {"this", "antigravity"})
accepted = [n for n in names if not check(f"import {n}", policy)]
found = [[n, m] for n in accepted for m, value in members(n).items() if leads_out(value)]
print(json.dumps(found))
"""


def pivots(policy: str) -> set[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LIST_PIVOTS, policy],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return {(module, member) for module, member in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("policy", ["standard", "strict"])
def test_no_accepted_module_leads_to_a_refused_one_under_a_name_that_passes(policy: str) -> None:
    document, passing = load(policy), []
    for module, member in sorted(pivots(policy)):
        for source in (
            f"import {module}\nx = {module}.{member}",
            f"import {module} as m\nfor n in (m,): n.{member}",
            f"from {module} import {member} as x",
            f"import {module}\ngetattr({module}, {member!r})",
        ):
            if check(source, document) == []:
                passing.append(source)
    assert passing == []


def test_the_search_finds_what_it_is_to_find() -> None:
    assert {("codecs", "sys"), ("enum", "bltns"), ("random", "_os")} <= pivots("standard")

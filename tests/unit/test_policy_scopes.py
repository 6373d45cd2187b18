"""Names: a builtin stays a builtin until the source itself has surely rebound it."""

from grotto_policy import check, load

STANDARD = load("standard")
REBOUND = [
    "def eval(x): return x\neval(1)",
    "eval = len\neval([])",
    "class eval: pass\neval()",
    "from numexpr import evaluate as eval\neval('a')",
    "with x as eval:\n  eval(1)",
    "for eval in [len]:\n  eval([])",
    "def f(eval): return eval(1)",
    "def f(*eval, **exec): return eval, exec",
    "def f():\n  for eval in [len]: pass\n  return eval(1)",
    "lambda eval: eval(1)",
    "[eval(1) for eval in fs]",
    "def f():\n  eval = len\n  def g(): return eval([])\n  return g",
    "def f():\n  eval = len\n  def g():\n    nonlocal eval\n    return eval([])",
    "class A:\n  def eval(self): return 1\n  compute = eval",
    "(eval := len)\neval([])",
    "eval, other = len, 1\neval([])",
    "def eval(n): return eval(n - 1) if n else 0",
]
STILL_THE_BUILTIN = [
    "def f():\n  eval = len\neval('1')",
    "eval('1')\neval = len",
    "if x:\n  eval = len\neval('1')",
    "while x:\n  eval = len\neval('1')",
    "try:\n  eval = len\nexcept Exception: pass\neval('1')",
    "match x:\n  case 1:\n    eval = len\neval('1')",
    "for eval in []: pass\neval('1')",
    "x and (eval := len)\neval('1')",
    "y = 1 if x else (eval := len)\neval('1')",
    "eval = len\ndel eval\neval('1')",
    "try: f()\nexcept Exception as eval: pass\neval('1')",
    "class A:\n  eval = len\n  def f(self): return eval('1')",
    "class eval:\n  x = eval('1')",
    "def eval(x=eval): return x",
    "@call\ndef eval(): return eval('1')",
    "def f():\n  global eval\n  eval = len\neval('1')",
    "def f(): return eval('1')\nf()\neval = len",
    "[0 for eval in fs]\neval('1')",
    "[x for x in eval('[1]')]",
    "lambda x=eval: x",
    "eval: int\neval('1')",
]


def refused(source: str) -> set[str]:
    return {violation.what for violation in check(source, STANDARD)}


def test_a_name_of_the_sources_own_is_not_the_builtin() -> None:
    assert [source for source in REBOUND if refused(source)] == []


def test_a_name_that_may_still_be_the_builtin_is_refused() -> None:
    assert [source for source in STILL_THE_BUILTIN if refused(source) != {"eval"}] == []

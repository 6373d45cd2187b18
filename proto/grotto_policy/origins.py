"""Which imported module, or member of one, an expression stands for.

Owns the tracing of names back to imports, through assignments, loops over displays, defaults
and conditional expressions. It must not judge. It sees one source text at a time: names that
an earlier execution imported are recognised by convention only (`np`, and standard modules
under their own names).
"""

import ast
import sys
from collections.abc import Collection

from grotto_policy.scopes import Binding, Scope

MAX_ORIGINS = 8
MAX_DEPTH = 100

CONVENTIONS = {
    "np": "numpy",
    "pd": "pandas",
    "plt": "matplotlib.pyplot",
    "mpl": "matplotlib",
    "sns": "seaborn",
    "nx": "networkx",
    "sm": "statsmodels.api",
    "smf": "statsmodels.formula.api",
    "pl": "polars",
    "pa": "pyarrow",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "sklearn",
    "matplotlib": "matplotlib",
}
"""Names an unbound variable is taken for an earlier execution's import of."""

NOTHING: frozenset[str] = frozenset()
UNKNOWN = "?"
"""Stands for a part of a dotted name that cannot be told."""


class Origins:
    """Traces expressions to dotted names of imports; remembers what it found."""

    def __init__(self, landmarks: Collection[str]) -> None:
        """`landmarks` are modules whose name alone proves nothing: data may be called `os`.

        As a variable they are not taken for the module, as an attribute for a likely one.
        """
        self._landmarks = landmarks
        self._nodes: dict[ast.AST, frozenset[str]] = {}
        self._names: dict[tuple[Scope, str], frozenset[str]] = {}
        self._depth = 0

    def of(self, node: ast.expr | None, scope: Scope) -> frozenset[str]:
        """Returns the dotted names `node` may stand for, `{"numpy.linalg"}`; empty if none."""
        if node is None or self._depth >= MAX_DEPTH:
            return NOTHING
        if node not in self._nodes:
            self._depth += 1
            self._nodes[node] = frozenset(sorted(self._trace(node, scope))[:MAX_ORIGINS])
            self._depth -= 1
        return self._nodes[node]

    def base(self, node: ast.expr, scope: Scope) -> frozenset[str]:
        """As `of`, for the innermost expression of a chain with calls: `np.array(x).T` → numpy."""
        while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
            node = node.func if isinstance(node, ast.Call) else node.value
        return self.of(node, scope)

    def _trace(self, node: ast.expr, scope: Scope) -> frozenset[str]:
        if isinstance(node, ast.Name):
            return self._name(node.id, scope)
        if isinstance(node, ast.Attribute):
            return self._member(self.of(node.value, scope), node.attr)
        if isinstance(node, ast.Call):
            return self._looked_up(node, scope)
        return self._any(_alternatives(node), scope)

    def _member(self, inner: frozenset[str], name: str) -> frozenset[str]:
        if not inner and name.lstrip("_") in self._landmarks:
            inner = frozenset({UNKNOWN})
        return frozenset(f"{one}.{name}"[:256] for one in inner)

    def _looked_up(self, node: ast.Call, scope: Scope) -> frozenset[str]:
        """Follows `getattr(m, "x")` and `attrgetter("x")(m)`."""
        func, args = node.func, node.args
        if isinstance(func, ast.Name) and func.id == "getattr" and len(args) > 1:
            name = args[1].value if isinstance(args[1], ast.Constant) else UNKNOWN
            return self._member(self.of(args[0], scope), str(name))
        if isinstance(func, ast.Call) and _last_name(func.func) in ("attrgetter", "methodcaller"):
            return self._member(self._any(args, scope), UNKNOWN)
        return NOTHING

    def _name(self, name: str, scope: Scope) -> frozenset[str]:
        owner = scope.owner(name)
        if owner is None:
            return self._by_convention(name)
        key = (owner, name)
        if key not in self._names:
            self._names[key] = NOTHING
            found: set[str] = set()
            for binding in owner.bindings[name]:
                found |= self._binding(binding, owner)
            self._names[key] = frozenset(found)
        return self._names[key]

    def _by_convention(self, name: str) -> frozenset[str]:
        if name in CONVENTIONS:
            return frozenset({CONVENTIONS[name]})
        if name in sys.stdlib_module_names and name not in self._landmarks:
            return frozenset({name})
        return NOTHING

    def _binding(self, binding: Binding, owner: Scope) -> frozenset[str]:
        if binding.kind == "import":
            return frozenset({binding.qualname})
        if binding.kind == "param":
            return self.of(binding.value, owner.parent or owner)
        return self.of(binding.value, owner)

    def _any(self, nodes: list[ast.expr], scope: Scope) -> frozenset[str]:
        found: set[str] = set()
        for node in nodes[:64]:
            found |= self.of(node, scope)
        return frozenset(found)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """The expressions one of which `node` evaluates to."""
    if isinstance(node, ast.NamedExpr):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.Subscript):
        return [node.value]
    return _elements(node)


def _elements(node: ast.expr | None) -> list[ast.expr]:
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return node.elts
    return node.values if isinstance(node, ast.Dict) else []


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""

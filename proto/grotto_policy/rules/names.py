"""Builtins by name: what may not be read, what may only be called, whole modules as values."""

import ast
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Calls, Reason, Violation
from grotto_policy.rules import members
from grotto_policy.scopes import Scope

NODES = (ast.Name,)

HARMLESS_DUNDERS = frozenset(
    {"__name__", "__doc__", "__debug__", "__file__", "__annotations__", "__class__"}
    | {"__module__", "__qualname__", "__all__", "__author__", "__version__"}
)
OPEN_ALIAS = Reason(
    "`open` passed on can no longer be checked for the path it is called with.",
    "Call `open` directly with a path of the workspace, or use pandas or pathlib.",
)
MODULE_VALUE = Reason(
    "Only some members of this module may be used, so the module itself cannot be passed on.",
    "Use its members directly, as in `sys.version`.",
)


def judge(node: ast.AST, scope: Scope, context: Context) -> Iterator[Violation]:
    if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
        return
    yield from _builtin(node, scope, context)
    yield from _module(node, scope, context)


def _builtin(node: ast.Name, scope: Scope, context: Context) -> Iterator[Violation]:
    calls, name = context.policy.calls, node.id
    if calls is None:
        return
    reason = _refusal(node, scope, calls, context)
    if reason is None:
        return
    imported = name in calls.lookups and context.origins.of(node, scope)
    if imported or not context.is_bound(name, node, scope):
        yield context.violation("call", name, node, reason)


def _refusal(node: ast.Name, scope: Scope, calls: Calls, context: Context) -> Reason | None:
    """Why the name may not be read here, if it is the builtin."""
    name, parent = node.id, context.parent(node)
    called = isinstance(parent, ast.Call) and parent.func is node
    if name in calls.denied:
        return None if _is_looked_at(node, scope, context) else calls.denied[name]
    if called:
        return calls.denied_calls.get(name)
    if name in calls.lookups:
        return calls.lookup
    if name == "open" and calls.paths is not None and not _is_operand(node, parent):
        return OPEN_ALIAS
    if name.startswith("__") and name.endswith("__") and name not in HARMLESS_DUNDERS:
        return context.policy.attributes.dunder if context.policy.attributes else None
    return None


def _is_looked_at(node: ast.Name, scope: Scope, context: Context) -> bool:
    """`"df" in globals()`, `print(vars(x))`: nothing is taken out of the namespace."""
    call = context.parent(node)
    if node.id not in ("globals", "locals", "vars") or not isinstance(call, ast.Call):
        return False
    parent = context.parent(call)
    if not isinstance(parent, ast.Compare):
        return call.func is node and context.is_shown(call, scope)
    return parent.comparators == [call] and isinstance(parent.ops[0], ast.In | ast.NotIn)


def _is_operand(node: ast.Name, parent: ast.AST | None) -> bool:
    """A column of opening prices left by an earlier execution, not the builtin."""
    return isinstance(parent, ast.BinOp | ast.Compare | ast.UnaryOp) or (
        isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node
    )


def _module(node: ast.Name, scope: Scope, context: Context) -> Iterator[Violation]:
    """A module of which only some members are allowed must not become a value."""
    imports = context.policy.imports
    if imports is None or not imports.members:
        return
    origins = context.origins.of(node, scope)
    if node.id == "sys" and scope.owner("sys") is None:
        origins = frozenset({"sys"})  # imported by an earlier execution
    parent = context.parent(node)
    if isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node:
        return
    for module in sorted(origins & imports.members.keys()):
        reason = Reason(MODULE_VALUE.why, members.limited_to(imports.members[module]).hint)
        yield context.violation("import", module, node, reason)

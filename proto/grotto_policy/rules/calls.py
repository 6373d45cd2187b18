"""Calls that are judged by their arguments: attributes by text, text that is code, pickles."""

import ast
import re
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Attributes, Calls, Reason, Violation
from grotto_policy.rules import attributes as attribute_rules
from grotto_policy.rules import members, paths
from grotto_policy.scopes import Scope

NODES = (ast.Call, ast.BinOp, ast.Attribute)

_BY_ARGUMENT = frozenset({"getattr", "setattr", "delattr"})
_BACKTICKS = re.compile(r"`[^`]*`")
_WORD_CHAIN = re.compile(r"[^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*)*")
COMPUTED = Reason(
    "The attribute's name is computed, so it cannot be told what is looked up.",
    'Write the attribute directly (`obj.name`), or loop over literal names: `for n in ["a", "b"]`.',
)


def judge(node: ast.AST, scope: Scope, context: Context) -> Iterator[Violation]:
    calls = context.policy.calls
    if calls is None:
        return
    if isinstance(node, ast.BinOp):
        if calls.paths is not None and isinstance(node.op, ast.Div):
            yield from paths.text(node.right, calls.paths, scope, context)
    elif isinstance(node, ast.Attribute):
        yield from _lookup_as_value(node, calls, scope, context)
    elif isinstance(node, ast.Call):
        name = _callee(node.func, scope, context)
        if name in calls.lookups:
            yield from _lookup(node, name, scope, context)
        if calls.paths is not None and name:
            yield from paths.arguments(node, name, calls.paths, scope, context)
        if name in calls.evaluators:
            _evaluated(node, scope, context)
        if calls.pickles is not None:
            yield from _pickles(node, calls.pickles, scope, context)


def _callee(func: ast.expr, scope: Scope, context: Context) -> str:
    """The last name of what is called, under its own name where it was imported as another."""
    if isinstance(func, ast.Attribute):
        return func.attr
    if not isinstance(func, ast.Name):
        return ""
    return _first(context.origins.of(func, scope)).rpartition(".")[2] or func.id


def _lookup_as_value(
    node: ast.Attribute, calls: Calls, scope: Scope, context: Context
) -> Iterator[Violation]:
    if node.attr not in calls.lookups or not _is_lookup(node, node.attr, scope, context):
        return
    parent = context.parent(node)
    if not (isinstance(parent, ast.Call) and parent.func is node):
        yield context.violation("call", node.attr, node, calls.lookup)


def _lookup(node: ast.Call, name: str, scope: Scope, context: Context) -> Iterator[Violation]:
    if not _is_lookup(node.func, name, scope, context):
        return
    target, arguments = _lookup_arguments(node, name)
    if name == "setattr" and context.is_receiver(target, scope):
        return
    for argument in arguments:
        texts = context.constants.texts(argument, scope)
        if texts is None:
            yield context.violation("call", name, node, COMPUTED)
            return
        for text in texts:
            yield from _dotted(target, text, node, scope, context)


def _lookup_arguments(node: ast.Call, name: str) -> tuple[ast.expr, list[ast.expr]]:
    """Returns what is looked into and the names; a starred argument may be either."""
    unknown = ast.Constant(None)
    if name == "attrgetter" or any(isinstance(arg, ast.Starred) for arg in node.args[:2]):
        return unknown, node.args
    if name == "methodcaller":
        return unknown, node.args[:1]
    return (node.args or [unknown])[0], node.args[1:2]


def _is_lookup(func: ast.expr, name: str, scope: Scope, context: Context) -> bool:
    """Whether this is the function itself and not a method or the tenant's own of that name."""
    imported = any(o.endswith(f"operator.{name}") for o in context.origins.of(func, scope))
    if isinstance(func, ast.Name) and not imported:
        return func.id == name and not context.is_bound(name, func, scope)
    return imported


def _dotted(
    target: ast.expr, text: str, node: ast.Call, scope: Scope, context: Context
) -> Iterator[Violation]:
    """Judges `a.b.c` by text: the first on the target, the others on what cannot be known."""
    attributes = context.policy.attributes
    for name in text.split("."):
        if attributes is not None and _is_internal(name, attributes):
            yield context.violation("attribute", name, node, attributes.dunder)
        else:
            yield from attribute_rules.lookup(target, name, node, scope, context)
        target = ast.Constant(None)


def _is_internal(name: str, attributes: Attributes) -> bool:
    """Written out, `x.__class__` is harmless; looked up by text it starts a chain."""
    return name.startswith("__") and name.endswith("__") and name not in attributes.text_dunders


def _evaluated(node: ast.Call, scope: Scope, context: Context) -> None:
    """Has literal text checked that the callee will evaluate: queries, formulas, symbols."""
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    for argument in values:
        if isinstance(argument, ast.JoinedStr):
            texts: tuple[str, ...] = ("".join(_pieces(argument)),)
        else:
            texts = context.constants.leading(argument, scope)[:4]
        for text in texts:
            plain = _BACKTICKS.sub("_", text).replace("@", " ").replace("~", "+")
            if not context.quote(plain, argument, scope):
                for chain in _WORD_CHAIN.findall(plain)[:64]:
                    if "." in chain or "__" in chain:
                        context.quote(chain, argument, scope)


def _pieces(node: ast.JoinedStr) -> Iterator[str]:
    """The literal text of an f-string, a number in place of every value."""
    for value in node.values:
        literal = isinstance(value, ast.Constant) and isinstance(value.value, str)
        yield value.value if literal else "0"  # type: ignore[attr-defined]


def _pickles(node: ast.Call, reason: Reason, scope: Scope, context: Context) -> Iterator[Violation]:
    flags = [keyword.value for keyword in node.keywords if keyword.arg == "allow_pickle"]
    origins = context.origins.of(node.func, scope)
    if len(node.args) > 2 and members.by_ending(_first(origins), {"numpy.load": reason}):
        flags.append(node.args[2])
    for flag in flags:
        if not (isinstance(flag, ast.Constant) and flag.value is False):
            yield context.violation("call", "allow_pickle", flag, reason)


def _first(origins: frozenset[str]) -> str:
    return min(origins, default="")

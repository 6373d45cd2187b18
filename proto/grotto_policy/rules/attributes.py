"""Attributes: double-underscore chains, frames, and modules reached through other modules."""

import ast
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Attributes, Reason, Violation
from grotto_policy.rules import members
from grotto_policy.scopes import Scope

NODES = (ast.Attribute, ast.MatchClass)

_WHOLE = frozenset({"object", "type"})


def judge(node: ast.AST, scope: Scope, context: Context) -> Iterator[Violation]:
    if isinstance(node, ast.Attribute):
        if node.attr == "__dict__" and _is_looked_at(node, scope, context):
            return
        yield from lookup(node.value, node.attr, node, scope, context)
    elif isinstance(node, ast.MatchClass):
        for name in node.kwd_attrs:
            yield from _pattern(node, name, context)


def lookup(
    target: ast.expr, name: str, node: ast.AST, scope: Scope, context: Context
) -> Iterator[Violation]:
    """Judges reading, writing or deleting attribute `name` of `target`, reported at `node`."""
    found = refused(target, name, scope, context)
    if found is not None:
        rule, what, reason = found
        yield context.violation(rule, what, node, reason)


def refused(
    target: ast.expr, name: str, scope: Scope, context: Context
) -> tuple[str, str, Reason] | None:
    """Returns (rule, what, why) when attribute `name` of `target` is refused."""
    attributes = context.policy.attributes
    if attributes is not None:
        reason = by_name(name, attributes)
        own_dict = name == "__dict__" and context.is_receiver(target, scope)
        if reason is not None and not own_dict:
            return "attribute", name, reason
    for module in sorted(context.origins.of(target, scope)):
        found = members.refused(module, name, context)
        if found is not None:
            return found[0], f"{module}.{name}", found[1]
    if attributes is not None and _leads_out(target, name, scope, context, attributes):
        return "attribute", name, attributes.pivot
    return None


def by_name(name: str, attributes: Attributes) -> Reason | None:
    """Returns why an attribute is refused on every object, None when it is not."""
    if name in attributes.denied:
        return attributes.denied[name]
    if name.startswith("__") and name.endswith("__") and name not in attributes.dunders:
        return attributes.dunder
    return None


def _leads_out(
    target: ast.expr, name: str, scope: Scope, context: Context, attributes: Attributes
) -> bool:
    """Whether the attribute is a refused module, or a member that betrays one."""
    if name.startswith("_") and name.lstrip("_") in attributes.pivots:
        return not context.is_receiver(target, scope)
    likely = {_last_name(target, scope)}
    likely |= {one.rpartition(".")[2].lstrip("_") for one in context.origins.of(target, scope)}
    if any(name in attributes.landmarks.get(one, ()) for one in likely):
        return True
    through_call = isinstance(target, ast.Call | ast.Attribute | ast.Subscript)
    return (
        through_call
        and name in attributes.pivots
        and any(
            members.is_pivot(f"{base}.{name}", attributes)
            for base in context.origins.base(target, scope)
        )
        and not context.origins.of(target, scope)
    )


def _last_name(node: ast.expr, scope: Scope) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_")
    if isinstance(node, ast.Name) and scope.owner(node.id) is None:
        return node.id
    return ""


def _is_looked_at(node: ast.Attribute, scope: Scope, context: Context) -> bool:
    """`print(x.__dict__)`, `self.__dict__ == other.__dict__`: nothing is taken out of it."""
    parent = context.parent(node)
    if not isinstance(parent, ast.Compare):
        return context.is_shown(node, scope)
    sides = [parent.left, *parent.comparators]
    return all(isinstance(side, ast.Attribute) and side.attr == "__dict__" for side in sides)


def _pattern(node: ast.MatchClass, name: str, context: Context) -> Iterator[Violation]:
    """A class pattern reads attributes without an attribute expression."""
    attributes = context.policy.attributes
    if attributes is None:
        return
    reason = by_name(name, attributes)
    whole = isinstance(node.cls, ast.Name) and node.cls.id in _WHOLE
    if reason is None and name.lstrip("_") in attributes.pivots and (whole or name[0] == "_"):
        reason = attributes.pivot
    if reason is not None:
        yield context.violation("attribute", name, node, reason)

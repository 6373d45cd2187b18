"""Imports, judged by module tree."""

import ast
from collections.abc import Iterator, Mapping

from grotto_policy.context import Context
from grotto_policy.model import Imports, Reason, Violation
from grotto_policy.rules import members
from grotto_policy.scopes import Scope

NODES = (ast.Import, ast.ImportFrom)

RELATIVE = Reason(
    "The code is not part of a package, so a relative import has nothing to start from.",
    "Import an installed module by its full name.",
)
STAR = Reason(
    "A star import hides which names the code uses.",
    "Import the names you need: `from module import a, b`.",
)
RENAMED = Reason(
    "Only some members of it may be used, which can be checked under its own name alone.",
    "Import it without `as`.",
)


def judge(node: ast.AST, scope: Scope, context: Context) -> Iterator[Violation]:
    imports = context.policy.imports
    if imports is None:
        return
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield from _module(alias, imports, context)
    elif isinstance(node, ast.ImportFrom):
        yield from _names(node, imports, context)


def refusal(module: str, imports: Imports) -> Reason | None:
    """Returns why a module tree is refused, None when it may be imported."""
    reason = in_tree(module, imports.denied)
    if reason is not None:
        return reason
    root = module.partition(".")[0]
    if root.startswith("_") and root != "__future__":
        return imports.private
    if imports.allowed is None or root == "__future__" or in_tree(module, imports.allowed):
        return None
    return imports.unlisted


def in_tree(module: str, roots: Mapping[str, Reason] | frozenset[str]) -> Reason | None:
    """Returns the entry of the nearest root whose tree `module` is in."""
    while module:
        if module in roots:
            return roots[module] if isinstance(roots, Mapping) else RELATIVE
        module = module.rpartition(".")[0]
    return None


def _module(alias: ast.alias, imports: Imports, context: Context) -> Iterator[Violation]:
    reason = refusal(alias.name, imports)
    if reason is None and alias.name in imports.members and alias.asname not in (None, alias.name):
        reason = RENAMED
    if reason is not None:
        yield context.violation("import", alias.name, alias, reason)


def _names(node: ast.ImportFrom, imports: Imports, context: Context) -> Iterator[Violation]:
    module = node.module or ""
    limited = module in imports.members
    reason = RELATIVE if node.level else None if limited else refusal(module, imports)
    if reason is not None:
        yield context.violation("import", "." * node.level + module, node, reason)
        return
    for alias in node.names:
        if alias.name == "*":
            if module.partition(".")[0] not in imports.star:
                yield context.violation("import", f"{module}.*", alias, STAR)
            continue
        yield from members.imported(module, alias, context)

"""Literal paths that leave the workspace, in calls and in SQL.

What is computed at run time passes: files are confined by the kernel layers, and this rule only
tells a model early that a path will not work.
"""

import ast
import posixpath
import re
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Paths, Violation
from grotto_policy.scopes import Scope

_SQL_FILE = re.compile(
    r"\b(?:(?:attach(?:\s+database)?|into|to|from|join|load)\s+|(?:read|scan)_\w+\s*\(\s*)"
    r"""['"]([^'"]+)['"]""",
    re.IGNORECASE,
)


def arguments(
    node: ast.Call, name: str, paths: Paths, scope: Scope, context: Context
) -> Iterator[Violation]:
    """Judges the path arguments of a call of something called `name`."""
    if name in paths.statements:
        yield from _statement(node, paths, scope, context)
    if name not in paths.callables and not name.startswith(paths.prefixes):
        return
    if isinstance(node.func, ast.Name) and _is_own(node.func, scope, context):
        return
    positional = node.args if name in ("Path", "PosixPath", "joinpath") else node.args[:1]
    keyed = [keyword.value for keyword in node.keywords if keyword.arg in paths.keywords]
    for argument in [*positional, *keyed]:
        yield from text(argument, paths, scope, context)


def _is_own(func: ast.Name, scope: Scope, context: Context) -> bool:
    """Whether the source itself defines the function."""
    imported = context.origins.of(func, scope)
    return not imported and context.is_bound(func.id, func, scope)


def text(node: ast.expr, paths: Paths, scope: Scope, context: Context) -> Iterator[Violation]:
    """Judges an expression that is a path, as far as its beginning can be told."""
    for path in context.constants.leading(node, scope):
        if _leaves_workspace(path, paths.roots):
            yield context.violation("path", path, node, paths.reason)
            return


def _leaves_workspace(path: str, roots: tuple[str, ...]) -> bool:
    path = path.strip()
    if path.lower().startswith("file:") or path.startswith("~"):
        return True
    if path.startswith("/"):
        plain = "/" + posixpath.normpath(path).lstrip("/")
        return not any(plain == root or plain.startswith(root + "/") for root in roots)
    return posixpath.normpath(path).split("/")[0] == ".."


def _statement(node: ast.Call, paths: Paths, scope: Scope, context: Context) -> Iterator[Violation]:
    """SQL opens files as well: `ATTACH DATABASE '/path'`, `VACUUM INTO`, `COPY … TO`."""
    for argument in node.args[:1]:
        for statement in context.constants.leading(argument, scope):
            for path in _SQL_FILE.findall(statement):
                if _leaves_workspace(path, paths.roots):
                    yield context.violation("path", path, argument, paths.reason)

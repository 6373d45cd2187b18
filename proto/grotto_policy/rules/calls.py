"""Calls that are judged by their arguments: attributes by text, paths, text that is code."""

import ast
import posixpath
import re
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Calls, Paths, Reason, Violation
from grotto_policy.rules import attributes as attribute_rules
from grotto_policy.rules import members
from grotto_policy.scopes import Scope

NODES = (ast.Call, ast.BinOp)

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
            yield from _path(node.right, calls.paths, scope, context)
    elif isinstance(node, ast.Call):
        name = _last_name(node.func)
        if name in calls.lookups:
            yield from _lookup(node, name, scope, context)
        if calls.paths is not None and name:
            yield from _paths(node, name, calls.paths, scope, context)
        if name in calls.evaluators:
            _evaluated(node, calls, scope, context)
        if calls.pickles is not None:
            yield from _pickles(node, calls.pickles, scope, context)


def _last_name(func: ast.expr) -> str:
    if isinstance(func, ast.Name):
        return func.id
    return func.attr if isinstance(func, ast.Attribute) else ""


def _lookup(node: ast.Call, name: str, scope: Scope, context: Context) -> Iterator[Violation]:
    if not _is_lookup(node.func, name, scope, context):
        return
    by_argument = name in _BY_ARGUMENT
    target = node.args[0] if by_argument and node.args else node
    arguments = node.args[1:2] if by_argument else node.args
    if name == "methodcaller":
        arguments = node.args[:1]
    if name == "setattr" and context.is_receiver(target, scope):
        return
    for argument in arguments:
        texts = context.constants.texts(argument, scope)
        if texts is None:
            yield context.violation("call", name, node, COMPUTED)
            return
        for text in texts:
            yield from _dotted(target, text, node, scope, context)


def _is_lookup(func: ast.expr, name: str, scope: Scope, context: Context) -> bool:
    """Whether this is the function itself and not a method or the tenant's own of that name."""
    if isinstance(func, ast.Name):
        imported = any(o.endswith(f".{name}") for o in context.origins.of(func, scope))
        return imported or not context.is_bound(name, func, scope)
    return any(
        origin.endswith(f"operator.{name}") for origin in context.origins.of(func, scope)
    )


def _dotted(
    target: ast.expr, text: str, node: ast.Call, scope: Scope, context: Context
) -> Iterator[Violation]:
    """Judges `a.b.c` by text: the first on the target, the others on what cannot be known."""
    unknown = ast.Constant(None)
    for index, part in enumerate(text.split(".")):
        yield from attribute_rules.lookup(unknown if index else target, part, node, scope, context)


def _paths(
    node: ast.Call, name: str, paths: Paths, scope: Scope, context: Context
) -> Iterator[Violation]:
    if name not in paths.callables and not name.startswith(paths.prefixes):
        return
    if name == "open" and isinstance(node.func, ast.Name):
        if context.is_bound(name, node.func, scope) and not context.origins.of(node.func, scope):
            return
    positional = node.args if name in ("Path", "PosixPath", "joinpath") else node.args[:1]
    keyed = [keyword.value for keyword in node.keywords if keyword.arg in paths.keywords]
    for argument in [*positional, *keyed]:
        yield from _path(argument, paths, scope, context)


def _path(
    node: ast.expr, paths: Paths, scope: Scope, context: Context
) -> Iterator[Violation]:
    for text in context.constants.leading(node, scope):
        if _leaves_workspace(text, paths.roots):
            yield context.violation("path", text, node, paths.reason)
            return


def _leaves_workspace(path: str, roots: tuple[str, ...]) -> bool:
    path = path.strip()
    if path.lower().startswith("file:") or path.startswith("~"):
        return True
    if path.startswith("/"):
        plain = "/" + posixpath.normpath(path).lstrip("/")
        return not any(plain == root or plain.startswith(root + "/") for root in roots)
    return posixpath.normpath(path).split("/")[0] == ".."


def _evaluated(node: ast.Call, calls: Calls, scope: Scope, context: Context) -> None:
    """Has literal text checked that the callee will evaluate: queries, formulas, symbols."""
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    for argument in values:
        if isinstance(argument, ast.JoinedStr):
            texts = ("".join(_pieces(argument)),)
        else:
            texts = context.constants.leading(argument, scope)[:4]
        for text in texts:
            plain = _BACKTICKS.sub("_", text).replace("@", " ").replace("~", "+")
            if not context.quote(plain, argument, scope):
                for chain in _WORD_CHAIN.findall(plain)[:64]:
                    context.quote(chain, argument, scope)


def _pieces(node: ast.JoinedStr) -> Iterator[str]:
    """The literal text of an f-string, a number in place of every value."""
    for value in node.values:
        literal = isinstance(value, ast.Constant) and isinstance(value.value, str)
        yield value.value if literal else "0"  # type: ignore[attr-defined]


def _pickles(
    node: ast.Call, reason: Reason, scope: Scope, context: Context
) -> Iterator[Violation]:
    flags = [keyword.value for keyword in node.keywords if keyword.arg == "allow_pickle"]
    origins = context.origins.of(node.func, scope)
    if len(node.args) > 2 and members.by_ending(_first(origins), {"numpy.load": reason}):
        flags.append(node.args[2])
    for flag in flags:
        if not (isinstance(flag, ast.Constant) and flag.value is False):
            yield context.violation("call", "allow_pickle", flag, reason)


def _first(origins: frozenset[str]) -> str:
    return min(origins, default="")

"""Text that reads attributes: format fields, and annotations in quotes."""

import ast
import re
from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Attributes, Reason, Violation
from grotto_policy.rules import attributes as attribute_rules
from grotto_policy.scopes import Scope

NODES = (
    ast.Constant,
    ast.BinOp,
    ast.JoinedStr,
    ast.Call,
    ast.arg,
    ast.AnnAssign,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
)

_FIELD = re.compile(r"\{\s*\w*\s*([.\[][^{}]*)")
_TEMPLATE = re.compile(r"\{[{%]([^{}]*)[}%]\}")
_STEP = re.compile(r"\.\s*([^.\[\]!:{}\s]+)")
_DUNDER = re.compile(r"__\w+__")
REASON = Reason(
    "A format field that reads internal attributes shows what lies behind an object.",
    'Format the value itself: `f"{value}"`, or `type(value).__name__` for a type\'s name.',
)


def judge(node: ast.AST, scope: Scope, context: Context) -> Iterator[Violation]:
    attributes = context.policy.attributes
    if attributes is None:
        return
    if isinstance(node, ast.arg | ast.AnnAssign):
        _quoted(node.annotation, scope, context)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        _quoted(node.returns, scope, context)
    elif isinstance(node, ast.expr) and not _is_part(node, scope, context):
        texts = context.constants.texts(node, scope) or ()
        for text in texts:
            if "{" in text:
                yield from _fields(text, node, attributes, context)


def _quoted(node: ast.expr | None, scope: Scope, context: Context) -> None:
    """`typing` evaluates annotations in quotes, so they are code."""
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            context.quote(part.value, part, scope)


def _is_part(node: ast.expr, scope: Scope, context: Context) -> bool:
    """Whether the text is judged as a part of a larger one that is known as well."""
    parent = context.parent(node)
    return (
        isinstance(node, ast.BinOp)
        and isinstance(parent, ast.BinOp)
        and isinstance(parent.op, ast.Add)
        and context.constants.texts(parent, scope) is not None
    )


def _fields(
    text: str, node: ast.expr, attributes: Attributes, context: Context
) -> Iterator[Violation]:
    for block in _TEMPLATE.findall(text):  # of template engines, which evaluate expressions
        for step in _DUNDER.findall(block):
            if step not in attributes.text_dunders:
                yield context.violation("format", step, node, REASON)
    for field in _FIELD.findall(text.replace("{{", "")):
        steps = _STEP.findall(field)
        if steps[-1:] and steps[-1] in attributes.text_dunders:
            steps = [step for step in steps[:-1] if step != "__class__"]
        for before, step in zip(["", *steps], steps, strict=False):
            if _is_internal(step, attributes) or step in attributes.landmarks.get(before, ()):
                yield context.violation("format", step, node, REASON)


def _is_internal(step: str, attributes: Attributes) -> bool:
    dunder = step.startswith("__") and step.endswith("__")
    pivot = step.startswith("_") and step.lstrip("_") in attributes.pivots
    return dunder or pivot or attribute_rules.by_name(step, attributes) is not None

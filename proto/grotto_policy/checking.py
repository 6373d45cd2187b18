"""The check: parse once, survey, judge every node.

Owns the order of work. It must not run, import or resolve anything the source names.
"""

import ast
from collections.abc import Callable, Iterator
from typing import TypeAlias

from grotto_policy.context import Context
from grotto_policy.model import Policy, Violation
from grotto_policy.rules import attributes, calls, formats, imports, names, patterns
from grotto_policy.scopes import Scope, Survey

MAX_VIOLATIONS = 256

Judge: TypeAlias = Callable[[ast.AST, Scope, Context], Iterator[Violation]]

_RULES = (imports, names, attributes, calls, formats)


def check(source: str, policy: Policy) -> list[Violation]:
    """Returns everything in `source` that `policy` refuses, by position; nothing is executed.

    The source is taken as it is, one execution's text of ordinary Python (top-level `await`
    included). At most the first 256 violations are returned. This is a guard rail for a model
    that writes code, not a boundary. Raises SyntaxError or ValueError (a NUL) when the source
    does not parse, and RecursionError or MemoryError when it is too deeply nested: run it where
    that can be afforded.

        >>> check("import os", load("standard"))[0].what
        'os'
    """
    tree = ast.parse(source)
    if policy.is_empty:
        return []
    context = Context(source, Survey(tree), policy)
    found = dict.fromkeys(_judge(context))
    found.update(dict.fromkeys(patterns.judge_source(context)))
    return sorted(found, key=lambda v: (v.line, v.column, v.rule, v.what))[:MAX_VIOLATIONS]


def _judge(context: Context) -> Iterator[Violation]:
    judges: dict[type[ast.AST], list[Judge]] = {}
    for rule in _RULES:
        for kind in rule.NODES:
            judges.setdefault(kind, []).append(rule.judge)
    nodes = context.survey.nodes
    index = 0
    while index < len(nodes):  # rules append: code inside text is judged as well
        node, scope = nodes[index]
        index += 1
        for judge in judges.get(type(node), ()):
            yield from judge(node, scope, context)

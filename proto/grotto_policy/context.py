"""What every rule is given: the policy, the surveyed source, and a way to report.

Owns positions and the questions several rules ask of a node. It must not contain a rule.
"""

import ast
import re

from grotto_policy.constants import Constants
from grotto_policy.model import Policy, Reason, Violation
from grotto_policy.origins import Origins
from grotto_policy.scopes import Binding, Scope, Survey

MAX_WHAT_CHARS = 80
MAX_NESTING = 3
_SHOWING = frozenset({"print", "len", "str", "repr", "list", "sorted"})
_LINE = re.compile(r"\r\n|\r|\n")

Position = tuple[int, int]


class Context:
    """One check in progress."""

    def __init__(self, source: str, survey: Survey, policy: Policy) -> None:
        self.source = source
        self.policy = policy
        self.survey = survey
        self.constants = Constants(survey)
        self.origins = Origins(policy.attributes.landmarks if policy.attributes else ())
        self.lines = _LINE.split(source)
        self._nesting: dict[ast.AST, int] = {}

    def violation(self, rule: str, what: str, node: ast.AST, reason: Reason) -> Violation:
        line, offset = self.position(node)
        return self.violation_at(rule, what, (line, offset), reason)

    def violation_at(self, rule: str, what: str, at: Position, reason: Reason) -> Violation:
        """`at` is a 1-based line and a 0-based offset in UTF-8 bytes, as the tree has them."""
        line, offset = at
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        column = offset if text.isascii() else len(text.encode()[:offset].decode(errors="replace"))
        return Violation("ast", rule, _shown(what), line, column + 1, reason.why, reason.hint)

    def position(self, node: ast.AST) -> Position:
        """Where `node` stands in the source; text inside a string stands where the string does."""
        node = self.survey.anchors.get(node, node)
        while not hasattr(node, "lineno"):
            node = self.survey.parents[node]
        return node.lineno, node.col_offset  # type: ignore[attr-defined]

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self.survey.parents.get(node)

    def is_bound(self, name: str, node: ast.AST, scope: Scope) -> bool:
        """Whether `name`, read at `node`, surely is the source's own and not a builtin."""
        owner = scope.owner(name)
        if owner is None:
            return False
        if not owner.is_sequential:
            return True
        if name in self.survey.deleted:
            return False
        return any(self._precedes(binding, node) for binding in owner.bindings[name])

    def is_receiver(self, node: ast.expr, scope: Scope) -> bool:
        """Whether `node` is the first parameter of a method (`self`)."""
        owner = scope.owner(node.id) if isinstance(node, ast.Name) else None
        if owner is None or owner.parent is None or not isinstance(node, ast.Name):
            return False
        function = owner.node
        if not owner.parent.is_class or not isinstance(
            function, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            return False
        first = [*function.args.posonlyargs, *function.args.args][:1]
        return [argument.arg for argument in first] == [node.id] and len(
            owner.bindings[node.id]
        ) == 1

    def is_shown(self, node: ast.AST, scope: Scope) -> bool:
        """Whether the value of `node` becomes text, a number or names on the spot."""
        parent = self.parent(node)
        if isinstance(parent, ast.FormattedValue):
            return True
        if not isinstance(parent, ast.Call) or not isinstance(parent.func, ast.Name):
            return False
        name = parent.func.id
        return name in _SHOWING and not self.is_bound(name, parent.func, scope)

    def quote(self, text: str, node: ast.AST, scope: Scope) -> bool:
        """Has the Python expression in `text` checked as if it stood at `node`.

        Returns whether `text` is Python; deeper nesting than MAX_NESTING is not followed.
        """
        depth = self._nesting.get(node, 0)
        try:
            tree = ast.parse(text.strip())
        except (SyntaxError, ValueError):
            return False
        if depth < MAX_NESTING:
            anchor = self.survey.anchors.get(node, node)
            start = self.survey.add(tree, scope, anchor)
            for inner, _ in self.survey.nodes[start:]:
                self._nesting[inner] = depth + 1
        return True

    def _precedes(self, binding: Binding, node: ast.AST) -> bool:
        statement, here = binding.statement, self.position(node)
        if not binding.unconditional or not isinstance(statement, ast.stmt | ast.expr):
            return False
        if isinstance(statement, ast.For | ast.AsyncFor):
            return self.position(statement.body[0]) <= here < _end(statement)
        if isinstance(statement, ast.With | ast.AsyncWith):
            return self.position(statement.body[0]) <= here
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            recursive = not statement.decorator_list
            return (self.position(statement.body[0]) if recursive else _end(statement)) <= here
        return _end(statement) <= here


def _end(node: ast.stmt | ast.expr) -> Position:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _shown(what: str) -> str:
    """Cuts, and escapes what a terminal or an encoder could stumble over."""
    if len(what) > MAX_WHAT_CHARS:
        what = what[: MAX_WHAT_CHARS - 1] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in what)

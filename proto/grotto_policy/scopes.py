"""Where names are bound in one source text.

Owns the walk over the tree, scopes and bindings, after Python's own rules
(https://docs.python.org/3/reference/executionmodel.html). It must not judge anything.
The walk is iterative, so that it has no depth limit of its own.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Kind: TypeAlias = Literal["value", "each", "import", "param", "def", "other"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(slots=True, eq=False)
class Binding:
    """One place that binds a name."""

    kind: Kind
    statement: ast.AST
    """The statement or expression that binds."""
    unconditional: bool
    """Whether it surely has run once the code after it runs."""
    value: ast.expr | None = None
    """What is bound ("value", "param" default) or what is iterated over ("each")."""
    qualname: str = ""
    """For an import: the dotted name."""


@dataclass(slots=True, eq=False)
class Scope:
    """A module, class, function or comprehension, and what it binds."""

    node: ast.AST
    parent: "Scope | None"
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    outer: dict[str, "Scope"] = field(default_factory=dict)
    """Names declared global or nonlocal → the scope they are looked up in."""

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)

    @property
    def is_sequential(self) -> bool:
        """Whether an unbound name falls through to builtins (module and class bodies)."""
        return isinstance(self.node, ast.ClassDef | ast.Module)

    def owner(self, name: str) -> "Scope | None":
        """Returns the scope that binds `name` as seen from here, None if this source does not."""
        scope: Scope | None = self.outer.get(name, self)
        first = scope
        while scope is not None:
            if name in scope.bindings and (scope is first or not scope.is_class):
                return scope
            scope = scope.parent
        return None

    def module(self) -> "Scope":
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def bind(self, name: str, binding: Binding) -> None:
        target = self.outer.get(name, self)
        if target is not self:
            binding.unconditional = False
        target.bindings.setdefault(name, []).append(binding)


@dataclass(slots=True)
class _Visit:
    node: ast.AST
    scope: Scope
    top: bool
    """Whether this is, or is an unconditional part of, a statement directly in the scope's body."""


class Survey:
    """Every node of a tree with its parent and scope, and every binding."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope(tree, None)
        self.nodes: list[tuple[ast.AST, Scope]] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self.anchors: dict[ast.AST, ast.AST] = {}
        self.deleted: set[str] = set()
        self._exposed: set[str] = set()
        self.add(tree, self.module)

    def add(self, tree: ast.Module, scope: Scope, anchor: ast.AST | None = None) -> int:
        """Walks `tree` as seen from `scope`; returns where its nodes start in `nodes`.

        `anchor` is the node in the source whose text the tree was parsed from.
        """
        start = len(self.nodes)
        stack = [_Visit(statement, scope, anchor is None) for statement in reversed(tree.body)]
        while stack:
            visit = stack.pop()
            self.nodes.append((visit.node, visit.scope))
            if anchor is not None:
                self.anchors[visit.node] = anchor
            if isinstance(visit.node, ast.Name) and not self._is_reading(visit.node):
                self._exposed.add(visit.node.id)
            children = list(self._children(visit))
            for child in children:
                self.parents[child.node] = visit.node
            stack.extend(reversed(children))
        return start

    def only_read(self, name: str) -> bool:
        """Whether every use of `name` leaves what it is bound to unchanged and unshared."""
        return name not in self._exposed

    def _is_reading(self, node: ast.Name) -> bool:
        parent = self.parents.get(node)
        if isinstance(parent, ast.Call):
            return isinstance(parent.func, ast.Name) and parent.func.id in _READERS
        if isinstance(parent, ast.Assign):
            return isinstance(node.ctx, ast.Store)
        return isinstance(parent, (ast.For, ast.Compare, *_COMPREHENSIONS))

    def _children(self, visit: _Visit) -> Iterator[_Visit]:
        node, scope = visit.node, visit.scope
        if isinstance(node, _FUNCTIONS):
            return self._function(node, visit)
        if isinstance(node, ast.ClassDef):
            return self._class(node, visit)
        if isinstance(node, _COMPREHENSIONS):
            return self._comprehension(node, scope)
        _bind(node, scope, visit.top, self.deleted)
        top = visit.top and not isinstance(node, _CONDITIONAL)
        return (_Visit(child, scope, top) for child in ast.iter_child_nodes(node))

    def _function(self, node: Function, visit: _Visit) -> Iterator[_Visit]:
        inner = Scope(node, visit.scope)
        if not isinstance(node, ast.Lambda):
            visit.scope.bind(node.name, Binding("def", node, visit.top))
            for decorator in node.decorator_list:
                yield _Visit(decorator, visit.scope, visit.top)
        for argument, default in _parameters(node.args):
            inner.bind(argument.arg, Binding("param", node, True, default))
        yield _Visit(node.args, visit.scope, False)
        if isinstance(node, ast.Lambda):
            yield _Visit(node.body, inner, False)
            return
        if node.returns is not None:
            yield _Visit(node.returns, visit.scope, False)
        for part in [*getattr(node, "type_params", ()), *node.body]:
            yield _Visit(part, inner, True)

    def _class(self, node: ast.ClassDef, visit: _Visit) -> Iterator[_Visit]:
        visit.scope.bind(node.name, Binding("def", node, visit.top))
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            yield _Visit(part, visit.scope, visit.top)
        inner = Scope(node, visit.scope)
        for part in [*getattr(node, "type_params", ()), *node.body]:
            yield _Visit(part, inner, True)

    def _comprehension(self, node: Comprehension, scope: Scope) -> Iterator[_Visit]:
        inner = Scope(node, scope)
        for index, generator in enumerate(node.generators):
            for name in _targets(generator.target):
                value = generator.iter if isinstance(generator.target, ast.Name) else None
                inner.bind(name, Binding("each" if value else "other", node, True, value))
            yield _Visit(generator.iter, inner if index else scope, False)
            yield _Visit(generator.target, inner, False)
            for condition in generator.ifs:
                yield _Visit(condition, inner, False)
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for element in elements:
            yield _Visit(element, inner, False)


_READERS = frozenset({"len", "print", "enumerate", "zip", "sorted", "set", "list", "tuple"})

_CONDITIONAL = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.Try,
    ast.TryStar,
    ast.Match,
    ast.BoolOp,
    ast.IfExp,
    ast.Compare,
    ast.Assert,
)


def _bind(node: ast.AST, scope: Scope, top: bool, deleted: set[str]) -> None:
    """Records what `node` itself binds in `scope`."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _assign(target, node.value, node, scope, top)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        _assign(node.target, node.value, node, scope, top)
    elif isinstance(node, ast.AugAssign):
        _assign(node.target, None, node, scope, top)
    elif isinstance(node, ast.NamedExpr):
        while isinstance(scope.node, _COMPREHENSIONS) and scope.parent is not None:
            scope, top = scope.parent, False
        _assign(node.target, node.value, node, scope, top)
    elif isinstance(node, ast.For | ast.AsyncFor):
        value = node.iter if isinstance(node.target, ast.Name) else None
        for name in _targets(node.target):
            scope.bind(name, Binding("each" if value else "other", node, top, value))
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if item.optional_vars is not None:
                _assign(item.optional_vars, None, node, scope, top)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        _bind_import(node, scope, top)
    else:
        _bind_rest(node, scope, deleted)


def _bind_rest(node: ast.AST, scope: Scope, deleted: set[str]) -> None:
    if isinstance(node, ast.Global):
        module = scope.module()
        scope.outer.update({name: module for name in node.names if scope is not module})
    elif isinstance(node, ast.Nonlocal):
        if scope.parent is not None:
            scope.outer.update(dict.fromkeys(node.names, scope.parent))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
        deleted.add(node.id)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        scope.bind(node.name, Binding("other", node, False))
        deleted.add(node.name)
    elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
        scope.bind(node.name, Binding("other", node, False))
    elif isinstance(node, ast.MatchMapping) and node.rest:
        scope.bind(node.rest, Binding("other", node, False))


def _bind_import(node: ast.Import | ast.ImportFrom, scope: Scope, top: bool) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            qualname = f"{node.module or ''}.{alias.name}"
        else:
            qualname = alias.name if alias.asname else alias.name.partition(".")[0]
        bound = alias.asname or alias.name.partition(".")[0]
        if bound != "*":
            scope.bind(bound, Binding("import", node, top, qualname=qualname))


def _assign(
    target: ast.expr, value: ast.expr | None, node: ast.AST, scope: Scope, top: bool
) -> None:
    """Binds the names in `target`; a tuple display is taken apart element by element."""
    if isinstance(target, ast.Name):
        scope.bind(target.id, Binding("value" if value else "other", node, top, value))
    elif isinstance(target, ast.Tuple | ast.List):
        values: list[ast.expr | None] = [None] * len(target.elts)
        if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(values):
            values = list(value.elts)
        for element, part in zip(target.elts, values, strict=True):
            _assign(element, part, node, scope, top)
    elif isinstance(target, ast.Starred):
        _assign(target.value, None, node, scope, top)


def _targets(target: ast.expr) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _parameters(args: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*args.posonlyargs, *args.args]
    missing = len(positional) - len(args.defaults)
    yield from zip(positional, [*[None] * missing, *args.defaults], strict=True)
    yield from zip(args.kwonlyargs, args.kw_defaults, strict=True)
    for argument in (args.vararg, args.kwarg):
        if argument is not None:
            yield argument, None

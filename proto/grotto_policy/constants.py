"""What text an expression can be seen to hold, without running it.

Owns the folding of string expressions: literals, concatenation, f-strings, joins, names that
are bound to such text only. It must not judge, and must stay cheap on hostile source: number
and length of the results and the depth of the search are capped; past a cap the answer is
"unknown" (None).
"""

import ast
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

from grotto_policy.scopes import Binding, Scope, Survey

MAX_TEXTS = 64
MAX_CHARS = 4096
MAX_DEPTH = 100

Texts = tuple[str, ...]
"""Every text an expression may hold; one of them at a time."""


class Constants:
    """Folds string expressions; remembers what each name holds."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._names: dict[tuple[Scope, str], Texts | None] = {}
        self._depth = 0

    def texts(self, node: ast.expr | None, scope: Scope) -> Texts | None:
        """Returns the texts `node` may hold, None when that cannot be told."""
        fold = _FOLDS.get(type(node)) if node is not None else None
        if fold is None or self._depth >= MAX_DEPTH:
            return None
        self._depth += 1
        try:
            known = fold(self, node, scope)
            return known if isinstance(node, ast.Constant) else _capped(known)
        finally:
            self._depth -= 1

    def leading(self, node: ast.expr, scope: Scope) -> Texts:
        """Returns the texts `node` is known to start with; empty when nothing is known."""
        while True:
            known = self.texts(node, scope)
            if known is not None:
                return known
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
                node = node.left
            elif isinstance(node, ast.JoinedStr) and node.values:
                node = node.values[0]
            elif isinstance(node, ast.FormattedValue):
                node = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                node = node.func.value
            else:
                return ()

    def _name(self, node: ast.Name, scope: Scope) -> Texts | None:
        owner = scope.owner(node.id)
        if owner is None:
            return None
        key = (owner, node.id)
        if key not in self._names:
            self._names[key] = None
            self._names[key] = self._bound(owner.bindings[node.id], owner)
        return self._names[key]

    def _bound(self, bindings: list[Binding], owner: Scope) -> Texts | None:
        if len(bindings) > MAX_TEXTS:
            return None
        return _union(self._binding(binding, owner) for binding in bindings)

    def _binding(self, binding: Binding, owner: Scope) -> Texts | None:
        if binding.kind == "value":
            return self.texts(binding.value, owner)
        if binding.kind == "each" and isinstance(binding.value, ast.List | ast.Tuple | ast.Set):
            return _union(self.texts(element, owner) for element in binding.value.elts)
        if binding.kind == "each" and isinstance(binding.value, ast.Name):
            return self._elements(binding.value, owner)
        return None

    def _elements(self, node: ast.Name, scope: Scope) -> Texts | None:
        """Folds the elements of a display that a name is bound to once and only read from."""
        owner = scope.owner(node.id)
        bindings = owner.bindings[node.id] if owner else []
        if owner is None or len(bindings) != 1 or bindings[0].kind != "value":
            return None
        value = bindings[0].value
        if not isinstance(value, ast.Tuple | ast.List) or not self._survey.only_read(node.id):
            return None
        return _union(self.texts(element, owner) for element in value.elts)

    def _constant(self, node: ast.Constant, scope: Scope) -> Texts | None:
        return (node.value,) if isinstance(node.value, str) else None

    def _binary(self, node: ast.BinOp, scope: Scope) -> Texts | None:
        if isinstance(node.op, ast.Mult):
            return self._repeated(node, scope)
        left = self.texts(node.left, scope)
        if left is None:
            return None
        if isinstance(node.op, ast.Mod):
            return self._interpolated(left, node.right, scope)
        right = self.texts(node.right, scope) if isinstance(node.op, ast.Add) else None
        return _joined([left, right])

    def _repeated(self, node: ast.BinOp, scope: Scope) -> Texts | None:
        text, count = node.left, node.right
        if isinstance(text, ast.Constant) and isinstance(text.value, int):
            text, count = count, text
        known = self.texts(text, scope)
        if known is None or not isinstance(count, ast.Constant) or type(count.value) is not int:
            return None
        times = count.value
        return tuple(t * times for t in known) if 0 <= times <= 64 else None

    def _interpolated(self, formats: Texts, node: ast.expr, scope: Scope) -> Texts | None:
        values = node.elts if isinstance(node, ast.Tuple) else [node]
        parts = [self.texts(value, scope) for value in values]
        if len(formats) != 1 or formats[0].count("%s") != len(parts):
            return None
        pieces = formats[0].split("%s")
        if any("%" in piece for piece in pieces):
            return None
        woven: list[Texts | None] = [(pieces[0],)]
        for part, piece in zip(parts, pieces[1:], strict=True):
            woven += [part, (piece,)]
        return _joined(woven)

    def _joined_string(self, node: ast.JoinedStr, scope: Scope) -> Texts | None:
        return _joined([self.texts(value, scope) for value in node.values])

    def _formatted(self, node: ast.FormattedValue, scope: Scope) -> Texts | None:
        plain = node.format_spec is None and node.conversion in (-1, ord("s"))
        return self.texts(node.value, scope) if plain else None

    def _choice(self, node: ast.IfExp, scope: Scope) -> Texts | None:
        return _union([self.texts(node.body, scope), self.texts(node.orelse, scope)])

    def _walrus(self, node: ast.NamedExpr, scope: Scope) -> Texts | None:
        return self.texts(node.value, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Texts | None:
        part = node.slice
        if not (isinstance(part, ast.Slice) and part.lower is None and part.upper is None):
            return None
        if part.step is None or ast.unparse(part.step) != "-1":
            return None
        known = self.texts(node.value, scope)
        return known and tuple(text[::-1] for text in known)

    def _call(self, node: ast.Call, scope: Scope) -> Texts | None:
        if node.keywords:
            return None
        if isinstance(node.func, ast.Name) and node.func.id == "chr" and len(node.args) == 1:
            return _character(node.args[0])
        if not isinstance(node.func, ast.Attribute):
            return None
        receiver, method, args = node.func.value, node.func.attr, node.args
        if isinstance(receiver, ast.Constant) and isinstance(receiver.value, bytes):
            return _decoded(receiver.value) if method == "decode" else None
        texts = self.texts(receiver, scope)
        if texts is None:
            return None
        if method == "join" and len(args) == 1 and isinstance(args[0], ast.List | ast.Tuple):
            parts = [self.texts(element, scope) for element in args[0].elts]
            separated: list[Texts | None] = []
            for part in parts:
                separated += [part, texts]
            return _joined(separated[:-1])
        return self._method(texts, method, [self.texts(arg, scope) for arg in args])

    def _method(self, texts: Texts, method: str, args: list[Texts | None]) -> Texts | None:
        if not args and method in _PLAIN_METHODS:
            return tuple(_PLAIN_METHODS[method](text) for text in texts)
        values = [arg[0] for arg in args if arg is not None and len(arg) == 1]
        if method == "replace" and len(values) == len(args) == 2 and len(values[1]) <= 64:
            return tuple(text.replace(values[0], values[1]) for text in texts)
        return None


_PLAIN_METHODS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "strip": str.strip,
    "casefold": str.casefold,
    "swapcase": str.swapcase,
}

_FOLDS: dict[type[ast.expr], Callable[[Constants, Any, Scope], Texts | None]] = {
    ast.Constant: Constants._constant,
    ast.Name: Constants._name,
    ast.BinOp: Constants._binary,
    ast.JoinedStr: Constants._joined_string,
    ast.FormattedValue: Constants._formatted,
    ast.IfExp: Constants._choice,
    ast.NamedExpr: Constants._walrus,
    ast.Subscript: Constants._subscript,
    ast.Call: Constants._call,
}


def _capped(texts: Texts | None) -> Texts | None:
    if texts is None or len(texts) > MAX_TEXTS or any(len(text) > MAX_CHARS for text in texts):
        return None
    return texts


def _union(parts: Iterable[Texts | None]) -> Texts | None:
    found: dict[str, None] = {}
    for part in parts:
        if part is None or len(found) > MAX_TEXTS:
            return None
        found.update(dict.fromkeys(part))
    return tuple(found) or None


def _joined(parts: list[Texts | None]) -> Texts | None:
    """Every concatenation of one text of each part; None when one is unknown or they are many."""
    total = 1
    known: list[Texts] = []
    for part in parts:
        if part is None:
            return None
        total *= len(part)
        if total > MAX_TEXTS:
            return None
        known.append(part)
    return tuple("".join(choice) for choice in product(*known))


def _character(node: ast.expr) -> Texts | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return (chr(value),) if type(value) is int and 0 <= value < 0x110000 else None


def _decoded(data: bytes) -> Texts | None:
    try:
        return (data.decode(),)
    except UnicodeDecodeError:
        return None

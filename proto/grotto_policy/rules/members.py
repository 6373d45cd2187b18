"""Members of modules, however they are reached: `from m import x`, `m.x`, `getattr(m, "x")`."""

import ast
import sys
from collections.abc import Iterator, Mapping

from grotto_policy.context import Context
from grotto_policy.model import Attributes, Reason, Violation
from grotto_policy.rules import imports as import_rules

LIMITED = Reason(
    "This module reaches into the interpreter, so only its harmless members may be used.",
    "Use one of: {members}.",
)
RENAMED = Reason(
    "It looks attributes up by text, which can be checked under its own name alone.",
    "Import it without `as`, or write the attribute directly: `obj.name`.",
)


def imported(module: str, alias: ast.alias, context: Context) -> Iterator[Violation]:
    """Judges one name of a `from module import name`."""
    found = refused(module, alias.name, context)
    lookups = context.policy.calls.lookups if context.policy.calls else frozenset()
    if found is None and alias.asname not in (None, alias.name) and alias.name in lookups:
        found = "call", RENAMED
    if found is not None:
        yield context.violation(found[0], f"{module}.{alias.name}", alias, found[1])


def refused(module: str, name: str, context: Context) -> tuple[str, Reason] | None:
    """Returns (rule, why) when member `name` of `module` is refused, None otherwise.

    `module` is the dotted name of anything that was imported, a class or function included.
    """
    policy, path = context.policy, f"{module}.{name}"
    if policy.imports is not None:
        limited = policy.imports.members.get(module)
        if limited is not None and name not in limited and not _is_dunder(name):
            return "import", limited_to(limited)
        denied = import_rules.in_tree(path, policy.imports.denied)
        if denied is not None and import_rules.in_tree(module, policy.imports.denied) is None:
            return "import", denied
    if policy.calls is not None:
        reason = by_ending(path, policy.calls.members)
        if reason is not None:
            return "call", reason
    if policy.attributes is not None:
        reason = _underscored(path, name, policy.attributes)
        if reason is not None:
            return "attribute", reason
    return None


def limited_to(names: frozenset[str]) -> Reason:
    listed = ", ".join(sorted(names))
    return Reason(LIMITED.why, LIMITED.hint.format(members=listed))


def by_ending(path: str, endings: Mapping[str, Reason]) -> Reason | None:
    """Returns the entry for the last one or two components of a dotted name."""
    head, _, last = path.rpartition(".")
    return endings.get(last) or endings.get(f"{head.rpartition('.')[2]}.{last}")


def is_pivot(path: str, attributes: Attributes) -> bool:
    """Whether a dotted name ends in what innocent modules call a refused one."""
    name = path.rpartition(".")[2]
    return name.lstrip("_") in attributes.pivots and path not in attributes.exceptions


def _underscored(path: str, name: str, attributes: Attributes) -> Reason | None:
    if is_pivot(path, attributes):
        return attributes.pivot
    if _is_dunder(name):
        return None if name in attributes.dunders else attributes.dunder
    if name.startswith("_") and name not in attributes.public_underscore:
        return attributes.private if path.partition(".")[0] in sys.stdlib_module_names else None
    return None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")

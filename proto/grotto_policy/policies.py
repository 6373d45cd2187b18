"""The policies that ship with Grotto.

Owns which tables make up which policy. All of them are guard rails for a model that writes
code, not boundaries: the kernel layers of the sandbox confine what the code does.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from grotto_policy import catalogue as c
from grotto_policy.model import Attributes, Calls, Imports, Paths, Pattern, Policy, Reason

_TROJAN = Pattern(
    name="bidirectional control character",
    regex=re.compile("[\u202a-\u202e\u2066-\u2069]"),
    reason=Reason(
        "Bidirectional control characters make code look different from what runs.",
        'Remove them; in text, write the escape, such as "\\u202e".',
    ),
)

_IMPORTS = Imports(
    denied={name: why for name, why in c.MODULES.items() if name not in c.LIMITED_MODULES},
    private=c.PRIVATE_MODULE,
    members=c.LIMITED_MODULES,
    star=c.STAR_MODULES,
)
_CALLS = Calls(
    denied=c.BUILTINS,
    denied_calls=c.BUILTIN_CALLS,
    members=c.MEMBERS,
    lookups=c.LOOKUPS,
    lookup=c.LOOKUP,
    evaluators=c.EVALUATORS,
    pickles=c.NO_ALLOW_PICKLE,
    paths=Paths(
        callables=c.PATH_CALLABLES,
        prefixes=c.PATH_PREFIXES,
        keywords=c.PATH_KEYWORDS,
        roots=c.WORKSPACE_ROOTS,
        reason=c.OUTSIDE,
    ),
)
_ATTRIBUTES = Attributes(
    denied=c.ATTRIBUTES,
    dunders=c.HARMLESS_DUNDERS,
    dunder=c.DUNDER,
    private=c.PRIVATE_MEMBER,
    public_underscore=c.PUBLIC_UNDERSCORE,
    pivots=c.PIVOTS,
    pivot=c.PIVOT,
    exceptions=c.PIVOT_EXCEPTIONS,
    landmarks=c.LANDMARKS,
)
_STANDARD = Policy("standard", _IMPORTS, _CALLS, _ATTRIBUTES, (_TROJAN,))

_NO_LOOKUP = Reason(
    "This policy accepts no attribute lookups by text.",
    "Write the attribute directly: `obj.name`.",
)
_NO_FILES = Reason(
    "This policy accepts no files opened by hand.",
    "Use the injected variables, or `pandas.read_csv` on a file of the workspace.",
)
_STRICT = Policy(
    "strict",
    replace(_IMPORTS, allowed=c.STRICT_MODULES, unlisted=c.UNLISTED, members={}, star=frozenset(),
            denied=c.MODULES),
    replace(
        _CALLS,
        denied={**c.BUILTINS, "open": _NO_FILES, **dict.fromkeys(c.LOOKUPS, _NO_LOOKUP)},
    ),
    replace(_ATTRIBUTES, pivots=c.PIVOTS | {"threading", "asyncio", "concurrent", "pathlib"}),
    (_TROJAN,),
)

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {policy.name: policy for policy in (_STRICT, _STANDARD, Policy("open"))}
)
"""By name, strictest first. `standard` guards data work; `strict` is an allow-list without files,
threads or lookups by text; `open` has no rule at all."""


class UnknownPolicy(ValueError):  # noqa: N818 - the name is part of the interface
    """No policy of that name; the message lists those there are."""


def load(name: str) -> Policy:
    """Returns the policy called `name`; raises UnknownPolicy."""
    policy = POLICIES.get(name)
    if policy is None:
        known = ", ".join(POLICIES)
        raise UnknownPolicy(f"there is no policy {ascii(name)[:80]}; the policies are: {known}")
    return policy

"""The policies that ship with Grotto.

Owns which tables make up which policy. All of them are guard rails for a model that writes
code, not boundaries: the kernel layers of the sandbox confine what the code does.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from grotto_policy.model import Attributes, Calls, Imports, Paths, Pattern, Policy, Reason
from grotto_policy.tables import attributes, callables, modules, paths, reasons

_TROJAN = Pattern(
    name="bidirectional control character",
    regex=re.compile("[\u202a-\u202e\u2066-\u2069]"),
    reason=Reason(
        "Bidirectional control characters make code look different from what runs.",
        'Remove them; in text, write the escape, such as "\\u202e".',
    ),
)

_IMPORTS = Imports(
    denied={
        name: why for name, why in modules.MODULES.items() if name not in modules.LIMITED_MODULES
    },
    private=reasons.PRIVATE_MODULE,
    members=modules.LIMITED_MODULES,
    star=modules.STAR_MODULES,
)
_CALLS = Calls(
    denied=callables.BUILTINS,
    denied_calls=callables.BUILTIN_CALLS,
    members=callables.MEMBERS,
    lookups=callables.LOOKUPS,
    lookup=callables.LOOKUP,
    evaluators=callables.EVALUATORS,
    pickles=callables.NO_ALLOW_PICKLE,
    paths=Paths(
        callables=paths.PATH_CALLABLES,
        prefixes=paths.PATH_PREFIXES,
        keywords=paths.PATH_KEYWORDS,
        statements=paths.SQL_CALLABLES,
        roots=paths.WORKSPACE_ROOTS,
        reason=paths.OUTSIDE,
    ),
)
_ATTRIBUTES = Attributes(
    denied=attributes.ATTRIBUTES,
    dunders=attributes.HARMLESS_DUNDERS,
    text_dunders=attributes.TEXT_DUNDERS,
    dunder=attributes.DUNDER,
    private=attributes.PRIVATE_MEMBER,
    public_underscore=attributes.PUBLIC_UNDERSCORE,
    pivots=attributes.PIVOTS,
    pivot=attributes.PIVOT,
    exceptions=attributes.PIVOT_EXCEPTIONS,
    landmarks=attributes.LANDMARKS,
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
    replace(
        _IMPORTS,
        denied=modules.MODULES,
        allowed=modules.STRICT_MODULES,
        unlisted=reasons.UNLISTED,
        members={},
        star=frozenset(),
    ),
    replace(
        _CALLS,
        denied={
            **callables.BUILTINS,
            **dict.fromkeys(callables.LOOKUPS, _NO_LOOKUP),
            "open": _NO_FILES,
        },
        members={**callables.MEMBERS, **dict.fromkeys(("io.open", "FileIO"), _NO_FILES)},
    ),
    replace(_ATTRIBUTES, pivots=attributes.PIVOTS | {"threading", "asyncio", "pathlib"}),
    (_TROJAN,),
)

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {policy.name: policy for policy in (_STRICT, _STANDARD, Policy("open"))}
)
"""By name, strictest first. `standard` guards data work; `strict` is an allow-list without files,
threads or lookups by text; `open` has no rule at all."""


class UnknownPolicy(ValueError):
    """No policy of that name; the message lists those there are."""


def load(name: str) -> Policy:
    """Returns the policy called `name`; raises UnknownPolicy."""
    policy = POLICIES.get(name)
    if policy is None:
        known = ", ".join(POLICIES)
        raise UnknownPolicy(f"there is no policy {ascii(name)[:80]}; the policies are: {known}")
    return policy

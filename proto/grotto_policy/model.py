"""The policy document and the shape of a denial.

Owns the frozen dataclasses only: what a policy may say. It must not judge code
(`rules/`) nor hold the contents of a policy (`catalogue.py`, `policies.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing in the source that the policy refuses."""

    layer: str
    """Which layer refuses; always "ast" here."""
    rule: str
    """Stable identifier: import, call, attribute, format, path, pattern or complexity."""
    what: str
    """The thing itself, such as "os.path"; cut to a readable length, hostile text otherwise."""
    line: int
    """1-based."""
    column: int
    """1-based, in characters."""
    why: str
    """One sentence: what is wrong with it."""
    hint: str
    """One sentence: what to write instead."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is refused and what to do instead, one sentence each."""

    why: str
    hint: str


@dataclass(frozen=True)
class Imports:
    """Which modules may be imported, by module tree: `os` stands for `os.path` as well."""

    denied: Mapping[str, Reason]
    """Root of a refused tree → reason. Roots may be dotted (`urllib.request`)."""
    private: Reason
    """Why modules with a leading underscore (C accelerators) are refused."""
    allowed: frozenset[str] | None = None
    """When given, trees outside these are refused as well, with `unlisted`."""
    unlisted: Reason | None = None
    """The reason for a tree that is not in `allowed`."""
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Modules of which only these members may be used, always by the module's own name."""
    star: frozenset[str] = frozenset()
    """Modules whose star import binds nothing this policy guards."""


@dataclass(frozen=True)
class Paths:
    """Literal paths that leave the workspace; what is computed at run time is for other layers."""

    callables: frozenset[str]
    """Last names of callables whose first argument is a path."""
    prefixes: tuple[str, ...]
    """Prefixes of such names (`read_`, `to_`)."""
    keywords: frozenset[str]
    """Keyword arguments that hold a path."""
    statements: frozenset[str]
    """Last names of callables whose first argument is SQL, which may name files."""
    roots: tuple[str, ...]
    """Absolute folders that belong to the session."""
    reason: Reason


@dataclass(frozen=True)
class Calls:
    """Callables that are refused, or accepted only where their use can be read off the source."""

    denied: Mapping[str, Reason]
    """Builtins refused wherever their name is read: called, aliased, passed or decorated with."""
    denied_calls: Mapping[str, Reason]
    """Builtins refused when called; reading the name is harmless."""
    members: Mapping[str, Reason]
    """Refused members of imported modules, by the last one or two parts of the dotted name."""
    lookups: frozenset[str]
    """Functions that look attributes up by text: only called directly, with names one can read."""
    lookup: Reason
    """Why any other use of `lookups` is refused."""
    evaluators: frozenset[str]
    """Last names of callables that evaluate text (`query`, `sympify`): literal text is checked."""
    pickles: Reason | None = None
    """Why `allow_pickle` is refused; None accepts it."""
    paths: Paths | None = None


@dataclass(frozen=True)
class Attributes:
    """Attribute names that lead out of ordinary objects, in any spelling the syntax offers."""

    denied: Mapping[str, Reason]
    """Refused on every object (frames, code objects, processes)."""
    dunders: frozenset[str]
    """Double-underscore names that may be read; every other one is refused."""
    text_dunders: frozenset[str]
    """Those that may also be named in text: lookups by text and format fields."""
    dunder: Reason
    private: Reason
    """Why members with a leading underscore are refused on modules of the standard library."""
    public_underscore: frozenset[str]
    """Names with a leading underscore that are documented interfaces (`_asdict`)."""
    pivots: frozenset[str]
    """Names under which innocent modules keep refused ones (`json.codecs.sys`)."""
    pivot: Reason
    exceptions: frozenset[str] = frozenset()
    """Dotted module names that look like a pivot and are not (`scipy.signal`)."""
    landmarks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Module name → members that betray it whatever object it hangs on (`x.os.popen`)."""


@dataclass(frozen=True)
class Pattern:
    """A regular expression over the source text, for what the syntax tree does not contain."""

    name: str
    regex: re.Pattern[str]
    reason: Reason


@dataclass(frozen=True)
class Policy:
    """What one session's code may say. A part that is None is not checked.

    A policy is a guard rail for a model that writes code: it says early and clearly what
    will not work here. It is not a boundary. Code that wants to can get past any check of
    source text; the sandbox's kernel layers are what confines it.
    """

    name: str
    """As the session's settings name it."""
    imports: Imports | None = None
    calls: Calls | None = None
    attributes: Attributes | None = None
    """Also what format strings and attribute lookups by text are held against."""
    patterns: tuple[Pattern, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule at all."""
        parts = (self.imports, self.calls, self.attributes)
        return not self.patterns and all(part is None for part in parts)

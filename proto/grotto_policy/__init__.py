"""Policy documents and the check of source text against them.

Pure: standard library only, nothing the source names is imported or run. A guard rail for a
model that writes code, not a boundary.

    >>> from grotto_policy import check, load
    >>> [v.what for v in check("import os", load("standard"))]
    ['os']
"""

from grotto_policy.checking import MAX_VIOLATIONS, check
from grotto_policy.model import Policy, Violation
from grotto_policy.policies import POLICIES, UnknownPolicy, load

__all__ = [
    "MAX_VIOLATIONS",
    "POLICIES",
    "Policy",
    "UnknownPolicy",
    "Violation",
    "check",
    "load",
]

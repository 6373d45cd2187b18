"""Builtins and functions that are refused, or looked at more closely."""

from collections.abc import Mapping

from grotto_policy.model import Reason
from grotto_policy.tables.reasons import (
    IMPORTER,
    INTERPRETER,
    NATIVE,
    NETWORK,
    PICKLES,
    PROCESSES,
    RUNTIME,
    words,
)

_CODE = Reason(
    "It runs text as code, which cannot be checked.",
    "Write the code itself; read values with `ast.literal_eval` or `json.loads`.",
)
_NAMESPACE = Reason(
    "It hands out a namespace, with everything the interpreter holds in it.",
    "Use the variables by name, or keep values in a dict of your own.",
)
_NO_INPUT = Reason(
    "Nobody can answer: the sandbox has no terminal.",
    "Assign the value in the code, or ask the user in your answer.",
)
LOOKUP = Reason(
    "It looks attributes up by text, so it may only be called directly, with names one can read.",
    'Write the attribute directly, `obj.name`, or `getattr(obj, "name", default)`.',
)
BUILTINS: Mapping[str, Reason] = {
    **dict.fromkeys(("eval", "exec", "compile"), _CODE),
    **dict.fromkeys(("globals", "locals", "vars"), _NAMESPACE),
    "__import__": IMPORTER,
    "__builtins__": INTERPRETER,
    "__loader__": IMPORTER,
    "__spec__": IMPORTER,
    "__build_class__": INTERPRETER,
    "get_ipython": RUNTIME,
}
BUILTIN_CALLS: Mapping[str, Reason] = {"input": _NO_INPUT, "breakpoint": _NO_INPUT}
LOOKUPS = frozenset({"getattr", "setattr", "delattr", "attrgetter", "methodcaller"})

_HINTS = Reason(
    "It evaluates annotations, which are text, as code.",
    "Read `__annotations__`, or `dataclasses.fields` for a dataclass.",
)
_FORMATTER = Reason(
    "It reads attributes that a format text names, and returns the objects.",
    'Use f-strings, or `"{name}".format(name=value)`.',
)
MEMBERS: Mapping[str, Reason] = {
    **dict.fromkeys(
        ("get_type_hints", "ForwardRef", "get_annotations", "evaluate_forward_ref"), _HINTS
    ),
    **dict.fromkeys(("string.Formatter", "Formatter.get_field"), _FORMATTER),
    **dict.fromkeys(
        ("CodeType", "resolve_name", "runstring", "rundocs", "loadTestsFromName"), IMPORTER
    ),
    **dict.fromkeys(
        ("ProcessPoolExecutor", "create_subprocess_exec", "create_subprocess_shell"), PROCESSES
    ),
    **dict.fromkeys(("open_code", "ctypeslib", "f2py"), NATIVE),
    **dict.fromkeys(("urlopen", "urlretrieve", "open_connection", "start_server"), NETWORK),
    **dict.fromkeys(("read_pickle", "pandas.to_pickle"), PICKLES),
}
NO_ALLOW_PICKLE = Reason(
    "Loading pickled objects runs any code they contain.",
    "Save plain arrays without objects, or a table as CSV or Parquet.",
)
EVALUATORS = words(
    "eval query sympify parse_expr lambdify S evaluate re_evaluate assign_formula from_formula"
    " dmatrix dmatrices ols gls wls glsar logit probit poisson mnlogit negativebinomial glm mixedlm"
    " rlm quantreg phreg gee conditional_logit"
)

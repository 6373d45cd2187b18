"""Reasons that several tables share, and how a table of names is written."""

from grotto_policy.model import Reason

PROCESSES = Reason(
    "It starts or controls processes of the operating system.",
    "Do the work in Python in this session; long work may take several executions.",
)
FILES = Reason(
    "It reaches the operating system and files outside the session.",
    'Use `open("file.txt")`, `pathlib.Path("data")` or `pandas.read_csv("file.csv")`: relative'
    " paths are files of the workspace.",
)
NETWORK = Reason(
    "It opens network connections, and the sandbox has none.",
    "Work with the variables and files of the session; ask for missing data to be injected.",
)
INTERPRETER = Reason(
    "It reaches into the running interpreter.",
    "Use ordinary functions, classes and the injected variables.",
)
IMPORTER = Reason(
    "It imports or runs code that cannot be read off the source.",
    "Write the import as a statement, `import json`, and call functions directly.",
)
NATIVE = Reason(
    "It calls native code or raw memory, past every check.",
    "Use numpy for binary data and fast arithmetic.",
)
PICKLES = Reason(
    "It loads pickles or code objects, which run any code they contain.",
    "Keep objects in variables of the session; store tables as CSV or Parquet, the rest as JSON.",
)
TERMINAL = Reason(
    "It needs a terminal, a display or a person at a keyboard, and the sandbox has none.",
    "Assign the value in the code, and print or plot results.",
)
RUNTIME = Reason(
    "It belongs to the runtime that executes this code.",
    "Use the injected variables; results are read by name.",
)
TIMING = Reason(
    "It runs text as code.",
    "Measure with `time.perf_counter()` before and after the call.",
)
PRIVATE_MODULE = Reason(
    "A module with a leading underscore is an internal part of the interpreter or a library.",
    "Import the public module instead, such as `io` for `_io`.",
)
UNLISTED = Reason(
    "This policy accepts listed modules only, and this one is not listed.",
    "Use the standard mathematics, text and collection modules, numpy or pandas.",
)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def table(*groups: tuple[Reason, str]) -> dict[str, Reason]:
    return {name: reason for reason, names in groups for name in names.split()}

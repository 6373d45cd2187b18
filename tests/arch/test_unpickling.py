"""Unpickling happens in the worker alone: nothing else may load what somebody else dumped."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
DUMPING = {"dumps", "dump", "Pickler", "HIGHEST_PROTOCOL", "DEFAULT_PROTOCOL", "PicklingError"}
"""What the client may use of dill: the direction that runs nothing."""
IMPORTERS = {"import_module", "__import__"}
READERS = {"read_pickle", "load_pickle", "loads_pickle"}
UNPICKLING_FOLDER = "sandbox_image/grotto_worker"
ROOTS = ("proto", "sdk", "control_plane", "sandbox_image")


def unpickling(source: str) -> Iterator[str]:
    """Yields every use of a pickle library in a source text that is not plainly dumping."""
    tree = ast.parse(source)
    aliases: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in PICKLERS:
                    aliases.add((name.asname or name.name).split(".")[0])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS:
            yield from (f"{node.module}.{n.name}" for n in node.names if n.name not in DUMPING)
    yield from _uses(tree, aliases)


def _uses(tree: ast.AST, aliases: set[str]) -> Iterator[str]:
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):  # an attribute comes before the name inside it
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in aliases:
                allowed |= {node.value} if node.attr in DUMPING else set()
            if node.attr in READERS:
                yield node.attr
        elif isinstance(node, ast.Name) and node.id in aliases and node not in allowed:
            yield f"{node.id} (line {node.lineno})"
        elif isinstance(node, ast.Call) and _imports_by_name(node):
            yield f"an import by name (line {node.lineno})"


def _imports_by_name(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return name in IMPORTERS and any(word.split(".")[0] in PICKLERS for word in words)


def modules(checkout_root: Path) -> list[Path]:
    found = [path for root in ROOTS for path in (checkout_root / root).rglob("*.py")]
    return [path for path in found if UNPICKLING_FOLDER not in path.as_posix()]


def test_only_the_worker_unpickles(checkout_root: Path) -> None:
    paths = modules(checkout_root)
    assert len(paths) > 20, "the scan found too few modules to mean anything"
    found = {str(path): list(unpickling(path.read_text())) for path in paths}
    assert not {path: uses for path, uses in found.items() if uses}


def test_grotto_wire_and_the_control_plane_do_not_even_dump(checkout_root: Path) -> None:
    for folder in ("proto", "control_plane"):
        for path in (checkout_root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [n.name for n in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.split(".")[0] for name in names} & PICKLERS, path


@pytest.mark.parametrize(
    "planted",
    [
        "import dill\ndill.loads(b'')",
        "import dill as safe\nsafe.loads(b'')",
        "from dill import loads",
        "import pickle\nload = pickle.loads",
        "import pickle\ngetattr(pickle, 'lo' + 'ads')(b'')",
        "import pandas\npandas.read_pickle('x')",
        "import importlib\nimportlib.import_module('pickle')",
        "def f():\n    import cloudpickle\n    return cloudpickle",
    ],
)
def test_a_planted_unpickling_is_found(planted: str) -> None:
    assert list(unpickling(planted))


@pytest.mark.parametrize(
    "harmless",
    ["import dill\ndill.dumps(1)", "from dill import dumps", "import json\njson.loads('')"],
)
def test_dumping_is_not_mistaken_for_it(harmless: str) -> None:
    assert not list(unpickling(harmless))

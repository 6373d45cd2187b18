"""Regenerates the stubs of `grotto_proto` from its .proto files.

`python proto/generate.py [OUT]` writes below OUT (default: this folder), with
directory paths equal to import paths. `make check` generates into a temporary
folder and compares.
"""

import os
import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent


def main() -> int:
    out = sys.argv[1] if len(sys.argv) > 1 else str(HERE)
    # protoc looks for the mypy plugins on PATH; they sit beside the interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    protos = sorted(HERE.glob("grotto_proto/v1/*.proto"))
    services = [p for p in protos if "\nservice " in p.read_text()]
    return run(out, ("python", "mypy"), protos) or run(out, ("grpc_python", "mypy_grpc"), services)


def run(out: str, kinds: tuple[str, ...], protos: list[Path]) -> int:
    """Runs protoc with the given output plugins over the given files."""
    outputs = [f"--{kind}_out={out}" for kind in kinds]
    paths = [str(path.relative_to(HERE)) for path in protos]
    return int(protoc.main(["protoc", f"-I{HERE}", *outputs, *paths]))


if __name__ == "__main__":
    sys.exit(main())

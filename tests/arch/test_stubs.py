"""The checked-in stubs are, byte by byte, what the generator makes of the .proto files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "grpc_tools", reason="the stub generator is not installed: `make check` brings it"
)
IS_STUB = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(proto: Path, out: Path) -> dict[str, bytes]:
    """Runs the generator of a proto folder; returns its output by relative path."""
    out.mkdir()
    subprocess.run([sys.executable, proto / "generate.py", out], check=True)
    return stubs(out)


def stubs(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.name.endswith(IS_STUB)
    }


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Returns the files that are in one only, or not the same in both."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def test_the_stubs_are_fresh(checkout_root: Path, tmp_path: Path) -> None:
    fresh = generate(checkout_root / "proto", tmp_path / "out")
    assert fresh, "the generator made nothing"
    stale = differing(fresh, stubs(checkout_root / "proto"))
    assert not stale, f"run `make proto`; stale: {stale}"


def test_a_changed_proto_file_makes_the_stubs_stale(checkout_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "proto"
    shutil.copytree(checkout_root / "proto", copy)
    planted = copy / "grotto_proto" / "v1" / "values.proto"
    planted.write_text(planted.read_text() + "\nmessage Planted {}\n")
    stale = differing(generate(copy, tmp_path / "out"), stubs(copy))
    assert "grotto_proto/v1/values_pb2.py" in stale
    assert all(name.startswith("grotto_proto/v1/values_pb2") for name in stale)

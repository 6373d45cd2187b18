"""Replies whose size a sandbox decides stay below what a gRPC message may hold."""

import os

import pytest

from grotto_proto.v1 import values_pb2
from grotto_runtime import variables
from grotto_runtime.files import Workspace
from grotto_runtime.server import MESSAGE_BYTES
from grotto_wire.frames import VariableInfo

SMILE = "\N{GRINNING FACE}"


def info(text: str = "", size_bytes: int = 0, name: str = "name") -> VariableInfo:
    return VariableInfo(name, text, size_bytes, text, text, text, text, text)


@pytest.mark.parametrize(("claimed", "said"), [(-1, 0), (-(2**63), 0), (2**64 - 1, 2**62), (7, 7)])
def test_a_size_no_object_has_does_not_break_the_reply(claimed, said):
    (found,) = variables.reply([info(size_bytes=claimed)]).variables
    assert found.size_bytes == said


@pytest.mark.parametrize("text", ["", "x" * 10, "x" * 100_000, SMILE * 100_000])
def test_variables_fit_whatever_their_texts(text):
    found = variables.reply([info(text, name=f"n{n}") for n in range(5000)])
    assert found.ByteSize() < MESSAGE_BYTES
    assert [v.name for v in found.variables] == [f"n{n}" for n in range(len(found.variables))]
    assert len(found.variables) == variables.MAX_VARIABLES or len(text) > 10
    assert values_pb2.Variables.FromString(found.SerializeToString()) == found


def test_texts_of_ordinary_length_are_told_whole():
    given = VariableInfo("area", "function", 144, "p", "by hand", "injected", "(r)", "Of a circle.")
    (found,) = variables.reply([given]).variables
    assert {field: getattr(found, field) for field in given.__struct_fields__} == {
        field: getattr(given, field) for field in given.__struct_fields__
    }


def test_files_fit_however_long_their_paths(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(14):
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    for number in range(1500):
        os.close(os.open(str(number), os.O_CREAT, dir_fd=folder))
    os.close(folder)
    found = Workspace(str(tmp_path)).listing("")
    assert found.truncated and len(found.files) > 500
    assert found.ByteSize() < MESSAGE_BYTES

"""Text of others, and the framing of chunks."""

import pytest

from grotto_control.core.chunks import chunk_bytes
from grotto_control.core.clock import is_session_id, new_session_id
from grotto_control.model.text import visible
from grotto_proto.v1 import sessions_pb2, values_pb2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain café", "plain café"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\0", "a\\nb\\r\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069\u200b\u2028", "\\u2066x\\u2069\\u200b\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_could_act_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert visible(text, 100) == shown


def test_text_is_cut() -> None:
    assert visible("a" * 10_000, 5) == "aaaaa…"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 1_048_576])
def test_the_length_of_a_chunk_is_read_from_its_frame(size: int) -> None:
    chunk = b"x" * size
    for message in (
        sessions_pb2.PutValueRequest(chunk=chunk),
        sessions_pb2.UploadFileRequest(chunk=chunk),
        values_pb2.GetValueChunk(chunk=chunk),
        values_pb2.FileChunk(chunk=chunk),
    ):
        assert chunk_bytes(message.SerializeToString()) == size


GOOD = values_pb2.GetValueChunk(chunk=b"abc").SerializeToString()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x12",
        b"\x12\x80\x80\x80\x80\x80\x01",
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        values_pb2.GetValueChunk(size_bytes=3).SerializeToString(),
        b"\x12\xff\xff\xff\x7f" + b"x",
    ],
)
def test_anything_else_is_no_chunk(raw: bytes) -> None:
    assert chunk_bytes(raw) is None


def test_session_ids_are_long_random_and_checked() -> None:
    ids = {new_session_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(map(is_session_id, ids))
    one = ids.pop()
    for bad in ("", "s_", one[:-1], one + "A", "x" + one[1:], one[:-1] + "/", one[:-1] + "é"):
        assert not is_session_id(bad)

"""Values and files: chunks, bounds, hostile senders, all or none."""

import itertools

import pytest

import grotto
from grotto._chunks import CHUNK_BYTES, chunks
from grotto._printable import printable, without_escapes
from grotto_proto.v1 import values_pb2

Chunk = values_pb2.GetValueChunk


@pytest.mark.parametrize(
    "sizes",
    [[], [0], [1], [CHUNK_BYTES], [CHUNK_BYTES + 1], [3, CHUNK_BYTES, 3], [2 * CHUNK_BYTES, 5, 7]],
)
def test_chunks_are_full_but_the_last_and_lose_nothing(sizes):
    letters = itertools.cycle(b"abcdefg")
    segments = [bytes(itertools.islice(letters, size)) for size in sizes]
    cut = list(chunks(segments))
    assert b"".join(cut) == b"".join(segments)
    assert all(len(chunk) == CHUNK_BYTES for chunk in cut[:-1])
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in cut)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.inject(), "1 to 1000 values"),
        (lambda s: s.inject({}), "1 to 1000 values"),
        (lambda s: s.inject("x"), "no value for 'x'"),
        (lambda s: s.inject(5), "a name or a mapping"),
        (lambda s: s.inject("x", 1, y=2), "not both"),
        (lambda s: s.inject({"x": 1}, 2), "name comes first"),
        (lambda s: s.inject({"x": 1}, x=2), "given twice"),
        (lambda s: s.inject("not a name", 1), "cannot be a variable name"),
        (lambda s: s.inject("class", 1), "keyword"),
        (lambda s: s.inject("x = 1\nimport os", 1), "cannot be a variable name"),
        (lambda s: s.inject(a=1, __import__=2), "reserved"),
        (lambda s: s.inject(a=1, description="text"), "mapping from name to text"),
        (lambda s: s.inject({"a": 1}, description={"b": "text"}), "no value, for|for 'b'"),
        (lambda s: s.retrieve(), "1 to 1000 names"),
        (lambda s: s.retrieve("a b"), "cannot be a variable name"),
        (lambda s: s.delete("__builtins__"), "reserved"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_sent(session, fake, call, says):
    with pytest.raises(grotto.InvalidArgumentError, match=says):
        call(session)
    assert not fake.requests["PutValue"] and not fake.requests["GetValue"]


def test_a_value_over_the_session_s_limit_is_not_sent(client, fake):
    fake.limits.value_bytes = 1000
    with client.session() as session:
        with pytest.raises(grotto.ValueTooLargeError, match="1,000"):
            session.inject("x", b"a" * 2000)
        assert not fake.requests["PutValue"]
        session.inject("x", b"a" * 100)


def test_values_travel_in_chunks_with_names_and_descriptions(session, fake):
    session.inject({"a": b"x" * (2 * CHUNK_BYTES), "b": 1}, description={"a": "Big."})
    spec = fake.requests["PutValue"][0].spec
    assert (list(spec.names), dict(spec.descriptions)) == (["a", "b"], {"a": "Big."})
    assert spec.size_bytes == len(fake.received)
    assert fake.requests["PutValue.sizes"][0][:2] == [CHUNK_BYTES, CHUNK_BYTES]


def test_what_cannot_be_encoded_is_told_with_its_path(session):
    with pytest.raises(grotto.UntransferableError) as caught:
        session.inject("box", {"items": (n for n in ())})
    assert caught.value.path == 'box["items"]'
    assert caught.value.type_name == "generator"


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([Chunk(chunk=b"no size")], grotto.GrottoError),
        ([Chunk(size_bytes=2), Chunk(chunk=b"abc")], grotto.GrottoError),
        ([Chunk(size_bytes=4), Chunk(chunk=b"abc")], grotto.GrottoError),
        ([Chunk(size_bytes=2**63)], grotto.ValueTooLargeError),
        ([Chunk(size_bytes=3), Chunk(chunk=b"abc")], grotto.GrottoError),
        ([Chunk(size_bytes=0)], grotto.GrottoError),
    ],
)
def test_a_hostile_value_is_an_error_and_nothing_else(session, fake, parts, kind):
    fake.values = parts
    with pytest.raises(kind):
        session.retrieve("x")


def test_a_pickle_from_a_hostile_sandbox_achieves_nothing(session, fake, tmp_path):
    import pickle

    witness = tmp_path / "ran"
    attack = pickle.dumps(_Touch(str(witness)))
    pickle.loads(attack)  # control arm: unpickled, it would run
    assert witness.exists()
    witness.unlink()
    fake.values = [Chunk(size_bytes=len(attack)), Chunk(chunk=attack)]
    with pytest.raises(grotto.GrottoError):
        session.retrieve("x")
    assert not witness.exists()


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_progress_is_told(server, tmp_path):
    told = []
    with grotto.connect(server.url, "k", on_transfer=told.append) as client, client.session() as s:
        s.inject("x", b"a" * (CHUNK_BYTES + 5))
        source = tmp_path / "a.bin"
        source.write_bytes(b"abc")
        s.upload(source, "a.bin")
    assert told[-1] == grotto.Transfer("upload", "a.bin", 3, 3)
    last = [transfer for transfer in told if transfer.kind == "inject"][-1]
    assert (last.name, last.done_bytes) == ("x", last.total_bytes)


def test_a_file_goes_up(session, fake, tmp_path):
    content = bytes(range(256)) * 8192
    source = tmp_path / "a.bin"
    source.write_bytes(content)
    session.upload(source, "data/a.bin")
    assert bytes(fake.received) == content
    assert fake.requests["UploadFile"][0].spec == values_pb2.FileSpec(
        path="data/a.bin", size_bytes=len(content)
    )


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../b", "a\0b", "x" * 2000])
def test_a_path_that_leaves_the_workspace(session, tmp_path, path):
    for call in (lambda: session.upload(__file__, path), lambda: session.download(path, tmp_path)):
        with pytest.raises(grotto.InvalidArgumentError):
            call()


def test_a_local_file_that_is_not_there(session, tmp_path):
    with pytest.raises(grotto.InvalidArgumentError, match="cannot be read"):
        session.upload(tmp_path / "none", "a")
    with pytest.raises(grotto.InvalidArgumentError, match="cannot be written"):
        session.download("a", tmp_path / "no" / "such" / "folder")


def test_a_file_comes_down_whole_or_not_at_all(session, fake, tmp_path):
    target = tmp_path / "out.bin"
    info = values_pb2.FileInfo(path="../../evil", size_bytes=6)
    fake.downloads = [values_pb2.FileChunk(info=info), values_pb2.FileChunk(chunk=b"abc")]
    with pytest.raises(grotto.GrottoError, match="cut: 3 of 6"):
        session.download("a.bin", target)
    assert list(tmp_path.iterdir()) == []
    fake.downloads.append(values_pb2.FileChunk(chunk=b"def"))
    session.download("a.bin", target)
    assert target.read_bytes() == b"abcdef" and list(tmp_path.iterdir()) == [target]
    fake.downloads.append(values_pb2.FileChunk(chunk=b"more"))
    with pytest.raises(grotto.GrottoError, match="more bytes than it had announced"):
        session.download("a.bin", target)
    assert target.read_bytes() == b"abcdef"


def test_a_listing_says_when_it_is_cut(session):
    files = session.files()
    assert files[0] == grotto.FileInfo("data/a.csv", 3, 0.0, False)
    assert files.truncated


def test_nothing_of_a_sandbox_moves_the_cursor():
    attack = "a\x1b[2J\x9b31m\u202eb\u2066\r\x07\x00\u200b\ud800é\n"
    shown = printable(attack)
    assert "é\n" in shown and shown.isascii() is False
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert without_escapes("\x1b]0;title\x07red \x1b[31mtext\x1b[0m\n") == "red text\n"
    assert printable("x" * 50, 10).startswith("x" * 10 + "…")

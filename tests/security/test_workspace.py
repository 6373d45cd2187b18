"""Attacks on the daemon through the session's workspace: links, special files, paths."""

import os
import stat

import pytest

from grotto_runtime.errors import RuntimeFailure
from grotto_runtime.files import MAX_DEPTH, Workspace


@pytest.fixture
def outside(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    return secret


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def read(workspace, path):
    descriptor, info = workspace.open_for_read(path)
    with open(descriptor, "rb") as file:
        return file.read(), info


def write(workspace, path, data):
    upload = workspace.upload(path)
    try:
        upload.write(data)
        return upload.commit()
    finally:
        upload.close()


def test_what_was_uploaded_comes_back(root):
    workspace = Workspace(str(root))
    assert write(workspace, "a/b/c.bin", b"\0\1").size_bytes == 2
    data, info = read(workspace, "a/b/c.bin")
    assert (data, info.path, info.is_directory) == (b"\0\1", "a/b/c.bin", False)
    assert [found.path for found in workspace.listing("").files] == ["a", "a/b", "a/b/c.bin"]
    assert [found.path for found in workspace.listing("a/b").files] == ["a/b/c.bin"]


def test_an_upload_that_is_not_committed_leaves_nothing(root):
    upload = Workspace(str(root)).upload("x")
    upload.write(b"half")
    upload.close()
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "/etc/passwd", "", "..", "\0", "x" * 2000, "a/" * 40]
)
def test_a_path_out_of_the_workspace_is_refused(root, outside, path):
    workspace = Workspace(str(root))
    for attempt in (workspace.open_for_read, workspace.upload):
        with pytest.raises(RuntimeFailure):
            attempt(path)


def test_a_link_is_followed_neither_as_file_nor_as_folder(root, outside):
    (root / "file").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    assert (root / "file").read_text() == "secret"  # control: an ordinary open follows
    workspace = Workspace(str(root))
    for path in ("file", "folder/secret"):
        with pytest.raises(RuntimeFailure):
            read(workspace, path)
    with pytest.raises(RuntimeFailure):
        workspace.upload("folder/planted")
    assert [found.path for found in workspace.listing("").files] == []


def test_an_upload_replaces_a_link_and_never_writes_through_it(root, outside):
    (root / "file").symlink_to(outside)
    write(Workspace(str(root)), "file", b"new")
    assert outside.read_text() == "secret"
    assert stat.S_ISREG((root / "file").lstat().st_mode)


def test_a_fifo_or_a_device_neither_hangs_nor_is_read(root):
    os.mkfifo(root / "fifo")
    workspace = Workspace(str(root))
    with pytest.raises(RuntimeFailure, match="not a regular file"):
        read(workspace, "fifo")
    assert list(workspace.listing("").files) == []


def test_depth_and_count_of_a_listing_are_bounded(root, monkeypatch):
    inner = root
    for _ in range(MAX_DEPTH + 10):
        inner = inner / "d"
    inner.mkdir(parents=True)
    assert len(Workspace(str(root)).listing("").files) == MAX_DEPTH
    monkeypatch.setattr("grotto_runtime.files.MAX_LISTED", 5)
    assert Workspace(str(root)).listing("").truncated


def test_a_directory_where_a_file_is_asked_for_is_explained(root):
    (root / "folder").mkdir()
    with pytest.raises(RuntimeFailure, match="not a regular file"):
        read(Workspace(str(root)), "folder")
    with pytest.raises(RuntimeFailure, match="no 'missing'"):
        read(Workspace(str(root)), "missing")

"""Frames between daemon and worker: what is sent arrives, what is hostile is refused."""

import os
import socket

import msgspec
import pytest

from grotto_wire import frames


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_and_its_descriptors_arrive_together(pair):
    ours, theirs = pair
    reader, writer = os.pipe()
    message = frames.Put(7, ["x"], {"x": "sales"}, 12)
    socket.send_fds(ours, [frames.encode(message, 1)], [writer])
    os.close(writer)
    received, descriptors = frames.Channel(theirs).receive(frames.ToWorker)
    assert received == message
    assert len(descriptors) == 1
    assert not os.get_inheritable(descriptors[0])
    os.write(descriptors[0], b"!")
    os.close(descriptors[0])
    assert os.read(reader, 10) == b"!"
    os.close(reader)


def test_descriptors_that_were_not_announced_are_closed(pair):
    ours, theirs = pair
    reader, writer = os.pipe()
    socket.send_fds(ours, [frames.encode(frames.Describe(1), 0)], [writer])
    os.close(writer)
    _, descriptors = frames.Channel(theirs).receive(frames.ToWorker)
    assert descriptors == []
    assert os.read(reader, 1) == b""  # the surplus writing end is gone
    os.close(reader)


def test_announced_descriptors_that_do_not_come_are_an_error(pair):
    ours, theirs = pair
    ours.sendall(frames.encode(frames.Freeze(1), 3))
    with pytest.raises(frames.FrameError, match="3 descriptors announced"):
        frames.Channel(theirs).receive(frames.ToWorker)


def test_the_end_of_the_peer_is_closed_also_in_the_middle_of_a_frame(pair):
    ours, theirs = pair
    ours.sendall(frames.encode(frames.Describe(1))[:-1])
    ours.close()
    with pytest.raises(frames.Closed):
        frames.Channel(theirs).receive(frames.ToWorker)


@pytest.mark.parametrize(
    "header",
    [
        frames.HEADER.pack(frames.MAX_FRAME_BYTES + 1, 0, 0),
        frames.HEADER.pack(10, frames.MAX_DESCRIPTORS + 1, 0),
        frames.HEADER.pack(10, 0, 1),
        b"\xff" * 8,
    ],
)
def test_a_bad_header_is_refused_before_anything_is_read(header):
    with pytest.raises(frames.FrameError):
        frames.parse_header(header)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93" * 1000,
        msgspec.msgpack.encode({"type": "Exec", "id": 1}),
        msgspec.msgpack.encode({"type": "Executed", "id": "1"}),
        msgspec.msgpack.encode({"type": "Executed"}),
        msgspec.msgpack.encode(frames.Execute(1, "x", 1)),
    ],
)
def test_what_is_no_message_of_the_other_side_is_a_frame_error(payload):
    with pytest.raises(frames.FrameError):
        frames.decode(payload, frames.FromWorker)


def test_a_message_over_the_frame_limit_is_not_sent():
    with pytest.raises(frames.FrameError, match="over the limit"):
        frames.encode(frames.Execute(1, "x" * (frames.MAX_FRAME_BYTES + 1), 1))

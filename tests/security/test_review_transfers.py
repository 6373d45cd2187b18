"""Holes found by a hostile client with a valid key: memory of transfers that nobody counts."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import grpc
import psutil
import pytest
from serving import Server

import grotto
from grotto_proto.v1 import sessions_pb2, sessions_pb2_grpc, values_pb2

MIB = 1024 * 1024
BOUND_MIB = 512


@pytest.fixture
def session(
    tmp_path,
) -> Iterator[tuple[sessions_pb2_grpc.SessionsStub, tuple, str, grotto.Session]]:
    server = Server(tmp_path, "--pool", "0")
    server.start()
    key = server.key("acme")
    limits = grotto.Limits(memory="256MiB", value_bytes="64MiB")
    try:
        with (
            grotto.connect(server.url, key) as client,
            client.session(policy="open", limits=limits) as session,
            grpc.insecure_channel(server.url.removeprefix("grpc://")) as channel,
        ):
            stub = sessions_pb2_grpc.SessionsStub(channel)
            yield stub, (("authorization", f"Bearer {key}"),), session.id, session
    finally:
        server.stop()
        gc.collect()


def taken_mib(before: int) -> int:
    """Memory of the machine that files without a name hold, since `before`."""
    return (psutil.virtual_memory().shared - before) // MIB


def test_readers_that_stop_reading_hold_no_memory_beyond_the_limit(session):
    stub, metadata, session_id, handle = session
    handle.execute("v = bytes(50 << 20)").raise_if_failed()
    before = psutil.virtual_memory().shared
    calls = []
    spec = values_pb2.GetSpec(names=["v"])
    for _ in range(16):
        request = sessions_pb2.GetValueRequest(session_id=session_id, spec=spec)
        calls.append(stub.GetValue(request, metadata=metadata, timeout=8))
    try:
        for call in calls[:16]:
            next(call)
    except grpc.RpcError:
        pass  # refused: that is one way to be bounded
    time.sleep(0.5)
    taken = taken_mib(before)
    for call in calls:
        call.cancel()
    assert taken < BOUND_MIB


def test_senders_that_stop_sending_hold_no_memory_beyond_the_limit(session):
    stub, metadata, session_id, _ = session
    ended = threading.Event()

    def messages(number: int):
        spec = values_pb2.PutSpec(names=[f"n{number}"], size_bytes=60 * MIB)
        header = sessions_pb2.PutValueHeader(session_id=session_id, spec=spec)
        yield sessions_pb2.PutValueRequest(header=header)
        for _ in range(55):
            yield sessions_pb2.PutValueRequest(chunk=b"x" * MIB)
        ended.wait(8)

    def put(number: int) -> None:
        with suppress(grpc.RpcError):  # cut short, or refused: one way to be bounded
            stub.PutValue(messages(number), metadata=metadata, timeout=8)

    before = psutil.virtual_memory().shared
    threads = [threading.Thread(target=put, args=(number,)) for number in range(14)]
    for thread in threads:
        thread.start()
    taken, until = 0, time.monotonic() + 4
    while time.monotonic() < until and taken < BOUND_MIB:
        time.sleep(0.1)
        taken = max(taken, taken_mib(before))
    ended.set()
    for thread in threads:
        thread.join()
    assert taken < BOUND_MIB

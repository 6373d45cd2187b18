"""Bad input through the SDK to a real sandbox: a clear error, and nothing is lost.

What the SDK itself would refuse is sent past it as well, by `raw`: the client is not trusted.
"""

import asyncio
import math

import grpc
import pytest

import grotto
from grotto_proto.metadata import unpack_error
from grotto_proto.v1 import execution_pb2, sessions_pb2, values_pb2


@pytest.fixture
def session(client):
    with client.session(policy="open") as session:
        session.execute("kept = 41").raise_if_failed()
        yield session
        assert session.execute("kept + 1").result == "42"  # whatever a test did to it


def detail(caught):
    found = unpack_error(caught.value.trailing_metadata())
    assert found is not None and found.message
    return found


DEEP = {
    "parentheses": "(" * 100_000 + ")" * 100_000,
    "unary": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 100_000,
    "operators": "+".join(["1"] * 50_000),
    "lambdas": "lambda: " * 10_000 + "1",
    "blocks": "\n".join(" " * i + "if 1:" for i in range(150)) + "\n" + " " * 150 + "pass",
    "lists": "[" * 5_000 + "]" * 5_000,
}


@pytest.mark.parametrize("shape", DEEP)
@pytest.mark.parametrize("policy", ["standard", "open"])
def test_deeply_nested_source_harms_nobody(client, shape, policy):
    with client.session(policy=policy) as session:
        session.execute("kept = 41").raise_if_failed()
        answer = session.execute(DEEP[shape])
        assert answer.outcome in (
            grotto.Outcome.RAISED,
            grotto.Outcome.REFUSED,
            grotto.Outcome.KILLED,
            grotto.Outcome.OK,
        )
        assert answer.state in (grotto.State.KEPT, grotto.State.RESTORED)
        assert session.execute("kept + 1").result == "42"


def test_source_over_the_limit_is_refused_at_the_client_and_behind_it(session, raw):
    with pytest.raises(grotto.InvalidArgumentError, match="262,144"):
        session.execute("x = 1\n" * 2_000_000)
    stub, metadata = raw
    spec = execution_pb2.ExecutionSpec(execution_id="big", source="#" * 300_000)
    request = sessions_pb2.ExecuteRequest(session_id=session.id, spec=spec)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Execute(request, metadata=metadata))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "262144" in detail(caught).message
    with pytest.raises(grpc.RpcError) as caught:  # over what a message may hold at all
        spec.source = "#" * 10_000_000
        request = sessions_pb2.ExecuteRequest(session_id=session.id, spec=spec)
        list(stub.Execute(request, metadata=metadata))
    assert caught.value.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )


def test_lone_surrogates_in_source_are_explained(session):
    with pytest.raises(grotto.InvalidArgumentError, match="surrogate"):
        session.execute("x = '\ud800'")


@pytest.mark.parametrize(
    "name", ["", "1x", "a b", "class", "__builtins__", "x\nimport os", "_", "ﬁle", "a" * 200]
)
def test_a_name_that_cannot_be_bound_is_refused_at_the_client_and_behind_it(session, raw, name):
    with pytest.raises(grotto.InvalidArgumentError):
        session.inject(name, 1)
    stub, metadata = raw
    spec = values_pb2.PutSpec(names=[name], size_bytes=3)
    header = sessions_pb2.PutValueHeader(session_id=session.id, spec=spec)
    parts = [
        sessions_pb2.PutValueRequest(header=header),
        sessions_pb2.PutValueRequest(chunk=b"xyz"),
    ]
    with pytest.raises(grpc.RpcError) as caught:
        stub.PutValue(iter(parts), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(caught).message


def test_one_bad_name_among_several_binds_none_of_them(session):
    with pytest.raises(grotto.InvalidArgumentError):
        session.inject({"good": 1, "not good": 2})
    assert session.execute("good").error.name == "NameError"


@pytest.mark.parametrize("sent", [b"", b"garbage", b"\x80\x04\x95"])
def test_a_payload_that_is_no_envelope_binds_nothing(session, raw, sent):
    stub, metadata = raw
    spec = values_pb2.PutSpec(names=["kept"], size_bytes=len(sent))
    header = sessions_pb2.PutValueHeader(session_id=session.id, spec=spec)
    parts = [sessions_pb2.PutValueRequest(header=header)]
    parts += [sessions_pb2.PutValueRequest(chunk=sent)] if sent else []
    with pytest.raises(grpc.RpcError) as caught:
        stub.PutValue(iter(parts), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_stream_cut_half_way_binds_nothing(session, raw):
    stub, metadata = raw
    spec = values_pb2.PutSpec(names=["kept"], size_bytes=1000)
    header = sessions_pb2.PutValueHeader(session_id=session.id, spec=spec)
    parts = [
        sessions_pb2.PutValueRequest(header=header),
        sessions_pb2.PutValueRequest(chunk=b"x" * 500),
    ]
    with pytest.raises(grpc.RpcError) as caught:
        stub.PutValue(iter(parts), metadata=metadata)
    assert "500" in detail(caught).message


def test_a_value_over_the_limit_is_refused_both_ways(client):
    limits = grotto.Limits(value_bytes="1MiB")
    with client.session(policy="open", limits=limits) as session:
        with pytest.raises(grotto.ValueTooLargeError, match="1,048,576"):
            session.inject("big", b"x" * 2_000_000)
        session.execute("big = b'x' * 2_000_000; small = b'x' * 1000")
        with pytest.raises(grotto.ValueTooLargeError):
            session.retrieve("big")
        assert session.retrieve("small") == b"x" * 1000


@pytest.mark.parametrize(
    "limits",
    [
        {"memory": -1},
        {"memory": "1PiB"},
        {"wall_s": -5},
        {"wall_s": math.nan},
        {"wall_s": math.inf},
        {"cpus": 10_000},
        {"pids": 10**9},
        {"memory": "many"},
    ],
)
def test_negative_and_absurd_limits_are_refused_with_field_and_bound(client, limits):
    before = len(client.sessions())
    with pytest.raises(grotto.InvalidArgumentError, match=next(iter(limits))):
        client.session(limits=grotto.Limits(**limits))
    assert len(client.sessions()) == before


def test_an_unknown_policy_is_refused_with_the_known_ones(client):
    with pytest.raises(grotto.InvalidArgumentError, match="standard"):
        client.session(policy="anything goes")


def test_an_unknown_session_and_an_unknown_variable_are_not_found(client, session):
    with pytest.raises(grotto.NotFoundError):
        client.attach("s_" + "x" * 22)
    with pytest.raises(grotto.NotFoundError, match="nothing_here"):
        session.retrieve("nothing_here")
    with pytest.raises(grotto.NotFoundError):
        session.download("nothing", "/tmp/nothing")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", ""])
def test_a_path_out_of_the_workspace_is_refused(session, tmp_path, path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(grotto.InvalidArgumentError):
        session.upload(tmp_path / "file", path)
    with pytest.raises(grotto.InvalidArgumentError):
        session.download(path, tmp_path / "out")


async def test_a_hundred_executions_at_once_run_in_the_order_they_came(served):
    async with await grotto.aconnect(*served) as client, await client.session() as session:
        await session.execute("order = []")
        await asyncio.gather(*(session.execute(f"order.append({n})") for n in range(100)))
        assert await session.retrieve("order") == list(range(100))


async def test_a_client_that_vanishes_in_mid_stream_stops_nothing(served):
    async with await grotto.aconnect(*served) as client, await client.session() as session:
        source = "print('on')\nimport time\ntime.sleep(0.5)\ndone = True"
        async for event in session.stream(source, execution_id="left"):
            assert isinstance(event, grotto.Stdout)
            break
        finished = await session.execution("left")
        assert finished.ok
        assert await session.retrieve("done") is True

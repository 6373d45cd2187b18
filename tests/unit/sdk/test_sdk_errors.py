"""The error table is total, and nothing of gRPC reaches the caller."""

import grpc
import pytest

import grotto
from grotto.errors import EXCEPTIONS
from grotto_proto.v1 import errors_pb2

STATUSES = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]


def test_the_table_maps_every_reason():
    assert set(EXCEPTIONS) == set(errors_pb2.ErrorReason.values())


def test_every_exception_of_the_table_is_public():
    for kind in EXCEPTIONS.values():
        assert getattr(grotto, kind.__name__) is kind
        assert issubclass(kind, grotto.GrottoError)


@pytest.mark.parametrize(
    "reason", [value for value in errors_pb2.ErrorReason.values() if value != 11]
)
def test_a_reason_becomes_its_exception_with_the_server_s_words(client, fake, failure, reason):
    fake.failures["ListSessions"] = [failure(grpc.StatusCode.INTERNAL, reason, "It broke.")]
    with pytest.raises(grotto.GrottoError) as caught:
        client.sessions()
    assert type(caught.value) is EXCEPTIONS[reason]
    assert str(caught.value) == "It broke. Do better."
    assert caught.value.request_id == fake.metadata[-1]["grotto-request-id"]


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status.name)
def test_a_bare_status_is_still_one_of_ours(client, fake, failure, status):
    fake.failures["GetSession"] = [failure(status)]
    try:
        client.session_info("x")  # UNAVAILABLE is repeated, and then succeeds
    except Exception as error:
        assert isinstance(error, grotto.GrottoError)
        assert not isinstance(error, grpc.RpcError)
        assert isinstance(error.__cause__, grpc.RpcError)
    else:
        assert status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_control_characters_of_a_sandbox_do_not_reach_the_message(client, fake, failure):
    fake.failures["ListSessions"] = [
        failure(grpc.StatusCode.INTERNAL, errors_pb2.ERROR_REASON_INTERNAL, "a\x1b[2Jb\u202ec")
    ]
    with pytest.raises(grotto.GrottoError) as caught:
        client.sessions()
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "path", "type_name"),
    [
        (
            'result["model"].tree_ : sklearn.tree._tree.Tree cannot be transferred: no codec',
            'result["model"].tree_',
            "sklearn.tree._tree.Tree",
        ),
        (
            'x["a: b"][0] : __main__.f.<locals>.C cannot be transferred: no codec',
            'x["a: b"][0]',
            "__main__.f.<locals>.C",
        ),
        ("something else entirely", "", ""),
    ],
)
def test_the_path_of_what_cannot_travel(session, fake, failure, message, path, type_name):
    fake.failures["GetValue"] = [
        failure(
            grpc.StatusCode.FAILED_PRECONDITION, errors_pb2.ERROR_REASON_UNTRANSFERABLE, message
        )
    ]
    with pytest.raises(grotto.UntransferableError) as caught:
        session.retrieve("result")
    assert (caught.value.path, caught.value.type_name) == (path, type_name)

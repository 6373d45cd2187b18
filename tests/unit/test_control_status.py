"""The table from reason to status is total, and says what the wire contract says."""

import grpc

from grotto_control.rpc.status import STATUS
from grotto_control.runtime_client.faults import REASONS_OF_A_DAEMON
from grotto_proto.v1 import errors_pb2


def test_every_reason_has_a_status() -> None:
    assert set(STATUS) == set(errors_pb2.ErrorReason.values())


def test_no_failure_is_a_success() -> None:
    assert grpc.StatusCode.OK not in STATUS.values()


def test_a_daemon_may_not_speak_of_keys_rights_or_capacity() -> None:
    kept = set(errors_pb2.ErrorReason.values()) - REASONS_OF_A_DAEMON
    assert kept == {
        errors_pb2.ERROR_REASON_UNSPECIFIED,
        errors_pb2.ERROR_REASON_UNAUTHENTICATED,
        errors_pb2.ERROR_REASON_PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_CAPACITY,
    }

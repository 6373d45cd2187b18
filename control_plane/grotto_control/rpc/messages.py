"""Records of the model as messages of the public service."""

from grotto_control.core.creation import limits_message
from grotto_control.model.records import Isolation, SessionRecord, SessionStatus
from grotto_proto.v1 import sessions_pb2

_STATUS = {
    SessionStatus.READY: sessions_pb2.SESSION_STATUS_READY,
    SessionStatus.LOST: sessions_pb2.SESSION_STATUS_LOST,
}


def session_message(record: SessionRecord) -> sessions_pb2.Session:
    """Returns what a client sees of its session."""
    return sessions_pb2.Session(
        id=record.session_id,
        status=_STATUS[record.status],
        policy=record.policy,
        limits=limits_message(record.limits),
        labels=record.labels,
        created_s=record.created_s,
        expires_s=record.expires_s,
        isolation=_isolation_message(record.isolation) if record.isolation else None,
        python_version=record.python_version,
        codecs=record.codecs,
        status_note=record.status_note,
        image=record.image,
    )


def _isolation_message(isolation: Isolation) -> sessions_pb2.Isolation:
    return sessions_pb2.Isolation(
        backend=isolation.backend,
        level=isolation.level,
        layers=isolation.layers,
        missing=isolation.missing,
        notes=isolation.notes,
    )

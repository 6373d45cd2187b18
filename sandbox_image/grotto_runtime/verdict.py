"""What became of an execution, computed from what the daemon saw; pure."""

from dataclasses import dataclass

from grotto_proto.v1 import execution_pb2 as pb
from grotto_wire.frames import Executed

MAX_NAME_CHARS = 200
MAX_MESSAGE_CHARS = 8_000
MAX_TRACEBACK_CHARS = 40_000


@dataclass
class Ending:
    """Why the daemon stepped in, if it did."""

    outcome: "pb.Outcome.ValueType" = pb.OUTCOME_UNSPECIFIED
    note: str = ""


def of_reply(reply: Executed, ending: Ending) -> "pb.Outcome.ValueType":
    """The outcome of an execution whose worker lived to report it.

    A signal that came after the last statement had finished changed nothing.
    """
    stepped_in = ending.outcome != pb.OUTCOME_UNSPECIFIED
    if stepped_in and reply.interrupted:
        return ending.outcome
    return pb.OUTCOME_RAISED if reply.problem else pb.OUTCOME_OK


def of_death(ending: Ending) -> "pb.Outcome.ValueType":
    """The outcome of an execution whose worker died."""
    if ending.outcome != pb.OUTCOME_UNSPECIFIED:
        return ending.outcome
    return pb.OUTCOME_KILLED


def tenant_error(reply: Executed) -> pb.TenantError | None:
    if reply.problem is None:
        return None
    return pb.TenantError(
        name=reply.problem.name[:MAX_NAME_CHARS],
        message=reply.problem.message[:MAX_MESSAGE_CHARS],
        traceback=reply.problem.traceback[:MAX_TRACEBACK_CHARS],
        line=max(0, min(reply.problem.line, 2**31)),
    )

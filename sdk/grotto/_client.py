"""`AsyncClient`: the async core's connection to one control plane."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Literal, Self

from grotto._address import check_key, parse_url
from grotto._bound import CONTROL_DEADLINE_S
from grotto._chunks import OnTransfer
from grotto._embedded import Embedded
from grotto._records import SessionInfo, SessionStatus
from grotto._requests import check_session_id, check_text, text_map
from grotto._session import CLOSE_DEADLINE_S, AsyncSession
from grotto._transport import Transport
from grotto._trust import ClientCert, choose_trust
from grotto.errors import InvalidArgumentError, SessionLostError
from grotto.limits import Limits, check_seconds
from grotto_proto import WIRE_VERSION
from grotto_proto.v1 import sessions_pb2
from grotto_wire.values import CODECS

CREATE_DEADLINE_S = 120.0

Recovery = Literal["auto", "off"]
_RECOVERY: Mapping[str, sessions_pb2.Recovery.ValueType] = {
    "auto": sessions_pb2.RECOVERY_AUTO,
    "off": sessions_pb2.RECOVERY_OFF,
}


class AsyncClient:
    """A connection to one control plane with one key; get one from `grotto.aconnect()`.

    `async with` closes it at the end. It belongs to one event loop and one process.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        on_close: Callable[[], Awaitable[None]] | None = None,
        on_transfer: OnTransfer | None = None,
    ) -> None:
        self._transport = transport
        self._on_close = on_close
        self._on_transfer = on_transfer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; ends an embedded control plane and its sandboxes. Idempotent."""
        await self._transport.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            await on_close()

    async def session(
        self,
        *,
        image: str | None = None,
        limits: Limits | None = None,
        policy: str = "standard",
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        ttl_s: float | None = None,
        recovery: Recovery = "auto",
        idempotency_key: str | None = None,
    ) -> AsyncSession:
        """Creates a session; see `grotto.Client.session`."""
        if recovery not in _RECOVERY:
            raise InvalidArgumentError(f'recovery={recovery!r}: use "auto" or "off".')
        request = sessions_pb2.CreateSessionRequest(
            image=check_text(image or "", "image"),
            policy=check_text(policy, "policy"),
            limits=(limits or Limits()).to_wire(),
            env=text_map(env, "env"),
            labels=text_map(labels, "labels"),
            ttl_s=0 if ttl_s is None else check_seconds(ttl_s, "ttl_s"),
            recovery=_RECOVERY[recovery],
            # A key of its own makes the call safe to repeat after an outage.
            idempotency_key=check_text(idempotency_key or self._transport.new_id(), "key"),
            client=sessions_pb2.ClientInfo(
                wire_version=WIRE_VERSION,
                python_version=platform.python_version(),
                codecs=CODECS,
            ),
        )
        created = await self._transport.unary(
            self._transport.stub.CreateSession, request, deadline_s=CREATE_DEADLINE_S
        )
        return self._bind(SessionInfo.from_wire(created))

    async def attach(self, session_id: str) -> AsyncSession:
        """Comes back to a session that was detached; see `grotto.Client.attach`."""
        info = await self._get(session_id)
        if info.status is SessionStatus.LOST:
            raise SessionLostError(f"The session {info.id} is lost. {info.status_note}".rstrip())
        return self._bind(info)

    async def session_info(self, session_id: str) -> SessionInfo:
        """Returns what the server knows of a session, also of a lost one."""
        return await self._get(session_id)

    async def close_session(self, session_id: str) -> None:
        """Ends a session and its sandbox; raises NotFoundError when there is none."""
        request = sessions_pb2.CloseSessionRequest(session_id=check_session_id(session_id))
        await self._transport.unary(
            self._transport.stub.CloseSession, request, deadline_s=CLOSE_DEADLINE_S
        )

    async def sessions(self) -> list[SessionInfo]:
        """Returns the sessions of this key's tenant, newest first."""
        reply = await self._transport.unary(
            self._transport.stub.ListSessions,
            sessions_pb2.ListSessionsRequest(),
            deadline_s=CONTROL_DEADLINE_S,
        )
        found = map(SessionInfo.from_wire, reply.sessions)
        return sorted(found, key=lambda info: info.created_s, reverse=True)

    async def _get(self, session_id: str) -> SessionInfo:
        request = sessions_pb2.GetSessionRequest(session_id=check_session_id(session_id))
        return SessionInfo.from_wire(
            await self._transport.unary(
                self._transport.stub.GetSession, request, deadline_s=CONTROL_DEADLINE_S
            )
        )

    def _bind(self, info: SessionInfo) -> AsyncSession:
        return AsyncSession(self._transport, info, self._on_transfer)


async def aconnect(
    url: str | None = None,
    api_key: str | None = None,
    *,
    ca_file: str | os.PathLike[str] | None = None,
    client_cert: ClientCert | None = None,
    insecure: bool = False,
    on_transfer: OnTransfer | None = None,
) -> AsyncClient:
    """Returns an async client of the server at `url`; see `grotto.connect`."""
    address = parse_url(url or os.environ.get("GROTTO_URL"), insecure=insecure)
    key = check_key(api_key or os.environ.get("GROTTO_API_KEY"))
    trust = choose_trust(address.is_secure, ca_file, client_cert, os.environ)
    transport = Transport(address, key, new_id=_new_id, trust=trust)
    return AsyncClient(transport, on_transfer=on_transfer)


async def alocal(
    backend: Literal["auto", "local", "docker"] = "auto", *, on_transfer: OnTransfer | None = None
) -> AsyncClient:
    """Starts an embedded control plane and returns its async client; see `grotto.local`."""
    embedded = await Embedded.start(backend)
    transport = Transport(
        parse_url(embedded.url), embedded.api_key, new_id=_new_id, gone=embedded.gone
    )
    return AsyncClient(transport, on_close=embedded.stop, on_transfer=on_transfer)


def _new_id() -> str:
    return uuid.uuid4().hex

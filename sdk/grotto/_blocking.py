"""The blocking facade: `Client` and `Session` over the async core and one background loop."""

from __future__ import annotations

import atexit
from collections.abc import Generator, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self

from grotto._chunks import OnTransfer
from grotto._client import AsyncClient, Recovery, aconnect, alocal
from grotto._execution import Event, Execution
from grotto._portal import Portal
from grotto._records import Files, Isolation, SessionInfo, Usage, Variable
from grotto._requests import UNSET
from grotto._session import AsyncSession
from grotto._trust import ClientCert
from grotto.limits import Limits


def connect(
    url: str | None = None,
    api_key: str | None = None,
    *,
    ca_file: str | PathLike[str] | None = None,
    client_cert: ClientCert | None = None,
    insecure: bool = False,
    on_transfer: OnTransfer | None = None,
) -> Client:
    """Returns a client of the server at `url`.

    `url` is `grpcs://host:50151` (TLS), `grpc://127.0.0.1:50151` (clear text, so for this
    machine only, unless `insecure=True`) or `unix:///path/to/socket`; default GROTTO_URL.
    `api_key` defaults to GROTTO_API_KEY. `on_transfer` is called with the progress of
    every transfer, on another thread.

    Over TLS, `ca_file` is a PEM file of the authorities to trust (default: GROTTO_CA_FILE,
    or those gRPC trusts) and `client_cert` a PEM file with certificate and key, or the
    pair of files (default: GROTTO_CLIENT_CERT, GROTTO_CLIENT_KEY).

    No connection is made before the first call. Raises InvalidArgumentError for a URL
    that is none or a file that cannot be used, AuthenticationError when there is no key.

    >>> client = grotto.connect("grpcs://grotto.example:50151", key)    # doctest: +SKIP
    """
    portal = Portal()
    try:
        work = aconnect(
            url,
            api_key,
            ca_file=ca_file,
            client_cert=client_cert,
            insecure=insecure,
            on_transfer=on_transfer,
        )
        return Client(portal, portal.call(work))
    except BaseException:
        portal.close()
        raise


def local(
    backend: Literal["auto", "local", "docker"] = "auto", *, on_transfer: OnTransfer | None = None
) -> Client:
    """Starts an embedded control plane, a child of this process, and returns its client.

    It needs no server and no Docker; it ends with the client or with this process.
    Raises UnavailableError when it does not start, with its last words, or when
    packages are missing (`pip install 'grotto[local]'`).

    >>> with grotto.local() as client, client.session() as s:     # doctest: +SKIP
    ...     s.execute("print('hello')").stdout
    'hello\\n'
    """
    portal = Portal()
    try:
        client = Client(portal, portal.call(alocal(backend, on_transfer=on_transfer)))
    except BaseException:
        portal.close()
        raise
    # The child ends by its lease anyway; its directory has to be removed by somebody.
    atexit.register(client.close)
    return client


class Client:
    """A blocking client of one control plane; get one from `connect()` or `local()`.

    A context manager: leaving the block closes it. May be used from several threads,
    but not in a child made by `fork()`.
    """

    def __init__(self, portal: Portal, core: AsyncClient) -> None:
        self._portal = portal
        self._core = core
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; ends an embedded control plane and its sandboxes. Idempotent."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self._portal.call(self._core.close())
        finally:
            self._portal.close()

    def session(
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
    ) -> Session:
        """Creates a session: a fresh Python interpreter in its own sandbox.

        `image` is one that the server offers, by its name there; `policy` "strict",
        "standard" or "open"; `env` the interpreter's environment; `ttl_s` its life time in
        seconds, at most what the server allows; `recovery` "auto" keeps a recovery point
        after each execution. The same `idempotency_key` gives the same session again.

        Raises InvalidArgumentError for an unknown image or policy, or limits above the server's,
        QuotaExceededError, CapacityError.

        >>> with client.session(limits=grotto.Limits(memory="1GiB")) as s:  # doctest: +SKIP
        ...     s.execute("x = 1")
        """
        work = self._core.session(
            image=image,
            limits=limits,
            policy=policy,
            env=env,
            labels=labels,
            ttl_s=ttl_s,
            recovery=recovery,
            idempotency_key=idempotency_key,
        )
        return Session(self._portal, self._portal.call(work))

    def attach(self, session_id: str) -> Session:
        """Comes back to a session that was detached, or left by another client.

        Raises NotFoundError when this key has no such session, SessionLostError when
        its sandbox is gone. Leaving the session's block closes it, unless `detach()`.
        """
        return Session(self._portal, self._portal.call(self._core.attach(session_id)))

    def session_info(self, session_id: str) -> SessionInfo:
        """Returns what the server knows of a session, also of a lost one."""
        return self._portal.call(self._core.session_info(session_id))

    def close_session(self, session_id: str) -> None:
        """Ends a session and its sandbox; raises NotFoundError when there is none."""
        self._portal.call(self._core.close_session(session_id))

    def sessions(self) -> list[SessionInfo]:
        """Returns the sessions of this key's tenant, newest first."""
        return self._portal.call(self._core.sessions())


class Session:
    """One live Python interpreter in its own sandbox; get one from `Client.session()`.

    A context manager: leaving the block closes it, unless `detach()` was called.
    """

    def __init__(self, portal: Portal, core: AsyncSession) -> None:
        self._portal = portal
        self._core = core

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.call(self._core.__aexit__(kind, error, traceback))

    def __repr__(self) -> str:
        return f"<Session {self.id}: {self.isolation}>"

    @property
    def id(self) -> str:
        """The session's id; `client.attach(id)` comes back to it."""
        return self._core.id

    @property
    def info(self) -> SessionInfo:
        """What the server said when the session was created or attached."""
        return self._core.info

    @property
    def isolation(self) -> Isolation:
        """Which isolation layers are really in force."""
        return self._core.isolation

    def close(self) -> None:
        """Ends the session and its sandbox. A session that is gone already is no error."""
        self._portal.call(self._core.close())

    def detach(self) -> None:
        """Leaving the block leaves the session running; `client.attach(id)` comes back."""
        self._core.detach()

    def usage(self) -> Usage:
        """Returns what the session used so far; answered while code runs."""
        return self._portal.call(self._core.usage())

    # ---- code ------------------------------------------------------------------

    def execute(
        self,
        code: str,
        timeout: float | None = None,
        *,
        limits: Limits | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Runs code and returns what became of it, also when it failed.

        `timeout` in seconds is the execution's own wall clock limit; `limits` may lower
        wall_s, cpu_s and output_bytes. Calls of one session run in order. The same
        `execution_id` never runs twice: it gives the same execution again. Ctrl-C
        interrupts the code in the sandbox, then raises KeyboardInterrupt here.

        Raises InvalidArgumentError for code over 256 KiB or that is no text,
        SessionLostError, UnavailableError.

        >>> s.execute("x = 20\\nx + 1").result      # doctest: +SKIP
        '21'
        """
        work = self._core.execute(code, timeout, limits=limits, execution_id=execution_id)
        return self._portal.call(work, self._core.interrupt)

    def stream(
        self,
        code: str,
        timeout: float | None = None,
        *,
        limits: Limits | None = None,
        execution_id: str | None = None,
    ) -> Generator[Event, None, None]:
        """Runs code and yields Stdout, Stderr, Display, Result and at last Finished.

        Leaving the loop early leaves the code running; `interrupt()` ends it, and
        `execution(id)` waits for it. Arguments and errors as of `execute`.
        """
        events = self._core.stream(code, timeout, limits=limits, execution_id=execution_id)
        return self._portal.iterate(events, self._core.interrupt)

    def execution(self, execution_id: str) -> Execution:
        """Waits for an execution that was started before, or returns its outcome again.

        Raises NotFoundError when the session does not remember it (the last 64 are kept).
        """
        return self._portal.call(self._core.execution(execution_id))

    def interrupt(self) -> bool:
        """Interrupts what runs now; returns whether anything did."""
        return self._portal.call(self._core.interrupt())

    # ---- values ----------------------------------------------------------------

    def inject(
        self,
        name_or_items: str | Mapping[str, object] | None = None,
        value: object = UNSET,
        /,
        *,
        description: str | Mapping[str, str] | None = None,
        **items: object,
    ) -> None:
        """Binds values in the session, by value; several at once all or none.

        `description` is text for the model: of the one value, or a mapping from name to
        text. Functions, classes and instances travel too.

        Raises InvalidArgumentError for a bad name, UntransferableError (with `path`),
        ValueTooLargeError.

        >>> s.inject("sales", frame, description="2025, one row a sale")   # doctest: +SKIP
        >>> s.inject({"rate": 0.2}); s.inject(rate=0.2, year=2025)         # doctest: +SKIP
        """
        work = self._core.inject(name_or_items, value, description=description, **items)
        self._portal.call(work)

    def retrieve(self, *names: str) -> Any:
        """Returns one native object, or a tuple of several; "_" is the last result.

        Only plain data comes back: scalars, containers, dates, arrays, frames. Arrays
        share one writable buffer that belongs to the caller.

        Raises NotFoundError, ValueTooLargeError, and UntransferableError with the `path`
        to the part that has no such form.

        >>> total, table = s.retrieve("total", "table")      # doctest: +SKIP
        """
        return self._portal.call(self._core.retrieve(*names))

    def variables(self) -> list[Variable]:
        """Returns what the namespace holds, in the order it was bound."""
        return self._portal.call(self._core.variables())

    def describe(self) -> str:
        """Returns text for a model's prompt: names, signatures, types, docs, descriptions."""
        return self._portal.call(self._core.describe())

    def delete(self, *names: str) -> None:
        """Unbinds names, all or none; raises NotFoundError when one is not bound."""
        self._portal.call(self._core.delete(*names))

    def reset(self) -> None:
        """Starts a fresh interpreter: every variable goes, files stay."""
        self._portal.call(self._core.reset())

    # ---- files -----------------------------------------------------------------

    def upload(self, local: str | PathLike[str], remote: str) -> None:
        """Copies a local file into the workspace, at `remote` relative to it.

        Raises InvalidArgumentError for a path that leaves the workspace or a file that
        cannot be read, QuotaExceededError when the workspace is full.
        """
        self._portal.call(self._core.upload(local, remote))

    def download(self, remote: str, local: str | PathLike[str]) -> None:
        """Copies a workspace file to `local`, which appears whole or not at all.

        Raises NotFoundError when there is no such file.
        """
        self._portal.call(self._core.download(remote, local))

    def files(self, path: str = "") -> Files:
        """Lists a directory of the workspace, by default all of it."""
        return self._portal.call(self._core.files(path))

"""The Docker engine's API, asynchronously. The only module that knows docker-py.

docker-py is synchronous and a client of it serves one thread, so every call runs on a
thread of this module's own, with a client of its own. What the engine says is trusted;
what it merely passes on from an image or a sandbox is not.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import requests

from grotto_control.model.text import visible

API_VERSION = "1.41"
CALL_TIMEOUT_S = 30.0
MAX_MESSAGE_CHARS = 300
BAD_GATEWAY = 502

Observer = Callable[[str, str, float], None]
"""Is told of each call: what was done, "ok" or the failure's status, and its seconds."""


class EngineError(Exception):
    """The engine refused a call: `status` is HTTP's, `message` the engine's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class EngineUnreachable(Exception):
    """The engine does not answer: it is absent, starting, or too slow."""


class Engine:
    """One engine behind a unix socket; `close` it."""

    def __init__(
        self,
        url: str,
        observe: Observer,
        threads: int = 8,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self.url = url
        self._observe = observe
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(threads, "grotto-engine")
        self._own = threading.local()
        self._clients: list[docker.APIClient] = []
        self._streams: set[Any] = set()

    async def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns the decoded reply, None if it has no body.

        Raises EngineError or EngineUnreachable; after the latter the call may still have taken
        place. A cancellation waits for what changes something, once it has begun.
        """
        started_s = time.monotonic()
        outcome = "ok"
        try:
            return await self._on_thread(method, path, params, body)
        except EngineError as error:
            outcome = str(error.status)
            raise
        except EngineUnreachable:
            outcome = "unreachable"
            raise
        finally:
            self._observe(_operation(method, path), outcome, time.monotonic() - started_s)

    async def events(self, filters: Mapping[str, list[str]]) -> AsyncIterator[dict[str, Any]]:
        """Yields {} once the engine has taken the request, then events as they come.

        Ends when the engine goes away; raises as `call` does when it is not there.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()

        def put(item: dict[str, Any] | Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(queue.put_nowait, item)

        stopped = threading.Event()
        arguments = (filters, put, stopped)
        threading.Thread(target=self._read_events, args=arguments, daemon=True).start()
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stopped.set()
            self._stop_streams()

    async def close(self) -> None:
        """Waits for the calls that run; again is no error."""
        self._stop_streams()
        await asyncio.to_thread(self._threads.shutdown)
        for client in self._clients:
            client.close()
        self._clients.clear()

    def too_slow(self) -> EngineUnreachable:
        """Returns the error for a caller whose own patience is at its end."""
        return EngineUnreachable(_too_slow(self.url))

    async def _on_thread(self, method: str, *arguments: Any) -> Any:
        submitted = self._threads.submit(self._call, method, *arguments)
        running = asyncio.wrap_future(submitted)
        running.add_done_callback(_retrieved)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # It takes place all the same: whoever cleans up must find what it makes.
            while method != "GET" and not submitted.cancel() and not running.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            raise

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
    ) -> Any:
        with _reached(self.url):
            client = self._client()
            url = f"{client.base_url}/v{API_VERSION}{path}"
            reply = client.request(method, url, params=params, json=body, timeout=self._timeout_s)
        if reply.status_code == BAD_GATEWAY:  # a proxy answered in place of the engine
            raise EngineUnreachable(f"the Docker engine behind {self.url} does not answer")
        if not reply.ok:
            raise EngineError(reply.status_code, _words(reply))
        return reply.json() if reply.content.strip().startswith((b"{", b"[")) else None

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._own, "client", None)
        if client is None:
            client = docker.APIClient(self.url, version=API_VERSION, timeout=self._timeout_s)
            self._own.client = client
            self._clients.append(client)
        return client

    def _read_events(
        self,
        filters: Mapping[str, list[str]],
        put: Callable[[dict[str, Any] | Exception | None], None],
        stopped: threading.Event,
    ) -> None:
        client = None
        try:
            with _reached(self.url):
                client = docker.APIClient(self.url, version=API_VERSION, timeout=None)
                stream = client.events(filters=dict(filters), decode=True)
                self._streams.add(stream)
                if stopped.is_set():  # while the engine was being asked: nobody else ends it
                    self._stop_streams()
                put({})
                for event in stream:
                    put(event)
        except (EngineUnreachable, EngineError) as error:
            put(error)
        finally:
            put(None)
            if client is not None:
                client.close()

    def _stop_streams(self) -> None:
        while self._streams:
            with contextlib.suppress(Exception):  # it may have ended by itself
                self._streams.pop().close()


@contextlib.contextmanager
def _reached(url: str) -> Iterator[None]:
    """Turns every way in which a connection fails into EngineUnreachable."""
    try:
        yield
    except requests.exceptions.Timeout as error:
        raise EngineUnreachable(_too_slow(url)) from error
    except docker.errors.APIError as error:
        raise EngineError(
            error.status_code or 500, visible(str(error), MAX_MESSAGE_CHARS)
        ) from error
    except (OSError, docker.errors.DockerException, ValueError) as error:
        raise EngineUnreachable(f"the Docker engine at {url} does not answer") from error


def _too_slow(url: str) -> str:
    return f"the Docker engine at {url} is too slow"


def _retrieved(running: asyncio.Future[Any]) -> None:
    """Nobody may be waiting any more for how it ended."""
    if not running.cancelled():
        running.exception()


def _words(reply: requests.Response) -> str:
    try:
        message = reply.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = reply.text
    return visible(str(message), MAX_MESSAGE_CHARS)


def _operation(method: str, path: str) -> str:
    """A bounded name: `POST /containers/{id}/start` is "containers.start"."""
    parts = [part for part in path.split("/") if part]
    verb = parts[-1] if len(parts) > 2 or parts[-1] == "create" else method.lower()
    return f"{parts[0]}.{verb}" if len(parts) > 1 else parts[0]


def filters_json(filters: Mapping[str, list[str]]) -> str:
    """Returns filters as the engine's query parameter takes them."""
    return json.dumps(filters, separators=(",", ":"))

"""Connections of the control plane: each request judged, rebuilt, sent, answered.

Owns what is this server's: containers and volumes that bear its label, which is looked up
at the engine before anything is done to them.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any

import structlog

from grotto_control.backends.docker.template import SANDBOX_LABEL, SERVER_LABEL, container_name
from grotto_control.engine_proxy.allowed_images import AllowedImages
from grotto_control.engine_proxy.calls import API, Call, Request, judge, server_named
from grotto_control.engine_proxy.rules import ImageUnknown, Refused, Rules, require
from grotto_control.engine_proxy.server_id import ServerId
from grotto_control.engine_proxy.wire import Bounds, EngineAbsent, Peer, Reply, Upstream

MAX_REMEMBERED = 10_000
_SHOWN_CHARS = 200


class EngineProxy:
    """Passes on the calls that the rules allow; `serve` is asyncio's callback per connection."""

    def __init__(
        self,
        upstream: Upstream,
        rules: Rules,
        images: AllowedImages,
        server_id: ServerId,
        bounds: Bounds,
    ) -> None:
        self._upstream = upstream
        self._rules = rules
        self._images = images
        self._server_id = server_id
        self._bounds = bounds
        self._ours: set[str] = set()
        self._connections: set[asyncio.Task[Any]] = set()
        self._log = structlog.get_logger()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends; never raises."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        peer = Peer(reader, writer, self._bounds.arrival_s)
        try:
            if len(self._connections) > self._bounds.connections:
                self._log.warning("too many connections")
                return
            while await self._answered(peer):
                continue
        except (OSError, asyncio.CancelledError):
            pass  # the peer went away, or the proxy ends
        except Exception:
            self._log.exception("connection failed")
        finally:
            self._connections.discard(task)
            await peer.close()

    async def close(self) -> None:
        """Ends every connection."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answered(self, peer: Peer) -> bool:
        """Answers one request; returns whether another may follow."""
        request = None
        try:
            request = await peer.request()
            if request is None:
                return False
            await self._pass_on(await self._judged(request), peer)
        except Refused as refused:
            if refused.status != 404:
                self._log.warning("call refused", why=refused.message, **_shown(request))
            await peer.refuse(refused.status, f"refused by the engine proxy: {refused.message}")
        except EngineAbsent as error:
            self._log.error("engine absent", why=str(error), **_shown(request))
            await peer.refuse(502, f"engine proxy: {error}.")
        return peer.goes_on

    async def _judged(self, request: Request) -> Call:
        server_id = self._server_id.known(server_named(request))
        rules = replace(self._rules, server_id=server_id, images=self._images.known())
        try:
            return judge(request, rules)
        except ImageUnknown:  # or built again since
            await self._images.refresh()
            return judge(request, rules)

    async def _pass_on(self, call: Call, peer: Peer) -> None:
        reply = await peer.while_there(self._sent(call))
        if call.streams and reply.status == 200:
            await peer.while_there(peer.stream(reply))
            return
        body = await peer.while_there(reply.whole(self._bounds.reply_bytes))
        if call.creates and reply.status == 201:
            self._remember(str(_decoded(body)["Id"]))
        await peer.reply(reply.status, reply.headers, body)

    async def _sent(self, call: Call) -> Reply:
        container_id = "" if call.container is None else await self._own(call.container)
        if call.volume is not None:
            await self._check_volume(call.volume)
        return await self._upstream.send(call.method, call.target(container_id), call.body)

    async def _own(self, reference: str) -> str:
        """Returns the full id of a container of this server; raises Refused for any other."""
        if reference in self._ours:
            return reference
        found = await self._described("container", f"/containers/{reference}/json")
        labels = found["Config"].get("Labels") or {}
        named = found["Name"] == "/" + container_name(labels.get(SANDBOX_LABEL, ""))
        require(named and self._is_ours(labels), "the container is not this server's.")
        self._remember(str(found["Id"]))
        return str(found["Id"])

    async def _check_volume(self, name: str) -> None:
        found = await self._described("volume", f"/volumes/{name}")
        require(self._is_ours(found.get("Labels") or {}), "the volume is not this server's.")

    async def _described(self, what: str, path: str) -> Any:
        reply = await self._upstream.send("GET", API + path)
        body = await reply.whole(self._bounds.reply_bytes)
        require(reply.status == 200, f"there is no such {what}.", 404)
        return _decoded(body)

    def _is_ours(self, labels: dict[str, str]) -> bool:
        server_id = self._server_id.known(None)
        return bool(server_id) and labels.get(SERVER_LABEL) == server_id

    def _remember(self, container_id: str) -> None:
        """Saves a look-up per call; ids are never used twice, so none has to be forgotten."""
        if len(self._ours) >= MAX_REMEMBERED:
            self._ours.clear()
        self._ours.add(container_id)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise EngineAbsent("the engine's answer is not JSON") from error


def _shown(request: Request | None) -> dict[str, str]:
    if request is None:
        return {}
    return {"method": request.method[:_SHOWN_CHARS], "target": request.target[:_SHOWN_CHARS]}

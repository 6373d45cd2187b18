"""The engine proxy in front of a real engine, attacked by a control plane that went over.

The control arm of each attack is the same call straight to the engine, where it works.
"""

import asyncio
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest
import requests
from docker_engine import DockerEngine

from grotto_control.backends.docker.images import checked
from grotto_control.backends.docker.template import (
    SANDBOX_LABEL,
    SEAL_LABEL,
    SERVER_LABEL,
    ContainerSpec,
    create_body,
    resources_for,
    update_body,
)
from grotto_control.engine_proxy.allowed_images import AllowedImages
from grotto_control.engine_proxy.command import listening
from grotto_control.engine_proxy.proxy import EngineProxy
from grotto_control.engine_proxy.rules import Rules
from grotto_control.engine_proxy.server_id import ServerId
from grotto_control.engine_proxy.wire import MAX_BODY_BYTES, Bounds, Upstream
from grotto_control.model.limits import MIB, Limits

API = "1.41"
IMAGE = "grotto-sandbox:data"
DEADLINE_S = 30.0
SERVER = f"test{secrets.token_hex(6)}"
OTHERS = f"grotto-proxy-test-{secrets.token_hex(4)}"


@dataclass
class Arms:
    """The same engine twice: through the proxy, and straight."""

    proxied: docker.APIClient
    direct: docker.APIClient
    image_id: str
    image_env: tuple[str, ...]

    def body(self, sandbox_id: str, **changes: Any) -> dict[str, Any]:
        spec = ContainerSpec(
            sandbox_id=sandbox_id,
            image_id=self.image_id,
            image_env=self.image_env,
            runtime="",
            daemon_uid=2_080_000_000 + 2 * secrets.randbelow(30_000_000),
            worker_uid=None,
            socket_gid=0,
            disk_bytes=MIB,
            resources=resources_for(Limits(), MIB),
            labels={SERVER_LABEL: SERVER, SANDBOX_LABEL: sandbox_id, SEAL_LABEL: "0" * 64},
        )
        spec = replace(spec, worker_uid=spec.daemon_uid + 1, **changes)
        return create_body(spec)


def call(client: docker.APIClient, method: str, path: str, **more: Any) -> requests.Response:
    url = f"{client.base_url}/v{API}{path}"
    return client.request(method, url, timeout=DEADLINE_S, **more)


def new_id() -> str:
    return "b" + secrets.token_hex(8)


@pytest.fixture(scope="module")
def url(docker_engine: DockerEngine) -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


@contextmanager
def client_of(url: str) -> Iterator[docker.APIClient]:
    client = docker.APIClient(url, version=API, timeout=DEADLINE_S)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(scope="module")
def proxy(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy as it is run, and the URL it serves."""
    folder = tmp_path_factory.mktemp("p")
    path = Path(folder) / "e.sock"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "grotto_control", "engine-proxy", "--engine", url),
            *("--listen", str(path), "--server-id-file", str(folder / "id")),
            *("--image", f"default={IMAGE}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "engine proxy serves" in process.stderr.readline()
    assert path.stat().st_mode & 0o777 == 0o660
    yield f"unix://{path}"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and not path.exists()
    assert "Traceback" not in said and '"event": "call refused"' in said


@pytest.fixture
def arms(url: str, proxy: str) -> Iterator[Arms]:
    with client_of(url) as direct, client_of(proxy) as proxied:
        image = checked(IMAGE, direct.inspect_image(IMAGE))
        named = json.dumps({"label": [f"{SERVER_LABEL}={SERVER}"]})
        assert call(proxied, "GET", "/containers/json", params={"filters": named}).ok
        yield Arms(proxied, direct, image.image_id, image.env)


@pytest.fixture(scope="module")
def foreign(url: str) -> Iterator[str]:
    """A running container on the same engine that is nobody's business here."""
    with client_of(url) as direct:
        config = {
            "Image": IMAGE,
            "Entrypoint": ["sleep"],
            "Cmd": ["600"],
            "User": "65534",
            "HostConfig": {"NetworkMode": "none"},
        }
        made = direct.create_container_from_config(config, OTHERS)["Id"]
        try:
            direct.start(made)
            yield made
        finally:
            direct.remove_container(made, force=True, v=True)


@contextmanager
def removed(arms: Arms, reply: requests.Response) -> Iterator[None]:
    """Removes what a call made, if it made a container."""
    try:
        yield
    finally:
        if reply.status_code == 201:
            call(arms.direct, "DELETE", f"/containers/{reply.json()['Id']}?force=1&v=1")


def is_refused(reply: requests.Response) -> bool:
    said = reply.json()["message"]
    return reply.status_code in (400, 403) and said.startswith("refused by the engine proxy: ")


def test_a_sandbox_lives_its_whole_life_through_the_proxy(arms: Arms) -> None:
    sandbox_id = new_id()
    name = {"name": f"grotto-{sandbox_id}"}
    made = call(arms.proxied, "POST", "/containers/create", params=name, json=arms.body(sandbox_id))
    assert made.status_code == 201, made.text
    with removed(arms, made):
        path = f"/containers/{made.json()['Id']}"
        assert call(arms.proxied, "POST", f"{path}/start").status_code == 204
        found = call(arms.proxied, "GET", f"{path}/json").json()
        assert found["State"]["Running"] and found["HostConfig"]["CapDrop"] == ["ALL"]
        by_name = call(arms.proxied, "GET", f"/containers/{name['name']}/json").json()
        assert by_name["Id"] == found["Id"]
        wanted = update_body(resources_for(Limits(pids=64), MIB))
        assert call(arms.proxied, "POST", f"{path}/update", json=wanted).ok
        assert (
            arms.direct.inspect_container(found["Id"])["HostConfig"]["PidsLimit"]
            == (wanted["PidsLimit"])
        )
        own = {"filters": json.dumps({"label": [f"{SERVER_LABEL}={SERVER}"]})}
        listed = call(arms.proxied, "GET", "/containers/json", params={"all": "1", **own}).json()
        assert [one["Id"] for one in listed] == [found["Id"]]
        volumes = call(arms.proxied, "GET", "/volumes", params=own).json()["Volumes"]
        assert len(volumes) == 1
        remove = {"force": "1", "v": "1"}
        assert call(arms.proxied, "DELETE", path, params=remove).status_code == 204
        assert call(arms.proxied, "GET", f"{path}/json").status_code == 404
        assert not call(arms.proxied, "GET", "/volumes", params=own).json()["Volumes"]
        assert call(arms.proxied, "GET", "/containers/grotto-b0/json").status_code == 404


def host(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body["HostConfig"][name] = value

    return change


def top(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body[name] = value

    return change


BIND = {"Type": "bind", "Source": "/", "Target": "/host"}
BODIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "privileged": host("Privileged", True),
    "binds": host("Binds", ["/:/host"]),
    "host path": host("Mounts", [BIND]),
    "capabilities": host("CapAdd", ["SYS_ADMIN"]),
    "devices": host(
        "Devices",
        [{"PathOnHost": "/dev/mem", "PathInContainer": "/dev/mem", "CgroupPermissions": "rwm"}],
    ),
    "host pids": host("PidMode", "host"),
    "host network": host("NetworkMode", "host"),
    "seccomp": host("SecurityOpt", ["seccomp=unconfined"]),
    "removed by itself": host("AutoRemove", True),
    "log": host("LogConfig", {"Type": "json-file", "Config": {}}),
    "user": top("User", "0"),
    "entry point": top("Entrypoint", ["sleep"]),
    "environment": top("Env", ["LD_PRELOAD=/x"]),
    "labels": top("Labels", {SERVER_LABEL: "another"}),
    "go's loose keys": top("hostconfig", {"Privileged": True}),
}


@pytest.mark.parametrize("attack", BODIES)
def test_a_container_of_another_shape_is_refused(attack: str, arms: Arms) -> None:
    sandbox_id = new_id()
    body = arms.body(sandbox_id)
    BODIES[attack](body)
    name = {"name": f"grotto-{sandbox_id}"}
    refused = call(arms.proxied, "POST", "/containers/create", params=name, json=body)
    with removed(arms, refused):
        assert is_refused(refused)
    control = call(arms.direct, "POST", "/containers/create", params=name, json=body)
    with removed(arms, control):
        assert control.status_code == 201, control.text


def test_an_image_nobody_named_is_refused(arms: Arms) -> None:
    arms.direct.tag(IMAGE, OTHERS, "other")
    try:
        sandbox_id = new_id()
        for image in (f"{OTHERS}:other", IMAGE):
            body = {**arms.body(sandbox_id), "Image": image}
            name = {"name": f"grotto-{sandbox_id}"}
            refused = call(arms.proxied, "POST", "/containers/create", params=name, json=body)
            with removed(arms, refused):
                assert is_refused(refused)
        assert is_refused(call(arms.proxied, "GET", f"/images/{OTHERS}:other/json"))
        assert call(arms.direct, "GET", f"/images/{OTHERS}:other/json").ok
    finally:
        arms.direct.remove_image(f"{OTHERS}:other", noprune=True)


FOREIGN_CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/containers/{id}/json", {}),
    ("GET", "/containers/{id}/logs?stdout=1", {}),
    ("GET", "/containers/{id}/top", {}),
    ("GET", "/containers/{id}/archive?path=/etc/hostname", {}),
    ("PUT", "/containers/{id}/archive?path=/tmp", {"data": b"\0" * 1024}),
    ("POST", "/containers/{id}/exec", {"json": {"Cmd": ["id"]}}),
    ("POST", "/containers/{id}/update", {"json": update_body(resources_for(Limits(), MIB))}),
    ("POST", "/containers/{id}/start", {}),
    ("GET", "/containers/json?all=1", {}),
    ("GET", "/volumes", {}),
    ("GET", "/images/json", {}),
    ("GET", "/networks", {}),
    ("GET", "/system/df", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), FOREIGN_CALLS)
def test_others_on_the_engine_are_out_of_reach(
    method: str, path: str, more: dict[str, Any], arms: Arms, foreign: str
) -> None:
    path = path.format(id=foreign)
    assert is_refused(call(arms.proxied, method, path, **more))
    assert call(arms.direct, method, path, **more).status_code < 400


@pytest.mark.parametrize("reference", ["name", "id", "short id"])
def test_a_foreign_container_survives_every_name_it_has(
    reference: str, arms: Arms, foreign: str
) -> None:
    named = {"name": OTHERS, "id": foreign, "short id": foreign[:12]}[reference]
    assert is_refused(call(arms.proxied, "DELETE", f"/containers/{named}?force=1&v=1"))
    assert arms.direct.inspect_container(foreign)["State"]["Running"]


def test_a_sandboxs_name_alone_makes_a_container_nobodys(arms: Arms) -> None:
    sandbox_id = new_id()
    body = {"Image": IMAGE, "Labels": {SERVER_LABEL: "another", SANDBOX_LABEL: sandbox_id}}
    made = arms.direct.create_container_from_config(body, f"grotto-{sandbox_id}")["Id"]
    path = f"/containers/grotto-{sandbox_id}?force=1"
    try:
        assert is_refused(call(arms.proxied, "DELETE", path))
    finally:
        assert call(arms.direct, "DELETE", path).status_code == 204, made


def test_a_container_of_this_server_is_known_by_its_labels(arms: Arms) -> None:
    """As after a restart of the proxy, which did not see it made."""
    sandbox_id = new_id()
    labels = {SERVER_LABEL: SERVER, SANDBOX_LABEL: sandbox_id}
    body = {"Image": IMAGE, "Labels": labels}
    made = arms.direct.create_container_from_config(body, f"grotto-{sandbox_id}")["Id"]
    path = f"/containers/{made}?force=1"
    try:
        assert call(arms.proxied, "DELETE", path).status_code == 204
    finally:
        call(arms.direct, "DELETE", path)


def test_only_volumes_of_this_server_are_removed(arms: Arms) -> None:
    arms.direct.create_volume(OTHERS)
    arms.direct.create_volume(f"{OTHERS}-own", labels={SERVER_LABEL: SERVER})
    try:
        assert is_refused(call(arms.proxied, "DELETE", f"/volumes/{OTHERS}"))
        assert call(arms.proxied, "DELETE", f"/volumes/{OTHERS}-own").status_code == 204
        assert call(arms.proxied, "DELETE", f"/volumes/{OTHERS}-own").status_code == 404
    finally:
        assert call(arms.direct, "DELETE", f"/volumes/{OTHERS}").status_code == 204


def test_no_image_is_built_committed_or_pulled(arms: Arms, foreign: str) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        text = f"FROM {IMAGE}\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    build = ("POST", f"/build?t={OTHERS}:built", {"data": context.getvalue()})
    commit = ("POST", f"/commit?container={foreign}&repo={OTHERS}&tag=kept", {})
    for method, path, more in (build, commit):
        assert is_refused(call(arms.proxied, method, path, **more))
    assert is_refused(call(arms.proxied, "POST", "/images/create?fromImage=x&tag=y"))
    for (method, path, more), tag in ((build, "built"), (commit, "kept")):
        assert call(arms.direct, method, path, **more).ok
        arms.direct.remove_image(f"{OTHERS}:{tag}", noprune=True)


def test_another_server_cannot_be_named_later(arms: Arms) -> None:
    other = json.dumps({"label": [f"{SERVER_LABEL}=another"]})
    for path in ("/containers/json", "/volumes", "/events"):
        assert is_refused(call(arms.proxied, "GET", path, params={"filters": other}))


def test_events_pass_as_they_come_and_only_ones_own(arms: Arms, foreign: str) -> None:
    own = json.dumps({"label": [f"{SERVER_LABEL}={SERVER}"], "type": ["container"]})
    reply = call(arms.proxied, "GET", "/events", params={"filters": own}, stream=True)
    try:
        assert reply.status_code == 200
        arms.direct.rename(foreign, f"{OTHERS}-b")
        arms.direct.rename(foreign, OTHERS)
        sandbox_id = new_id()
        body = {"Image": IMAGE, "Labels": {SERVER_LABEL: SERVER, SANDBOX_LABEL: sandbox_id}}
        made = arms.direct.create_container_from_config(body, f"grotto-{sandbox_id}")["Id"]
        arms.direct.remove_container(made)
        first = json.loads(next(reply.iter_lines()))
        assert (first["Action"], first["Actor"]["ID"]) == ("create", made)
    finally:
        reply.close()


# ---- what no HTTP library would send; the engine is one that notes what it gets --------------


@dataclass
class Wire:
    """A proxy in front of an engine that answers every connection alike."""

    path: Path
    engine_path: Path
    got: list[bytes]
    left: asyncio.Event
    """Set when the proxy has closed a connection that the engine would have kept."""

    def say(self, raw: bytes, to_engine: bool = False) -> bytes:
        """Returns the whole answer; bytes that ask for no close are followed by the end."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            connection.connect(str(self.engine_path if to_engine else self.path))
            with suppress(BrokenPipeError):
                connection.sendall(raw)
                if b"Connection: close" not in raw:
                    connection.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    answer += chunk
            return answer

    async def answer(self, raw: bytes, to_engine: bool = False) -> bytes:
        return await asyncio.to_thread(self.say, raw, to_engine)


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    got: list[bytes] = []

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(1 << 20))
        if b"/events" in got[-1]:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
            await reader.read()
            found.left.set()
        elif b"/version" in got[-1]:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
        writer.write(b"HTTP/1.1 200 OK\r\nX-Inner: 1\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    found = Wire(tmp_path / "p", tmp_path / "e", got, asyncio.Event())
    server = await asyncio.start_unix_server(engine, found.engine_path)
    upstream = Upstream(found.engine_path)
    bounds = Bounds(connections=3, arrival_s=0.2, reply_bytes=4096)
    rules = Rules("", {}, frozenset(), frozenset({""}), 0)
    proxy = EngineProxy(
        upstream, rules, AllowedImages(upstream, ()), ServerId(tmp_path / "server"), bounds
    )
    served = await listening(proxy, found.path)
    yield found
    for one in (served, server):
        one.close()
    await proxy.close()
    await asyncio.gather(served.wait_closed(), server.wait_closed())


def http(head: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([head, "Host: docker", *headers, "", ""]).encode("latin-1") + body


SMUGGLED = {
    "two lengths": http("GET /info HTTP/1.1", "Content-Length: 0", "Content-Length: 5"),
    "a list of lengths": http("GET /info HTTP/1.1", "Content-Length: 0, 5"),
    "a signed length": http("GET /info HTTP/1.1", "Content-Length: +0"),
    "chunks": http("GET /info HTTP/1.1", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks and a length": http(
        "GET /info HTTP/1.1",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        body=b"0\r\n\r\nGET /secrets HTTP/1.1\r\n\r\n",
    ),
    "an unknown coding": http("GET /info HTTP/1.1", "Transfer-Encoding: xchunked"),
    "an upgrade": http("GET /info HTTP/1.1", "Connection: Upgrade", "Upgrade: tcp"),
    "an upgrade's header": http("GET /info HTTP/1.1", "Upgrade: h2c"),
    "a hop by hop header": http("GET /info HTTP/1.1", "Connection: close, Host"),
    "expect": http("GET /info HTTP/1.1", "Expect: 100-continue"),
    "CONNECT": http("CONNECT docker:80 HTTP/1.1"),
    "an absolute address": http("GET http://docker/info HTTP/1.1"),
    "an authority": http("GET //docker/info HTTP/1.1"),
    "a way up": http("GET /containers/../info HTTP/1.1"),
    "a hidden way up": http("GET /containers/%2e%2e/info HTTP/1.1"),
    "a space in the target": http("GET /info /x HTTP/1.1"),
    "a tab in the target": http("GET /info\t HTTP/1.1"),
    "letters beyond ASCII": http("GET /inf\xf6 HTTP/1.1"),
    "a header without a name": http("GET /info HTTP/1.1", ": x"),
    "a space before the colon": http("GET /info HTTP/1.1", "Content-Length : 0"),
    "a return in a header": http("GET /info HTTP/1.1", "X: a\rContent-Length: 9"),
    "a NUL in a header": http("GET /info HTTP/1.1", "X: a\0b"),
    "the version before": http("GET /info HTTP/1.0"),
    "no version": b"GET /info\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /info HTTP/1.1\r\n\r\n",
    "a body where there is none": http("GET /info HTTP/1.1", "Content-Length: 2", body=b"{}"),
    "a body that is announced too large": http(
        "POST /containers/create?name=grotto-b1 HTTP/1.1", f"Content-Length: {MAX_BODY_BYTES + 1}"
    ),
    "a head that does not end": b"GET /info HTTP/1.1\r\nX: " + b"x" * (1 << 20),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("attack", SMUGGLED)
async def test_what_is_not_plain_http_never_reaches_the_engine(attack: str, wire: Wire) -> None:
    answer = await wire.answer(SMUGGLED[attack])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1][:1] == b"4", answer
    assert json.loads(body)["message"].startswith("refused by the engine proxy: ")
    assert wire.got == []
    control = await wire.answer(SMUGGLED[attack], to_engine=True)
    assert control.startswith(b"HTTP/1.1 200") and len(wire.got) == 1


async def test_the_engine_gets_the_proxys_own_words(wire: Wire) -> None:
    raw = http("GET /v1.41/info HTTP/1.1", "X-Registry-Auth: x", "Connection: close")
    answer = await wire.answer(raw)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\n{}")
    assert b"X-Inner" not in answer
    (got,) = wire.got
    assert got == (
        b"GET /v1.41/info HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n"
        b"Content-Length: 0\r\n\r\n"
    )


async def test_a_request_behind_a_refused_one_is_not_read(wire: Wire) -> None:
    refused, allowed = http("GET /secrets HTTP/1.1"), http("GET /info HTTP/1.1")
    answer = await wire.answer(refused + allowed)
    assert answer.count(b"HTTP/1.1") == 1 and wire.got == []


async def test_requests_follow_each_other_on_one_connection(wire: Wire) -> None:
    reader, writer = await asyncio.open_unix_connection(wire.path)
    for count in (1, 2, 3):
        writer.write(http("GET /info HTTP/1.1"))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and await reader.readexactly(2) == b"{}"
        assert len(wire.got) == count
    writer.close()
    await writer.wait_closed()


async def test_an_engine_that_is_not_there_is_said(wire: Wire) -> None:
    wire.engine_path.unlink()
    answer = await wire.answer(http("GET /info HTTP/1.1", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 502") and b"the engine does not answer" in answer


async def test_a_stream_ends_with_the_one_who_reads_it(wire: Wire) -> None:
    own = quote(json.dumps({"label": [f"{SERVER_LABEL}={SERVER}"]}))
    reader, writer = await asyncio.open_unix_connection(wire.path)
    writer.write(http(f"GET /events?filters={own} HTTP/1.1"))
    await writer.drain()
    await reader.readuntil(b"{}")
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(DEADLINE_S):
        await wire.left.wait()


async def test_a_request_has_to_arrive_in_time(wire: Wire) -> None:
    reader, writer = await asyncio.open_unix_connection(wire.path)
    writer.write(b"GET /info HTTP/1.1\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408") and b"too long to arrive" in answer
    writer.close()
    await writer.wait_closed()


async def test_an_answer_over_the_bound_is_not_passed_on(wire: Wire) -> None:
    answer = await wire.answer(http("GET /version HTTP/1.1", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 502") and b"too large" in answer


async def test_connections_are_counted(wire: Wire) -> None:
    held = [await asyncio.open_unix_connection(wire.path) for _ in range(3)]
    reader, writer = await asyncio.open_unix_connection(wire.path)
    assert await reader.read() == b""
    for _, one in (*held, (reader, writer)):
        one.close()
        await one.wait_closed()
    async with asyncio.timeout(DEADLINE_S):
        while not (await wire.answer(http("GET /info HTTP/1.1", "Connection: close"))):
            await asyncio.sleep(0.01)

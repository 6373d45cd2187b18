"""What the engine proxy lets through, judged without an engine: a table of calls."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from grotto_control.__main__ import main
from grotto_control.backends.docker.template import (
    SANDBOX_LABEL,
    SEAL_LABEL,
    SERVER_LABEL,
    ContainerSpec,
    Resources,
    create_body,
    resources_for,
    update_body,
)
from grotto_control.config import BadConfig
from grotto_control.engine_proxy.calls import Call, Request, judge, server_named
from grotto_control.engine_proxy.rules import ImageUnknown, Refused, Rules
from grotto_control.engine_proxy.server_id import ServerId
from grotto_control.model.limits import GIB, MIB, Limits

SERVER = "0123456789abcdef"
IMAGE = f"sha256:{'1' * 64}"
CONTAINER = "c" * 64
RULES = Rules(
    server_id=SERVER,
    images={IMAGE: ("PATH", "LD_PRELOAD")},
    references=frozenset(
        {"grotto-sandbox:data", "registry.example:5000/team/own@sha256:" + "2" * 64}
    ),
    runtimes=frozenset({"", "runsc"}),
    socket_gid=10001,
)
SPEC = ContainerSpec(
    sandbox_id="b0123456789abcdef",
    image_id=IMAGE,
    image_env=("PATH", "LD_PRELOAD"),
    runtime="",
    daemon_uid=2_080_000_002,
    worker_uid=2_080_000_003,
    socket_gid=10001,
    disk_bytes=256 * MIB,
    resources=resources_for(Limits(), 256 * MIB),
    labels={
        SERVER_LABEL: SERVER,
        SANDBOX_LABEL: "b0123456789abcdef",
        SEAL_LABEL: "a" * 64,
    },
)
CREATE = "/v1.41/containers/create?name=grotto-b0123456789abcdef"


def filters(**others: Any) -> str:
    return quote(json.dumps({"label": [f"{SERVER_LABEL}={SERVER}"], **others}))


def created(body: Any, target: str = CREATE, rules: Rules = RULES) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(Request("POST", target, raw), rules)


ALLOWED = [
    ("GET", "/_ping", "/v1.41/_ping"),
    ("GET", "/v1.41/_ping", "/v1.41/_ping"),
    ("GET", "/version", "/v1.41/version"),
    ("GET", "/v1.41/info", "/v1.41/info"),
    ("GET", "/v1.41/images/grotto-sandbox:data/json", "/v1.41/images/grotto-sandbox:data/json"),
    ("GET", f"/v1.41/images/{IMAGE}/json", f"/v1.41/images/{IMAGE}/json"),
    (
        "GET",
        f"/v1.41/images/registry.example:5000/team/own@sha256:{'2' * 64}/json",
        f"/v1.41/images/registry.example:5000/team/own@sha256:{'2' * 64}/json",
    ),
    ("POST", f"/v1.41/containers/{CONTAINER}/start", "/v1.41/containers/ID/start"),
    ("POST", "/v1.41/containers/grotto-b01/start", "/v1.41/containers/ID/start"),
    ("GET", f"/v1.41/containers/{CONTAINER[:12]}/json", "/v1.41/containers/ID/json"),
    ("DELETE", f"/v1.41/containers/{CONTAINER}?force=1&v=1", "/v1.41/containers/ID?force=1&v=1"),
    (
        "DELETE",
        f"/v1.41/containers/{CONTAINER}?v=True&link=False&force=True",
        "/v1.41/containers/ID?force=1&v=1",
    ),
    ("DELETE", "/v1.41/volumes/0a1b", "/v1.41/volumes/0a1b"),
]


@pytest.mark.parametrize(("method", "target", "sent"), ALLOWED)
def test_a_call_of_the_backend_is_sent_on_in_its_own_words(
    method: str, target: str, sent: str
) -> None:
    call = judge(Request(method, target), RULES)
    assert (call.method, call.target("ID")) == (method, sent)
    assert call.body is None
    assert (call.container is not None) == ("/ID" in sent)
    assert (call.volume is not None) == ("/volumes/" in sent)


@pytest.mark.parametrize("path", ["/containers/json?all=1&", "/volumes?", "/events?"])
def test_a_listing_of_the_own_label_is_allowed_and_no_other(path: str) -> None:
    call = judge(Request("GET", f"/v1.41{path}filters={filters()}"), RULES)
    assert json.loads(call.query["filters"]) == {"label": [f"{SERVER_LABEL}={SERVER}"]}
    assert call.streams == (path == "/events?")
    for wrong in (
        "",
        f"filters={quote('{}')}",
        f"filters={quote(json.dumps({'label': [SERVER_LABEL]}))}",
        f"filters={quote(json.dumps({'label': [f'{SERVER_LABEL}={SERVER}', 'x']}))}",
        f"filters={quote(json.dumps({'label': [f'{SERVER_LABEL}=another']}))}",
        f"filters={filters(name=['x'])}",
        f"filters={filters()}&filters={filters()}",
        "filters=%7B%22label%22:[%22x%22],%22label%22:[%22x%22]%7D",
        f"filters={filters()}&follow=1",
    ):
        with pytest.raises(Refused):
            judge(Request("GET", f"/v1.41{path}{wrong}"), RULES)


def test_events_may_be_narrowed() -> None:
    target = f"/v1.41/events?since=17.5&filters={filters(type=['container'], event=['die'])}"
    assert json.loads(judge(Request("GET", target), RULES).query["filters"])["event"] == ["die"]
    for wrong in ("since=x", f"filters={filters(event='die')}", f"filters={filters(event=[{}])}"):
        with pytest.raises(Refused):
            judge(Request("GET", f"/v1.41/events?{wrong}"), RULES)


def test_what_the_template_makes_is_made_of_the_template_again() -> None:
    for spec in (
        SPEC,
        replace(SPEC, worker_uid=None),
        replace(SPEC, runtime="runsc"),
        replace(SPEC, disk_bytes=MIB, resources=resources_for(Limits(), MIB)),
    ):
        call = created(create_body(spec))
        assert call.creates and call.target() == CREATE
        assert call.body is not None and json.loads(call.body) == create_body(spec)


def test_an_update_holds_resources_and_nothing_else() -> None:
    target = f"/v1.41/containers/{CONTAINER}/update"
    wanted = update_body(resources_for(Limits(memory_bytes=GIB), 256 * MIB))
    call = judge(Request("POST", target, json.dumps(wanted).encode()), RULES)
    assert call.body is not None and json.loads(call.body) == wanted
    for change in (
        {"Memory": 0},
        {"Memory": -1},
        {"Memory": True},
        {"Memory": 1e9},
        {"MemorySwap": -1},
        {"PidsLimit": -1},
        {"PidsLimit": 10**6},
        {"CpuQuota": 0},
        {"CpuPeriod": 1000},
        {"RestartPolicy": {"Name": "always"}},
        {"DeviceCgroupRules": ["a *:* rwm"]},
        {"memory": wanted["Memory"]},
    ):
        with pytest.raises(Refused):
            judge(Request("POST", target, json.dumps({**wanted, **change}).encode()), RULES)


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Returns what sets `a.b.c` of a body; `None` takes it away."""

    def change(body: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for key in way:
            body = body[key]
        if value is None:
            del body[last]
        else:
            body[last] = value

    return change


HOST = "HostConfig"
VOLUME = create_body(SPEC)[HOST]["Mounts"][0]
BAD_BODIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "privileged": at(f"{HOST}.Privileged", True),
    "privileged in other letters": at(f"{HOST}.privileged", True),
    "host config in other letters": at("hostconfig", {"Privileged": True}),
    "binds": at(f"{HOST}.Binds", ["/:/host"]),
    "a host path mounted": at(
        f"{HOST}.Mounts", [VOLUME, {"Type": "bind", "Source": "/", "Target": "/host"}]
    ),
    "another volume": at(f"{HOST}.Mounts", [{**VOLUME, "Source": "other"}]),
    "a volume that is a host path": at(
        f"{HOST}.Mounts",
        [
            {
                **VOLUME,
                "VolumeOptions": {
                    **VOLUME["VolumeOptions"],
                    "DriverConfig": {
                        "Name": "local",
                        "Options": {"type": "none", "device": "/", "o": "bind"},
                    },
                },
            }
        ],
    ),
    "no socket volume": at(f"{HOST}.Mounts", []),
    "volumes": at("Volumes", {"/x": {}}),
    "a capability": at(f"{HOST}.CapAdd", ["KILL", "SETGID", "SETUID", "SYS_ADMIN"]),
    "nothing dropped": at(f"{HOST}.CapDrop", []),
    "devices": at(f"{HOST}.Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda"}]),
    "the host's pids": at(f"{HOST}.PidMode", "host"),
    "the host's ipc": at(f"{HOST}.IpcMode", "host"),
    "the host's cgroups": at(f"{HOST}.CgroupnsMode", "host"),
    "the host's network": at(f"{HOST}.NetworkMode", "host"),
    "a network": at("NetworkDisabled", False),
    "the host's users": at(f"{HOST}.UsernsMode", "host"),
    "seccomp unconfined": at(f"{HOST}.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"]),
    "new privileges": at(f"{HOST}.SecurityOpt", create_body(SPEC)[HOST]["SecurityOpt"][1:]),
    "apparmor unconfined": at(
        f"{HOST}.SecurityOpt", [*create_body(SPEC)[HOST]["SecurityOpt"], "apparmor=unconfined"]
    ),
    "nothing masked": at(f"{HOST}.MaskedPaths", []),
    "a root that can be written": at(f"{HOST}.ReadonlyRootfs", False),
    "removed at its end": at(f"{HOST}.AutoRemove", True),
    "removed or not, as it is not said": at(f"{HOST}.AutoRemove", None),
    "started again": at(f"{HOST}.RestartPolicy", {"Name": "always"}),
    "a log": at(f"{HOST}.LogConfig", {"Type": "json-file", "Config": {}}),
    "no memory limit": at(f"{HOST}.Memory", 0),
    "memory as a float": at(f"{HOST}.Memory", float(SPEC.resources.memory_bytes)),
    "more memory than any session": at(f"{HOST}.Memory", 2**50),
    "swap": at(f"{HOST}.MemorySwap", -1),
    "no pids limit": at(f"{HOST}.PidsLimit", -1),
    "a cgroup parent": at(f"{HOST}.CgroupParent", "/"),
    "a number for a truth": at(f"{HOST}.ReadonlyRootfs", 1),
    "another runtime": at(f"{HOST}.Runtime", "other"),
    "another tmpfs": at(f"{HOST}.Tmpfs./etc", "size=1m"),
    "a workspace for programs of root": at(
        f"{HOST}.Tmpfs./workspace",
        create_body(SPEC)[HOST]["Tmpfs"]["/workspace"].replace(",nosuid", ""),
    ),
    "a disk over the cap": at(f"{HOST}.Tmpfs./workspace", f"size={2**50},x"),
    "another user": at("User", "0"),
    "another image": at("Image", f"sha256:{'3' * 64}"),
    "an image by name": at("Image", "grotto-sandbox:data"),
    "another entry point": at("Entrypoint", ["/bin/sh"]),
    "another command": at("Cmd", ["-c", "id", "--daemon-uid", "2080000002"]),
    "a host uid": at("Cmd", [*create_body(SPEC)["Cmd"][:-3], "0", "--worker-uid", "1"]),
    "a worker like another's": at("Cmd", [*create_body(SPEC)["Cmd"][:-1], "2080000009"]),
    "a preloaded library": at("Env", [*create_body(SPEC)["Env"], "LD_PRELOAD=/x"]),
    "an image's variable kept": at("Env", create_body(SPEC)["Env"][:2]),
    "another label": at("Labels.x", "y"),
    "a health check": at("Healthcheck", {"Test": ["CMD", "id"]}),
    "on build": at("OnBuild", ["RUN id"]),
}


def test_every_body_of_the_table_differs_from_the_template() -> None:
    for name, change in BAD_BODIES.items():
        change(body := create_body(SPEC))
        assert json.dumps(body) != json.dumps(create_body(SPEC)), name


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_departs_from_the_template_is_refused(name: str) -> None:
    body = create_body(SPEC)
    BAD_BODIES[name](body)
    with pytest.raises(Refused) as refused:
        created(body)
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize("label", [SERVER_LABEL, SANDBOX_LABEL, SEAL_LABEL])
def test_labels_are_this_servers_and_this_sandboxs(label: str) -> None:
    with pytest.raises(Refused):
        created(create_body(replace(SPEC, labels={**SPEC.labels, label: "b9"})))
    with pytest.raises(Refused):
        created(create_body(replace(SPEC, labels={**SPEC.labels, "dev.grotto.more": "1"})))


def test_the_sockets_group_is_the_proxys_own() -> None:
    with pytest.raises(Refused, match=r"HostConfig\.Mounts"):
        created(create_body(replace(SPEC, socket_gid=0)))


def test_resources_are_those_a_session_can_have() -> None:
    for name in Resources.__slots__:
        for value in (0, 2**60):
            resources = replace(SPEC.resources, **{name: value})
            with pytest.raises(Refused, match=name):
                created(create_body(replace(SPEC, resources=resources)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"HostConfig": 1}',
        b"\xff",
        b'{"Memory": NaN}',
        b"[" * 100_000,
        json.dumps(create_body(SPEC)).replace('"Tty"', '"Tty": true, "Tty"').encode(),
    ],
)
def test_a_body_that_is_no_container_is_refused_in_a_sentence(body: bytes) -> None:
    with pytest.raises(Refused):
        created(body)


@pytest.mark.parametrize(
    "name",
    ["", "x", "grotto-", "grotto-B1", "grotto-b0123456789abcdee", "../grotto-b1", "grotto-b1%00"],
)
def test_a_container_has_its_sandboxs_name(name: str) -> None:
    with pytest.raises(Refused):
        created(create_body(SPEC), f"/v1.41/containers/create?name={name}")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1.41/build"),
        ("POST", "/v1.41/images/create?fromImage=x"),
        ("POST", "/v1.41/images/load"),
        ("GET", "/v1.41/images/json"),
        ("GET", "/v1.41/images/other:latest/json"),
        ("DELETE", "/v1.41/images/grotto-sandbox:data"),
        ("POST", "/v1.41/commit?container=x"),
        ("POST", f"/v1.41/containers/{CONTAINER}/exec"),
        ("POST", "/v1.41/exec/x/start"),
        ("POST", f"/v1.41/containers/{CONTAINER}/attach"),
        ("GET", f"/v1.41/containers/{CONTAINER}/attach/ws"),
        ("GET", f"/v1.41/containers/{CONTAINER}/logs?stdout=1"),
        ("GET", f"/v1.41/containers/{CONTAINER}/archive?path=/"),
        ("PUT", f"/v1.41/containers/{CONTAINER}/archive?path=/"),
        ("GET", f"/v1.41/containers/{CONTAINER}/export"),
        ("GET", f"/v1.41/containers/{CONTAINER}/top"),
        ("POST", f"/v1.41/containers/{CONTAINER}/kill"),
        ("POST", f"/v1.41/containers/{CONTAINER}/rename?name=x"),
        ("POST", "/v1.41/containers/prune"),
        ("POST", "/v1.41/volumes/create"),
        ("POST", "/v1.41/networks/create"),
        ("GET", "/v1.41/secrets"),
        ("POST", "/v1.41/swarm/init"),
        ("POST", "/v1.41/session"),
        ("POST", "/v1.41/plugins/pull"),
        ("GET", "/v1.40/info"),
        ("GET", "/v1.41/v1.41/info"),
        ("HEAD", "/_ping"),
        ("POST", "/_ping"),
        ("CONNECT", "docker:80"),
        ("OPTIONS", "*"),
        ("GET", "http://docker/info"),
        ("GET", "//info"),
        ("GET", "/v1.41//info"),
        ("GET", "/v1.41/./info"),
        ("GET", "/v1.41/containers/../info"),
        ("GET", "/v1.41/containers/%2e%2e/info"),
        ("GET", f"/v1.41/containers/{CONTAINER}%2Fexec/json"),
        ("GET", "/v1.41/info/"),
        ("GET", "/v1.41/info?x=1"),
        ("GET", "/v1.41/info#x"),
        ("GET", "/v1.41/info\\x"),
        ("GET", f"/v1.41/containers/{CONTAINER}/json?size=1"),
        ("GET", "/v1.41/containers/foreign/json"),
        ("GET", "/v1.41/containers/cafe/json"),
        ("DELETE", "/v1.41/containers/foreign?force=1"),
        ("DELETE", f"/v1.41/containers/{CONTAINER}?link=1"),
        ("DELETE", f"/v1.41/containers/{CONTAINER}?force=maybe"),
        ("DELETE", f"/v1.41/containers/{CONTAINER}?force=1&force=1"),
        ("DELETE", "/v1.41/volumes/.."),
        ("POST", f"/v1.41/containers/{CONTAINER}/start?checkpoint=x"),
        ("POST", f"/v1.41/containers/{CONTAINER}/update?x=1"),
    ],
)
def test_any_other_call_is_refused(method: str, target: str) -> None:
    with pytest.raises(Refused) as refused:
        judge(Request(method, target), RULES)
    assert refused.value.status in (400, 403)


def test_a_call_without_a_body_takes_none() -> None:
    for method, target in (("GET", "/info"), ("POST", f"/containers/{CONTAINER}/start")):
        with pytest.raises(Refused, match="takes no body"):
            judge(Request(method, target, b"{}"), RULES)


def test_an_unknown_image_is_told_apart_so_that_it_is_looked_up() -> None:
    with pytest.raises(ImageUnknown):
        created(create_body(SPEC), rules=replace(RULES, images={}))


def test_nothing_is_anybodys_before_a_server_has_named_itself() -> None:
    nameless = replace(RULES, server_id="")
    labels = {**SPEC.labels, SERVER_LABEL: ""}
    with pytest.raises(Refused, match="no control plane"):
        created(create_body(replace(SPEC, labels=labels)), rules=nameless)
    empty = quote(json.dumps({"label": [f"{SERVER_LABEL}="]}))
    with pytest.raises(Refused, match="no control plane"):
        judge(Request("GET", f"/containers/json?filters={empty}"), nameless)


def test_the_first_server_is_served_for_good(tmp_path: Path) -> None:
    path = tmp_path / "id"
    first = ServerId(path)
    assert first.known(None) == "" and first.known("../etc") == ""
    assert first.known("abcd1234") == "abcd1234"
    assert first.known("other999") == "abcd1234"
    assert ServerId(path).known("other999") == "abcd1234"
    path.write_text("no id at all")
    with pytest.raises(BadConfig, match="holds no server id"):
        ServerId(path)
    with pytest.raises(BadConfig, match="no directory"):
        ServerId(tmp_path / "missing" / "id")


def test_a_server_names_itself_by_listing_its_own() -> None:
    listing = Request("GET", f"/v1.41/events?filters={filters()}")
    assert server_named(listing) == SERVER
    for target in (
        "/info",
        "/events?filters=1",
        "/events?filters=%7B%7D",
        "//x",
        "/events?filters=",
    ):
        assert server_named(Request("GET", target)) is None
    other = quote(json.dumps({"label": ["x=y"]}))
    assert server_named(Request("GET", f"/events?filters={other}")) is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--engine": "tcp://10.0.0.1:2375"}, "--engine tcp://10.0.0.1:2375: give the engine's"),
        ({"--engine": "unix://relative"}, "--engine unix://relative: give the engine's"),
        ({"--image": "default=../x y"}, "give an image's reference"),
        ({"--listen": "/nowhere/at/all/e.sock"}, "cannot listen on /nowhere/at/all/e.sock"),
        ({"--listen": "/tmp/" + "x" * 100}, "at most 100 bytes"),
        ({"--server-id-file": "/nowhere/at/all/id"}, "there is no directory /nowhere/at/all"),
    ],
)
def test_what_it_cannot_be_started_with_is_said_in_a_sentence(
    changed: dict[str, str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "--engine": "unix:///nowhere",
        "--listen": str(tmp_path / "e"),
        "--server-id-file": str(tmp_path / "id"),
        "--image": "grotto-sandbox:data",
        **changed,
    }
    assert main(["engine-proxy", *(word for pair in options.items() for word in pair)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("grotto: ") and sentence in said and len(said.splitlines()) == 1

"""`deploy/compose.yaml` as an operator brings it up, on images built here, and down again."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine

import grotto

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FALLBACK_BASE, FALLBACK_PROMETHEUS = "grotto-base:bookworm", "grotto-prometheus:bookworm"
DEADLINE_S = 120.0
POLL_S = 0.2

pytestmark = pytest.mark.timeout(600)


class Deployment:
    """One project of docker-compose."""

    def __init__(self, engine: DockerEngine, prometheus_image: str) -> None:
        self.engine = engine
        self.project = f"grotto-test-{secrets.token_hex(4)}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"localhost:{free.getsockname()[1]}"
        root = engine.docker("info", "--format", "{{.DockerRootDir}}")
        self._environment = {
            **os.environ,
            "GROTTO_PUBLISH": self.address.replace("localhost", "127.0.0.1"),
            "GROTTO_PROMETHEUS_IMAGE": prometheus_image,
            "GROTTO_VOLUMES": f"{root}/volumes",
            "GROTTO_POOL": "1",
        }

    def compose(self, *words: str) -> str:
        """Returns what docker-compose printed; AssertionError with its complaint."""
        done = subprocess.run(
            ["docker-compose", "-p", self.project, "-f", "compose.yaml", *words],
            cwd=DEPLOY,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def inside(self, service: str, *words: str) -> str:
        return self.compose("exec", "-T", service, *words)

    def container(self, service: str) -> dict[str, Any]:
        """Returns what the engine knows of a service's container."""
        found: list[dict[str, Any]] = json.loads(
            self.engine.docker("inspect", self.compose("ps", "-q", service).strip())
        )
        return found[0]

    def series(self, expression: str) -> str:
        """Returns what Prometheus says, asked where it can be reached: in its own container."""
        return self.inside(
            "prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", expression
        )


@pytest.fixture(scope="module")
def prometheus_image(docker_engine: DockerEngine) -> str:
    """The image of compose.yaml if it is here, or the one of Debian's package, built once."""
    for image in (os.environ.get("GROTTO_PROMETHEUS_IMAGE"), FALLBACK_PROMETHEUS):
        if image and docker_engine.docker("images", "-q", image):
            return image
    if not docker_engine.docker("images", "-q", FALLBACK_BASE):
        missing(f"the image {FALLBACK_BASE} is not built; deploy/base-image/build builds it")
    docker_engine.docker("build", "-q", "-t", FALLBACK_PROMETHEUS, str(DEPLOY / "prometheus"))
    return FALLBACK_PROMETHEUS


@pytest.fixture(scope="module")
def deployment(docker_engine: DockerEngine, prometheus_image: str) -> Iterator[Deployment]:
    if shutil.which("docker-compose") is None:
        missing("there is no docker-compose")
    deployment = Deployment(docker_engine, prometheus_image)
    server_id = ""
    try:
        deployment.compose("up", "-d")
        until(lambda: health(deployment, "control-plane") == "healthy", "the control plane")
        server_id = deployment.inside("engine-proxy", "cat", "/var/lib/grotto-engine/server-id")
        yield deployment
    finally:
        deployment.compose("down", "-v")
    assert left_of(deployment, server_id) == ""


def missing(what: str) -> None:
    if os.environ.get("REQUIRE_DOCKER"):
        pytest.fail(f"REQUIRE_DOCKER is set, and {what}", pytrace=False)
    pytest.skip(what)


def health(deployment: Deployment, service: str) -> str:
    return str(deployment.container(service)["State"]["Health"]["Status"])


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"{what}: not within {DEADLINE_S:.0f} s"
        time.sleep(POLL_S)


def left_of(deployment: Deployment, server_id: str) -> str:
    """Returns what is there of a project and of its sandboxes."""
    docker = deployment.engine.docker
    project = f"label=com.docker.compose.project={deployment.project}"
    sandboxes = f"label=dev.grotto.server={server_id}"
    return "\n".join(
        line
        for label in (project, sandboxes)
        for line in (
            docker("ps", "-aq", "--filter", label),
            docker("volume", "ls", "-q", "--filter", label),
            docker("network", "ls", "-q", "--filter", label),
        )
        if line
    )


@pytest.fixture(scope="module")
def api_key(deployment: Deployment) -> str:
    words = ("grotto", "keys", "create", "--tenant", "acme", "--json")
    return str(json.loads(deployment.inside("control-plane", *words))["api_key"])


@pytest.fixture
def ca_file(deployment: Deployment, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text(deployment.inside("control-plane", "cat", "/var/lib/grotto/tls/ca.pem"))
    return path


def test_a_session_through_tls_from_outside(
    deployment: Deployment, api_key: str, ca_file: Path
) -> None:
    url = f"grpcs://{deployment.address}"
    with (
        grotto.connect(url, api_key=api_key, ca_file=ca_file) as client,
        client.session() as session,
    ):
        assert (session.isolation.backend, session.isolation.level) == ("docker", "container")
        assert "separate_uids" in session.isolation.layers
        session.inject("prices", {"a": [1, 2.5], "b": b"\x00"})
        assert session.execute("total = sum(prices['a'])").ok
        assert session.retrieve("total") == 3.5


def test_a_session_outlives_the_control_planes_container(
    deployment: Deployment, api_key: str, ca_file: Path
) -> None:
    url = f"grpcs://{deployment.address}"
    with grotto.connect(url, api_key=api_key, ca_file=ca_file) as client:
        session = client.session()
        session.inject("kept", [1, 2, 3])
        session.detach()
    before = deployment.container("control-plane")["Id"]
    deployment.compose("up", "-d", "--no-deps", "--force-recreate", "control-plane")
    assert deployment.container("control-plane")["Id"] != before
    until(lambda: health(deployment, "control-plane") == "healthy", "the control plane")
    with (
        grotto.connect(url, api_key=api_key, ca_file=ca_file) as client,
        client.attach(session.id) as again,
    ):
        assert again.retrieve("kept") == [1, 2, 3]


def test_nobody_is_served_in_clear_or_without_the_authority(
    deployment: Deployment, api_key: str
) -> None:
    for scheme in ("grpc", "grpcs"):
        url = f"{scheme}://{deployment.address}"
        with pytest.raises(grotto.GrottoError), grotto.connect(url, api_key=api_key) as client:
            client.sessions()


def test_metrics_arrive_in_prometheus_and_nowhere_else(
    deployment: Deployment, api_key: str, ca_file: Path
) -> None:
    url = f"grpcs://{deployment.address}"
    with (
        grotto.connect(url, api_key=api_key, ca_file=ca_file) as client,
        client.session() as session,
    ):
        session.execute("1")
    for expression, value in (
        ("grotto_backend_up", "=> 1 @"),
        ('grotto_executions_total{outcome="ok"}', 'job="grotto"'),
        ('grotto_engine_calls_total{operation="containers.create",outcome="ok"}', "=>"),
    ):
        until(lambda e=expression, v=value: v in deployment.series(e), expression)
    published = {
        port
        for service in ("control-plane", "engine-proxy", "prometheus")
        for port, bound in deployment.container(service)["NetworkSettings"]["Ports"].items()
        if bound
    }
    assert published == {"50151/tcp"}


@pytest.mark.parametrize("service", ["control-plane", "engine-proxy", "prometheus"])
def test_every_service_is_held(deployment: Deployment, service: str) -> None:
    found = deployment.container(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"] and not host["Privileged"]
    assert host["Memory"] > 0 and host["PidsLimit"] > 0
    sources = {mount["Source"] for mount in found["Mounts"]}
    has_engine = any(source.endswith("docker.sock") for source in sources)
    assert has_engine == (service == "engine-proxy")
    assert (found["Config"]["User"].split(":")[0] == "0") == has_engine
    if has_engine:
        assert host["NetworkMode"] == "none"


def test_the_control_plane_reaches_no_other_call_of_the_engine(deployment: Deployment) -> None:
    ask = (
        "import docker; c = docker.APIClient('unix:///run/grotto-engine/engine.sock', "
        "version='1.41')\n"
        "try: c.images()\n"
        "except docker.errors.APIError as e: print(e.response.status_code, e.explanation)\n"
        "print(c.version()['ApiVersion'])"
    )
    python = ("/opt/grotto/bin/python", "-I", "-c", ask)
    refused, version = deployment.inside("control-plane", *python).splitlines()
    assert refused.startswith("403 refused by the engine proxy") and version
    # The control arm: whoever holds the socket itself is told.
    direct = ask.replace("/run/grotto-engine/engine.sock", "/run/engine.sock")
    assert len(deployment.inside("engine-proxy", *python[:-1], direct).splitlines()) == 1

"""The Docker engine's own API: the floor of the rows about containers, and whether it is there.

Its containers have no network and no log, and are removed with the block that made them.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
import requests

from benchmarks.measure import Absent

IMAGES = {"data": "grotto-sandbox:data", "bare": "grotto-sandbox:bare"}
"""By the names the rows use."""
PYTHON = "/opt/grotto/bin/python"
WAITS = "import signal; signal.pause()"
TIMEOUT_S = 120.0
SERVER_LABEL = "dev.grotto.server"


class Engine:
    """One connection, for one thread at a time."""

    def __init__(self) -> None:
        host = os.environ.get("DOCKER_HOST")
        self._api = docker.APIClient(host, version="1.41", timeout=TIMEOUT_S)

    def close(self) -> None:
        self._api.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Returns the decoded reply; raises requests.HTTPError when the engine refuses."""
        reply = self._api.request(method, f"{self._api.base_url}/v1.41{path}", json=body)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    @contextmanager
    def container(self, source: str, image: str = "data") -> Iterator[str]:
        """Starts a container that runs the source, and yields its id."""
        made = self.call("POST", "/containers/create", _body(source, IMAGES[image]))
        try:
            self.call("POST", f"/containers/{made['Id']}/start")
            yield str(made["Id"])
        finally:
            self.call("DELETE", f"/containers/{made['Id']}?force=1&v=1")

    def wait(self, container_id: str) -> None:
        """Returns when the container has ended; raises RuntimeError unless it ended well."""
        status = self.call("POST", f"/containers/{container_id}/wait")["StatusCode"]
        if status:
            raise RuntimeError(f"the floor's container ended with status {status}")

    def pids(self, server_id: str) -> list[int]:
        """Returns the pids, on this host, of the first processes of a server's containers."""
        filters = json.dumps({"label": [f"{SERVER_LABEL}={server_id}"]})
        found = self.call("GET", f"/containers/json?filters={filters}")
        states = [self.call("GET", f"/containers/{one['Id']}/json")["State"] for one in found]
        return [int(state["Pid"]) for state in states if state["Running"]]


@contextmanager
def engine() -> Iterator[Engine]:
    """A connection to the engine; raises Absent without one, or without the images."""
    try:
        opened = Engine()
        opened.call("GET", "/version")
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise Absent("no Docker engine") from error
    try:
        for reference in IMAGES.values():
            _check(opened, reference)
        yield opened
    finally:
        opened.close()


def version() -> str | None:
    """Returns the engine's version; None without one."""
    try:
        with engine() as opened:
            return str(opened.call("GET", "/version")["Version"])
    except Absent:
        return None


def _check(opened: Engine, reference: str) -> None:
    try:
        opened.call("GET", f"/images/{reference}/json")
    except requests.HTTPError as error:
        raise Absent(f"no image {reference}: `make image` builds it") from error


def _body(source: str, image: str) -> dict[str, Any]:
    return {
        "Image": image,
        "Entrypoint": [PYTHON],
        "Cmd": ["-I", "-c", source],
        "NetworkDisabled": True,
        "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none", "Config": {}}},
    }

"""Every query of the Grafana dashboard, run by a real Prometheus that watched a loaded server."""

import asyncio
import json
import math
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.backend import FakeBackend
from fakes.control import Client, World, reason_of, running, short_folder, until

from grotto_control.backends.docker.engine import Engine, EngineUnreachable
from grotto_control.core.plan import PlanRules
from grotto_control.model.limits import MIB
from grotto_proto.v1 import execution_pb2, sessions_pb2

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/grotto.json"
DEADLINE_S = 60.0
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: grotto
    static_configs: [{{targets: ["{target}"]}}]
"""


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture(scope="session")
def prometheus_there() -> None:
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            said = f"there is no {program}: install Debian's package `prometheus`"
            if os.environ.get("REQUIRE_DOCKER"):
                pytest.fail(f"REQUIRE_DOCKER is set, and {said}", pytrace=False)
            pytest.skip(said)


class Prometheus:
    """A running one, asked over its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Returns the samples; AssertionError with Prometheus's own words on an error."""
        return await asyncio.to_thread(self._asked, expression)

    def _asked(self, expression: str) -> list[dict[str, Any]]:
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{parameters}") as reply:
                found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
                return found
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise  # it is starting
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    async def scraped(self) -> int:
        """Returns how many scrapes have succeeded."""
        try:
            found = await self.query('sum(sum_over_time(up{job="grotto"}[1h]))')
        except OSError:
            return 0
        return int(float(found[0]["value"][1])) if found else 0


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with short_folder() as folder:
        backend = FakeBackend(folder / "fake")
        rules = PlanRules(pool_size=1, start_backoff_s=0.1)
        options: dict[str, Any] = {"metrics_bind": "127.0.0.1:0", "rules": rules}
        async with running(folder, backend, **options) as world:
            yield world
        await backend.close()


@pytest.fixture
def prometheus(prometheus_there: None, world: World, tmp_path: Path) -> Iterator[Prometheus]:
    assert world.app.metrics_url is not None
    target = urllib.parse.urlsplit(world.app.metrics_url).netloc
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(target=target))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)


async def load(world: World, client: Client, round_number: int) -> None:
    """Everything that the dashboard shows happens once: also what goes wrong."""
    await until(lambda: sum(world.app.parts.pool.counts().values()) == 1)
    session = await client.create()
    for outcome in execution_pb2.Outcome.values():
        if outcome != execution_pb2.OUTCOME_UNSPECIFIED:
            world.backend.faults.outcome = outcome
            await client.run(session.id, "x", f"e{round_number}-{outcome}")
    world.backend.faults.outcome = execution_pb2.OUTCOME_OK
    await reason_of(client.get("s_unknown"))
    await reason_of(world.client_with("grotto_no_key").get(session.id))
    limits = sessions_pb2.Limits(disk_bytes=8 * MIB)
    await client.close((await client.create(limits=limits)).id)
    world.backend.start_failure = "no room"
    await reason_of(client.create(limits=limits))
    world.backend.start_failure = ""
    await client.close(session.id)


async def call_engine(world: World, folder: Path) -> None:
    """A call of the engine that fails, as the backend `docker` counts it."""
    engine = Engine(f"unix://{folder}/absent.sock", world.app.parts.metrics.engine_call)
    with pytest.raises(EngineUnreachable):
        await engine.call("GET", "/info")
    await engine.close()


async def test_every_query_of_the_dashboard_shows_something(
    world: World, prometheus: Prometheus, tmp_path: Path
) -> None:
    client = await world.client()
    async with asyncio.timeout(DEADLINE_S):
        await client.create()  # and goes on
        for number in range(3):  # a rate needs two scrapes that differ
            await load(world, client, number)
            await call_engine(world, tmp_path)
            seen = await prometheus.scraped()
            while await prometheus.scraped() < seen + 2:
                await asyncio.sleep(0.1)
    empty = []
    for expression in queries():
        found = await prometheus.query(expression.replace("$__rate_interval", "1m"))
        if not [sample for sample in found if math.isfinite(float(sample["value"][1]))]:
            empty.append(expression)
    assert empty == []
    await _check_words(prometheus)


async def _check_words(prometheus: Prometheus) -> None:
    """The load reached what it was to reach: no query is full of something else."""
    for expression, label, words in (
        ("grotto_executions_total", "outcome", _outcomes()),
        ("grotto_bind_seconds_count", "start", {"warm", "cold"}),
        ("grotto_sessions", "status", {"ready"}),
        ("grotto_engine_calls_total", "outcome", {"unreachable"}),
    ):
        found = {sample["metric"][label] for sample in await prometheus.query(expression)}
        assert found == words, expression
    codes = {s["metric"]["code"] for s in await prometheus.query("grotto_rpcs_total")}
    assert codes == {"OK", "NOT_FOUND", "UNAUTHENTICATED", "UNAVAILABLE"}
    (target,) = await prometheus.query("grotto_pool_target")
    assert float(target["value"][1]) == 1.0


def _outcomes() -> set[str]:
    names = set(execution_pb2.Outcome.keys()) - {"OUTCOME_UNSPECIFIED"}
    return {name.removeprefix("OUTCOME_").lower() for name in names}


async def test_a_query_that_is_empty_or_wrong_is_noticed(prometheus: Prometheus) -> None:
    """The control arm: what the test above relies on is that Prometheus tells."""
    async with asyncio.timeout(DEADLINE_S):
        while not await prometheus.scraped():
            await asyncio.sleep(0.1)
    assert await prometheus.query("grotto_no_such_metric") == []
    with pytest.raises(AssertionError, match="parse error"):
        await prometheus.query("sum by (")


def test_the_dashboard_is_one_that_grafana_provisions() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["uid"] == "grotto" and dashboard["schemaVersion"] >= 36
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids) and len(queries()) >= len(ids)
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    for panel in panels():
        assert f"uid: {panel['datasource']['uid']}" in source
        assert all(target["legendFormat"] for target in panel["targets"])


def test_promtool_accepts_the_configuration(prometheus_there: None) -> None:
    words = ["promtool", "check", "config", str(DEPLOY / "prometheus/prometheus.yml")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

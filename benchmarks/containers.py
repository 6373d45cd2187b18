"""Rows about what only containers have: cold starts, limits set by the engine, many at once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil

import grotto
from benchmarks.cells import run
from benchmarks.engine import WAITS, Engine, engine
from benchmarks.forking import PRELOAD
from benchmarks.measure import FLOOR, GROTTO, Arm, Arms, Bound, Row, timed
from benchmarks.memory import WITH_PANDAS
from benchmarks.serving import serving
from benchmarks.sessions import REFILL_S, first_cell_s
from grotto_control.backends.docker.template import resources_for, update_body
from grotto_control.model.limits import GIB, MIB, Limits

IMPORTS = f"import {', '.join(PRELOAD)}, os\nos._exit(0)"
CUSTOM = grotto.Limits(cpus=2.0, memory=512 * MIB, pids=256)
SAME_AT_THE_ENGINE = Limits(cpus=2.0, memory_bytes=512 * MIB, pids=256)

AT_ONCE, POOL = 50, 4
STARTS = 4
"""How many containers the control plane starts at the same time; the floor does likewise."""
IDLE = 100
NEEDED_BYTES = 160 * 10**6
"""Per idle session, generously: a machine that lacks it gets fewer of them."""
MARGIN_BYTES = 2 * GIB
SETTLE_S = 5.0
MANY = ("--max-sessions", "200", "--tenant-sessions", "200")


@contextmanager
def _cold() -> Iterator[Arms]:
    with serving("docker", "--pool", "0") as served, engine() as opened:
        yield {
            GROTTO: Arm(lambda: first_cell_s(served.client), 8, 1),
            FLOOR: Arm(lambda: _imports_s(opened), 8, 1),
        }


def _imports_s(opened: Engine) -> float:
    """Returns the seconds from before `create` until the container has ended."""
    begin = time.perf_counter()
    with opened.container(IMPORTS) as container_id:
        opened.wait(container_id)
        return time.perf_counter() - begin


@contextmanager
def _bind_with_limits() -> Iterator[Arms]:
    with (
        serving("docker") as served,
        engine() as opened,
        opened.container(WAITS) as container_id,
    ):
        body = update_body(resources_for(SAME_AT_THE_ENGINE, SAME_AT_THE_ENGINE.disk_bytes))

        def ours() -> float:
            time.sleep(REFILL_S["docker"])
            return first_cell_s(served.client, CUSTOM)

        def update() -> None:
            opened.call("POST", f"/containers/{container_id}/update", body)

        yield {GROTTO: Arm(ours, 10, 2), FLOOR: Arm(lambda: timed(update), 10, 2)}


@contextmanager
def _at_once() -> Iterator[Arms]:
    with serving("docker", "--pool", str(POOL), *MANY) as served, engine() as opened:
        while len(opened.pids(served.server_id())) < POOL:
            time.sleep(0.1)
        time.sleep(SETTLE_S)
        yield {
            GROTTO: Arm(lambda: _sessions_s(served.client) / AT_ONCE, 1),
            FLOOR: Arm(lambda: timed(_bare_containers) / AT_ONCE, 1),
        }


def _sessions_s(client: grotto.Client) -> float:
    """Returns the seconds until every one of the sessions has run a cell; ends them after."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        opened = list(threads.map(lambda _: _session(client, "x = 1"), range(AT_ONCE)))
        elapsed_s = time.perf_counter() - begin
        list(threads.map(lambda session: session.close(), opened))
    return elapsed_s


def _bare_containers() -> None:
    with ThreadPoolExecutor(STARTS) as threads:
        list(threads.map(lambda _: _bare_container(), range(AT_ONCE)))


def _bare_container() -> None:
    with engine() as opened, opened.container(WAITS):
        pass


def _session(client: grotto.Client, cell: str) -> grotto.Session:
    opened = client.session()
    run(opened, cell)
    return opened


@contextmanager
def _host_memory() -> Iterator[Arms]:
    room = psutil.virtual_memory().available - MARGIN_BYTES
    count = max(1, min(IDLE, room // NEEDED_BYTES))
    remark = "" if count == IDLE else f"This machine's memory holds {count} of them"
    with serving("docker", "--pool", "0", *MANY) as served:
        yield {GROTTO: Arm(lambda: _host_bytes(served.client, count), 1, remark=remark)}


def _host_bytes(client: grotto.Client, count: int) -> float:
    """Returns by how much each of so many sessions lessens what the host has available.

    They live on until their control plane ends.
    """
    before = psutil.virtual_memory().available
    with ThreadPoolExecutor(STARTS) as threads:
        list(threads.map(lambda _: _session(client, WITH_PANDAS), range(count)))
    time.sleep(SETTLE_S)
    return (before - psutil.virtual_memory().available) / count


def rows() -> list[Row]:
    """The rows of this module."""
    return [
        Row(
            "cold",
            "a new session without a warm pool, first cell included",
            _cold,
            (Bound(1.25, FLOOR),),
            note="floor: `create` and `start` of a container of the same image, without a network, "
            f"until its Python has imported {', '.join(PRELOAD)} and ended",
        ),
        Row(
            "bind-limits",
            "a warm session with limits of its own, first cell included",
            _bind_with_limits,
            (Bound(0.010, FLOOR, is_excess=True),),
            note="floor: the engine's `update` of a running container to the same limits",
        ),
        Row(
            "at-once",
            f"{AT_ONCE} sessions opened at once with a pool of {POOL}, each",
            _at_once,
            note="until the last of them has run a cell, divided by their number. Floor: as many "
            f"bare containers created, started and removed, {STARTS} at a time",
        ),
        Row(
            "host-memory",
            f"memory the host lacks for each of {IDLE} idle sessions with pandas loaded",
            _host_memory,
            unit="bytes",
            note="difference of MemAvailable, so with the engine's own processes and the kernel's "
            "share. It is of the whole machine: anything else that runs falsifies it",
        ),
    ]

"""Where `serve` runs sandboxes, by `--backend` and by what this host offers."""

import subprocess
import sys
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from serving import Server

import grotto

BARE = ("--image", "bare=grotto-sandbox:bare", "--pool", "0")
NO_ENGINE = ("--docker-host", "unix:///nonexistent/engine.sock")


def backend_of(folder: Path, *options: str) -> str:
    """Returns the backend that a session of a server with these options gets."""
    server = Server(folder, *options)
    server.start()
    try:
        with grotto.connect(server.url, server.key("ada")) as client, client.session() as session:
            assert session.execute("1 + 1").result == "2"
            return session.isolation.backend
    finally:
        server.stop()


def test_auto_takes_the_engine_that_answers(docker_engine: DockerEngine, data_dir: Path) -> None:
    assert backend_of(data_dir, "--backend", "auto", *BARE) == "docker"


@pytest.mark.parametrize(
    "options",
    [NO_ENGINE, ("--image", "data=grotto-sandbox:no-such-tag")],
    ids=["no engine", "no image"],
)
def test_auto_takes_local_where_docker_does_not_work(
    data_dir: Path, options: tuple[str, ...]
) -> None:
    assert backend_of(data_dir, "--backend", "auto", "--pool", "0", *options) == "local"


def test_an_image_that_is_not_there_is_said_before_anything_is_served(
    docker_engine: DockerEngine, data_dir: Path
) -> None:
    command = [sys.executable, "-m", "grotto_control", "serve", "--data-dir", str(data_dir)]
    image = "data=grotto-sandbox:no-such-tag"
    run = subprocess.run(
        [*command, "--backend", "docker", "--image", image], capture_output=True, text=True
    )
    assert run.returncode == 2 and run.stdout == ""
    assert "has no image grotto-sandbox:no-such-tag" in run.stderr and "make image" in run.stderr


def test_embedded_stays_local_unless_told(docker_engine: DockerEngine) -> None:
    with grotto.local() as client, client.session() as session:
        assert session.isolation.backend == "local"
    with grotto.local(backend="docker") as client, client.session() as session:
        assert session.isolation.backend == "docker" and session.info.image == "data"

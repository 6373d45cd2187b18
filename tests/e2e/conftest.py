"""Servers of which each test has its own, to kill and start again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(data_dir: Path) -> Iterator[Server]:
    server = Server(data_dir, "--pool", "1")
    server.start()
    yield server
    server.stop()

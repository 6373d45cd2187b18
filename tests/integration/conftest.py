"""One embedded control plane for the integration tests; each test opens its own session."""

from collections.abc import Iterator

import pytest

import grotto


@pytest.fixture(scope="session")
def client() -> Iterator[grotto.Client]:
    with grotto.local() as client:
        yield client

"""The metrics' address, and what their labels are made of."""

import urllib.request

import pytest

from grotto_control.config import BadConfig
from grotto_control.metrics import MetricsServer, PrometheusMetrics


@pytest.mark.parametrize("bind", ["9151", ":9151", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_said(bind: str) -> None:
    with pytest.raises(BadConfig, match=r"give HOST:PORT"):
        MetricsServer(PrometheusMetrics(), bind)


def test_an_address_in_use_is_said() -> None:
    first = MetricsServer(PrometheusMetrics(), "127.0.0.1:0")
    try:
        taken = first.url.removeprefix("http://").removesuffix("/metrics")
        with pytest.raises(BadConfig, match=f"cannot listen on {taken}"):
            MetricsServer(PrometheusMetrics(), taken)
    finally:
        first.close()


def test_starts_engine_calls_and_the_backend_are_shown() -> None:
    metrics = PrometheusMetrics()
    metrics.bound(0.004, warm=True)
    metrics.bound(0.4, warm=False)
    metrics.engine_call("containers.create", "409", 0.02)
    metrics.backend(up=False)
    metrics.counted({"ready": 2}, {"bound": 2}, warm=1, warm_target=3)
    server = MetricsServer(metrics, "127.0.0.1:0")
    try:
        shown = urllib.request.urlopen(server.url).read().decode()
    finally:
        server.close()
    for line in (
        'grotto_bind_seconds_bucket{le="0.005",start="warm"} 1.0',
        'grotto_bind_seconds_count{start="cold"} 1.0',
        'grotto_engine_calls_total{operation="containers.create",outcome="409"} 1.0',
        'grotto_engine_call_seconds_count{operation="containers.create"} 1.0',
        "grotto_backend_up 0.0",
        "grotto_pool_warm 1.0",
        "grotto_pool_target 3.0",
    ):
        assert line in shown, line

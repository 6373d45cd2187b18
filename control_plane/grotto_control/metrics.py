"""Prometheus metrics, and the HTTP server that shows them. The only module that knows it."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

_RPC_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120)
_BIND_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10)


class PrometheusMetrics:
    """Implements `core.metrics.Metrics` on a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._rpcs = Counter("grotto_rpcs", "Calls", ["method", "code"], registry=registry)
        self._rpc_s = Histogram(
            "grotto_rpc_seconds", "Duration", ["method"], buckets=_RPC_BUCKETS_S, registry=registry
        )
        self._executions = Counter(
            "grotto_executions", "Finished executions", ["outcome"], registry=registry
        )
        self._bind_s = Histogram(
            "grotto_bind_seconds", "Session creation", buckets=_BIND_BUCKETS_S, registry=registry
        )
        self._sessions = Gauge("grotto_sessions", "Sessions", ["status"], registry=registry)
        self._sandboxes = Gauge("grotto_sandboxes", "Sandboxes", ["state"], registry=registry)
        self._warm = Gauge("grotto_pool_warm", "Warm or starting sandboxes", registry=registry)

    def rpc(self, method: str, code: str, seconds: float) -> None:
        self._rpcs.labels(method, code).inc()
        self._rpc_s.labels(method).observe(seconds)

    def execution(self, outcome: str) -> None:
        self._executions.labels(outcome.removeprefix("OUTCOME_").lower()).inc()

    def bound(self, seconds: float) -> None:
        self._bind_s.observe(seconds)

    def counted(self, sessions: Mapping[str, int], sandboxes: Mapping[str, int], warm: int) -> None:
        self._sessions.clear()
        for status, count in sessions.items():
            self._sessions.labels(status).set(count)
        for state, count in sandboxes.items():
            self._sandboxes.labels(state).set(count)
        self._warm.set(warm)


class MetricsServer:
    """Shows metrics over HTTP on the loopback interface, from a thread of its own."""

    def __init__(self, metrics: PrometheusMetrics, port: int) -> None:
        """`port` 0 takes a free one. Raises OSError if it is in use."""
        self._server, self._thread = start_http_server(
            port, addr="127.0.0.1", registry=metrics._registry
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Blocks until the thread has ended, half a second at most."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

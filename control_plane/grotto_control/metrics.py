"""Prometheus metrics, and the HTTP server that shows them. The only module that knows it.

Every label's values are a closed set: methods, status codes, outcomes, operations. Nothing
that a tenant or a sandbox chose becomes one.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from grotto_control.config import BadConfig

_RPC_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30, 120)
_BIND_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5, 10)
_ENGINE_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)


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
            "grotto_bind_seconds",
            "Session creation, on a warm sandbox or with a new one",
            ["start"],
            buckets=_BIND_BUCKETS_S,
            registry=registry,
        )
        self._engine_calls = Counter(
            "grotto_engine_calls", "Calls", ["operation", "outcome"], registry=registry
        )
        self._engine_s = Histogram(
            "grotto_engine_call_seconds",
            "Duration",
            ["operation"],
            buckets=_ENGINE_BUCKETS_S,
            registry=registry,
        )
        self._backend_up = Gauge("grotto_backend_up", "1: it answers", registry=registry)
        self._sessions = Gauge("grotto_sessions", "Sessions", ["status"], registry=registry)
        self._sandboxes = Gauge("grotto_sandboxes", "Sandboxes", ["state"], registry=registry)
        self._warm = Gauge("grotto_pool_warm", "Warm or starting sandboxes", registry=registry)
        self._target = Gauge("grotto_pool_target", "Warm sandboxes wanted", registry=registry)

    def rpc(self, method: str, code: str, seconds: float) -> None:
        self._rpcs.labels(method, code).inc()
        self._rpc_s.labels(method).observe(seconds)

    def execution(self, outcome: str) -> None:
        self._executions.labels(outcome.removeprefix("OUTCOME_").lower()).inc()

    def bound(self, seconds: float, warm: bool) -> None:
        self._bind_s.labels("warm" if warm else "cold").observe(seconds)

    def backend(self, up: bool) -> None:
        self._backend_up.set(up)

    def engine_call(self, operation: str, outcome: str, seconds: float) -> None:
        """A call of the container engine ended; see `backends.docker.engine.Observer`."""
        self._engine_calls.labels(operation, outcome).inc()
        self._engine_s.labels(operation).observe(seconds)

    def counted(
        self,
        sessions: Mapping[str, int],
        sandboxes: Mapping[str, int],
        warm: int,
        warm_target: int,
    ) -> None:
        self._sessions.clear()
        for status, count in sessions.items():
            self._sessions.labels(status).set(count)
        for state, count in sandboxes.items():
            self._sandboxes.labels(state).set(count)
        self._warm.set(warm)
        self._target.set(warm_target)


class MetricsServer:
    """Shows metrics over HTTP, to whoever reaches the address, from a thread of its own."""

    def __init__(self, metrics: PrometheusMetrics, bind: str) -> None:
        """`bind` is `HOST:PORT`; port 0 takes a free one. Raises BadConfig."""
        host, _, port = bind.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise BadConfig(f"--metrics-bind {bind}: give HOST:PORT, as in 127.0.0.1:9151.")
        try:
            self._server, self._thread = start_http_server(
                int(port), addr=host.strip("[]"), registry=metrics._registry
            )
        except OSError as error:
            raise BadConfig(
                f"--metrics-bind: cannot listen on {bind}: {error.strerror}."
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Blocks until the thread has ended, half a second at most."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

"""The peer: ipykernel, driven in place by jupyter_client.

Objects travel as the usual remote-kernel agent runtimes send them: dill in base64,
as source text towards the kernel, as a display bundle back. Its silence limit is
theirs too.
"""

import base64
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dill
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

SILENCE_S = 30.0
"""How long a reply may stay out before the peer's client gives up."""


class Kernel:
    """One kernel process and its client."""

    def __init__(self) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._client: BlockingKernelClient | None = None

    @property
    def pid(self) -> int:
        """Of the running kernel."""
        assert isinstance(self._manager.provisioner, LocalProvisioner)
        assert self._manager.provisioner.pid
        return self._manager.provisioner.pid

    def start(self) -> None:
        """Starts the kernel and waits until it answers."""
        self._manager.start_kernel(stderr=subprocess.DEVNULL)
        self._connect()

    def begin(self) -> None:
        """Starts the kernel and runs a first cell."""
        self.start()
        self.execute("x = 1")

    def stop(self) -> None:
        """Ends the kernel at once."""
        self._disconnect()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def restart(self) -> None:
        """Starts a new kernel in place of a dead one; its namespace is empty."""
        self._disconnect()
        self._manager.restart_kernel(now=True)
        self._connect()

    def execute(self, source: str, silent: bool = False) -> dict[str, Any]:
        """Runs a cell until the kernel is idle again; returns its display bundle, if any.

        Raises:
            TimeoutError: nothing came for `SILENCE_S` seconds.
            RuntimeError: the cell raised.
        """
        assert self._client
        request = self._client.execute(source, silent=silent)
        display: dict[str, Any] = {}
        while True:
            content, kind = self._next(request)
            if kind == "error":
                raise RuntimeError(f"{content['ename']}: {content['evalue']}")
            if kind == "display_data":
                display = content["data"]
            if kind == "status" and content["execution_state"] == "idle":
                return display

    def kill(self) -> None:
        """Has the kernel kill itself, and waits until it is dead."""
        assert self._client
        self._client.execute("import os; os.kill(os.getpid(), 9)")
        while self._manager.is_alive():
            time.sleep(0.001)

    def inject(self, name: str, value: object) -> None:
        """Binds a value in the kernel."""
        data = base64.b64encode(dill.dumps(value)).decode()
        self.execute(
            f"import dill as _dill, base64 as _b64\n{name} = _dill.loads(_b64.b64decode({data!r}))",
            silent=True,
        )

    def retrieve(self, name: str) -> object:
        """Brings a value back; unpickles what the kernel sent."""
        display = self.execute(
            "import dill as _d, base64 as _b\n"
            f"display({{'application/x-dill': _b.b64encode(_d.dumps({name})).decode()}}, raw=True)"
        )
        return dill.loads(base64.b64decode(display["application/x-dill"]))

    def _connect(self) -> None:
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    def _disconnect(self) -> None:
        if self._client:
            self._client.stop_channels()
            self._client = None

    def _next(self, request: str) -> tuple[dict[str, Any], str]:
        assert self._client
        deadline_s = time.monotonic() + SILENCE_S
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                message = self._client.get_iopub_msg(timeout=max(left_s, 0.001))
            except Exception as error:
                raise TimeoutError(f"no reply within {SILENCE_S:.0f} s") from error
            if message["parent_header"].get("msg_id") == request:
                return message["content"], message["header"]["msg_type"]


@contextmanager
def kernel() -> Iterator[Kernel]:
    """A started kernel."""
    peer = Kernel()
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()

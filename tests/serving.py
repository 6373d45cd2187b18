"""A control plane as an operator runs it: `python -m grotto_control serve`, in its own process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class Server:
    """One data directory, and the server process on it, which can be killed and started again."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.options = options
        self.url = ""
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        """What the server says on its standard error, from its first start on."""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        bind = self.url.partition("://")[2] or "127.0.0.1:0"
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "grotto_control", "serve", "--bind", bind, *self.options],
                env={**os.environ, "GROTTO_DATA_DIR": str(self.data_dir)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.url, self.metrics_url, self.ca_file = said["url"], said["metrics_url"], said["ca_file"]

    def key(self, tenant: str) -> str:
        made = self.run("keys", "create", "--tenant", tenant, "--json")
        return str(json.loads(made)["api_key"])

    def run(self, *words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "grotto_control", *words],
            env={**os.environ, "GROTTO_DATA_DIR": str(self.data_dir)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(timeout=60)
        self._process.stdout.close()
        return status

"""A sandbox spoken to as its control plane does: token, bind, lease, orphanhood, end."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from grotto_control.backends.local import FIRST_UID
from grotto_proto.metadata import TOKEN
from grotto_proto.v1 import execution_pb2, runtime_pb2, runtime_pb2_grpc, sessions_pb2

LIMITS = sessions_pb2.Limits(
    cpus=1,
    memory_bytes=1 << 30,
    pids=64,
    wall_s=30,
    cpu_s=30,
    output_bytes=1 << 20,
    value_bytes=1 << 20,
)
BIND = runtime_pb2.BindRequest(session_id="s", policy="open", limits=LIMITS)


class Sandbox:
    """A launched daemon and a channel to it."""

    def __init__(self, folder: Path, **changed: object) -> None:
        self.token = secrets.token_urlsafe(32)
        uid = FIRST_UID - 7 if os.geteuid() == 0 else None
        for name in ("run", "work"):
            (folder / name).mkdir(mode=0o700)
            if uid is not None:
                os.chown(folder / name, uid, uid)
        config = {
            "sandbox_id": "x",
            "token": self.token,
            "run_dir": str(folder / "run"),
            "workspace": str(folder / "work"),
            "isolation": "auto",
            "uid": uid,
            "disk_bytes": 1 << 24,
            "inodes": 1000,
            "preload": [],
            "lease": True,
            "orphan_grace_s": 600.0,
        } | changed
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "grotto_runtime"],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(config).encode() + b"\n")
        self.process.stdin.flush()
        self.said = [json.loads(line) for line in self.process.stdout]
        self.channel = grpc.insecure_channel(f"unix:{folder}/run/r.sock")
        self.stub = runtime_pb2_grpc.RuntimeStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((TOKEN, self.token),)

    def bind(self) -> None:
        self.stub.Bind(BIND, metadata=self.metadata)

    def run(self, source: str) -> execution_pb2.Finished:
        spec = execution_pb2.ExecutionSpec(execution_id=secrets.token_hex(8), source=source)
        events = [e for b in self.stub.Execute(spec, metadata=self.metadata) for e in b.events]
        return events[-1].finished

    def wait_for_end(self) -> None:
        """Returns when the daemon, and with it everything of the sandbox, is gone."""
        descriptor = os.pidfd_open(self.said[0]["pid"])
        try:
            import select

            assert select.select([descriptor], [], [], 30)[0], "the daemon goes on"
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self.channel.close()
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(**changed: object) -> Sandbox:
        folder = tmp_path / f"sandbox{len(made)}"
        folder.mkdir(mode=0o711)
        made.append(Sandbox(folder, **changed))
        return made[-1]

    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    yield make
    for sandbox in made:
        sandbox.close()


def test_it_says_its_pid_and_that_it_serves(launch):
    sandbox = launch()
    assert [list(line) for line in sandbox.said] == [["pid"], ["ready"]]


@pytest.mark.parametrize("metadata", [(), ((TOKEN, ""),), ((TOKEN, "x" * 43),)])
def test_without_the_token_nothing_is_answered(launch, metadata):
    sandbox = launch()
    with pytest.raises(grpc.RpcError) as caught:
        sandbox.stub.Handshake(runtime_pb2.HandshakeRequest(), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    sandbox.stub.Handshake(runtime_pb2.HandshakeRequest(), metadata=sandbox.metadata)  # control


def test_it_is_bound_once_and_the_same_bind_again_changes_nothing(launch):
    sandbox = launch()
    with pytest.raises(grpc.RpcError, match="no session is bound"):
        sandbox.run("1")
    sandbox.bind()
    sandbox.run("x = 41")
    sandbox.bind()
    assert sandbox.run("assert x == 41").outcome == execution_pb2.OUTCOME_OK
    other = runtime_pb2.BindRequest(session_id="other", policy="open", limits=LIMITS)
    with pytest.raises(grpc.RpcError, match="another session"):
        sandbox.stub.Bind(other, metadata=sandbox.metadata)


def test_it_ends_when_its_lease_does(launch):
    sandbox = launch()
    sandbox.bind()
    sandbox.process.stdin.close()
    sandbox.wait_for_end()


def test_it_ends_when_nobody_calls_for_its_grace(launch):
    sandbox = launch(lease=False, orphan_grace_s=0.3)
    sandbox.wait_for_end()


def test_it_ends_when_it_is_told_to(launch):
    sandbox = launch()
    sandbox.stub.Shutdown(runtime_pb2.ShutdownRequest(), metadata=sandbox.metadata)
    sandbox.wait_for_end()


def test_tenant_code_cannot_reach_the_daemons_socket(launch):
    sandbox = launch()
    sandbox.bind()
    tried = sandbox.run(
        "import os, socket\n"
        "assert not os.path.exists('/run/grotto/r.sock')\n"
        "try:\n    socket.socket(socket.AF_UNIX)\n"
        "except OSError: pass\nelse: raise AssertionError('a unix socket')"
    )
    assert tried.outcome == execution_pb2.OUTCOME_OK


def test_frames_forged_by_tenant_code_cost_its_own_session_at_most(launch):
    """The worker's channel is in tenant code's reach: whatever it sends, the daemon goes on."""
    sandbox = launch()
    sandbox.bind()
    for forged in (
        "b'\\xff' * 64",
        "b'\\0\\0\\0\\5\\0\\0\\0\\0' + b'\\xc1' * 5",
        "frames.encode(frames.Done(10**9))",
        "frames.encode(frames.Hello(1))",
        "frames.encode(frames.Display(1, {'x' * 10**6: b'y' * 10**6}))",
        "frames.encode(frames.Executed(2**62, None, {'text/plain': b'forged'}, True, -5))",
    ):
        finished = sandbox.run(
            "import gc, os\nfrom grotto_wire import frames\n"
            "found = [o for o in gc.get_objects() if isinstance(o, frames.Channel)]\n"
            "channel = next(o for o in found if o.fileno() >= 0)\n"
            f"os.write(channel.fileno(), {forged})"
        )
        assert finished.outcome in (execution_pb2.OUTCOME_OK, execution_pb2.OUTCOME_KILLED)
        assert finished.state in (execution_pb2.STATE_KEPT, execution_pb2.STATE_RESTORED)
        assert sandbox.run("1").outcome == execution_pb2.OUTCOME_OK

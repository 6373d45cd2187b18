"""TLS, client certificates, what goes wrong between the two, and the end of a server."""

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import Server

import grotto
from grotto_proto.metadata import AUTHORIZATION, unpack_error
from grotto_proto.v1 import errors_pb2, sessions_pb2, sessions_pb2_grpc


class Authority:
    """A certificate authority of the test, and files it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self.file = folder / "ca.pem"
        own = self._certificate(self._name, self._key.public_key(), x509.BasicConstraints(True, 0))
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, expired: bool = False, password: bytes | None = None
    ) -> tuple[str, str]:
        """Returns (certificate file, key file)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        certificate = self._certificate(subject, key.public_key(), names, expired)
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        protection = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        form = serialization.PrivateFormat.PKCS8
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, protection))
        return str(cert_file), str(key_file)

    def _certificate(
        self, subject: x509.Name, key: Any, extension: Any, expired: bool = False
    ) -> x509.Certificate:
        end = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=2))
            .not_valid_after(end)
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """(server with a development certificate, key)."""
    server = Server(
        tmp_path_factory.mktemp("tls"), "--backend", "local", "--pool", "0", "--tls-dev"
    )
    server.start()
    yield server, server.key("acme")
    server.stop()


@pytest.fixture(scope="module")
def mutual(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, str, Authority]]:
    """(server that requires client certificates, key, the authority that signs them)."""
    folder = tmp_path_factory.mktemp("mtls")
    authority = Authority(folder / "clients")
    options = (
        "--backend",
        "local",
        "--pool",
        "0",
        "--tls-dev",
        "--tls-client-ca",
        str(authority.file),
    )
    server = Server(folder / "data", *options)
    server.start()
    yield server, server.key("acme"), authority
    server.stop()


def refusal(url: str, key: str = "grotto_x", **options: Any) -> str:
    """What a client says that cannot connect."""
    with grotto.connect(url, key, **options) as client:
        with pytest.raises(grotto.UnavailableError) as caught:
            client.sessions()
        return str(caught.value)


def health(url: str, ca_file: str) -> int:
    credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
    with grpc.secure_channel(url.partition("://")[2], credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status


def test_a_session_over_tls(secure: tuple[Server, str]) -> None:
    server, key = secure
    assert server.url.startswith("grpcs://127.0.0.1:")
    assert health(server.url, server.ca_file) == health_pb2.HealthCheckResponse.SERVING
    url = server.url.replace("127.0.0.1", "localhost")
    with (
        grotto.connect(url, key, ca_file=server.ca_file) as client,
        client.session() as session,
    ):
        session.inject("data", b"x" * 3_000_000)
        assert session.execute("len(data)").result == "3000000"
        assert session.retrieve("data") == b"x" * 3_000_000


def test_files_of_trust_come_from_the_environment(
    mutual: tuple[Server, str, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, key, authority = mutual
    cert_file, key_file = authority.issue("env")
    monkeypatch.setenv("GROTTO_CA_FILE", server.ca_file)
    monkeypatch.setenv("GROTTO_CLIENT_CERT", cert_file)
    monkeypatch.setenv("GROTTO_CLIENT_KEY", key_file)
    with grotto.connect(server.url, key) as client:
        assert client.sessions() == []
    words = [sys.executable, "-m", "grotto.cli", "sessions", "ls", "--json"]
    env = {**os.environ, "GROTTO_URL": server.url, "GROTTO_API_KEY": key}
    shown = subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout
    assert json.loads(shown) == []
    options = ["--ca-file", server.ca_file, "--client-cert", cert_file, "--client-key", key_file]
    bare = {name: value for name, value in env.items() if not name.startswith("GROTTO_C")}
    words += options
    shown = subprocess.run(words, env=bare, check=True, capture_output=True, text=True).stdout
    assert json.loads(shown) == []


def test_the_right_client_certificate_opens(mutual: tuple[Server, str, Authority]) -> None:
    server, key, authority = mutual
    pair = authority.issue("ada")
    with grotto.connect(server.url, key, ca_file=server.ca_file, client_cert=pair) as client:
        assert client.sessions() == []
    both = authority.folder / "both.pem"
    both.write_text(Path(pair[0]).read_text() + Path(pair[1]).read_text())
    with grotto.connect(server.url, key, ca_file=server.ca_file, client_cert=both) as client:
        assert client.sessions() == []


def test_without_a_client_certificate_nothing_opens(
    mutual: tuple[Server, str, Authority], tmp_path: Path
) -> None:
    server, key, _ = mutual
    said = refusal(server.url, key, ca_file=server.ca_file)
    assert "closes connections without a client certificate" in said
    foreign = Authority(tmp_path / "foreign").issue("eve")
    said = refusal(server.url, key, ca_file=server.ca_file, client_cert=foreign)
    assert "does not accept the client certificate" in said


def test_a_server_of_another_authority_is_not_trusted(
    secure: tuple[Server, str], tmp_path: Path
) -> None:
    server, key = secure
    other = Authority(tmp_path / "other")
    said = refusal(server.url, key, ca_file=other.file)
    assert f"is not signed by those in {other.file}" in said
    assert "is not signed by the authorities trusted by default" in refusal(server.url, key)


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    cert_file, key_file = authority.issue("grotto.example")
    options = ("--backend", "local", "--pool", "0", "--tls-cert", cert_file, "--tls-key", key_file)
    server = Server(tmp_path / "data", *options)
    server.start()
    try:
        assert server.ca_file is None
        said = refusal(server.url, ca_file=authority.file)
        assert "is not for 127.0.0.1: use a name that is in it" in said
    finally:
        server.stop()


def test_clear_text_to_tls_and_the_reverse_are_told_apart(
    secure: tuple[Server, str], served: tuple[str, str]
) -> None:
    server, key = secure
    said = refusal(server.url.replace("grpcs://", "grpc://"), key)
    assert "speaks TLS: use grpcs://" in said
    url, key = served
    said = refusal(url.replace("grpc://", "grpcs://"), key, ca_file=server.ca_file)
    assert "speaks no TLS: use grpc://" in said


def refused(folder: Path, *options: str) -> str:
    """What `serve` says that does not start; nothing listens."""
    run = subprocess.run(
        [sys.executable, "-m", "grotto_control", "serve", "--data-dir", str(folder), *options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2 and run.stdout == "" and "Traceback" not in run.stderr
    (sentence,) = (line for line in run.stderr.splitlines() if line.startswith("grotto: "))
    return sentence


def test_files_that_cannot_be_served_with(tmp_path: Path) -> None:
    authority, data = Authority(tmp_path / "authority"), tmp_path / "data"
    cert, key = authority.issue("a")
    other_key = authority.issue("b")[1]
    old_cert, old_key = authority.issue("old", expired=True)
    locked_cert, locked_key = authority.issue("locked", password=b"secret")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no PEM")
    for words, says in (
        (("--tls-cert", str(tmp_path / "none"), "--tls-key", key), "cannot be read: No such file"),
        (("--tls-cert", str(nonsense), "--tls-key", key), "holds no certificate"),
        (("--tls-cert", cert, "--tls-key", str(nonsense)), "holds no usable private key"),
        (("--tls-cert", cert, "--tls-key", other_key), "is not the key of --tls-cert"),
        (("--tls-cert", locked_cert, "--tls-key", locked_key), "without a password"),
        (("--tls-cert", old_cert, "--tls-key", old_key), "expired on"),
        (("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", str(nonsense)), "client-ca"),
        (("--tls-cert", cert), "needs --tls-cert and --tls-key together"),
        (("--tls-client-ca", cert), "needs --tls-cert and --tls-key together"),
        (("--tls-dev", "--tls-cert", cert, "--tls-key", key), "leave out --tls-cert"),
        (("--tls-dev", "--tls-name", "a b"), "give a host name or an address"),
        (("--tls-dev", "--insecure"), "leave it out with TLS"),
        (("--tls-dev", "--socket", str(tmp_path / "s")), "TLS is for --bind"),
        (("--bind", "0.0.0.0:0"), "or pass --insecure"),
        (("--drain-grace", "-1"), "--drain-grace takes 0 to 3600 seconds"),
    ):
        assert says in refused(data, *words), words


def test_tls_may_be_served_on_any_address(tmp_path: Path) -> None:
    server = Server(
        tmp_path, "--backend", "local", "--pool", "0", "--tls-dev", "--bind", "0.0.0.0:0"
    )
    server.start()
    port = server.url.rpartition(":")[2]
    with grotto.connect(f"grpcs://127.0.0.1:{port}", server.key("a"), ca_file=server.ca_file) as c:
        assert c.sessions() == []
    server.stop()
    folder = Path(server.ca_file).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes["ca.key"] == modes["server.key"] == 0o600 and set(modes) == {
        "ca.key", "ca.pem", "server.key", "server.pem",
    }  # fmt: skip
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    server.start()
    server.stop()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_server_that_is_told_to_end_lets_an_execution_finish(tmp_path: Path) -> None:
    server = Server(
        tmp_path, "--backend", "local", "--pool", "0", "--tls-dev", "--drain-grace", "60"
    )
    server.start()
    key = server.key("acme")
    ended = threading.Thread(target=server.stop)
    credentials = grpc.ssl_channel_credentials(Path(server.ca_file).read_bytes())
    try:
        with (
            grotto.connect(server.url, key, ca_file=server.ca_file) as client,
            grpc.secure_channel(server.url.partition("://")[2], credentials) as channel,
        ):
            session = client.session(policy="open")
            session.detach()
            events = session.stream("import time\nprint('on')\ntime.sleep(3)\n6 * 7")
            assert isinstance(next(events), grotto.Stdout)
            ended.start()
            stub = health_pb2_grpc.HealthStub(channel)
            until_not_serving(stub)
            status, reason = _outcome(channel, key)
            assert status is grpc.StatusCode.UNAVAILABLE
            assert reason == errors_pb2.ERROR_REASON_UNAVAILABLE
            with pytest.raises(grotto.UnavailableError, match="the server is shutting down"):
                session.reset()
            assert list(events)[-1].execution.result == "42"
    finally:
        if ended.ident is None:
            ended.start()
        ended.join()
    server.start()
    with (
        grotto.connect(server.url, key, ca_file=server.ca_file) as client,
        client.attach(session.id) as session,
    ):
        assert session.execute("1").ok
    server.stop()


def until_not_serving(stub: Any) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while datetime.now(UTC) < deadline:
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        if reply.status == health_pb2.HealthCheckResponse.NOT_SERVING:
            return
    pytest.fail("the server goes on saying that it serves")


def _outcome(channel: grpc.Channel, key: str) -> tuple[grpc.StatusCode, int]:
    stub = sessions_pb2_grpc.SessionsStub(channel)
    metadata = ((AUTHORIZATION, f"Bearer {key}"),)
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateSession(sessions_pb2.CreateSessionRequest(), metadata=metadata)
    error: Any = caught.value
    detail = unpack_error(error.trailing_metadata())
    assert detail is not None
    return error.code(), detail.reason

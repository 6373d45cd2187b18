"""TLS material of the server: read and checked, or made for development. Opens no socket.

The development authority and its certificate live in one folder, are made once and are
renewed there; the private keys are their owner's alone (RFC 5280 profiles, P-256 keys).
"""

import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from grotto_control.config import BadConfig, TlsConfig

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30
"""What has fewer days left than this is made anew when the server starts."""
CLOCK_SKEW = timedelta(hours=1)
MAX_FILE_BYTES = 1024 * 1024

_CA_CERT, _CA_KEY, _CERT, _KEY = "ca.pem", "ca.key", "server.pem", "server.key"


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the server shows, PEM; with `client_ca`, what clients have to show is signed by it."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None
    ca_file: Path | None = None
    """What clients of a development certificate pass as their `ca_file`."""


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def prepare(tls: TlsConfig, folder: Path, now: datetime) -> Certificates:
    """Returns what to serve with; raises BadConfig.

    `folder` is where a development certificate is kept; `tls` has been checked.
    """
    client_ca = _client_ca(tls.client_ca, now)
    if tls.cert is not None and tls.key is not None:
        return load(tls.cert, tls.key, client_ca, now)
    return development(folder, tls.names, client_ca, now)


def load(cert: Path, key: Path, client_ca: bytes | None, now: datetime) -> Certificates:
    """Returns what the files hold; raises BadConfig for one that cannot be served with."""
    certificate_pem, key_pem = _read("--tls-cert", cert), _read("--tls-key", key)
    _check_validity("--tls-cert", cert, _parsed("--tls-cert", cert, certificate_pem)[0], now)
    _check_pair(cert, key)
    return Certificates(certificate_pem, key_pem, client_ca)


def development(
    folder: Path, names: Sequence[str], client_ca: bytes | None, now: datetime
) -> Certificates:
    """Returns the development certificate kept in `folder`, for this host and `names`.

    Made where there is none, or it expires soon, lacks a name or cannot be read. The
    authority stays as long as it can, so that what clients trust goes on being right.
    """
    wanted = _alternative_names(names)
    try:
        folder.mkdir(mode=0o755, exist_ok=True)
        signer = _authority(folder, now)
        if not _is_current(folder, signer, wanted, now):
            _issue(folder, signer, wanted, now)
        return Certificates(
            (folder / _CERT).read_bytes(),
            (folder / _KEY).read_bytes(),
            client_ca,
            (folder / _CA_CERT).absolute(),
        )
    except OSError as error:
        raise BadConfig(f"--tls-dev: {folder} cannot be used: {error.strerror}.") from error


def _read(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadConfig(f"{option} {path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_FILE_BYTES:
        raise BadConfig(f"{option} {path} is over {MAX_FILE_BYTES} bytes: give a PEM file.")
    return data


def _parsed(option: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise BadConfig(f"{option} {path} holds no certificate: give a PEM file.") from error


def _check_validity(option: str, path: Path, found: x509.Certificate, now: datetime) -> None:
    if now > found.not_valid_after_utc:
        when = found.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC")
        raise BadConfig(f"{option} {path} expired on {when}: give a renewed certificate.")
    if now < found.not_valid_before_utc:
        when = found.not_valid_before_utc.strftime("%Y-%m-%d %H:%M UTC")
        raise BadConfig(f"{option} {path} is not valid before {when}: is the clock right?")


def _check_pair(cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A password would be asked for on the terminal: an empty one is refused instead.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        raise BadConfig(
            f"--tls-key {key} is not the key of --tls-cert {cert}: give the pair."
            if mismatch
            else f"--tls-key {key} holds no usable private key: give a PEM file without a password."
        ) from error


def _client_ca(path: Path | None, now: datetime) -> bytes | None:
    if path is None:
        return None
    pem = _read("--tls-client-ca", path)
    for found in _parsed("--tls-client-ca", path, pem):
        _check_validity("--tls-client-ca", path, found, now)
    return pem


def _alternative_names(names: Sequence[str]) -> tuple[x509.GeneralName, ...]:
    given = dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), *names])
    return tuple(map(_general_name, given))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if not name or len(name) > 253 or not name.isascii() or set(name) & set(" /:,@\\\"'"):
        raise BadConfig(f"--tls-name {name!a}: give a host name or an address.")
    return x509.DNSName(name)


def _authority(folder: Path, now: datetime) -> _Signer:
    found = _stored(folder / _CA_CERT, folder / _CA_KEY)
    if found is not None and _lasts(found.certificate, now):
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    # A number in the name keeps two authorities of one host apart in a client's store.
    name = _name(f"Grotto development authority {x509.random_serial_number() % 16**8:08x}")
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _store(folder, _CA_CERT, _CA_KEY, _Signer(certificate, key))
    return _Signer(certificate, key)


def _is_current(
    folder: Path, signer: _Signer, wanted: Sequence[x509.GeneralName], now: datetime
) -> bool:
    found = _stored(folder / _CERT, folder / _KEY)
    if found is None or not _lasts(found.certificate, now):
        return False
    try:
        found.certificate.verify_directly_issued_by(signer.certificate)
    except Exception:  # of several kinds: signed by another authority, in whatever way
        return False
    names = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(wanted) <= set(names.value)


def _issue(
    folder: Path, signer: _Signer, wanted: Sequence[x509.GeneralName], now: datetime
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    subject = _name("Grotto development server")
    certificate = (
        _builder(subject, signer.certificate.subject, public, CERTIFICATE_DAYS, now)
        .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(authority_id, critical=False)
        .sign(signer.key, hashes.SHA256())
    )
    _store(folder, _CERT, _KEY, _Signer(certificate, key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    soon = now + timedelta(days=RENEW_DAYS)
    return certificate.not_valid_before_utc <= now and soon < certificate.not_valid_after_utc


def _stored(cert: Path, key: Path) -> _Signer | None:
    """Returns a pair that was stored whole, else None."""
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        return None
    return _Signer(certificate, private) if private.public_key() == _key_of(certificate) else None


def _key_of(certificate: x509.Certificate) -> object:
    return certificate.public_key()


def _store(folder: Path, cert: str, key: str, pair: _Signer) -> None:
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    private = pair.key.private_bytes(pem, form, serialization.NoEncryption())
    _replace(folder / key, private, 0o600)
    _replace(folder / cert, pair.certificate.public_bytes(pem), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Writes a whole file or none, never readable by more than `mode` says."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        os.fsync(descriptor)
    fresh.replace(path)


def now_utc() -> datetime:
    """Returns the time, as these functions take it."""
    return datetime.now(UTC)

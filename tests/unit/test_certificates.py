"""The development certificate: made once, renewed in time, for the names asked for."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from grotto_control import certificates
from grotto_control.config import BadConfig

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def shown(folder: Path, now: datetime = NOW, names: tuple[str, ...] = ()) -> x509.Certificate:
    made = certificates.development(folder, names, None, now)
    assert made.ca_file is not None
    leaf = x509.load_pem_x509_certificate(made.certificate)
    authority = x509.load_pem_x509_certificate(made.ca_file.read_bytes())
    leaf.verify_directly_issued_by(authority)
    return leaf


def test_it_is_made_once_and_its_keys_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    assert shown(folder) == shown(folder)
    assert {p.name for p in folder.iterdir() if stat.S_IMODE(p.stat().st_mode) == 0o600} == {
        "ca.key", "server.key",
    }  # fmt: skip


@pytest.mark.parametrize(("days", "is_kept"), [(300, True), (340, False), (400, False)])
def test_it_is_renewed_before_it_expires(tmp_path: Path, days: int, is_kept: bool) -> None:
    folder = tmp_path / "tls"
    first, authority = shown(folder), (folder / "ca.pem").read_bytes()
    later = NOW + timedelta(days=days)
    second = shown(folder, later)
    assert (first == second) is is_kept
    assert second.not_valid_after_utc > later + timedelta(days=certificates.RENEW_DAYS)
    assert (folder / "ca.pem").read_bytes() == authority, "what clients trust stays"


def test_an_authority_at_its_end_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    shown(folder)
    authority = (folder / "ca.pem").read_bytes()
    shown(folder, NOW + timedelta(days=certificates.AUTHORITY_DAYS))
    assert (folder / "ca.pem").read_bytes() != authority


def test_a_new_name_makes_a_new_certificate(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    shown(folder)
    leaf = shown(folder, names=("grotto.example", "10.1.2.3"))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "grotto.example"} <= set(names.get_values_for_type(x509.DNSName))
    found = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert found == {"127.0.0.1", "::1", "10.1.2.3"}
    assert shown(folder) == leaf, "more names than asked for are no reason for another"


@pytest.mark.parametrize("damaged", ["ca.key", "ca.pem", "server.key", "server.pem"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "tls"
    shown(folder)
    (folder / damaged).write_text("cut off")
    shown(folder)
    (folder / damaged).unlink()
    shown(folder)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "a:1", "x" * 300])
def test_a_name_that_cannot_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadConfig, match="--tls-name"):
        certificates.development(tmp_path / "tls", (name,), None, NOW)

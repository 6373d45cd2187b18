"""What a client trusts and shows over TLS: PEM files, read and checked once."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from grotto.errors import InvalidArgumentError

ClientCert = str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]]
"""A PEM file with certificate and key, or the two files."""

_NO_TERMINAL = ""  # instead of a question on the terminal, for a key that has a password


@dataclass(frozen=True, slots=True)
class Trust:
    """Authorities the server's certificate may come from, and the client's own certificate."""

    ca_file: Path | None = None
    """None: the authorities gRPC brings, or GRPC_DEFAULT_SSL_ROOTS_FILE_PATH."""
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Returns the same trust for Python's own TLS; raises InvalidArgumentError."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("ca_file", self.ca_file, error) from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_NO_TERMINAL)
            except (OSError, ssl.SSLError) as error:
                raise _unusable("client_cert", self.cert_file, error) from error
        return context

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what gRPC takes; raises InvalidArgumentError for a file it could not use."""
        self.context()  # gRPC itself would only fail to connect, and not say why
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca_file.read_bytes() if self.ca_file else None,
            private_key=self.key_file.read_bytes() if self.key_file else None,
            certificate_chain=self.cert_file.read_bytes() if self.cert_file else None,
        )


def choose_trust(
    is_secure: bool,
    ca_file: str | os.PathLike[str] | None,
    client_cert: ClientCert | None,
    environment: Mapping[str, str],
) -> Trust | None:
    """Returns the trust of a TLS connection, None for one in clear.

    What is not given comes from GROTTO_CA_FILE, GROTTO_CLIENT_CERT and GROTTO_CLIENT_KEY.
    Raises InvalidArgumentError when files are given for a connection in clear.
    """
    if not is_secure:
        if ca_file is not None or client_cert is not None:
            raise InvalidArgumentError(
                "ca_file= and client_cert= are for TLS, and this URL is in clear.",
                hint="Use grpcs://HOST:PORT.",
            )
        return None
    chosen_ca = ca_file or environment.get("GROTTO_CA_FILE") or None
    cert, key = _pair(client_cert, environment)
    return Trust(Path(chosen_ca) if chosen_ca else None, cert, key)


def _pair(
    given: ClientCert | None, environment: Mapping[str, str]
) -> tuple[Path, Path] | tuple[None, None]:
    if isinstance(given, tuple):
        if len(given) != 2:
            raise InvalidArgumentError("client_cert= is one PEM file, or (certificate, key).")
        return Path(given[0]), Path(given[1])
    if given is not None:
        return Path(given), Path(given)
    cert = environment.get("GROTTO_CLIENT_CERT")
    if not cert:
        return None, None
    return Path(cert), Path(environment.get("GROTTO_CLIENT_KEY") or cert)


def _unusable(what: str, path: Path | None, error: OSError) -> InvalidArgumentError:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return InvalidArgumentError(f"{what}: the key is not the one of {path}.")
        return InvalidArgumentError(
            f"{what} {path} cannot be used.", hint="Give a PEM file; a key without a password."
        )
    return InvalidArgumentError(f"{what} {path} cannot be read: {error.strerror}.")

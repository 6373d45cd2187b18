"""Why a server that is there cannot be talked to: TLS or clear, trust, name, certificate.

gRPC reports nearly all of it as an unreachable server. One more connection, made only when
a client has not reached its server yet, tells them apart. Sends no key and no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from grotto._address import Address
from grotto._trust import Trust

PATIENCE_S = 2.0
"""For each connection; a server that is slower is merely unavailable."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # RFC 9113, 3.4
_FRAME_HEAD_BYTES = 9
_SETTINGS = 4

# X509_verify_cert(3)
_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_NAME = (62, 64)


async def misconfiguration(address: Address, trust: Trust | None) -> str | None:
    """Returns a sentence when the connection can never be made like this, else None."""
    if address.host is None:
        return None
    if trust is not None:
        return await _wrong_with_tls(address, trust)
    if not await _speaks_http2(address, None) and await _accepts_tls(address):
        return f"The server at {address.url} speaks TLS: use grpcs:// instead of grpc://."
    return None


async def _wrong_with_tls(address: Address, trust: Trust) -> str | None:
    context = trust.context()
    context.set_alpn_protocols(["h2"])
    try:
        if await _speaks_http2(address, context):
            return None
    except ssl.SSLCertVerificationError as error:
        return _distrust(address, trust, error)
    except ssl.SSLError:
        if await _speaks_http2(address, None):
            return f"The server at {address.url} speaks no TLS: use grpc:// instead of grpcs://."
        return None
    except (OSError, TimeoutError):
        return None
    if trust.cert_file is None:
        return (
            f"The server at {address.url} closes connections without a client certificate: "
            "pass client_cert= or set GROTTO_CLIENT_CERT."
        )
    return f"The server at {address.url} does not accept the client certificate {trust.cert_file}."


def _distrust(address: Address, trust: Trust, error: ssl.SSLCertVerificationError) -> str:
    shown = f"The certificate of {address.url}"
    if error.verify_code in _WRONG_NAME:
        return f"{shown} is not for {address.host}: use a name that is in it."
    if error.verify_code == _EXPIRED:
        return f"{shown} has expired."
    if error.verify_code == _NOT_YET_VALID:
        return f"{shown} is not valid yet: is this machine's clock right?"
    by = f"those in {trust.ca_file}" if trust.ca_file else "the authorities trusted by default"
    return f"{shown} is not signed by {by}: pass ca_file= or set GROTTO_CA_FILE."


async def _speaks_http2(address: Address, context: ssl.SSLContext | None) -> bool:
    """Returns whether a server's first frame comes; False when it closes the connection.

    Over TLS raises ssl.SSLError, OSError, TimeoutError for a connection that is not made.
    """
    try:
        async with _connected(address, context) as (reader, writer):
            writer.write(_PREFACE)
            head = await asyncio.wait_for(reader.readexactly(_FRAME_HEAD_BYTES), PATIENCE_S)
            return head[3] == _SETTINGS
    except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
        return False
    except (OSError, TimeoutError):
        if context is not None:
            raise
        return False


async def _accepts_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        async with _connected(address, context):
            return True
    except (OSError, TimeoutError):
        return False


@contextlib.asynccontextmanager
async def _connected(
    address: Address, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    name = address.host if context is not None else None
    opening = asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=name)
    reader, writer = await asyncio.wait_for(opening, PATIENCE_S)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()

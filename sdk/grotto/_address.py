"""Where a server is and with which key: the URL and key rules. Makes no connection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from grotto.errors import AuthenticationError, InvalidArgumentError

_MAX_SOCKET_PATH_BYTES = 107  # sun_path, less its terminator
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,255}")
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_FORMS = "Use grpcs://host:50151, grpc://127.0.0.1:50151 or unix:///path/to/socket."


@dataclass(frozen=True, slots=True)
class Address:
    """A server's URL as the user wrote it, and the target gRPC is given."""

    url: str
    target: str
    host: str | None = None
    """None, like `port`: a unix socket."""
    port: int | None = None
    is_secure: bool = False


def parse_url(url: str | None, *, insecure: bool = False) -> Address:
    """Returns the address of a URL; raises InvalidArgumentError that says what is wrong with it.

    `insecure` allows clear text to another machine.
    """
    if not url:
        raise InvalidArgumentError(
            "There is no server URL.",
            hint="Pass url= or set GROTTO_URL, or use grotto.local() for an embedded one.",
        )
    scheme, separator, rest = url.partition("://")
    if scheme == "unix" and separator:
        return Address(url, _unix_target(url, rest))
    if scheme in ("grpc", "grpcs") and separator:
        host, port = _host_and_port(url)
        if scheme == "grpc" and not insecure:
            _check_this_machine(url, host)
        return Address(url, _tcp_target(host, port), host, port, scheme == "grpcs")
    raise InvalidArgumentError(f"{url!r} is no server URL.", hint=_FORMS)


def check_key(api_key: str | None) -> str:
    """Returns the key; raises AuthenticationError when it is missing or cannot be one."""
    if not api_key:
        raise AuthenticationError(
            "There is no API key.",
            hint="Pass api_key= or set GROTTO_API_KEY; `grotto keys create` makes one.",
        )
    if not _KEY.fullmatch(api_key):
        raise AuthenticationError("The API key has characters that no key has.")
    return api_key


def _unix_target(url: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"{url!r} needs an absolute path: unix:///path/to/socket.")
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH_BYTES:
        raise InvalidArgumentError(
            f"{url!r} is too long: a socket path has at most {_MAX_SOCKET_PATH_BYTES} bytes."
        )
    return "unix:" + quote(path)


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{url!r} is no server URL: {error}.", hint=_FORMS) from error
    if not host or not port:
        raise InvalidArgumentError(f"{url!r} needs a host and a port.", hint=_FORMS)
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidArgumentError(f"{url!r} has more than a host and a port.", hint=_FORMS)
    if not _HOST.fullmatch(host):
        raise InvalidArgumentError(f"{url!r} has a host that cannot be one.", hint=_FORMS)
    return host, port


def _tcp_target(host: str, port: int) -> str:
    address = _ip(host)
    if address is None:
        return f"dns:///{host}:{port}"
    return f"ipv6:[{address}]:{port}" if address.version == 6 else f"ipv4:{address}:{port}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_this_machine(url: str, host: str) -> None:
    address = _ip(host)
    if host != "localhost" and (address is None or not address.is_loopback):
        raise InvalidArgumentError(
            f"{url!r} would send the API key and your data in clear to another machine.",
            hint="grpc:// is for this machine only (127.0.0.1, ::1, localhost); use grpcs://, "
            "an SSH tunnel, or insecure=True if you accept that.",
        )

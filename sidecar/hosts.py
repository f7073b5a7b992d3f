"""Hosts: read one way only, and matched against the patterns of rules and allowed redirects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from sidecar.errors import InvalidValue, RequestRefused
from sidecar.model import Host, Reason

DEFAULT_PORTS = {"http": 80, "https": 443}

_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:]+?)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_LONGEST_NAME = 253
_HIGHEST_PORT = 65535


@lru_cache(maxsize=1024)
def read_host(authority: bytes, scheme: str) -> Host:
    """The host that `name`, `name:port`, `1.2.3.4` or `[::1]:port` names, in its one normal form.

    Raises RequestRefused (bad_host) for whatever else a Host header or a URL may carry.
    """
    try:
        name, port = _split(authority.decode("ascii"))
    except UnicodeDecodeError:
        raise RequestRefused(Reason.BAD_HOST, "other characters than ASCII are in it") from None
    except InvalidValue as error:
        raise RequestRefused(Reason.BAD_HOST, str(error)) from None
    return Host(name, port or DEFAULT_PORTS[scheme])


def is_loopback(name: str) -> bool:
    """Whether the host is this machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """The URL's origin as browsers write it (RFC 6454, 6.2): in lower case, without the default port.

    Raises RequestRefused.
    """
    parts = urlsplit(url)
    host = read_host(parts.netloc.encode("ascii"), parts.scheme)
    return f"{parts.scheme}://{authority_of(host, parts.scheme)}"


def authority_of(host: Host, scheme: str) -> str:
    """The host as browsers write it in an origin: without the scheme's default port."""
    return host.name if host.port == DEFAULT_PORTS[scheme] else f"{host.name}:{host.port}"


def _split(authority: str) -> tuple[str, int | None]:
    """Raises InvalidValue, which quotes nothing: before an @ there may be a password."""
    if not authority:
        raise InvalidValue("it is empty")
    if "@" in authority:
        raise InvalidValue("there is an @ in it: it may have no user and no password")
    matched = _AUTHORITY.fullmatch(authority.lower())
    if matched is None:
        raise InvalidValue("it is neither a name nor an address, with or without a port")
    return _normal_name(matched["name"]), _port(matched["port"])


def _normal_name(name: str) -> str:
    if name.startswith("["):
        return _normal_ipv6(name)
    name = name.removesuffix(".")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidValue("its name is too long, or has an empty part or a character that none may have")
    return name


def _normal_ipv6(name: str) -> str:
    try:
        return f"[{IPv6Address(name[1:-1]).compressed}]"
    except ValueError:
        raise InvalidValue("what is in brackets is not an IPv6 address") from None


def _port(digits: str | None) -> int | None:
    if digits is None:
        return None
    if not 0 < int(digits) <= _HIGHEST_PORT:
        raise InvalidValue(f"its port is not one of 1 to {_HIGHEST_PORT}")
    return int(digits)


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`app.example.com` or `*.example.com` (any depth below, not itself); without a port: any port."""

    name: str
    below: bool
    port: int | None

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        """Raises InvalidValue."""
        below = text.startswith("*.")
        try:
            name, port = _split(text.removeprefix("*."))
        except InvalidValue:
            raise InvalidValue(
                f'{text!r} is not a host: write "app.example.com", "*.example.com" or "app.example.com:8443"'
            ) from None
        return cls(name, below, port)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{'*.' if self.below else ''}{self.name}{port}"

    def matches(self, host: Host) -> bool:
        """Whether the host, in its normal form, is one of these."""
        if self.port is not None and self.port != host.port:
            return False
        if self.below:
            return host.name.endswith("." + self.name)
        return host.name == self.name

    def overlaps(self, other: HostPattern) -> bool:
        """Whether a host could be one of these and one of the other's."""
        if None not in {self.port, other.port} and self.port != other.port:
            return False
        if self.name == other.name:
            return self.below == other.below
        return (self.below and other.name.endswith("." + self.name)) or (
            other.below and self.name.endswith("." + other.name)
        )

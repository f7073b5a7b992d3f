"""The types that settings are written in: durations, sizes, lists, networks, secrets."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from sidecar.hosts import HostPattern, origin_of
from sidecar.paths import PathPattern

METHOD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")
"""A request's method, as rules name it and as gateways tell it."""

Network = IPv4Network | IPv6Network

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)")
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_RATE = re.compile(r"([1-9]\d*)/(second|minute|hour)")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")


# --- durations and sizes -------------------------------------------------------------------------


def _read_duration(value: object) -> float:
    # No number: the file would not say its unit, and TOML has nan and inf.
    matched = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise ValueError('a duration is written like "90s", "15m", "12h" or "500ms"')
    return int(matched[1]) * _MILLISECONDS[matched[2]] / 1000


def write_duration(seconds: float) -> str:
    """The shortest way to write it, in a whole number of one unit."""
    milliseconds = round(seconds * 1000)
    unit = next(unit for unit, size in _MILLISECONDS.items() if milliseconds % size == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def _read_size(value: object) -> int:
    matched = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise ValueError('a size is written like "64KiB" or "1MiB"')
    return int(matched[1]) * _BYTES[matched[2]]


def _write_size(size: int) -> str:
    unit = next(unit for unit, factor in _BYTES.items() if size % factor == 0)
    return f"{size // _BYTES[unit]}{unit}"


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("it must be more than nothing")
    return value


def _whole(seconds: float) -> float:
    if not seconds.is_integer():
        raise ValueError("a token's times are whole seconds: one or more")
    return seconds


DurationOrNone = Annotated[
    float,
    BeforeValidator(_read_duration),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
"""Seconds, written `"90s"`; `"0s"` is none at all."""

Duration = Annotated[DurationOrNone, AfterValidator(_positive)]
"""Seconds, more than none."""

WholeSeconds = Annotated[Duration, AfterValidator(_whole)]
"""A token's life."""

Size = Annotated[
    int,
    BeforeValidator(_read_size),
    AfterValidator(_positive),
    PlainSerializer(_write_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
"""Bytes, written `"64KiB"`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so long, written `"10/minute"`."""

    count: int
    unit: str

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"


def _read_rate(value: object) -> Rate:
    if isinstance(value, Rate):
        return value
    matched = _RATE.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise ValueError('a rate is written like "10/minute": N/second, N/minute or N/hour')
    return Rate(int(matched[1]), matched[2])


RateSetting = Annotated[
    Rate,
    BeforeValidator(_read_rate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{_RATE.pattern}$"}),
]


def _read_optional_rate(value: object) -> Rate | None:
    return None if value == "" else _read_rate(value)


OptionalRateSetting = Annotated[
    Rate | None,
    BeforeValidator(_read_optional_rate),
    PlainSerializer(lambda rate: str(rate or ""), return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({_RATE.pattern})?$"}),
]
"""A rate, or nothing, written `""`."""


# --- lists ---------------------------------------------------------------------------------------


def read_list(value: object) -> object:
    """A list from the environment: JSON, or items with commas between them."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        return read_json(value)
    return [item.strip() for item in value.split(",") if item.strip()]


def read_json(value: object) -> object:
    """A table, or a list of them, from the environment: JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None


def one_or_more(value: object) -> object:
    """As `read_list`; one item may stand alone, and there has to be one."""
    stands_alone = (
        not value.startswith("[") and "," not in value if isinstance(value, str) else _is_scalar(value)
    )
    items = [value] if stands_alone else read_list(value)
    if items in ([], ()):
        raise ValueError("it is empty: name one or more")
    return items


def _is_scalar(value: object) -> bool:
    return not isinstance(value, list | tuple | dict)


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("an empty name matches nothing: leave it out")
    return value


Name = Annotated[str, AfterValidator(_not_empty)]
Names = Annotated[tuple[Name, ...], BeforeValidator(read_list)]


def _read_path_pattern(value: object) -> PathPattern:
    return value if isinstance(value, PathPattern) else PathPattern.parse(str(value))


PathPatternSetting = Annotated[
    PathPattern,
    BeforeValidator(_read_path_pattern),
    PlainSerializer(lambda pattern: pattern.text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^/"}),
]
PathPatterns = Annotated[tuple[PathPatternSetting, ...], BeforeValidator(read_list)]


def _host_pattern(value: str) -> str:
    HostPattern.parse(value)
    return value


HostPatternSetting = Annotated[str, AfterValidator(_host_pattern)]
HostPatterns = Annotated[tuple[HostPatternSetting, ...], BeforeValidator(read_list)]


def _method(value: str) -> str:
    if not METHOD.fullmatch(value):
        raise ValueError(f"{value!r} is not a method: methods are written in capitals")
    return value


Methods = Annotated[tuple[Annotated[str, AfterValidator(_method)], ...], BeforeValidator(read_list)]


def _read_network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f'{error}: a network is written like "10.0.0.0/8" or "2001:db8::/32"') from None


NetworkSetting = Annotated[
    Network,
    BeforeValidator(_read_network),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
Networks = Annotated[tuple[NetworkSetting, ...], BeforeValidator(read_list)]


def _trusted_proxy(value: str) -> str:
    return value if value == "unix" else str(_read_network(value))


TrustedProxies = Annotated[
    tuple[Annotated[str, AfterValidator(_trusted_proxy)], ...], BeforeValidator(read_list)
]


# --- header names, URLs --------------------------------------------------------------------------


def header_name(value: str) -> str:
    """A header's name that every gateway passes on. An underscore is dropped or merged by some."""
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a header's name (letters, digits and hyphens)")
    return value


def _listen_address(value: str) -> str:
    if value.startswith("unix:"):
        if not value.removeprefix("unix:").startswith("/"):
            raise ValueError('a socket is written with its whole path: "unix:/run/sidecar.sock"')
        return value
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise ValueError(
            'an address is written like "127.0.0.1:9000", "[::1]:9000" or "unix:/run/sidecar.sock"'
        )
    return value


ListenAddress = Annotated[str, AfterValidator(_listen_address)]


def web_url(value: str) -> str:
    """An address that can be asked. Raises ValueError, which says how one is written."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError('a URL is written in full: "https://app.example.com/path"')
    if parts.username is not None or parts.fragment or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("a URL here has no user name, no fragment and no space, and is plain ASCII")
    if HostPattern.parse(parts.netloc).below:
        raise ValueError("a URL is at one host: it has no * in it")
    return value


def _web_url_or_none(value: str) -> str:
    return web_url(value) if value else value


WebUrl = Annotated[str, AfterValidator(_web_url_or_none)]
"""Empty: none."""


def _web_origin(value: str) -> str:
    parts = urlsplit(_web_url_or_none(value))
    if not value or parts.path.rstrip("/") or parts.query:
        raise ValueError('an origin is a scheme and a host: "https://app.example.com"')
    return origin_of(value)


Origins = Annotated[tuple[Annotated[str, AfterValidator(_web_origin)], ...], BeforeValidator(read_list)]


# --- certificates ---------------------------------------------------------------------------------


def _certificates_file(path: str) -> str:
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise ValueError(f"{path} has no certificates in PEM") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return path


CertificatesFile = Annotated[str, AfterValidator(_certificates_file)]
"""The path of a PEM bundle to verify others with; empty: none."""

# --- secrets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a secret whose file could not be read, until its field is validated."""

    why: str


def _refuse_unreadable(value: object) -> object:
    if isinstance(value, Unreadable):
        raise ValueError(value.why)  # noqa: TRY004 - pydantic collects ValueErrors
    return value


def mask_password(url: str) -> str:
    """The URL with `***` for the password in it."""
    return re.sub(r"(?<=//)([^/@]*):[^/@]*@", r"\1:***@", url)


class SecretMark:
    """Marks a field that may also be given as `<field>_file`, the path of a file that holds it."""


SecretUrl = Annotated[
    str,
    SecretMark(),
    BeforeValidator(_refuse_unreadable),
    PlainSerializer(mask_password, return_type=str),
]
"""A URL that may hold a password."""


Secret = Annotated[
    str,
    SecretMark(),
    BeforeValidator(_refuse_unreadable),
    PlainSerializer(lambda secret: "***" if secret else "", return_type=str),
]


def read_secret_file(path: object) -> str | Unreadable:
    """The file's text without the newline at its end."""
    try:
        return Path(str(path)).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return Unreadable(f"the secret's file {path} cannot be read: {why}")

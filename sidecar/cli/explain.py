"""`sidecar explain`: why a request is let through or refused, without a server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sidecar.cli.explanation import lines_of, record_of
from sidecar.cli.output import json_option, print_one
from sidecar.cli.running import with_services_reading

if TYPE_CHECKING:
    from sidecar.app import Services
    from sidecar.model import Asked
    from sidecar.ports import Gateway

Line = tuple[bytes, bytes]


# --- what the options mean -----------------------------------------------------------------------


def _gateway(name: str) -> Gateway:
    """Raises BadParameter."""
    from sidecar.gateways import GATEWAYS

    if name not in GATEWAYS:
        raise click.BadParameter(f"{name!r} is none: there are {', '.join(GATEWAYS)}")
    return GATEWAYS[name]


def _carried(text: str) -> bytes:
    """Raises BadParameter for what no request can carry."""
    if any(character < " " or character == "\x7f" for character in text):
        raise click.BadParameter("it has control characters in it, which no request carries")
    return text.encode("utf-8", "surrogateescape")


def _sendable(text: str) -> bytes:
    """The same of what has to be there. Raises BadParameter."""
    if not text:
        raise click.BadParameter("it is empty")
    return _carried(text)


def _peer(text: str) -> str:
    """Raises BadParameter."""
    from ipaddress import ip_address

    from sidecar.model import UNIX_PEER

    try:
        return text if text == UNIX_PEER else str(ip_address(text))
    except ValueError:
        raise click.BadParameter(f'{text!r} is no address, and not "{UNIX_PEER}"') from None


def _url(text: str) -> bytes:
    """Raises BadParameter for what has no scheme: a proxy always knows one."""
    if "://" not in text:
        raise click.BadParameter("write the whole address, as a browser has it: https://host/path")
    return _sendable(text)


def _header(text: str) -> Line:
    """Raises BadParameter."""
    from sidecar.settings.types import header_name

    name, separator, value = text.partition(":")
    try:
        header_name(name)
    except ValueError:
        separator = ""
    if not separator:
        # Without the text: it may be a secret.
        raise click.BadParameter('a header is written "Name: value"')
    return name.lower().encode("ascii"), _carried(value.strip(" "))


def _cookie(text: str) -> Line:
    """Raises BadParameter."""
    if "=" not in text:
        raise click.BadParameter("a Cookie header has NAME=VALUE")
    return b"cookie", _sendable(text)


def _bearer(text: str) -> Line:
    """Raises BadParameter."""
    return b"authorization", b"Bearer " + _sendable(text)


def _api_key(text: str) -> Line:
    """Raises BadParameter."""
    return b"x-api-key", _sendable(text)


# --- the command ---------------------------------------------------------------------------------


@click.command()
@click.option("--gateway", type=_gateway, metavar="NAME", required=True, help="The NAME in /check/NAME.")
@click.option("--method", type=_sendable, metavar="METHOD", default="GET", help="Else it is GET.")
@click.option("--url", type=_url, metavar="URL", required=True, help="The whole address that was asked for.")
@click.option("--cookie", type=_cookie, metavar="NAME=VALUE", help="What is in the Cookie header.")
@click.option("--bearer", type=_bearer, metavar="TOKEN", help="What is behind Bearer in Authorization.")
@click.option("--api-key", type=_api_key, metavar="KEY", help="What is in X-Api-Key.")
@click.option(
    "--header",
    "headers",
    type=_header,
    multiple=True,
    metavar="LINE",
    help='"Name: value". Repeat it for more.',
)
@click.option(
    "--headers-stdin",
    is_flag=True,
    help="Read more such lines from standard input: what is in arguments is seen by others.",
)
@click.option("--client-ip", type=_sendable, metavar="ADDRESS", help="The client's; else it is the peer's.")
@click.option(
    "--peer", type=_peer, metavar="ADDRESS", help='Who asks, or "unix"; else the first of trusted_proxies.'
)
@json_option
@with_services_reading
async def explain(
    services: Services,
    *,
    gateway: Gateway,
    method: bytes,
    url: bytes,
    cookie: Line | None,
    bearer: Line | None,
    api_key: Line | None,
    headers: tuple[Line, ...],
    headers_stdin: bool,
    client_ip: bytes | None,
    peer: str | None,
    as_json: bool,
) -> None:
    """Say why a request is let through or refused.

    It is checked as the sidecar would check it, and nothing is changed: no use is noted, no failure counted.
    Where another system has to be asked, it is. The exit status is 0, whatever the decision.
    """
    from sidecar.app import pipeline_alone
    from sidecar.explaining import Sent, forwarded_for
    from sidecar.explaining import explain as explained

    server = services.settings.server
    asking = peer or _first(server.trusted_proxies)
    given = [line for line in (cookie, bearer, api_key) if line]
    piped = _headers_on_stdin() if headers_stdin else []
    forwarded = (b"x-forwarded-for", forwarded_for(client_ip, asking, server.client_ip_hops))
    sent = Sent(asking, _asked(method, url), [*given, *headers, *piped, forwarded])
    async with pipeline_alone(services) as pipeline:
        explanation = await explained(pipeline, gateway, services.metrics, sent)
    if as_json:
        print_one(record_of(gateway.name, sent, explanation), as_json=True)
    else:
        click.echo("\n".join(lines_of(gateway.name, sent, explanation)))


def _asked(method: bytes, url: bytes) -> Asked:
    """What a client puts into a request for this address; nothing is made better."""
    from sidecar.model import Asked

    scheme, _, rest = url.partition(b"://")
    # As a client cuts it, where the path may be missing.
    end = min(at for at in (*map(rest.find, (b"/", b"?", b"#")), len(rest)) if at >= 0)
    return Asked(method, scheme, rest[:end], rest[end:])


def _first(trusted_proxies: Sequence[str]) -> str:
    """The first peer that may ask; where none may, this machine."""
    from ipaddress import ip_network

    from sidecar.model import UNIX_PEER

    if not trusted_proxies:
        return "127.0.0.1"
    first = trusted_proxies[0]
    return first if first == UNIX_PEER else str(ip_network(first)[0])


def _headers_on_stdin() -> list[Line]:
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
    try:
        return [_header(line.removesuffix("\r")) for line in lines if line.strip()]
    except click.BadParameter as error:
        raise click.UsageError(f"On standard input: {error.message}") from None

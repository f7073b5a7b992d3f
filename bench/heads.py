"""What gateways send: line by line what each does with its files in examples/, in its order and spelling.

In braces stands what is filled in anew for each request: `{path}` a number, of so many; `{n}` a number that
no other request has; `{a}`, `{b}` and `{c}` the same in parts of at most four digits; `{credential}` one of a
file, at random; `{client}` a number that goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

COOKIE = "Cookie: theme=dark; _ga=GA1.2.1234567890.1700000000; __Host-sidecar={credential}"
BEARER = "Authorization: Bearer {credential}"
API_KEY = "X-Api-Key: {credential}"

HOST = "app.example.com"
URI = "/projects/{path}/board?view=week&n={n}"
CLIENT = "10.20.30.{client}"

_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_REQUEST_ID = "c00dcf29e059ee1527d2{n}"
_UUID = "006accdb-96f6-467b-abf5-{n}"


def nginx(who: str = COOKIE, *, host: str = HOST, uri: str = URI, client: str = CLIENT) -> str:
    """A subrequest of `auth_request`. `who`: the line with the credential."""
    return _head(
        "GET /check/nginx HTTP/1.1",
        who,
        f"Accept: {_ACCEPT}",
        "Sec-Fetch-Mode: navigate",
        *_nginx(host, uri, client),
    )


def traefik(who: str = COOKIE) -> str:
    """A request of `forwardAuth`."""
    return _forwarded("/check/traefik", "Go-http-client/1.1", who)


def caddy(who: str = COOKIE) -> str:
    """A request of `forward_auth`."""
    return _forwarded("/check/caddy", _AGENT, who)


def haproxy(who: str = COOKIE) -> str:
    """A request of the Lua action."""
    return _head(
        "GET /check/haproxy HTTP/1.1",
        f"accept: {_ACCEPT}",
        f"x-request-id: {_UUID}",
        f"x-forwarded-for: {CLIENT}",
        f"x-forwarded-uri: {URI}",
        "x-forwarded-method: GET",
        "sec-fetch-mode: navigate",
        "x-forwarded-proto: https",
        _in_lower_case(who),
        f"x-forwarded-host: {HOST}",
        "host: sidecar",
        "user-agent: HAProxy",
    )


def envoy(who: str = COOKIE) -> str:
    """A request of `ext_authz`."""
    return _head(
        f"GET /check/envoy{URI} HTTP/1.1",
        f"host: {HOST}",
        "content-length: 0",
        f"accept: {_ACCEPT}",
        f"x-forwarded-for: {CLIENT}",
        f"x-request-id: {_UUID}",
        "x-forwarded-proto: https",
        _in_lower_case(who),
        "sec-fetch-mode: navigate",
        "x-envoy-internal: true",
        "x-envoy-expected-rq-timeout-ms: 5000",
    )


GATEWAYS: Mapping[str, Callable[[str], str]] = {
    "nginx": nginx,
    "traefik": traefik,
    "caddy": caddy,
    "haproxy": haproxy,
    "envoy": envoy,
}


def browsing() -> tuple[str, ...]:
    """What a browser asks for on one page, behind an nginx that passes all of its headers to the check."""
    page = f"https://{HOST}/projects/7/board"
    return tuple(
        _head(
            "GET /check/nginx HTTP/1.1",
            *_nginx(HOST, URI, CLIENT),
            f"User-Agent: {_AGENT}",
            f"Accept: {accept}",
            "Accept-Language: en-US,en;q=0.5",
            "Accept-Encoding: gzip, deflate, br, zstd",
            *more,
            COOKIE,
            f"Sec-Fetch-Dest: {destination}",
            f"Sec-Fetch-Mode: {mode}",
            "Sec-Fetch-Site: same-origin",
        )
        for destination, mode, accept, more in (
            ("document", "navigate", _ACCEPT, ("Upgrade-Insecure-Requests: 1",)),
            ("script", "no-cors", "*/*", (f"Referer: {page}", 'If-None-Match: "66f1c0de-1a2b"')),
            ("image", "no-cors", "image/avif,image/webp,*/*;q=0.8", (f"Referer: {page}",)),
            ("empty", "cors", "application/json", (f"Referer: {page}?view=week", "X-Requested-With: fetch")),
        )
    )


def documented(path: str) -> str:
    """A request to a product's endpoint with a session; the query means nothing there."""
    return _head(
        f"GET {path}?project={{path}}&n={{n}} HTTP/1.1",
        "Host: sidecar.internal:9000",
        f"X-Forwarded-For: {CLIENT}",
        COOKIE,
        f"Accept: {_ACCEPT}",
        "Sec-Fetch-Mode: navigate",
    )


def page() -> str:
    """A browser's request to the nginx that asks; of the host that examples/nginx serves."""
    return _head(
        f"GET {URI} HTTP/1.1",
        "Host: localhost",
        f"User-Agent: {_AGENT}",
        f"Accept: {_ACCEPT}",
        COOKIE,
        "Sec-Fetch-Mode: navigate",
    )


def closing(head: str) -> str:
    """The same as the only request of its connection."""
    return head.removesuffix("\r\n") + "Connection: close\r\n\r\n"


def _nginx(host: str, uri: str, client: str) -> tuple[str, ...]:
    return (
        "X-Original-Method: GET",
        f"X-Original-URL: https://{host}{uri}",
        f"X-Forwarded-For: {client}",
        f"X-Request-Id: {_REQUEST_ID}",
        "Host: sidecar",
    )


def _forwarded(target: str, agent: str, who: str) -> str:
    return _head(
        f"GET {target} HTTP/1.1",
        f"Host: {HOST}",
        f"User-Agent: {agent}",
        f"Accept: {_ACCEPT}",
        who,
        "Sec-Fetch-Mode: navigate",
        f"X-Forwarded-For: {CLIENT}",
        f"X-Forwarded-Host: {HOST}",
        "X-Forwarded-Method: GET",
        "X-Forwarded-Proto: https",
        f"X-Forwarded-Uri: {URI}",
        "Accept-Encoding: gzip",
    )


def _in_lower_case(line: str) -> str:
    name, colon, value = line.partition(":")
    return name.lower() + colon + value


def _head(*lines: str) -> str:
    return "\r\n".join((*lines, "", ""))

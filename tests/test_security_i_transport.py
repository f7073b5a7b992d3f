"""I. Transport: bytes that are no request, requests that never come, and what must not come out."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import suppress
from typing import Any

import pytest

from sidecar.server.ticking import PATIENCE, TICKS, Ticking
from tests.conftest import Start
from tests.running import GATEWAYS, Line, Running, bearer, metadata
from tests.wire import head

HOST: Line = (b"host", b"sidecar")
START = b"GET /check/nginx HTTP/1.1\r\nHost: sidecar\r\n"
PATHS = ["/check/nginx", "/login", "/api/v1/status", "/.well-known/jwks.json"]


async def exchange(sidecar: Running, request: bytes, *, peer: str | None = "127.0.0.1") -> bytes:
    """All that comes back until the server closes."""
    async with sidecar.connection(peer) as connection:
        coming = asyncio.create_task(connection.rest())  # at once: what is reset later has come before
        with suppress(ConnectionError):
            await connection.send(request)
        return await coming


# --- what is no request --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            b"POST /login HTTP/1.1\r\nHost: s\r\n"
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="a length and chunks",
        ),
        pytest.param(
            b"POST /login HTTP/1.1\r\nHost: s\r\n"
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            id="chunks and a length",
        ),
        pytest.param(
            b"POST /login HTTP/1.1\r\nHost: s\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
            id="two lengths",
        ),
        pytest.param(START + b"Content-Length: +1\r\n\r\na", id="a length with a sign"),
        pytest.param(START + b"Transfer-Encoding: xchunked\r\n\r\n", id="a coding that is none"),
        pytest.param(START.replace(b"\r\n", b"\n") + b"\n", id="bare line feeds"),
        pytest.param(START + b"X: a\n\r\n", id="one bare line feed"),
        pytest.param(START + b"X: a\rY: b\r\n\r\n", id="a bare carriage return"),
        pytest.param(START + b"X: a\r\n b\r\n\r\n", id="a folded line"),
        pytest.param(START + b"X: a\r\n\tb\r\n\r\n", id="a line folded with a tab"),
        pytest.param(b"GET /check/nginx HTTP/1.1\r\n Host: s\r\n\r\n", id="a fold after the first line"),
        pytest.param(START + b"X : a\r\n\r\n", id="a space before the colon"),
        pytest.param(START + b"X-Original-\0URL: a\r\n\r\n", id="a NUL in a name"),
        pytest.param(START + b"X: a\0b\r\n\r\n", id="a NUL in a value"),
        pytest.param(START + b": a\r\n\r\n", id="no name"),
        pytest.param(START + b"noname\r\n\r\n", id="no colon"),
        pytest.param(b"GET /check/nginx#x HTTP/1.1\r\nHost: s\r\n\r\n", id="a fragment"),
        pytest.param(b"GET /check/nginx\r\nHost: s\r\n\r\n", id="no version"),
        pytest.param(b"GET /check/nginx HTTP/3.7\r\nHost: s\r\n\r\n", id="a version that is none"),
        pytest.param(b"GETZ /check/nginx HTTP/1.1\r\nHost: s\r\n\r\n", id="a method that is none"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 without asking"),
        pytest.param(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", id="TLS"),
    ],
)
async def test_i94_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(
    sidecar: Running, request_: bytes
) -> None:
    answer = await exchange(sidecar, request_ + head("GET", "/login", [HOST]))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert (await sidecar.ask("GET", "/login")).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"X: " + b"a" * 2_000_000, id="2 MB in one line"),
        pytest.param(b"X: a\r\n" * 19_999 + b"X: a", id="20000 lines"),
        pytest.param(b"X: a\r\n" * 120 + b"X: a", id="more lines than anybody sends"),
        pytest.param(b"Cookie: " + b"a=b; " * 400_000, id="2 MB of cookies"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_i95_a_head_beyond_all_measure_is_refused(sidecar: Running, path: str, lines: bytes) -> None:
    answer = await exchange(sidecar, head("GET", path, [HOST])[:-2] + lines + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_i95_a_target_beyond_all_measure_is_refused(sidecar: Running) -> None:
    answer = await exchange(sidecar, head("GET", "/check/nginx?" + "a" * 2_000_000, [HOST]))
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("peer", ["127.0.0.1", None], ids=["tcp", "unix socket"])
@pytest.mark.parametrize(
    "sent",
    [b"", b"G", START, START + b"X-Original-URL: https://a"],
    ids=["nothing", "a byte", "half", "more"],
)
async def test_i96_who_sends_no_whole_head_in_ten_seconds_is_left(
    sidecar: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes, peer: str | None
) -> None:
    served = await sidecar.served(peer=peer)
    protocol: Any = served.server.config.http_protocol_class
    ticking: Ticking = getattr(protocol, "ordinary", protocol).ticking
    assert ticking.seconds * TICKS == PATIENCE == 10.0
    monkeypatch.setattr(ticking, "seconds", 0.005)
    assert await exchange(sidecar, sent, peer=peer) == b""


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_i97_a_check_that_announces_a_body_and_sends_none_is_answered_at_once(
    sidecar: Running, gateway: str
) -> None:
    alice = await sidecar.session(await sidecar.add_user())
    answer = await sidecar.check(gateway, [alice, (b"content-length", b"12345")])
    assert (answer.status, answer.all("Connection")) == (200, ["close"])


# --- what asks for more than an answer -----------------------------------------------------------

PREFLIGHT: list[Line] = [(b"origin", b"https://other.example"), (b"access-control-request-method", b"PUT")]


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("lines", [[], *([line] for line in PREFLIGHT), PREFLIGHT], ids=len)
async def test_i98_options_are_asked_for_a_credential_as_any_method(
    sidecar: Running, gateway: str, lines: list[Line]
) -> None:
    assert (await sidecar.check(gateway, lines, method=b"OPTIONS")).status == 401


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize(
    ("method", "lines", "path", "status"),
    [
        pytest.param(b"OPTIONS", PREFLIGHT, b"/api", 200, id="a preflight"),
        pytest.param(b"OPTIONS", PREFLIGHT[:1], b"/api", 401, id="without a method asked for"),
        pytest.param(b"OPTIONS", PREFLIGHT[1:], b"/api", 401, id="without an origin"),
        pytest.param(b"OPTIONS", [], b"/api", 401, id="bare"),
        pytest.param(b"GET", PREFLIGHT, b"/api", 401, id="another method"),
        pytest.param(b"OPTIONS", PREFLIGHT, b"/page", 401, id="another rule"),
    ],
)
async def test_i98_a_preflight_passes_where_the_rule_says_so_and_only_a_whole_one(
    start: Start, gateway: str, method: bytes, lines: list[Line], path: bytes, status: int
) -> None:
    rules = [{"paths": ["/api/**"], "allow_preflight": True}, {}]
    async with start({"rules": rules}) as sidecar:
        answer = await sidecar.check(gateway, lines, method=method, uri=path)
        assert answer.status == status
        assert answer.all("X-Auth-User") == ([""] if status == 200 else [])


UPGRADES = {
    "websocket": [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")],
    "h2c": [
        (b"connection", b"Upgrade, HTTP2-Settings"),
        (b"upgrade", b"h2c"),
        (b"http2-settings", b"AAMAAABkAAQAAP__"),
    ],
}


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_i99_who_asks_for_an_upgrade_gets_the_same_decision_and_no_upgrade(
    sidecar: Running, gateway: str, upgrade: list[Line]
) -> None:
    session = await sidecar.session(await sidecar.add_user())
    allowed = await sidecar.check(gateway, [session, *upgrade])
    assert (allowed.status, allowed.one("X-Auth-User"), allowed.all("Upgrade")) == (200, "alice", [])
    assert (await sidecar.check(gateway, upgrade)).status == 401


async def test_i99_there_is_no_tunnel(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    for target in ("sidecar:443", "/check/nginx"):
        answer = await exchange(sidecar, head("CONNECT", target, [HOST, *metadata("nginx"), session]))
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
        assert answer.count(b"HTTP/1.1 ") == 1


# --- what must not come out ----------------------------------------------------------------------


OPERATORS = ["/metrics", "/healthz", "/readyz", "/openapi.json", "/metrics/", "//metrics"]


@pytest.mark.parametrize("path", OPERATORS)
async def test_i100_what_is_the_operators_is_not_on_the_auth_listener(sidecar: Running, path: str) -> None:
    assert (await sidecar.ask("GET", path)).status == 404


HOSTILE = [b"a\x1b[31mred", b"\xc2\x85next", b"\xe2\x80\xa8line", b"a\tb", b"%0d%0aforged", b"\xff\xfe"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
async def test_i100_what_a_client_sends_never_begins_a_line_or_colours_one(
    sidecar: Running, log: io.StringIO, hostile: bytes
) -> None:
    await sidecar.add_user(password="correct horse")
    names = (b"x-request-id", b"x-forwarded-for", b"cookie")
    for line in (bearer(hostile), *((name, hostile) for name in names)):
        await sidecar.check("nginx", [line])
        await sidecar.ask("GET", "/api/v1/status", [line])
    await sidecar.sign_in(hostile.decode("latin-1"), "wrong", [(b"user-agent", hostile)])
    logged = log.getvalue()
    assert logged.count("\n") == len([json.loads(line) for line in logged.splitlines()])
    assert not {"\x1b", "\r", "\x85", "\u2028"} & set(logged)


async def test_i100_secrets_are_in_no_log_line_at_any_level(
    sidecar: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = await sidecar.add_user(password="PLANTED-password")
    session = await sidecar.session(alice)
    key = await sidecar.api_key(alice)
    token = await sidecar.token(alice)
    for line in [session, (b"x-api-key", key), bearer(token)]:
        await sidecar.check("nginx", [line])
    await sidecar.check("nginx", [(b"authorization", b"Bearer PLANTED-token")])
    await sidecar.sign_in("alice", "PLANTED-password")
    await sidecar.sign_in("alice", "PLANTED-wrong")
    logged = "".join(capsys.readouterr())
    assert "check" in logged
    for secret in ("PLANTED", session[1].decode(), key.decode(), token.decode()):
        assert secret not in logged

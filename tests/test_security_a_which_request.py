"""A. Which request is judged: only what the trusted gateway says, read one way."""

from __future__ import annotations

import pytest

from sidecar.settings import IDENTITY_FIELDS
from tests.conftest import Start
from tests.running import GATEWAYS, Line, Running, cannot_be_read, endpoint, metadata

pytestmark = pytest.mark.parametrize("gateway", GATEWAYS)

REQUIRED = {
    "nginx": ("x-original-url", "x-original-method"),
    "traefik": ("x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"),
}
REQUIRED |= {"caddy": REQUIRED["traefik"], "haproxy": REQUIRED["traefik"], "envoy": ("x-forwarded-proto",)}
OFFICE_ONLY = {"rules": [{"access": "public", "networks": ["10.0.0.0/8"]}]}


async def test_a01_an_untrusted_peer_is_refused_and_nothing_of_it_is_used(
    sidecar: Running, gateway: str
) -> None:
    alice = await sidecar.add_user()
    answer = await sidecar.check(gateway, [await sidecar.session(alice)], peer="127.0.0.2")
    assert (answer.status, answer.reason) == (403, "untrusted_proxy")
    assert not answer.all("X-Auth-User")


async def test_a02_an_empty_list_of_proxies_trusts_nobody(start: Start, gateway: str) -> None:
    async with start({"server": {"trusted_proxies": []}}) as sidecar:
        for peer in ("127.0.0.1", "::1", "127.0.0.2", None):
            assert (await sidecar.check(gateway, peer=peer)).reason == "untrusted_proxy"


async def test_a02_a_peer_without_an_address_is_not_taken_for_a_unix_socket(
    sidecar: Running, gateway: str
) -> None:
    await sidecar.ask_and_leave("GET", endpoint(gateway), metadata(gateway), before_it_is_accepted=True)
    assert 'sidecar_forwarded_rejected_total{reason="untrusted_proxy"} 1.0' in await sidecar.metrics()


async def test_a03_the_headers_of_another_gateway_are_ignored(start: Start, gateway: str) -> None:
    other = "traefik" if gateway == "nginx" else "nginx"
    async with start({"rules": [{"paths": ["/public"], "access": "public"}, {"access": "deny"}]}) as sidecar:
        spoofed = metadata(other, uri=b"/public")
        assert (await sidecar.check(gateway, spoofed, uri=b"/admin")).reason == "rule_denies"
        assert (await sidecar.check(gateway, metadata(other, uri=b"/admin"), uri=b"/public")).status == 200


@pytest.mark.parametrize("change", ["missing", "empty"])
async def test_a04_a_required_header_that_is_not_there_is_refused_also_for_public_rules(
    start: Start, gateway: str, change: str
) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        for name in REQUIRED[gateway]:
            lines = [line for line in metadata(gateway) if line[0] != name.encode()]
            empty: list[Line] = [(name.encode(), b"")] if change == "empty" else []
            answer = await sidecar.ask("GET", endpoint(gateway), lines + empty)
            assert (answer.status, answer.reason) == (cannot_be_read(gateway), "missing_metadata"), name


async def test_a05_two_lines_of_a_required_header_are_refused(start: Start, gateway: str) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        for line in metadata(gateway):
            answer = await sidecar.check(gateway, [line])
            assert (answer.status, answer.reason) == (cannot_be_read(gateway), "repeated_metadata"), line


@pytest.mark.parametrize(
    "ignored",
    [
        (b"x-forwarded-prefix", b"/public"),
        (b"x-replaced-path", b"/public"),
        (b"x-rewrite-url", b"/public"),
        (b"forwarded", b"host=evil.com;proto=http"),
        (b"x_forwarded_uri", b"/public"),
        (b"x_original_url", b"https://app.example.com/public"),
        (b"x-http-method-override", b"GET"),
        (b"x-method-override", b"GET"),
        (b"user-agent", b"kube-probe/1.30"),
        (b"user-agent", b"ELB-HealthChecker/2.0"),
        (b"x-auth-user", b"admin"),
        (b"x_auth_user", b"admin"),
    ],
    ids=lambda line: line[0].decode(),
)
async def test_a06_a08_a09_a14_what_no_gateway_of_ours_sets_has_no_effect(
    start: Start, gateway: str, ignored: Line
) -> None:
    rules = [{"paths": ["/public"], "access": "public"}, {"methods": ["GET"], "access": "public"}]
    async with start({"rules": rules}) as sidecar:
        answer = await sidecar.check(gateway, [ignored], uri=b"/admin", method=b"POST")
        assert (answer.status, answer.reason) == (403, "no_rule")


@pytest.mark.parametrize("scheme", [b"ftp", b"HTTPS", b"https,http", b"", b"javascript"])
async def test_a07_a_scheme_that_is_no_web_scheme_is_refused(
    start: Start, gateway: str, scheme: bytes
) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        answer = await sidecar.check(gateway, scheme=scheme)
        assert answer.status == cannot_be_read(gateway)


@pytest.mark.parametrize("scheme", [b"http", b"https", b"ws", b"wss"])
async def test_a07_web_schemes_are_read(start: Start, gateway: str, scheme: bytes) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        assert (await sidecar.check(gateway, scheme=scheme)).status == 200


async def test_a10_a_connection_header_takes_nothing_out_of_the_identity(
    sidecar: Running, gateway: str
) -> None:
    alice = await sidecar.add_user()
    hop = (b"connection", b"close, X-Auth-User, X-Auth-Roles")
    answer = await sidecar.check(gateway, [hop, await sidecar.session(alice)])
    assert answer.one("X-Auth-User") == "alice"
    assert answer.one("X-Auth-Roles") == ""


@pytest.mark.parametrize(
    ("lines", "hops", "inside"),
    [
        pytest.param([b"10.0.0.1"], 1, True, id="the one entry is the client"),
        pytest.param([b"10.0.0.1, 192.0.2.1"], 1, False, id="what the client made up is left of it"),
        pytest.param([b"192.0.2.1, 10.0.0.1"], 1, True, id="counted from the right"),
        pytest.param([b"10.0.0.1", b"192.0.2.1"], 1, False, id="all lines are one list"),
        pytest.param([b"192.0.2.1", b"10.0.0.1, 198.51.100.1"], 2, True, id="two proxies of ours"),
        pytest.param([b"::ffff:10.0.0.1"], 1, True, id="a13 an IPv4 address in IPv6 clothes is itself"),
        pytest.param([], 1, False, id="without the header the peer is the client"),
    ],
)
async def test_a11_a13_the_client_is_counted_from_the_right(
    start: Start, gateway: str, lines: list[bytes], hops: int, inside: bool
) -> None:
    async with start({**OFFICE_ONLY, "server": {"client_ip_hops": hops}}) as sidecar:
        answer = await sidecar.check(gateway, [(b"x-forwarded-for", line) for line in lines])
        assert answer.status == (200 if inside else 403)


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        (b"junk", 1),
        (b"", 1),
        (b"10.0.0.1:80", 1),
        (b"10.0.0.1, ", 1),
        (b"fe80::1%eth0", 1),
        (b"unknown", 1),
        (b"010.0.0.1", 1),
        (b"10.0.0.1", 2),
    ],
)
async def test_a12_an_unreadable_client_is_refused_and_never_skips_a_network_rule(
    start: Start, gateway: str, value: bytes, hops: int
) -> None:
    rules = [{"access": "deny", "networks": ["192.0.2.0/24"]}, {"access": "public"}]
    async with start({"rules": rules, "server": {"client_ip_hops": hops}}) as sidecar:
        answer = await sidecar.check(gateway, [(b"x-forwarded-for", value)])
        assert (answer.status, answer.reason) == (cannot_be_read(gateway), "bad_client_address")


async def test_a12_over_a_unix_socket_the_proxy_has_to_name_the_client(start: Start, gateway: str) -> None:
    async with start(OFFICE_ONLY) as sidecar:
        unnamed = await sidecar.check(gateway, peer=None)
        assert (unnamed.status, unnamed.reason) == (cannot_be_read(gateway), "missing_metadata")
        assert (await sidecar.check(gateway, [(b"x-forwarded-for", b"10.1.1.1")], peer=None)).status == 200


@pytest.mark.parametrize("method", [b"GETz", b"get", b"GE T", b"", b"G\tET", b"CONNECT", b"GET,POST"])
async def test_a15_a_method_that_is_none_is_refused(start: Start, gateway: str, method: bytes) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        assert (await sidecar.check(gateway, method=method)).status == cannot_be_read(gateway)


@pytest.mark.parametrize("asked_with", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
async def test_the_gateway_may_ask_with_any_method(start: Start, gateway: str, asked_with: str) -> None:
    judged = asked_with if gateway == "envoy" else "PUT"  # Envoy asks with the client's own
    async with start({"rules": [{"methods": [judged], "access": "public"}]}) as sidecar:
        answer = await sidecar.ask(asked_with, endpoint(gateway), metadata(gateway, method=b"PUT"))
        assert answer.status == 200


async def test_a16_query_parameters_of_the_check_widen_nothing(sidecar: Running, gateway: str) -> None:
    query = "?access=public&allowed_groups=all&method=GET&rule=none&uri=/public"
    answer = await sidecar.ask("GET", f"{endpoint(gateway)}{query}", metadata(gateway))
    assert answer.status == 401


async def test_every_identity_field_can_be_a_header(start: Start, gateway: str) -> None:
    headers = {f"X-Id-{field.replace('_', '-')}": field for field in IDENTITY_FIELDS}
    async with start({"identity_headers": headers}) as sidecar:
        alice = await sidecar.add_user(roles=("a", "b"))
        answer = await sidecar.check(gateway, [await sidecar.session(alice)])
        assert answer.one("X-Id-roles") == "a,b"
        assert answer.one("X-Id-subject") == str(alice.id)
        assert len(answer.one("X-Id-session-id")) == 32

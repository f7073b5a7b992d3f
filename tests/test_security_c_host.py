"""C. Host: folded, exact, and one only."""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.running import GATEWAYS, cannot_be_read, endpoint, is_unreadable, metadata

pytestmark = pytest.mark.parametrize("gateway", GATEWAYS)

RULES = {
    "rules": [
        {"hosts": ["app.example.com", "*.Example.ORG", "[2001:db8::1]"], "access": "public"},
        {"hosts": ["ported.example.com:8443"], "access": "public"},
        {"hosts": ["plain.example.com:443"], "access": "public"},
    ]
}


@pytest.mark.parametrize(
    "host",
    [
        b"app.example.com",
        b"APP.Example.com",
        b"app.example.com.",
        b"app.example.com:443",
        b"app.example.com:8080",
        b"A.b.EXAMPLE.org",
        b"[2001:DB8:0::1]",
        b"ported.example.com:8443",
        b"plain.example.com",
        b"plain.example.com:443",
    ],
)
async def test_c35_c36_a_host_is_matched_in_its_one_normal_form(
    start: Start, gateway: str, host: bytes
) -> None:
    async with start(RULES) as sidecar:
        assert (await sidecar.check(gateway, host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        b"xapp.example.com",
        b"app.example.com.evil",
        b"example.org",
        b"xexample.org",
        b"a.example.org.evil.com",
        b"unknown.com",
        b"ported.example.com",
        b"ported.example.com:443",
        b"plain.example.com:80",
    ],
)
async def test_c37_c40_another_host_falls_under_no_rule_and_gets_no_identity(
    start: Start, gateway: str, host: bytes
) -> None:
    async with start(RULES) as sidecar:
        alice = await sidecar.add_user()
        answer = await sidecar.check(gateway, [await sidecar.session(alice)], host=host)
    assert (answer.status, answer.reason) == (403, "no_rule")
    assert not answer.all("X-Auth-User")


@pytest.mark.parametrize(
    "host",
    [
        b"app.example.com:99999",
        b"app.example.com:0",
        b"app.example.com:",
        b"a@b",
        b"a,b",
        b"",
        b"a b",
        b"a..b",
        b".a",
        b"b\xc3\xbccher.example",
        b"[::1",
        b"[fe80::1%25eth0]",
        b"app.example.com:80:80",
        b"a" * 64 + b".example.com",
        b"app.example.com\x00",
        b"app.example.com..",
    ],
)
async def test_c36_c38_what_is_no_host_is_refused(start: Start, gateway: str, host: bytes) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        assert is_unreadable(gateway, await sidecar.check(gateway, host=host))


async def test_c38_a_host_cannot_bring_a_path_with_it(start: Start, gateway: str) -> None:
    async with start({"rules": [{"hosts": ["app.example.com"], "access": "public"}]}) as sidecar:
        answer = await sidecar.check(gateway, host=b"app.example.com/public?x=", uri=b"/admin")
        # In an address the same bytes are another path; nginx refuses a Host with a slash by itself.
        assert answer.status == (200 if gateway == "nginx" else 400)
        refused = await sidecar.check(gateway, host=b"evil.com/app.example.com", uri=b"/")
        assert refused.status == (403 if gateway == "nginx" else 400)


@pytest.mark.parametrize(
    "hosts", [(), (b"127.0.0.1", b"127.0.0.1"), (b"a", b"b")], ids=["none", "two equal", "two different"]
)
async def test_c39_a_request_names_one_host(start: Start, gateway: str, hosts: tuple[bytes, ...]) -> None:
    async with start({"rules": [{"access": "public"}]}) as sidecar:
        answer = await sidecar.ask("GET", endpoint(gateway), metadata(gateway), hosts=hosts)
        assert answer.status == cannot_be_read(gateway)
        assert (await sidecar.ask("GET", "/login", hosts=hosts)).status == 400

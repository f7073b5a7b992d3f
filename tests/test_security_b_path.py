"""B. Path: one meaning for the proxy, the rules and the application, or none."""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.running import GATEWAYS, Running, cannot_be_read

pytestmark = pytest.mark.parametrize("gateway", GATEWAYS)

RULES = {
    "rules": [
        {"paths": ["/admin/**"], "access": "deny"},
        {"paths": ["/a/b"], "access": "public"},
        {"paths": ["/exact"], "access": "public"},
        {"paths": ["/files/**"], "access": "public", "allow_encoded_slash": True},
        {"paths": ["/evil.com/x"], "access": "public"},
        {"paths": ["/public/**", "/"], "access": "public"},
    ]
}
PUBLIC, ADMIN, NOTHING, UNREADABLE = "public", "rule_denies", "no_rule", "unreadable"


@pytest.mark.parametrize(
    ("uri", "judged"),
    [
        (b"/admin?x=/public", ADMIN),
        (b"/admin/x?/public/", ADMIN),
        (b"/public/x#/admin", UNREADABLE),
        (b"/public/x?a=b#c", UNREADABLE),
        (b"/public/%23", UNREADABLE),
        (b"/public/../admin", ADMIN),
        (b"/public/./x", PUBLIC),
        (b"/public/%2e%2e/admin", ADMIN),
        (b"/public/.%2e/admin", ADMIN),
        (b"/public/%2E./admin", ADMIN),
        (b"/public/x%2Fy", UNREADABLE),
        (b"/public/x%2fy", UNREADABLE),
        (b"/public/..%2fadmin", UNREADABLE),
        (b"/public/%5c", UNREADABLE),
        (b"/public/%5C..%5Cadmin", UNREADABLE),
        (b"/public/%252e%252e/admin", UNREADABLE),
        (b"/public/%25%32%65", UNREADABLE),
        (b"/public/100%25", PUBLIC),
        (b"//admin", ADMIN),
        (b"/a//b", PUBLIC),
        (b"/public/a//../admin", UNREADABLE),
        (b"//evil.com/x", PUBLIC),
        (b"http://evil/admin", UNREADABLE),
        (b"/admin;x=1", UNREADABLE),
        (b"/public/..;/admin", UNREADABLE),
        (b"/public/%3B", UNREADABLE),
        (b"/public/%3b", UNREADABLE),
        (b"/public/%00", UNREADABLE),
        (b"/public/\x00", UNREADABLE),
        (b"/public/%", UNREADABLE),
        (b"/public/%z1", UNREADABLE),
        (b"/public/%1", UNREADABLE),
        (b"/public/%c0%af", UNREADABLE),
        (b"/public/%ff", UNREADABLE),
        (b"/public/%ed%a0%80", UNREADABLE),
        (b"/public/\xc3\xa9", UNREADABLE),
        (b"/public/\\..\\admin", UNREADABLE),
        (b"/public/a b", UNREADABLE),
        (b"/public/%20b", PUBLIC),
        (b"/public/caf%C3%A9", PUBLIC),
        (b"/%61dmin", ADMIN),
        (b"/adm%69n/x", ADMIN),
        (b"/admin", ADMIN),
        (b"/admin/", ADMIN),
        (b"/admin/.", ADMIN),
        (b"/administrator", NOTHING),
        (b"/ADMIN", NOTHING),
        (b"admin", UNREADABLE),
        (b"*", UNREADABLE),
        (b"", UNREADABLE),
        (b"?x", UNREADABLE),
        (b"/exact/x", NOTHING),
        (b"/x/exact", NOTHING),
        (b"/exact%0A", NOTHING),
        (b"/..", UNREADABLE),
        (b"/public/../../admin", UNREADABLE),
        (b"/public/..", PUBLIC),
        (b"/...", NOTHING),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else value,
)
async def test_b17_to_b33_a_path_is_judged_as_the_application_sees_it_or_refused(
    start: Start, gateway: str, uri: bytes, judged: str
) -> None:
    async with start(RULES) as sidecar:
        answer = await sidecar.check(gateway, uri=uri)
    match judged:
        case "unreadable":
            assert answer.status == cannot_be_read(gateway)
            assert answer.reason in {"ambiguous_path", "bad_url", "missing_metadata", "bad_host"}
        case "public":
            assert answer.status == 200
        case reason:
            assert (answer.status, answer.reason) == (403, reason)


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        pytest.param(b"/files/a%2Fb", 200, id="it is the same rule whether the slash separates or not"),
        pytest.param(b"/files/%2e%2e%2Fadmin", None, id="as a separator it would leave the rule"),
        pytest.param(b"/files%2Fa", None, id="only one reading is under the rule"),
        pytest.param(b"/public/a%2Fb", None, id="the rule does not allow it"),
    ],
)
async def test_b21_an_encoded_slash_passes_only_a_rule_that_opts_in_and_where_it_makes_no_difference(
    start: Start, gateway: str, uri: bytes, status: int | None
) -> None:
    async with start(RULES) as sidecar:
        assert (await sidecar.check(gateway, uri=uri)).status == (status or cannot_be_read(gateway))


PATTERNS = ["/**/a/**/b/**/c/*d*e*f", "/a/**", "/*a*a*a*a*a*b", "/**/*.js", "/**/a/a/a/a/a/b"]


@pytest.mark.parametrize(
    "uri",
    [
        b"/a" * 30_000,
        b"/" + b"a" * 60_000,
        b"/%61" * 15_000,
        b"/a/b" * 15_000,
        b"/a/.." * 12_000,
        b"//" * 30_000,
    ],
    ids=["segments", "one segment", "escapes", "two kinds of segments", "dot segments", "slashes"],
)
async def test_b34_the_longest_path_costs_no_more_than_reading_it(
    start: Start, gateway: str, uri: bytes
) -> None:
    # Not timed here: a pattern that backtracks needs longer than the whole suite may take.
    rules = [{"paths": [pattern], "access": "deny", "name": pattern} for pattern in PATTERNS[1:2]]
    async with start(
        {"rules": [{"paths": PATTERNS[:1] + PATTERNS[2:], "access": "public"}, *rules]}
    ) as sidecar:
        assert (await sidecar.check(gateway, uri=uri)).status in {200, 403, 400}


async def test_rules_are_tried_in_order_and_the_first_decides(start: Start, gateway: str) -> None:
    rules = [{"paths": ["/x"], "access": "public"}, {"paths": ["/**"], "access": "deny"}]
    async with start({"rules": rules}) as sidecar:
        assert (await sidecar.check(gateway, uri=b"/x")).status == 200
        assert (await sidecar.check(gateway, uri=b"/y")).reason == "rule_denies"


async def test_the_query_comes_back_to_the_browser_as_it_was(sidecar: Running, gateway: str) -> None:
    answer = await sidecar.check(
        gateway,
        [(b"accept", b"text/html")],
        scheme=b"http",
        host=b"127.0.0.1:9000",
        uri=b"/a?x=%2F&y=1%202&z=",
    )
    address = answer.one("X-Auth-Login-URL" if gateway == "nginx" else "Location")
    assert address == (
        "http://127.0.0.1:9000/login?rd=http%3A%2F%2F127.0.0.1%3A9000%2Fa%3Fx%3D%252F%26y%3D1%25202%26z%3D"
    )

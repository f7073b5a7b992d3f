"""B. Path: one meaning for the proxy, the rules and the application, or none."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Start
from tests.running import GATEWAYS, Running, cannot_be_read, is_unreadable

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
UNREADABLE_REASONS = {"ambiguous_path", "bad_url", "missing_metadata", "bad_host"}
PUBLIC, ADMIN, NOTHING, UNREADABLE = "public", "rule_denies", "no_rule", "unreadable"


@pytest.mark.parametrize(
    ("case", "uri", "judged"),
    [
        (17, b"/admin?x=/public", ADMIN),
        (17, b"/admin/x?/public/", ADMIN),
        (18, b"/public/x#/admin", UNREADABLE),
        (18, b"/public/x?a=b#c", UNREADABLE),
        (18, b"/public/%23", UNREADABLE),
        (19, b"/public/../admin", ADMIN),
        (19, b"/public/./x", PUBLIC),
        (20, b"/public/%2e%2e/admin", ADMIN),
        (20, b"/public/.%2e/admin", ADMIN),
        (20, b"/public/%2E./admin", ADMIN),
        (21, b"/public/x%2Fy", UNREADABLE),
        (21, b"/public/x%2fy", UNREADABLE),
        (21, b"/public/..%2fadmin", UNREADABLE),
        (21, b"/public/%5c", UNREADABLE),
        (21, b"/public/%5C..%5Cadmin", UNREADABLE),
        (22, b"/public/%252e%252e/admin", UNREADABLE),
        (22, b"/public/%25%32%65", UNREADABLE),
        (22, b"/public/100%25", PUBLIC),
        (23, b"//admin", ADMIN),
        (23, b"/a//b", PUBLIC),
        (23, b"/public/a//../admin", UNREADABLE),
        (24, b"//evil.com/x", PUBLIC),
        (25, b"http://evil/admin", UNREADABLE),
        (26, b"/admin;x=1", UNREADABLE),
        (26, b"/public/..;/admin", UNREADABLE),
        (26, b"/public/%3B", UNREADABLE),
        (26, b"/public/%3b", UNREADABLE),
        (27, b"/public/%00", UNREADABLE),
        (27, b"/public/\x00", UNREADABLE),
        (28, b"/public/%", UNREADABLE),
        (28, b"/public/%z1", UNREADABLE),
        (28, b"/public/%1", UNREADABLE),
        (28, b"/public/%c0%af", UNREADABLE),
        (28, b"/public/%ff", UNREADABLE),
        (28, b"/public/%ed%a0%80", UNREADABLE),
        (28, b"/public/\xc3\xa9", UNREADABLE),
        (29, b"/public/\\..\\admin", UNREADABLE),
        (28, b"/public/a b", UNREADABLE),
        (28, b"/public/%20b", PUBLIC),
        (28, b"/public/caf%C3%A9", PUBLIC),
        (30, b"/%61dmin", ADMIN),
        (30, b"/adm%69n/x", ADMIN),
        (31, b"/admin", ADMIN),
        (31, b"/admin/", ADMIN),
        (31, b"/admin/.", ADMIN),
        (31, b"/administrator", NOTHING),
        (31, b"/ADMIN", NOTHING),
        (32, b"admin", UNREADABLE),
        (32, b"*", UNREADABLE),
        (32, b"", UNREADABLE),
        (32, b"?x", UNREADABLE),
        (33, b"/exact/x", NOTHING),
        (33, b"/x/exact", NOTHING),
        (33, b"/exact%0A", NOTHING),
        (19, b"/..", UNREADABLE),
        (19, b"/public/../../admin", UNREADABLE),
        (19, b"/public/..", PUBLIC),
        (31, b"/...", NOTHING),
    ],
    ids=lambda value: f"b{value}" if isinstance(value, int) else str(value),
)
async def test_b17_to_b33_a_path_is_judged_as_the_application_sees_it_or_refused(
    start: Start, gateway: str, case: int, uri: bytes, judged: str
) -> None:
    async with start(RULES) as sidecar:
        answer = await sidecar.check(gateway, uri=uri)
    match judged:
        case "unreadable":
            assert is_unreadable(gateway, answer)
            assert answer.is_no_http or answer.reason in UNREADABLE_REASONS
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


PATTERNS = ["/**/a/**/b/**/c/*d*e*f", "/a/b/c/**", "/*a*a*a*a*a*b", "/**/*.js", "/**/a/a/a/a/a/b"]


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        pytest.param(b"/a" * 30_000, 403, id="segments"),
        pytest.param(b"/" + b"a" * 60_000, 403, id="one segment"),
        pytest.param(b"/%61" * 15_000, 403, id="escapes"),
        pytest.param(b"/a/b" * 15_000, 403, id="two kinds of segments"),
        pytest.param(b"/a/.." * 12_000, 403, id="dot segments"),
        pytest.param(b"//" * 30_000, 403, id="slashes"),
    ],
)
async def test_b34_the_longest_path_is_matched_at_once(
    start: Start, gateway: str, uri: bytes, status: int
) -> None:
    rules = [{"paths": [pattern], "access": "public"} for pattern in PATTERNS]
    async with start({"rules": rules}) as sidecar:
        took = []
        for _ in range(3):
            started = time.process_time()
            assert (await sidecar.check(gateway, uri=uri)).status == status
            took.append(time.process_time() - started)
    assert min(took) < 10 * 0.010


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

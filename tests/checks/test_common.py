"""What all five products' endpoints have in common: whatever happens is answered as the product answers."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sidecar.records import User, UserChange
from tests.checks.products import (
    ASKING,
    AUTHING,
    CARGO_EXTRA,
    CARGO_EXTRA_CHECK,
    COMPASS,
    ENDPOINTS,
    GETS,
    LONGEST,
    POSTS,
    PRODUCTS,
    PULSE,
    REQUEST_ID,
    TOKEN_PATH,
    VIROLA,
    Endpoint,
    Product,
    add_alice,
    good,
    written_as_json,
)
from tests.conftest import Start
from tests.running import Answer, Line, Running, bearer, broken

ELSEWHERE: Line = (b"x-forwarded-for", b"198.51.100.7")

each_product = pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
each_post = pytest.mark.parametrize("endpoint", POSTS, ids=str)
each_get = pytest.mark.parametrize("endpoint", GETS, ids=str)
each_asking = pytest.mark.parametrize("endpoint", ASKING, ids=str)
each_sign_in_or_out = pytest.mark.parametrize(
    "endpoint", [each for each in POSTS if each.signs_in_or_out], ids=str
)


def assert_is_no_path_of_a_product(answer: Answer) -> None:
    assert (answer.status, answer.one("Content-Type")) == (404, "text/html; charset=utf-8")


def assert_is_answered(answer: Answer) -> None:
    assert (answer.status, answer.json.get("statusCode", 200)) == (200, 200)
    written_as_json(answer)


# --- answers ---------------------------------------------------------------------------------------


@each_endpoint
async def test_an_answer_is_json_that_nobody_keeps(sidecar: Running, endpoint: Endpoint) -> None:
    assert_is_answered(await (await good(sidecar, endpoint)).send(sidecar))


@each_get
async def test_the_body_of_a_get_is_ignored(sidecar: Running, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    for body in (b"", b"{", b"\xff" * (LONGEST + 1)):
        assert (await request.send(sidecar, body=body)).status == 200


@each_get
async def test_head_is_answered_as_get(sidecar: Running, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    answers = [await request.send(sidecar, method=method) for method in ("GET", "HEAD")]
    assert [answer.status for answer in answers] == [200, 200]
    assert {name for name, _ in answers[0].lines} == {name for name, _ in answers[1].lines}
    assert (await sidecar.ask("HEAD", endpoint.path)).status == 401


@each_post
@pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b"", b"image/png; charset=x"])
async def test_a_body_is_read_whatever_its_type_is_said_to_be(
    sidecar: Running, endpoint: Endpoint, content_type: bytes
) -> None:
    request = await good(sidecar, endpoint)
    answer = await request.send(sidecar, (b"content-type", content_type))
    assert_is_answered(answer)


@each_endpoint
async def test_only_authings_clients_may_begin_a_path_with_more_slashes(
    sidecar: Running, endpoint: Endpoint
) -> None:
    request = await good(sidecar, endpoint)
    product = endpoint.product
    for slashes in ("/", "//", "/////"):
        answer = await request.send(sidecar, path=slashes + endpoint.path)
        below = await sidecar.ask("POST", f"{slashes}{product.below}nowhere", [REQUEST_ID])
        if product is AUTHING:
            assert_is_answered(answer)
            product.refused(below, 404)
        else:
            assert_is_no_path_of_a_product(answer)
            assert_is_no_path_of_a_product(below)


# --- refusals --------------------------------------------------------------------------------------


@each_product
async def test_what_is_not_there_is_refused_as_the_product_does(sidecar: Running, product: Product) -> None:
    for path in (product.below, product.below + "nowhere", product.below + "no/where"):
        for method in ("GET", "POST", "OPTIONS"):
            product.refused(await sidecar.ask(method, path, [REQUEST_ID]), 404)
        assert (await sidecar.ask("HEAD", path, [REQUEST_ID])).status == product.http_status(404)


@each_endpoint
async def test_a_path_is_no_prefix(sidecar: Running, endpoint: Endpoint) -> None:
    for path in (endpoint.path + "/", endpoint.path + "/more"):
        endpoint.product.refused(await sidecar.ask(endpoint.method, path, [REQUEST_ID]), 404)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/auth/validate-session/", COMPASS),
        ("/auth/validate-session/x", COMPASS),
        ("/auth/validate-sessions", PULSE),
        ("/auth/validate-", PULSE),
        ("/auth/", PULSE),
        ("/api/v1/user/", CARGO_EXTRA),
        ("/api/v1/user/check/", CARGO_EXTRA),
        ("/api/v1/user", VIROLA),
        ("/api/v1/users/check", VIROLA),
        ("/api/v1/", VIROLA),
        ("/api/v3/", AUTHING),
        ("/api/v1", None),
        ("/api/v2/status", None),
        ("/auth", None),
        ("/Auth/session", None),
    ],
)
async def test_where_one_products_paths_lie_below_anothers_the_nearest_one_answers(
    sidecar: Running, path: str, owner: Product | None
) -> None:
    answer = await sidecar.ask("GET", path, [REQUEST_ID])
    if owner:
        owner.refused(answer, 404)
    else:
        assert_is_no_path_of_a_product(answer)


@each_endpoint
async def test_a_method_that_there_is_not_is_refused_with_those_that_there_are(
    sidecar: Running, endpoint: Endpoint
) -> None:
    wrong = ["POST", "PUT"] if endpoint.method == "GET" else ["GET", "PUT"]
    for method in (*wrong, "DELETE", "OPTIONS", "PROPFIND"):
        answer = await sidecar.ask(method, endpoint.path, [REQUEST_ID])
        endpoint.product.refused(answer, 405)
        allowed = "GET, HEAD" if endpoint.method == "GET" else "POST"
        assert answer.all("Allow") == ([] if endpoint.product is AUTHING else [allowed])


@each_post
async def test_a_body_that_cannot_be_read_is_refused(sidecar: Running, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    for body in (b"", b"{", b"\xff"):
        message = "The body cannot be read: it is not JSON that can be read one way"
        endpoint.product.refused(await request.send(sidecar, body=body), 400, message)
    message = "The body cannot be read: it is not a JSON object"
    endpoint.product.refused(await request.send(sidecar, body=b"[]".ljust(LONGEST)), 400, message)
    endpoint.product.refused(await request.send(sidecar, body=b"[]".ljust(LONGEST + 1)), 413)


@each_post
async def test_a_client_that_goes_away_is_no_fault(
    sidecar: Running, log: io.StringIO, endpoint: Endpoint
) -> None:
    request = await good(sidecar, endpoint)
    await sidecar.ask_and_leave(endpoint.method, endpoint.path, request.headers, request.body)
    assert 'code="500"' not in await sidecar.metrics()
    assert "check_failed" not in log.getvalue()


@each_endpoint
async def test_too_many_requests_are_refused_until_the_time_is_over(start: Start, endpoint: Endpoint) -> None:
    async with start({"limits": {"checks": "2/minute"}}) as sidecar:
        request = await good(sidecar, endpoint)
        await sidecar.ask("GET", endpoint.path, [ELSEWHERE])
        sidecar.clock.advance(0.75)
        await sidecar.ask("GET", endpoint.product.below, [ELSEWHERE])
        answer = await request.send(sidecar, ELSEWHERE)
        endpoint.product.refused(answer, 429)
        assert answer.one("Retry-After") == "60"
        sidecar.clock.advance(float(answer.one("Retry-After")))
        assert (await request.send(sidecar, ELSEWHERE)).json != answer.json


@pytest.mark.parametrize("guard", [{"deny_networks": ["198.51.100.0/24"]}, {"deny_user_agents": ["BadBot"]}])
@each_endpoint
async def test_traffic_that_is_denied_is_refused(
    start: Start, endpoint: Endpoint, guard: dict[str, Any]
) -> None:
    async with start({"traffic_guard": guard}) as sidecar:
        request = await good(sidecar, endpoint)
        unwanted = (ELSEWHERE, (b"user-agent", b"x/1 (a BADbot)"))
        endpoint.product.refused(await request.send(sidecar, *unwanted), 403)
        assert_is_answered(await request.send(sidecar))
        product = endpoint.product
        product.refused(await sidecar.ask("GET", product.below, [REQUEST_ID, *unwanted]), 403)


GUARD = {"deny_networks": ["192.0.2.0/24", "2001:db8::/32"], "deny_user_agents": ["BadBot"]}


@pytest.mark.parametrize(
    ("lines", "is_denied"),
    [
        ([(b"x-forwarded-for", b"192.0.2.7")], True),
        ([(b"x-forwarded-for", b"198.51.100.7")], False),
        ([(b"x-forwarded-for", b"2001:db8::7")], True),
        ([(b"x-forwarded-for", b"192.0.2.7, 198.51.100.7")], False),
        ([(b"user-agent", b"Mozilla/5.0 (compatible; BadBot/1.0)")], True),
        ([(b"user-agent", b"an old bADbOT")], True),
        ([(b"user-agent", b"Mozilla/5.0"), (b"user-agent", b"badbot")], True),
        ([(b"user-agent", b"a bad bot")], False),
        ([], False),
    ],
)
async def test_who_is_denied_is_who_sent_it_and_with_what(
    start: Start, lines: list[Line], is_denied: bool
) -> None:
    async with start({"traffic_guard": GUARD}) as sidecar:
        answer = await sidecar.ask("GET", CARGO_EXTRA_CHECK, lines)
        CARGO_EXTRA.refused(answer, 403 if is_denied else 401)


@each_endpoint
async def test_a_request_names_one_host(sidecar: Running, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    for hosts in ((), (b"a", b"b"), (b"a", b"a")):
        endpoint.product.refused(await request.send(sidecar, hosts=hosts), 400, "A request names one host")


@each_endpoint
async def test_a_client_whose_address_cannot_be_told_is_refused(sidecar: Running, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    for peer in ("127.0.0.1", None):
        for junk in (b"junk", b"", b"192.0.2.1:1234", b"fe80::1%eth0", b"192.0.2.1,", b"192.0.2.1, \xff"):
            answer = await request.send(sidecar, (b"x-forwarded-for", junk), peer=peer)
            endpoint.product.refused(answer, 400, "The request cannot be read: bad_client_address")
    over_unix = await request.send(sidecar, peer=None)
    endpoint.product.refused(over_unix, 400, "The request cannot be read: missing_metadata")


@each_endpoint
async def test_nor_is_who_has_gone_before_anybody_could_see_where_from(
    sidecar: Running, endpoint: Endpoint
) -> None:
    request, product = await good(sidecar, endpoint), endpoint.product
    await sidecar.ask_and_leave(
        endpoint.method, endpoint.path, request.headers, request.body, before_it_is_accepted=True
    )
    refused = f'sidecar_check_requests_total{{code="400",dialect="{product.name}"}} 1.0'
    assert refused in await sidecar.metrics()


@each_endpoint
async def test_who_is_not_trusted_is_not_asked_where_the_client_is(
    sidecar: Running, endpoint: Endpoint
) -> None:
    request = await good(sidecar, endpoint)
    answer = await request.send(sidecar, (b"x-forwarded-for", b"junk"), peer="127.0.0.7")
    assert_is_answered(answer)


@each_endpoint
async def test_over_a_unix_socket_the_proxy_says_who_it_is(sidecar: Running, endpoint: Endpoint) -> None:
    answer = await (await good(sidecar, endpoint)).send(sidecar, ELSEWHERE, peer=None)
    assert_is_answered(answer)


# --- what another site may not do -------------------------------------------------------------------

OWN = {
    "login": {"public_url": "https://auth.example.com/_sidecar"},
    "checks": {"allowed_origins": ["https://front.example.com"]},
}


def sent_by(site: bytes | None, *origins: bytes) -> list[Line]:
    named = [] if site is None else [(b"sec-fetch-site", site)]
    return [*named, *((b"origin", origin) for origin in origins)]


FOREIGN = {
    "another site": sent_by(b"cross-site"),
    "a sibling site": sent_by(b"same-site"),
    "a site that is not known": sent_by(b"anything"),
    "an empty site": sent_by(b""),
    "one of two sites": [*sent_by(b"same-origin"), *sent_by(b"cross-site")],
    "another site and origin": sent_by(b"cross-site", b"https://evil.com"),
    "a sibling that hides": sent_by(b"same-site", b"null"),
    "another origin alone": sent_by(None, b"https://evil.com"),
    "a hidden origin": sent_by(None, b"null"),
    "an empty origin": sent_by(None, b""),
    "our origin without TLS": sent_by(None, b"http://auth.example.com"),
    "our host's other port": sent_by(None, b"https://auth.example.com:8443"),
    "an allowed one and more": sent_by(None, b"https://front.example.com.evil.com"),
    "one of two origins": sent_by(None, b"https://front.example.com", b"https://evil.com"),
    "one of two origins, ours first": sent_by(None, b"https://auth.example.com", b"https://evil.com"),
}
OUR_OWN = {
    "a program": sent_by(None),
    "our own page": sent_by(b"same-origin"),
    "the address bar": sent_by(b"none"),
    "our origin alone": sent_by(None, b"https://auth.example.com"),
    "an allowed origin alone": sent_by(None, b"https://front.example.com"),
    "an allowed front end": sent_by(b"cross-site", b"https://front.example.com"),
    "our origin of a sibling": sent_by(b"same-site", b"https://auth.example.com"),
}


@each_sign_in_or_out
async def test_another_site_signs_nobody_in_or_out(start: Start, endpoint: Endpoint) -> None:
    async with start(OWN) as sidecar:
        request = await good(sidecar, endpoint)
        body, before = json.loads(request.body), await sidecar.store.sessions.list()
        for lines in FOREIGN.values():
            answer = await request.send(sidecar, *lines)
            endpoint.product.refused(answer, 403, "This was sent from another site")
        # A form can send JSON, as `text/plain` and with a `=` somewhere in it.
        plain, forged = (b"content-type", b"text/plain"), json.dumps({**body, "x": "="}).encode()
        answer = await request.send(sidecar, plain, *FOREIGN["another site"], body=forged)
        endpoint.product.refused(answer, 403, "This was sent from another site")
        assert await sidecar.store.sessions.list() == before
        # It is the site that is refused: the body can be read.
        assert_is_answered(await request.send(sidecar, plain, body=forged))
        assert await sidecar.store.sessions.list() != before


@pytest.mark.parametrize("lines", OUR_OWN.values(), ids=OUR_OWN)
@each_sign_in_or_out
async def test_our_own_sites_and_programs_do(start: Start, endpoint: Endpoint, lines: list[Line]) -> None:
    async with start(OWN) as sidecar:
        answer = await (await good(sidecar, endpoint)).send(sidecar, *lines)
        assert (answer.status, bool(answer.cookies())) == (200, True)


async def test_another_site_bans_nobody(sidecar: Running) -> None:
    """A form can send JSON, as `text/plain` and with a `=` somewhere in it."""
    key_id, secret = await sidecar.access_key()
    guess = json.dumps({"accessKeyId": key_id, "accessKeySecret": "="}).encode()
    plain = (b"content-type", b"text/plain")
    for lines in FOREIGN.values():
        answer = await sidecar.ask("POST", TOKEN_PATH, [REQUEST_ID, plain, *lines], guess)
        AUTHING.refused(answer, 403, "This was sent from another site")
    right = json.dumps({"accessKeyId": key_id, "accessKeySecret": secret}).encode()
    assert_is_answered(await sidecar.ask("POST", TOKEN_PATH, [REQUEST_ID, plain], right))


OPEN_TO_ALL = [each for each in ENDPOINTS if not each.signs_in_or_out and each.path != TOKEN_PATH]


@pytest.mark.parametrize("endpoint", OPEN_TO_ALL, ids=str)
async def test_what_changes_nothing_may_be_asked_from_anywhere(start: Start, endpoint: Endpoint) -> None:
    async with start({"limits": {"login": "1000/minute"}}) as sidecar:
        request = await good(sidecar, endpoint)
        for lines in FOREIGN.values():
            assert_is_answered(await request.send(sidecar, *lines))


# --- credentials that have ended --------------------------------------------------------------------


async def expire(sidecar: Running, _user: User) -> None:
    sidecar.clock.advance(3600)


async def revoke(sidecar: Running, user: User) -> None:
    await sidecar.store.sessions.revoke_user(user.id)
    await sidecar.store.api_keys.revoke([key.id for key in await sidecar.store.api_keys.list(user.id)])


async def disable(sidecar: Running, user: User) -> None:
    await sidecar.store.users.change(user.id, UserChange(disabled=True), now=0.0, by="test")


async def remove(sidecar: Running, user: User) -> None:
    await sidecar.store.users.remove(user.id)


@pytest.mark.parametrize("asked_before", [True, False], ids=["remembered", "not remembered"])
@pytest.mark.parametrize("end", [expire, revoke, disable, remove])
@each_asking
async def test_what_has_ended_opens_nothing(
    sidecar: Running,
    endpoint: Endpoint,
    end: Callable[[Running, User], Awaitable[None]],
    asked_before: bool,
) -> None:
    alice = await add_alice(sidecar)
    key = await sidecar.api_key(alice, expires_at=sidecar.clock.now() + 3600)
    every = [await sidecar.session(alice), bearer(await sidecar.token(alice)), bearer(key)]

    async def answers() -> list[Answer]:
        body = json.dumps(endpoint.body).encode()
        return [await sidecar.ask(endpoint.method, endpoint.path, [line], body) for line in every]

    if asked_before:
        assert [answer.status for answer in await answers()] == [200] * 3
    await end(sidecar, alice)
    sidecar.clock.advance(1)
    for answer in await answers():
        endpoint.product.refused(answer, 401)
        assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'


# --- outages and faults -----------------------------------------------------------------------------


@each_endpoint
async def test_an_outage_is_no_refusal(sidecar: Running, log: io.StringIO, endpoint: Endpoint) -> None:
    request = await good(sidecar, endpoint)
    await sidecar.store.close()
    answer = await request.send(sidecar)
    endpoint.product.refused(answer, 503)
    assert answer.one("Retry-After") == "5"
    assert answer.all("WWW-Authenticate") == []
    assert "check_failed" not in log.getvalue()


@pytest.mark.parametrize("exempt", [[], ["127.0.0.0/8"]], ids=["on the way in", "in the answer"])
@each_endpoint
async def test_a_fault_is_told_to_the_log_alone(
    start: Start, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, exempt: list[str]
) -> None:
    async with start({"limits": {"exempt_networks": exempt}}) as sidecar:
        request = await good(sidecar, endpoint)
        monkeypatch.setattr(sidecar.clock, "now", broken)
        answer = await request.send(sidecar)
        endpoint.product.refused(answer, 500)
        assert "detail" not in answer.text
        (fault,) = [json.loads(line) for line in log.getvalue().splitlines() if "check_failed" in line]
        assert (fault["level"], fault["dialect"]) == ("error", endpoint.product.name)
        assert fault["request_id"] == REQUEST_ID[1].decode()
        assert "ZeroDivisionError: the detail" in fault["exception"]
        assert request.headers[0][1].removeprefix(b"Bearer ").decode() not in log.getvalue()
        monkeypatch.undo()
        assert_is_answered(await request.send(sidecar))


# --- enabled or not ---------------------------------------------------------------------------------


ABOVE = {"compass": PULSE, "cargo-extra": VIROLA}
"""Below whose paths a product's own lie."""


@each_product
async def test_a_product_that_is_not_enabled_is_not_there_and_the_others_are(
    start: Start, product: Product
) -> None:
    async with start({"checks": {product.table: {"enabled": False}}}) as sidecar:
        for endpoint in ENDPOINTS:
            if endpoint.product is not product:
                answer = await sidecar.ask("GET", endpoint.path, [REQUEST_ID])
                endpoint.product.refused(answer, 401 if endpoint.method == "GET" else 405)
                continue
            for method in ("GET", "POST"):
                answer = await sidecar.ask(method, endpoint.path, [REQUEST_ID], b"{}")
                if above := ABOVE.get(product.name):
                    above.refused(answer, 404)
                else:
                    assert_is_no_path_of_a_product(answer)


async def test_without_any_product_there_are_pages_alone(start: Start) -> None:
    async with start({"checks": {product.table: {"enabled": False} for product in PRODUCTS}}) as sidecar:
        for path in [endpoint.path for endpoint in ENDPOINTS] + [product.below for product in PRODUCTS]:
            answer = await sidecar.ask("POST", path)
            assert_is_no_path_of_a_product(answer)
        assert "sidecar_check_requests_total{" not in await sidecar.metrics()
        assert (await sidecar.ask("GET", "/login")).status == 200


# --- front ends elsewhere ---------------------------------------------------------------------------

ORIGIN: Line = (b"origin", b"https://front.example.com")
OTHER_ORIGINS = [
    b"https://evil.example.com",
    b"https://front.example.com.evil.com",
    b"http://front.example.com",
    b"https://front.example.com:8443",
    b"https://FRONT.example.com",
    b"null",
]
FRONT = {"checks": {"allowed_origins": [ORIGIN[1].decode()]}}
CORS = "Access-Control-"


def preflight(endpoint: Endpoint, origin: Line) -> list[Line]:
    return [
        origin,
        (b"access-control-request-method", endpoint.method.encode()),
        (b"access-control-request-headers", b"authorization,content-type,x-account-id"),
    ]


@each_endpoint
async def test_a_front_end_that_is_allowed_may_ask_with_cookies(start: Start, endpoint: Endpoint) -> None:
    async with start(FRONT) as sidecar:
        request = await good(sidecar, endpoint)
        before = await sidecar.ask("OPTIONS", endpoint.path, preflight(endpoint, ORIGIN))
        refused = await sidecar.ask("GET", endpoint.product.below, [ORIGIN])
        for answer in (before, refused, await request.send(sidecar, ORIGIN)):
            assert answer.one(f"{CORS}Allow-Origin") == ORIGIN[1].decode()
            assert answer.one(f"{CORS}Allow-Credentials") == "true"
            assert "Origin" in answer.one("Vary").split(", ")
        assert before.status == 200
        assert endpoint.method in before.one(f"{CORS}Allow-Methods").split(", ")
        assert refused.one(f"{CORS}Expose-Headers") == "Retry-After"


@each_endpoint
async def test_no_other_origin_may(start: Start, endpoint: Endpoint) -> None:
    async with start(FRONT) as sidecar:
        request = await good(sidecar, endpoint)
        for other in OTHER_ORIGINS:
            before = await sidecar.ask("OPTIONS", endpoint.path, preflight(endpoint, (b"origin", other)))
            after = await request.send(sidecar, (b"origin", other))
            assert before.status == 400
            for answer in (before, after):
                assert answer.all(f"{CORS}Allow-Origin") == []
                assert "Origin" in answer.one("Vary").split(", ")


@each_endpoint
async def test_without_allowed_origins_nobody_is_told_anything(sidecar: Running, endpoint: Endpoint) -> None:
    asked = [REQUEST_ID, *preflight(endpoint, ORIGIN)]
    before = await sidecar.ask("OPTIONS", endpoint.path, asked)
    endpoint.product.refused(before, 405)
    after = await (await good(sidecar, endpoint)).send(sidecar, ORIGIN)
    for answer in (before, after):
        assert [name for name, _ in answer.lines if name.startswith((b"access-control", b"vary"))] == []


async def test_pages_and_checks_are_for_no_front_end(start: Start) -> None:
    async with start(FRONT) as sidecar:
        for path in ("/login", "/check/nginx", "/.well-known/jwks.json"):
            answer = await sidecar.ask("GET", path, [ORIGIN])
            assert answer.all(f"{CORS}Allow-Origin") == []


# --- metrics ----------------------------------------------------------------------------------------


@each_endpoint
async def test_requests_are_counted_by_outcome_and_route(sidecar: Running, endpoint: Endpoint) -> None:
    product = endpoint.product
    request = await good(sidecar, endpoint)
    before = (await sidecar.metrics()).splitlines()
    await request.send(sidecar)
    await request.send(sidecar, method="PROPFIND")
    await request.send(sidecar, path=f"{product.below}chosen-by-a-client")
    after = (await sidecar.metrics()).splitlines()
    assert not [line for line in after if "chosen" in line or "PROPFIND" in line]
    new = {line.rpartition(" ")[0] for line in after if line not in before}
    checks = {
        f'sidecar_check_requests_total{{code="{code}",dialect="{product.name}"}}' for code in (200, 404, 405)
    }
    assert {line for line in new if line.startswith("sidecar_check_requests_total")} == checks
    http = [
        (endpoint.path, endpoint.method, 200),
        (endpoint.path, "other", product.http_status(405)),
        ("none", endpoint.method, product.http_status(404)),
    ]
    routes = {
        f'sidecar_http_requests_total{{code="{code}",method="{method}",route="{route}"}}'
        for route, method, code in http
    }
    assert {line for line in new if line.startswith("sidecar_http_requests_total")} == routes


@pytest.mark.parametrize("path", ["//api/v3/check-session-status", "///api/v3/nowhere"])
async def test_slashes_that_are_merged_make_no_route(sidecar: Running, path: str) -> None:
    await sidecar.ask("POST", path)
    assert "//api" not in await sidecar.metrics()


# --- limits -----------------------------------------------------------------------------------------

CLIENTS = [
    ("198.51.100.7", "198.51.100.7", True),
    ("198.51.100.7", "::ffff:198.51.100.7", True),
    ("198.51.100.7", "198.51.100.8", False),
    ("2001:db8::1", "2001:db8::ffff:1", True),
    ("2001:db8::1", "2001:db8:0:1::1", False),
]


def from_(address: str) -> Line:
    return (b"x-forwarded-for", address.encode())


@pytest.mark.parametrize(("first", "second", "is_one"), CLIENTS, ids=str)
async def test_a_client_is_its_address_or_its_64(start: Start, first: str, second: str, is_one: bool) -> None:
    async with start({"limits": {"checks": "1/minute"}}) as sidecar:
        assert (await sidecar.ask("GET", "/auth/session", [from_(first)])).status == 401
        assert (await sidecar.ask("GET", "/api/v1/status", [from_(second)])).status == (
            429 if is_one else 401
        )


async def test_products_are_counted_together_and_gateways_not_at_all(start: Start) -> None:
    async with start({"limits": {"checks": "1/minute"}}) as sidecar:
        assert [(await sidecar.check("nginx")).status for _ in range(3)] == [401, 401, 401]
        assert (await sidecar.ask("GET", "/login")).status == 200
        assert (await sidecar.ask("GET", "/auth/session")).status == 401
        for product in PRODUCTS:
            product.refused(await sidecar.ask("GET", product.below, [REQUEST_ID]), 429)


EXEMPT = {
    "limits": {
        "checks": "3/minute",
        "login": "3/minute",
        "exempt_networks": ["198.51.100.0/24"],
        "ban": {"failures": 2},
    }
}


async def test_an_exempt_network_is_neither_counted_nor_banned_and_its_users_are(start: Start) -> None:
    def login(name: str, password: str) -> dict[str, str]:
        return {"email": name, "password": password}

    async with start(EXEMPT) as sidecar:
        for name in ("alice", "bob"):
            await sidecar.add_user(name, password="right")
        inside = [REQUEST_ID, from_("198.51.100.7")]
        wrong = [await sidecar.post_json("/auth/login", login("alice", "wrong"), inside) for _ in range(2)]
        assert [answer.status for answer in wrong] == [401, 401]
        banned = await sidecar.post_json("/auth/login", login("alice", "right"), inside)
        PULSE.refused(banned, 429)
        assert banned.one("Retry-After") == "300"
        for _ in range(5):
            assert (await sidecar.post_json("/auth/login", login("bob", "right"), inside)).status == 200


async def test_a_network_that_is_not_exempt_is_banned_with_all_its_users(start: Start) -> None:
    async with start(EXEMPT) as sidecar:
        await sidecar.add_user("bob", password="right")
        outside = [REQUEST_ID, from_("203.0.113.7")]
        for name in ("alice", "carol"):
            body = {"userName": name, "password": "wrong"}
            assert (await sidecar.post_json("/api/v1/login", body, outside)).status == 401
        right = {"userName": "bob", "password": "right"}
        VIROLA.refused(await sidecar.post_json("/api/v1/login", right, outside), 429)
        elsewhere = [from_("203.0.113.8")]
        assert (await sidecar.post_json("/api/v1/login", right, elsewhere)).status == 200


async def test_a_refused_request_is_counted_for_who_asked_and_not_for_who_is_asked_about(
    start: Start,
) -> None:
    async with start({"limits": {"checks": "2/minute"}}) as sidecar:
        lines = [REQUEST_ID, from_("203.0.113.7")]
        for _ in range(2):
            COMPASS.refused(await sidecar.ask("GET", COMPASS.below, lines), 404)
        COMPASS.refused(await sidecar.ask("GET", COMPASS.below, lines), 429)
        assert 'sidecar_rate_limited_total{scope="checks"} 1.0' in await sidecar.metrics()
        assert (await sidecar.ask("GET", "/auth/session")).status == 401

"""The sign-in pages, as a browser gets them."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from sidecar.errors import BodyTooLarge, InvalidValue
from sidecar.records import UserChange
from sidecar.web.bodies import LONGEST, read_body
from tests.conftest import Start
from tests.running import Running

PASSWORD = "correct horse"


async def test_signing_in_leads_back_with_a_cookie_that_scripts_cannot_read(sidecar: Running) -> None:
    await sidecar.add_user(password=PASSWORD)
    answer = await sidecar.sign_in("alice", PASSWORD, rd="http://127.0.0.1:9000/page")
    assert (answer.status, answer.one("Location")) == (303, "http://127.0.0.1:9000/page")
    cookie = next(line for line in answer.all("Set-Cookie") if line.startswith("__Host-sidecar="))
    assert cookie.partition("; ")[2] == "Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax"


@pytest.mark.parametrize(
    ("session", "name", "attributes"),
    [
        (
            {"cookie_domain": "example.com"},
            "sidecar",
            "Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax",
        ),
        ({"cookie_secure": False}, "sidecar", "Path=/; HttpOnly; SameSite=Lax"),
        (
            {"cookie_name": "sid", "cookie_same_site": "strict"},
            "sid",
            "Path=/; HttpOnly; Secure; SameSite=Strict",
        ),
    ],
    ids=["for a domain", "over plain http", "by another name"],
)
async def test_the_cookie_is_as_it_is_set(
    start: Start, session: dict[str, object], name: str, attributes: str
) -> None:
    async with start({"session": session}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        answer = await sidecar.sign_in("alice", PASSWORD)
        (cookie,) = [line for line in answer.all("Set-Cookie") if line.startswith(f"{name}=")]
        assert cookie.partition("Max-Age=3600; ")[2] == attributes


async def test_only_the_session_has_the_cookies_name(sidecar: Running) -> None:
    page = await sidecar.ask("GET", "/login")
    (name,) = page.cookies()
    assert name != "__Host-sidecar"
    assert "csrf" in name


async def test_a_visitor_who_is_signed_in_sees_who_they_are(sidecar: Running) -> None:
    alice = await sidecar.add_user(full_name="<Alice>", emails=("alice@example.com",))
    page = await sidecar.ask("GET", "/login", [await sidecar.session(alice)])
    assert page.status == 200
    assert "&lt;Alice&gt;" in page.text
    assert "alice@example.com" in page.text
    assert 'type="password"' not in page.text


async def test_signing_out_ends_the_session_at_once_and_clears_the_cookie(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    session = await sidecar.session(alice)
    assert (await sidecar.check("nginx", [session])).status == 200
    asked = await sidecar.ask("GET", "/logout", [session])
    assert "Sign out?" in asked.text
    cookie, csrf = await sidecar.form("/logout", [session])
    answer = await sidecar.post("/logout", [cookie], csrf=csrf)
    assert (answer.status, answer.one("Location")) == (303, "http://127.0.0.1:9000/logout")
    gone = [line.split("; Path")[0] for line in answer.all("Set-Cookie")]
    assert gone == ["__Host-sidecar=; Max-Age=0", "VirolaUserSessionId=; Max-Age=0"]
    assert (await sidecar.check("nginx", [session])).status == 401
    assert "You are signed out." in (await sidecar.ask("GET", "/logout", [session])).text


async def test_every_page_forbids_what_it_does_not_need(sidecar: Running) -> None:
    pages = [
        await sidecar.ask("GET", "/login"),
        await sidecar.ask("GET", "/logout"),
        await sidecar.ask("GET", "/nowhere"),
        await sidecar.post("/login", []),
    ]
    for page in pages:
        policy = page.one("Content-Security-Policy")
        assert policy.startswith("default-src 'none'; style-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert page.one("X-Frame-Options") == "DENY"
        assert page.one("X-Content-Type-Options") == "nosniff"
        assert page.one("Referrer-Policy") == "same-origin"
        assert page.one("Cache-Control") == "no-store"
        assert "<script" not in page.text
        assert "style=" not in page.text


async def test_a_form_may_be_redirected_only_where_it_leads(start: Start) -> None:
    async with start({"login": {"allowed_redirects": ["app.example.com"]}}) as sidecar:
        page = await sidecar.ask("GET", "/login?rd=https://app.example.com:8443/x")
        assert "form-action 'self' https://app.example.com:8443;" in page.one("Content-Security-Policy")


@pytest.mark.parametrize(
    ("link", "media_type"),
    [("stylesheet", "text/css; charset=utf-8"), ('icon" type="image/svg+xml', "image/svg+xml")],
    ids=["stylesheet", "icon"],
)
async def test_what_a_page_refers_to_can_be_kept_for_ever(start: Start, link: str, media_type: str) -> None:
    async with start({"login": {"public_url": "http://127.0.0.1:9000/_sidecar"}}) as sidecar:
        page = await sidecar.ask("GET", "/_sidecar/login")
        address = page.text.partition(f'rel="{link}" href="')[2]
        asset = await sidecar.ask("GET", address.partition('"')[0])
        assert (asset.status, asset.one("Content-Type")) == (200, media_type)
        assert "immutable" in asset.one("Cache-Control")


@pytest.mark.parametrize(
    "path", ["/check/nginx", "/.well-known/jwks.json", "/metrics", "/login", "/check/nope"]
)
async def test_below_the_public_path_there_are_the_pages_and_nothing_else(start: Start, path: str) -> None:
    async with start({"login": {"public_url": "http://127.0.0.1:9000/_sidecar"}}) as sidecar:
        below = await sidecar.ask("GET", f"/_sidecar{path}")
        assert below.status == (200 if path == "/login" else 404)
        if path == "/login":
            assert (await sidecar.ask("GET", "/login")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/metrics", 404),
        ("GET", "/healthz", 404),
        ("GET", "/login/", 404),
        ("PUT", "/login", 405),
        ("DELETE", "/logout", 405),
        ("GET", "/check/unknown", 404),
        ("HEAD", "/login", 200),
    ],
)
async def test_what_is_not_there_is_a_page_that_says_so(
    sidecar: Running, method: str, path: str, status: int
) -> None:
    assert (await sidecar.ask(method, path)).status == status


@pytest.mark.parametrize(
    "body",
    [b"username=%ff", b"a=1&" * 100, b"novalue", b"username=a&username=b"],
    ids=["not UTF-8", "too many fields", "no form", "a field twice"],
)
async def test_a_form_that_cannot_be_read_is_refused_in_words(sidecar: Running, body: bytes) -> None:
    answer = await sidecar.ask("POST", "/login", [], body)
    assert (answer.status, "The form cannot be read" in answer.text) == (400, True)


async def test_a_form_that_is_too_long_is_refused_in_words(sidecar: Running) -> None:
    answer = await sidecar.ask("POST", "/login", [], b"username=" + b"x" * 65_536)
    assert (answer.status, "The form cannot be read: it is too long." in answer.text) == (400, True)


async def test_a_page_knows_of_a_change_also_where_nobody_asks_for_checks(sidecar: Running) -> None:
    alice = await sidecar.add_user()
    session = await sidecar.session(alice)
    assert "You are signed in." in (await sidecar.ask("GET", "/login", [session])).text
    await sidecar.store.users.change(alice.id, UserChange(disabled=True), now=0.0, by="test")
    sidecar.clock.advance(1)
    assert "You are signed in." not in (await sidecar.ask("GET", "/login", [session])).text


async def test_a_page_needs_no_address_of_its_visitor(sidecar: Running) -> None:
    session = await sidecar.session(await sidecar.add_user())
    for lines in ([session], [session, (b"x-forwarded-for", b"junk")]):
        for path in ("/login", "/logout"):
            assert (await sidecar.ask("GET", path, lines, peer=None)).status == 200
    cookie, csrf = await sidecar.form(headers=[session])
    form = f"username=alice&password=x&csrf={csrf}".encode()
    refused = await sidecar.ask("POST", "/login", [cookie], form, peer=None)
    assert (refused.status, "address of the client" in refused.text) == (400, True)
    assert (await sidecar.ask("POST", "/logout", [cookie], form, peer=None)).status == 303


async def test_a_browser_that_goes_away_in_the_middle_of_a_form_is_no_fault(sidecar: Running) -> None:
    await sidecar.ask_and_leave("POST", "/login", body=b"username=alice")
    metrics = await sidecar.metrics()
    assert 'sidecar_http_requests_total{code="400",method="POST",route="/login"} 1.0' in metrics


async def test_a_form_that_does_not_arrive_is_not_waited_for() -> None:
    async def receive() -> Message:
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    with pytest.raises(InvalidValue, match="did not arrive in time"):
        await read_body(receive, patience=0.0)


def piece(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def arriving(pieces: list[Message]) -> Receive:
    """What an application receives; nothing may be asked for beyond it."""
    messages = iter(pieces)

    async def receive() -> Message:
        return next(messages)

    return receive


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(b"a=b", more=False)],
        [piece(b"a=", more=True), piece(b"b", more=False)],
        [piece(b"a=b", more=True), piece(b"", more=False)],
        [{"type": "http.request", "body": b"a=b"}],
    ],
    ids=["at once", "in pieces", "with an empty one at its end", "as the shortest message"],
)
async def test_a_body_is_read_to_its_end(pieces: list[Message]) -> None:
    assert await read_body(arriving(pieces)) == b"a=b"


async def test_a_body_is_read_up_to_the_longest_and_no_further() -> None:
    assert len(await read_body(arriving([piece(b"x" * LONGEST, more=False)]))) == LONGEST
    too_long = [piece(b"x" * LONGEST, more=True), piece(b"x", more=True)]
    with pytest.raises(BodyTooLarge):
        await read_body(arriving(too_long))


@pytest.mark.parametrize("before", [[], [piece(b"a=", more=True)]], ids=["none of it", "a part of it"])
async def test_a_body_that_ends_in_the_middle_is_not_waited_for(before: list[Message]) -> None:
    with pytest.raises(InvalidValue, match="ends in the middle"):
        await read_body(arriving([*before, piece(b"", more=True)]))
    with pytest.raises(ClientDisconnect):
        await read_body(arriving([*before, {"type": "http.disconnect"}]))


async def test_an_outage_is_no_wrong_password_and_clears_no_cookie(sidecar: Running) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    session = await sidecar.session(alice)
    cookie, csrf = await sidecar.form(headers=[session])
    await sidecar.store.close()
    answer = await sidecar.post("/login", [cookie], username="alice", password=PASSWORD, csrf=csrf)
    assert answer.status == 503
    assert answer.all("Set-Cookie") == []


async def test_the_keys_are_published_without_their_private_half(sidecar: Running) -> None:
    answer = await sidecar.ask("GET", "/.well-known/jwks.json")
    (key,) = json.loads(answer.body)["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}

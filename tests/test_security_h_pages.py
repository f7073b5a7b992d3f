"""H. Redirects, forms from other sites, and guessing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from sidecar.records import UserChange
from tests.conftest import Start
from tests.running import BROWSER, CHEAP, GATEWAYS, Line, Running, WaitingHasher, running

PASSWORD = "correct horse"
PUBLIC = {
    "login": {
        "public_url": "https://app.example.com/_sidecar",
        "allowed_redirects": ["*.example.org", "ported.example.com:8443"],
    }
}
DEFAULT = "https://app.example.com/_sidecar/login"


def rd_in(page: str) -> str:
    return page.partition('name="rd" type="hidden" value="')[2].partition('"')[0].replace("&amp;", "&")


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example.com/",
        "https://app.example.com/a/b?x=1&y=%2F",
        "http://app.example.com:8080/",
        "https://a.b.example.org/x",
        "https://ported.example.com:8443/",
        "https://APP.example.com",
    ],
)
async def test_a_return_address_at_an_allowed_host_is_kept(start: Start, address: str) -> None:
    async with start(PUBLIC) as sidecar:
        page = await sidecar.ask("GET", f"/_sidecar/login?rd={quote(address, safe='')}")
        assert rd_in(page.text) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/\\evil.com",
        "//evil.com",
        "///evil.com",
        "/page",
        "https:evil.com",
        "https:/evil.com",
        "https:///evil.com",
        "https://app.example.com@evil.com/",
        "https://evil.com/app.example.com",
        "https://app.example.com.evil.com/",
        "https://app.example.com\\@evil.com/",
        "https://app.example.com:443@evil.com/",
        "https://evil.com#app.example.com",
        "https://evil.com?app.example.com",
        "https://example.org/",
        "https://xexample.org/",
        "https://ported.example.com/",
        "https://app.example.com\t.evil.com/",
        "\thttps://evil.com",
        " https://evil.com",
        "https://app.example.com/\r\nSet-Cookie: x=y",
        "https://app.example.com/a b",
        "https://\uff41pp.example.com/",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://app.example.com/",
        "https://%61pp.example.com/",
        "https%3A%2F%2Fapp.example.com",
        "https://app.example.com:99999/",
        "https://[::1]/",
    ],
)
async def test_h87_any_other_address_is_replaced_by_the_sign_in_page(start: Start, address: str) -> None:
    async with start(PUBLIC) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        page = await sidecar.ask("GET", f"/_sidecar/login?rd={quote(address, safe='')}")
        assert rd_in(page.text) == DEFAULT
        cookie, csrf = await sidecar.form("/_sidecar/login")
        fields = {"username": "alice", "password": PASSWORD, "csrf": csrf, "rd": address}
        answer = await sidecar.post("/_sidecar/login", [cookie], **fields)
        assert (answer.status, answer.one("Location")) == (303, DEFAULT)


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_h88_a_spoofed_host_never_reaches_an_address(start: Start, gateway: str) -> None:
    async with start(PUBLIC) as sidecar:
        answer = await sidecar.check(gateway, BROWSER, host=b"evil.com", uri=b"/x")
        name = "X-Auth-Login-URL" if gateway == "nginx" else "Location"
        assert answer.one(name) == DEFAULT
    async with start(PUBLIC) as sidecar:
        page = await sidecar.ask("GET", "/_sidecar/login", hosts=[b"evil.com"])
        assert "evil.com" not in f"{page.lines}{page.text}"


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_browser_is_led_to_the_sign_in_page_and_back_to_the_very_address(
    start: Start, gateway: str
) -> None:
    async with start(PUBLIC) as sidecar:
        answer = await sidecar.check(gateway, BROWSER, uri=b"/a%20b?x=%26&y")
        assert answer.status == (401 if gateway == "nginx" else 302)
        address = urlsplit(answer.one("X-Auth-Login-URL" if gateway == "nginx" else "Location"))
        assert f"{address.scheme}://{address.netloc}{address.path}" == DEFAULT
        assert parse_qs(address.query) == {"rd": ["https://app.example.com/a%20b?x=%26&y"]}


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        pytest.param(BROWSER, b"POST", id="a form"),
        pytest.param([(b"accept", b"*/*")], b"GET", id="a program"),
        pytest.param([], b"GET", id="a program that says nothing"),
        pytest.param([*BROWSER, (b"x-requested-with", b"XMLHttpRequest")], b"GET", id="an old script"),
        pytest.param([(b"accept", b"text/html"), (b"sec-fetch-mode", b"cors")], b"GET", id="a script"),
        pytest.param([(b"accept", b"application/json")], b"GET", id="an API client"),
        pytest.param(BROWSER, b"OPTIONS", id="i98 a bare OPTIONS"),
    ],
)
@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_h89_what_is_no_navigation_gets_401(
    sidecar: Running, gateway: str, lines: list[Line], method: bytes
) -> None:
    answer = await sidecar.check(gateway, lines, method=method)
    assert answer.status == 401
    assert answer.one("WWW-Authenticate") == 'Bearer realm="sidecar"'
    assert not answer.all("Location")
    assert not answer.all("X-Auth-Login-URL")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([], 303, id="a program with the token"),
        pytest.param([(b"sec-fetch-site", b"same-origin")], 303, id="our own page"),
        pytest.param([(b"sec-fetch-site", b"none")], 303, id="the address bar"),
        pytest.param([(b"sec-fetch-site", b"cross-site")], 403, id="another site"),
        pytest.param([(b"sec-fetch-site", b"same-site")], 403, id="a sibling site"),
        pytest.param([(b"origin", b"http://127.0.0.1:9000")], 303, id="our origin"),
        pytest.param([(b"origin", b"https://evil.com")], 403, id="another origin"),
        pytest.param([(b"origin", b"null")], 403, id="a hidden origin"),
        pytest.param(
            [(b"origin", b"http://localhost:9000"), (b"sec-fetch-site", b"same-origin")],
            303,
            id="our page under another name",
        ),
    ],
)
@pytest.mark.parametrize("page", ["login", "logout"])
async def test_h89_a_form_of_another_site_is_refused(
    sidecar: Running, page: str, lines: list[Line], status: int
) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    session = await sidecar.session(alice)
    cookie, csrf = await sidecar.form("/login", [session])
    fields = {"username": "alice", "password": PASSWORD, "csrf": csrf}
    answer = await sidecar.post(f"/{page}", [cookie, *lines], **fields)
    assert answer.status == status
    if status == 403:
        assert not answer.all("Set-Cookie")
        assert (await sidecar.check("nginx", [session])).status == 200


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://App.Example.com/_sidecar", b"https://app.example.com"),
        ("https://app.example.com:443", b"https://app.example.com"),
        ("http://intranet:80", b"http://intranet"),
        ("http://intranet:8080", b"http://intranet:8080"),
        ("http://[::1]:80", b"http://[::1]"),
    ],
)
async def test_our_own_origin_is_known_however_it_is_written(
    start: Start, public_url: str, origin: bytes
) -> None:
    async with start({"login": {"public_url": public_url}}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        base = urlsplit(public_url).path
        cookie, csrf = await sidecar.form(f"{base}/login")
        fields = {"username": "alice", "password": PASSWORD, "csrf": csrf}
        answer = await sidecar.post(f"{base}/login", [cookie, (b"origin", origin)], **fields)
        assert answer.status == 303


@pytest.mark.parametrize("page", ["login", "logout"])
async def test_h89_a_form_without_its_token_is_refused(sidecar: Running, page: str) -> None:
    await sidecar.add_user(password=PASSWORD)
    cookie, csrf = await sidecar.form()
    for cookies, token in [([cookie], ""), ([cookie], csrf[::-1]), ([], csrf), ([], ""), ([cookie], "é")]:
        answer = await sidecar.post(f"/{page}", cookies, username="alice", password=PASSWORD, csrf=token)
        assert answer.status == 403
        assert not answer.all("Set-Cookie")


async def test_h90_two_tabs_sign_in_in_either_order(sidecar: Running) -> None:
    await sidecar.add_user(password=PASSWORD)
    cookie, first = await sidecar.form()
    _, second = await sidecar.form(headers=[cookie])
    for csrf in (second, first):
        answer = await sidecar.post("/login", [cookie], username="alice", password=PASSWORD, csrf=csrf)
        assert answer.status == 303


@pytest.mark.parametrize("wrong", ["alice", "ALICE", "alice@example.com", "Alice@Example.COM", "\uff41lice"])
async def test_h91_all_names_of_a_user_share_one_counter(start: Start, wrong: str) -> None:
    limits = {"limits": {"login": "1000/minute", "ban": {"failures": 3, "window": "2m", "duration": "5m"}}}
    async with start(limits) as sidecar:
        await sidecar.add_user(emails=("alice@example.com",), password=PASSWORD)
        for number, name in enumerate(["alice", "alice@example.com", wrong]):
            forwarded = (b"x-forwarded-for", b"192.0.2.%d" % number)
            assert (await sidecar.sign_in(name, "wrong", [forwarded])).status == 401
        elsewhere = (b"x-forwarded-for", b"198.51.100.1")
        banned = await sidecar.sign_in("alice", PASSWORD, [elsewhere])
        assert banned.status == 429
        assert banned.one("Retry-After") == "300"
        sidecar.clock.advance(301)
        assert (await sidecar.sign_in("alice", PASSWORD, [elsewhere])).status == 303


async def test_a_client_that_guesses_at_many_names_is_banned_for_all_of_them(start: Start) -> None:
    async with start({"limits": {"ban": {"failures": 3}}}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        for name in ("bob", "carol", "dave"):
            assert (await sidecar.sign_in(name, "wrong")).status == 401
        assert (await sidecar.sign_in("alice", PASSWORD)).status == 429
        elsewhere = (b"x-forwarded-for", b"198.51.100.1")
        assert (await sidecar.sign_in("alice", PASSWORD, [elsewhere])).status == 303


async def test_guesses_at_once_count_as_guesses(start: Start) -> None:
    async with start({"limits": {"login": "1000/minute", "ban": {"failures": 5}}}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        guesses = [
            sidecar.sign_in("alice", f"wrong {number}", [(b"x-forwarded-for", b"192.0.2.%d" % number)])
            for number in range(30)
        ]
        statuses = [answer.status for answer in await asyncio.gather(*guesses)]
        # Who was counted in time, and is answered when the ban is there already, is refused with the others.
        assert 1 <= statuses.count(401) <= 5
        assert set(statuses) == {401, 429}
        assert (await sidecar.sign_in("alice", PASSWORD)).status == 429


async def test_a_sign_in_on_its_way_does_not_survive_a_change_of_the_password(tmp_path: Path) -> None:
    hasher = WaitingHasher()
    async with running(tmp_path, hasher=hasher) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        waiting = asyncio.create_task(sidecar.sign_in("alice", PASSWORD))
        assert await asyncio.to_thread(hasher.has_begun.wait, 30)
        changed = CHEAP.hash("another password")
        await sidecar.store.users.set_password_hash(alice.id, changed, now=0.0, by="test")
        hasher.go_on.set()
        assert (await waiting).status == 401


@pytest.mark.parametrize("name", ["x" * 256, "\ufdfa" * 6000], ids=["too long", "a thousand times as long"])
async def test_any_name_is_refused_and_counted_like_another(start: Start, name: str) -> None:
    async with start({"limits": {"ban": {"failures": 2}}}) as sidecar:
        clients = [(b"x-forwarded-for", b"192.0.2.%d" % number) for number in range(3)]
        assert [(await sidecar.sign_in(name, "x", [client])).status for client in clients] == [401, 401, 429]


async def test_a_client_may_try_again_when_its_minute_is_over(start: Start) -> None:
    async with start({"limits": {"login": "2/minute", "ban": {"failures": 100}}}) as sidecar:
        statuses = []
        for seconds in (0, 30, 29, 1):
            sidecar.clock.advance(seconds)
            answer = await sidecar.sign_in("alice", "wrong")
            statuses.append((answer.status, answer.all("Retry-After")))
        assert statuses == [(401, []), (401, []), (429, ["1"]), (401, [])]


async def test_a_ban_that_is_over_begins_with_the_same_number_of_failures(start: Start) -> None:
    ban = {"failures": 2, "window": "10m", "duration": "1m"}
    async with start({"limits": {"ban": ban}}) as sidecar:
        statuses = []
        for seconds in (0, 0, 0, 61, 0, 0):
            sidecar.clock.advance(seconds)
            statuses.append((await sidecar.sign_in("alice", "wrong")).status)
        assert statuses == [401, 401, 429, 401, 401, 429]


async def test_a_session_that_began_while_its_user_was_changed_is_none(tmp_path: Path) -> None:
    hasher = WaitingHasher()
    async with running(tmp_path, hasher=hasher) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        waiting = asyncio.create_task(sidecar.sign_in("alice", PASSWORD))
        assert await asyncio.to_thread(hasher.has_begun.wait, 30)
        # The same password again: the hash that is checked stays good, and still it is a change.
        stored = await sidecar.store.users.password_hash(alice.id)
        await sidecar.store.users.set_password_hash(alice.id, stored, now=0.0, by="test")
        hasher.go_on.set()
        answer = await waiting
        assert (answer.status, "Sign in again" in answer.text) == (401, True)
        assert await sidecar.store.sessions.list(alice.id) == []


async def test_a_ban_leaves_live_sessions_and_keys_alone(start: Start) -> None:
    limits = {"limits": {"ban": {"failures": 1}}, "authenticators": {"basic": {"enabled": True}}}
    async with start(limits) as sidecar:
        alice = await sidecar.add_user(password=PASSWORD)
        live = [await sidecar.session(alice), (b"x-api-key", await sidecar.api_key(alice))]
        basic = (b"authorization", b"Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==")
        assert (await sidecar.sign_in("alice", "wrong")).status == 401
        assert [(await sidecar.check("nginx", [line])).status for line in live] == [200, 200]
        assert (await sidecar.check("traefik", [basic])).status == 429
        refused = await sidecar.check("nginx", [basic])
        assert (refused.status, refused.reason) == (403, "banned")


@pytest.mark.parametrize(
    ("addresses", "counted_as_one"),
    [
        pytest.param([b"spoof%d, 192.0.2.1"], True, id="what is left of the client rotates"),
        pytest.param([b"2001:db8:0:1::%d"], True, id="addresses within a /64"),
        pytest.param([b"2001:db8:0:%d::1"], False, id="different /64 networks"),
        pytest.param([b"192.0.2.%d"], False, id="different addresses"),
    ],
)
async def test_h92_a_client_is_its_network(
    start: Start, addresses: list[bytes], counted_as_one: bool
) -> None:
    async with start({"limits": {"login": "5/minute", "ban": {"failures": 100}}}) as sidecar:
        statuses = []
        for number in range(1, 7):
            lines = [(b"x-forwarded-for", address % number) for address in addresses]
            statuses.append((await sidecar.sign_in(f"user{number}", "wrong", lines)).status)
        assert statuses == [401] * 5 + [429 if counted_as_one else 401]


async def test_h92_an_untrusted_peer_cannot_name_its_client(start: Start) -> None:
    async with start({"limits": {"login": "2/minute"}}) as sidecar:
        statuses = [
            (
                await sidecar.sign_in(
                    "alice", "wrong", [(b"x-forwarded-for", b"192.0.2.%d" % number)], peer="127.0.0.9"
                )
            ).status
            for number in range(3)
        ]
        assert statuses == [401, 401, 429]


async def test_h93_a_name_that_nobody_has_is_refused_like_a_wrong_password(sidecar: Running) -> None:
    await sidecar.add_user(password=PASSWORD)
    await sidecar.add_user("nopassword")
    pages = [await sidecar.sign_in(name, "wrong") for name in ("alice", "nobody", "nopassword", "", "a\x00b")]
    assert {page.status for page in pages} == {401}
    assert all("The name or the password is wrong." in page.text for page in pages)


async def test_h93_the_hash_is_computed_for_every_name(start: Start) -> None:
    """The time is the hash's: one for a user, one for a user without a password, one for nobody."""
    async with start({"limits": {"ban": {"failures": 100}, "login": "100/minute"}}) as sidecar:
        await sidecar.add_user(password=PASSWORD)
        await sidecar.add_user("nopassword")
        before = CHEAP.computed
        for name in ("alice", "nopassword", "nobody"):
            await sidecar.sign_in(name, "wrong")
        assert CHEAP.computed == before + 3


async def test_a_disabled_user_learns_so_only_with_the_right_password(sidecar: Running) -> None:
    alice = await sidecar.add_user(password=PASSWORD)
    await sidecar.store.users.change(alice.id, UserChange(disabled=True), now=0.0, by="test")
    assert "wrong" in (await sidecar.sign_in("alice", "wrong")).text
    answer = await sidecar.sign_in("alice", PASSWORD)
    assert (answer.status, "disabled" in answer.text, answer.all("Location")) == (403, True, [])

"""One sign-in opens every product, one sign-out closes them all, and all sign-ins obey the same limits."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest

from sidecar.passwords import LONGEST
from sidecar.records import UserChange
from tests.checks.products import PASSWORD, STATUS_PATH, add_alice, management_client
from tests.conftest import Start
from tests.running import CHEAP, GATEWAYS, Answer, Line, Running, WaitingHasher, bearer, running

RULES = {"rules": [{"app": "shop"}]}


class Browser:
    """Keeps cookies as a browser does, and sends all of them everywhere."""

    def __init__(self, sidecar: Running, *lines: Line) -> None:
        self.sidecar = sidecar
        self.lines = lines
        self.jar: dict[str, str] = {}

    @property
    def cookie(self) -> list[Line]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        return [(b"cookie", pairs.encode())] if pairs else []

    async def ask(self, method: str, path: str, body: object = None, *lines: Line) -> Answer:
        sent = b"" if body is None else json.dumps(body).encode()
        return self.keep(await self.sidecar.ask(method, path, [*self.lines, *self.cookie, *lines], sent))

    async def check(self) -> Answer:
        return self.keep(await self.sidecar.check("nginx", [*self.lines, *self.cookie]))

    async def form(self, path: str, **fields: str) -> Answer:
        """Opens the page of a form and sends it."""
        page = await self.ask("GET", path)
        csrf = page.text.partition('name="csrf" type="hidden" value="')[2].partition('"')[0]
        return self.keep(await self.sidecar.post(path, [*self.lines, *self.cookie], csrf=csrf, **fields))

    def keep(self, answer: Answer) -> Answer:
        for line in answer.all("Set-Cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.jar.pop(name, None)
            if "; Max-Age=0;" not in line:
                self.jar[name] = value
        return answer


# --- where people sign in and out, and what is open to them ----------------------------------------


async def at_the_page(browser: Browser, name: str = "alice", password: str = PASSWORD) -> Answer:
    return await browser.form("/login", username=name, password=password)


async def at_virola(browser: Browser, name: str = "alice", password: str = PASSWORD) -> Answer:
    return await browser.ask("POST", "/api/v1/login", {"userName": name, "password": password})


async def at_pulse(browser: Browser, name: str = "alice", password: str = PASSWORD) -> Answer:
    return await browser.ask("POST", "/auth/login", {"email": name, "password": password})


SignIn = Callable[..., Coroutine[Any, Any, Answer]]
SIGN_INS = [at_the_page, at_virola, at_pulse]


async def out_at_the_page(browser: Browser) -> int:
    return (await browser.form("/logout")).status


async def out_at_virola(browser: Browser) -> int:
    return (await browser.ask("POST", "/api/v1/logout", {})).status


async def out_by_the_operator(browser: Browser) -> int:
    revoked = await browser.sidecar.store.sessions.revoke_all()
    browser.sidecar.clock.advance(1)
    return revoked


SIGN_OUTS = [(out_at_the_page, 303), (out_at_virola, 200), (out_by_the_operator, 1)]


async def nginx(browser: Browser) -> bool:
    answer = await browser.check()
    return answer.status == 200 and answer.one("X-Auth-User") == "alice"


async def cargo_extra(browser: Browser) -> bool:
    answer = await browser.ask("GET", "/api/v1/user/check")
    return answer.status == 200 and bool(answer.json["username"] == "alice")


async def compass(browser: Browser) -> bool:
    answer = await browser.ask("POST", "/auth/validate-session", {"user": {"emails": "alice@example.com"}})
    return answer.status == 200 and bool(answer.json["data"]["user"]["emails"] == "alice@example.com")


async def pulse(browser: Browser) -> bool:
    answer = await browser.ask("GET", "/auth/session")
    return answer.status == 200 and bool(answer.json["email"] == "alice@example.com")


async def virola(browser: Browser) -> bool:
    answer = await browser.ask("GET", "/api/v1/status")
    return answer.status == 200


async def authing(browser: Browser) -> bool:
    """Whether alice is active in the app that the browser has just asked for."""
    await browser.check()
    _, token = await management_client(browser.sidecar)
    question = {"appId": "shop", "userId": "alice"}
    answer = await browser.sidecar.post_json(STATUS_PATH, question, [bearer(token)])
    assert answer.json["statusCode"] == 200
    return bool(answer.json["data"]["active"])


PLACES = [nginx, cargo_extra, compass, pulse, virola, authing]
Place = Callable[[Browser], Awaitable[bool]]


def good(answer: Answer) -> bool:
    """Whether somebody was signed in."""
    return answer.status in {200, 303} and "__Host-sidecar" in answer.cookies()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sign_in", SIGN_INS)
async def test_one_sign_in_opens_everything(start: Start, sign_in: SignIn, place: Place) -> None:
    async with start(RULES) as sidecar:
        await add_alice(sidecar)
        browser = Browser(sidecar)
        assert not await place(browser)
        assert good(await sign_in(browser))
        assert await place(browser)
        assert not await place(Browser(sidecar)) or place is authing
        assert "sidecar_sessions_created_total 1.0" in await sidecar.metrics()


@pytest.mark.parametrize(("sign_out", "done"), SIGN_OUTS)
@pytest.mark.parametrize("sign_in", SIGN_INS)
async def test_one_sign_out_closes_everything(
    start: Start, sign_in: SignIn, sign_out: Callable[[Browser], Awaitable[int]], done: int
) -> None:
    async with start(RULES) as sidecar:
        await add_alice(sidecar)
        browser = Browser(sidecar)
        assert good(await sign_in(browser))
        assert [await place(browser) for place in PLACES] == [True] * 6
        tokens = [(await browser.ask("GET", "/auth/session")).json["token"], browser.jar["customerToken"]]
        held = dict(browser.jar)
        assert await sign_out(browser) == done
        assert [await place(browser) for place in PLACES] == [False] * 6
        # Neither does what was copied from the browser before.
        browser.jar = held
        assert [await place(browser) for place in PLACES] == [False] * 6
        for token in tokens:
            assert (await sidecar.check("nginx", [bearer(token)])).status == 401
            for path in ("/api/v1/user/check", "/auth/session", "/api/v1/status"):
                assert (await sidecar.ask("GET", path, [bearer(token)])).status == 401


@pytest.mark.parametrize("second", SIGN_INS)
@pytest.mark.parametrize("first", SIGN_INS)
async def test_a_sign_in_replaces_the_session_of_another(
    sidecar: Running, first: SignIn, second: SignIn
) -> None:
    alice = await add_alice(sidecar)
    browser = Browser(sidecar)
    assert good(await first(browser))
    (before,) = await sidecar.store.sessions.list(alice.id)
    assert good(await second(browser))
    (after,) = await sidecar.store.sessions.list(alice.id)
    assert before.id != after.id


@pytest.mark.parametrize("again", SIGN_INS)
async def test_what_products_left_in_the_browser_hides_no_later_sign_in(
    sidecar: Running, again: SignIn
) -> None:
    """A front end asks when it is opened, is refused, and leads to a sign-in: after that it is let in."""
    await add_alice(sidecar)
    browser = Browser(sidecar)
    assert good(await at_virola(browser))
    assert await cargo_extra(browser)
    assert sorted(browser.jar) == ["VirolaUserSessionId", "__Host-sidecar", "customerToken"]
    assert await out_at_the_page(browser) == 303
    assert [await cargo_extra(browser), await virola(browser)] == [False, False]
    assert good(await again(browser))
    assert [await cargo_extra(browser), await virola(browser)] == [True, True]


# --- limits --------------------------------------------------------------------------------------


def throttled(answer: Answer, retry_after: str) -> None:
    """Refused, in the form of whoever was asked."""
    assert (answer.status, answer.one("Retry-After")) == (429, retry_after)
    assert "__Host-sidecar" not in answer.cookies()
    if answer.one("Content-Type") == "application/json":
        forms = (
            {"errorText": "Too Many Requests", "httpStatusCode": 429},
            {"error": "Too Many Requests", "status": 429, "message": "Too Many Requests"},
        )
        assert answer.json in forms


@pytest.mark.parametrize("flooded", SIGN_INS)
async def test_all_sign_ins_of_a_client_are_counted_together(start: Start, flooded: SignIn) -> None:
    async with start({"limits": {"login": "3/minute"}}) as sidecar:
        await add_alice(sidecar)
        for _ in range(3):
            assert good(await flooded(Browser(sidecar)))
        for sign_in in SIGN_INS:
            throttled(await sign_in(Browser(sidecar)), "60")
        pair = {"apiKey": "x", "apiSecret": "y"}
        throttled(await sidecar.post_json("/auth/login", pair), "60")
        elsewhere = Browser(sidecar, (b"x-forwarded-for", b"192.0.2.1"))
        assert good(await flooded(elsewhere))
        sidecar.clock.advance(60)
        assert good(await flooded(Browser(sidecar)))


async def test_sign_ins_by_api_key_are_counted_too(start: Start) -> None:
    async with start({"limits": {"login": "3/minute"}}) as sidecar:
        await add_alice(sidecar)
        for _ in range(3):
            assert (await sidecar.post_json("/auth/login", {"apiKey": "x", "apiSecret": "y"})).status == 401
        for sign_in in SIGN_INS:
            throttled(await sign_in(Browser(sidecar)), "60")


@pytest.mark.parametrize("guessed", SIGN_INS)
async def test_five_wrong_passwords_at_one_ban_the_user_at_all(start: Start, guessed: SignIn) -> None:
    async with start({"authenticators": {"basic": {"enabled": True}}}) as sidecar:
        alice = await add_alice(sidecar)
        live = await sidecar.session(alice)
        for number in range(5):
            guesser = Browser(sidecar, (b"x-forwarded-for", b"192.0.2.%d" % number))
            assert (await guessed(guesser, "alice", "wrong")).status == 401
        elsewhere = (b"x-forwarded-for", b"198.51.100.1")
        for sign_in in SIGN_INS:
            throttled(await sign_in(Browser(sidecar, elsewhere), "alice@example.com"), "300")
        basic = (b"authorization", b"Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()))
        assert (await sidecar.check("traefik", [basic, elsewhere])).status == 429
        assert (await sidecar.ask("GET", "/api/v1/status", [live])).status == 200
        sidecar.clock.advance(301)
        for sign_in in SIGN_INS:
            assert good(await sign_in(Browser(sidecar, elsewhere)))


@pytest.mark.parametrize("guessed", SIGN_INS)
async def test_a_client_that_guesses_at_many_names_is_banned_at_all(start: Start, guessed: SignIn) -> None:
    async with start({"limits": {"ban": {"failures": 3}}}) as sidecar:
        await add_alice(sidecar)
        for name in ("bob", "carol", "dave"):
            assert (await guessed(Browser(sidecar), name, "wrong")).status == 401
        for sign_in in SIGN_INS:
            throttled(await sign_in(Browser(sidecar)), "300")
        assert good(await guessed(Browser(sidecar, (b"x-forwarded-for", b"198.51.100.1"))))


@pytest.mark.parametrize("sign_in", SIGN_INS)
async def test_an_over_long_password_is_wrong_and_not_hashed(sidecar: Running, sign_in: SignIn) -> None:
    await add_alice(sidecar)
    for length, hashed in [(LONGEST, 1), (LONGEST + 1, 0)]:
        before = CHEAP.computed
        assert (await sign_in(Browser(sidecar), "alice", "x" * length)).status == 401
        assert CHEAP.computed == before + hashed


@pytest.mark.parametrize(
    ("sign_in", "said"),
    [
        (at_virola, {"errorText": "The username or password is invalid.", "httpStatusCode": 401}),
        (at_pulse, {"error": "Unauthorized", "status": 401, "message": "The credentials are wrong"}),
    ],
)
async def test_products_say_of_a_disabled_user_what_they_say_of_nobody(
    sidecar: Running, sign_in: SignIn, said: dict[str, Any]
) -> None:
    alice = await add_alice(sidecar)
    await sidecar.store.users.change(alice.id, UserChange(disabled=True), now=0.0, by="test")
    for name, password in [("alice", PASSWORD), ("alice", "wrong"), ("nobody", PASSWORD)]:
        answer = await sign_in(Browser(sidecar), name, password)
        assert (answer.status, answer.json, answer.all("Set-Cookie")) == (401, said, [])
    assert await sidecar.store.sessions.list() == []


@pytest.mark.parametrize("change", ["the same password again", "another password", "disabled"])
@pytest.mark.parametrize("sign_in", SIGN_INS)
async def test_who_is_changed_during_a_sign_in_gets_no_session(
    tmp_path: Path, sign_in: SignIn, change: str
) -> None:
    hasher = WaitingHasher()
    async with running(tmp_path, hasher=hasher) as sidecar:
        alice = await add_alice(sidecar)
        waiting = asyncio.create_task(sign_in(Browser(sidecar)))
        assert await asyncio.to_thread(hasher.has_begun.wait, 30)
        if change == "disabled":
            await sidecar.store.users.change(alice.id, UserChange(disabled=True), now=0.0, by="test")
        else:
            same = await sidecar.store.users.password_hash(alice.id)
            stored = CHEAP.hash("another password") if change == "another password" else same
            await sidecar.store.users.set_password_hash(alice.id, stored, now=0.0, by="test")
        hasher.go_on.set()
        answer = await waiting
        assert answer.status in {401, 403}
        assert not {"__Host-sidecar", "VirolaUserSessionId"} & set(answer.cookies())
        assert await sidecar.store.sessions.list(alice.id) == []


@pytest.mark.parametrize(
    ("lines", "is_denied"),
    [
        ([(b"x-forwarded-for", b"192.0.2.1")], True),
        ([(b"user-agent", b"BADBOT/1.0")], True),
        ([(b"x-forwarded-for", b"198.51.100.1"), (b"user-agent", b"Mozilla/5.0")], False),
    ],
)
async def test_the_traffic_guard_stands_at_every_sign_in_and_at_no_gateway(
    start: Start, lines: list[Line], is_denied: bool
) -> None:
    guard = {"deny_networks": ["192.0.2.0/24"], "deny_user_agents": ["badbot"]}
    async with start({"traffic_guard": guard, "rules": [{"app": "shop"}]}) as sidecar:
        alice = await add_alice(sidecar)
        session = await sidecar.session(alice)
        for sign_in in SIGN_INS:
            answer = await sign_in(Browser(sidecar, *lines))
            assert (answer.status == 403, good(answer)) == (is_denied, not is_denied)
        assert len(await sidecar.store.sessions.list(alice.id)) == (1 if is_denied else 4)
        for gateway in GATEWAYS:
            assert (await sidecar.check(gateway, [session, *lines])).status == 200
        for path in ("/api/v1/user/check", "/auth/session", "/api/v1/status"):
            assert (await sidecar.ask("GET", path, [session, *lines])).status == (403 if is_denied else 200)


# --- use -----------------------------------------------------------------------------------------

USES = [
    pytest.param("GET", "/api/v1/user/check", None, "__Host-sidecar", id="cargo-extra"),
    pytest.param("POST", "/auth/validate-session", {"user": {}}, "__Host-sidecar", id="compass"),
    pytest.param("GET", "/auth/session", None, "__Host-sidecar", id="pulse"),
    pytest.param("GET", "/api/v1/status", None, "__Host-sidecar", id="virola"),
]


def refreshed(answers: Iterable[Answer]) -> list[str]:
    """Every new Set-Cookie of the session's own cookie."""
    lines = [line for answer in answers for line in answer.all("Set-Cookie")]
    return [line for line in lines if line.startswith("__Host-sidecar=")]


@pytest.mark.parametrize("beside", ["", "alice"])
async def test_e58_what_another_cookie_holds_never_becomes_the_session_of_everything(
    sidecar: Running, beside: str
) -> None:
    alice, mallory = await add_alice(sidecar), await sidecar.add_user("mallory")
    planted = (await sidecar.secret(mallory)).decode()
    own = f"__Host-sidecar={(await sidecar.secret(alice)).decode()}; " if beside else ""
    cookie = (b"cookie", f"{own}VirolaUserSessionId={planted}".encode())
    for _ in range(3):
        sidecar.clock.advance(61)
        answer = await sidecar.ask("GET", "/api/v1/status", [cookie])
        assert (answer.status, answer.json["userId"]) == (200, mallory.id)
        assert answer.all("Set-Cookie") == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/login", {"userName": "alice", "password": PASSWORD}),
        ("/auth/login", {"email": "alice", "password": PASSWORD}),
    ],
)
async def test_a_sign_in_ends_every_session_that_the_browser_had(
    sidecar: Running, path: str, body: dict[str, str]
) -> None:
    await add_alice(sidecar)
    bob = await sidecar.add_user("bob")
    secrets = [(await sidecar.secret(bob)).decode() for _ in range(2)]
    cookie = (b"cookie", f"__Host-sidecar={secrets[0]}; VirolaUserSessionId={secrets[1]}".encode())
    assert (await sidecar.post_json(path, body, [cookie])).status == 200
    assert await sidecar.store.sessions.list(bob.id) == []


@pytest.mark.parametrize("place", ["page", "virola"])
async def test_a_sign_out_ends_every_session_that_the_browser_has(sidecar: Running, place: str) -> None:
    alice = await add_alice(sidecar)
    secrets = [(await sidecar.secret(alice)).decode() for _ in range(2)]
    held = f"__Host-sidecar={secrets[0]}; VirolaUserSessionId={secrets[1]}".encode()
    if place == "page":
        cookie, csrf = await sidecar.form("/logout", [(b"cookie", held)])
        answer = await sidecar.post("/logout", [cookie], csrf=csrf)
    else:
        answer = await sidecar.post_json("/api/v1/logout", {}, [(b"cookie", held)])
    assert await sidecar.store.sessions.list(alice.id) == []
    assert answer.cookies() == {"__Host-sidecar": "", "VirolaUserSessionId": ""}


@pytest.mark.parametrize(("method", "path", "body", "name"), USES)
async def test_a_use_extends_the_session_and_refreshes_its_cookie_once_in_an_interval(
    sidecar: Running, method: str, path: str, body: object, name: str
) -> None:
    alice = await add_alice(sidecar)
    began_at = sidecar.clock.now()
    value = (await sidecar.secret(alice)).decode()
    cookie = (b"cookie", f"{name}={value}".encode())
    sent = b"" if body is None else json.dumps(body).encode()
    expected = f"__Host-sidecar={value}; Max-Age=3600; Path=/; HttpOnly; Secure; SameSite=Lax"

    for seconds, cookies, written_at in [
        (0, [], 0),
        (59, [], 0),
        (1, [expected], 60),
        (59, [], 60),
        (1, [expected], 120),
    ]:
        sidecar.clock.advance(seconds)
        answers = await asyncio.gather(*(sidecar.ask(method, path, [cookie], sent) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        assert refreshed(answers) == cookies
        (stored,) = await sidecar.store.sessions.list(alice.id)
        assert stored.last_used_at == began_at + written_at


@pytest.mark.parametrize(("method", "path", "body", "name"), USES)
async def test_a_session_in_use_at_a_product_lives_until_its_lifetime_is_over(
    sidecar: Running, method: str, path: str, body: object, name: str
) -> None:
    value = (await sidecar.secret(await add_alice(sidecar))).decode()
    cookie = (b"cookie", f"{name}={value}".encode())
    sent = b"" if body is None else json.dumps(body).encode()
    for _ in range(12 * 60 // 50):
        sidecar.clock.advance(50 * 60)
        assert (await sidecar.ask(method, path, [cookie], sent)).status == 200
    sidecar.clock.advance(20 * 60)
    assert (await sidecar.ask(method, path, [cookie], sent)).status == 401


async def test_a_bearers_use_extends_the_session_and_its_cookie_is_refreshed_when_it_comes(
    sidecar: Running,
) -> None:
    alice = await add_alice(sidecar)
    begun = await sidecar.parts.sessions.begin(alice)
    token = (await sidecar.parts.sessions.token(begun.session, alice)).text
    sidecar.clock.advance(60)
    cookie = (b"cookie", f"__Host-sidecar={begun.secret}".encode())
    paths = ("/api/v1/user/check", "/auth/session", "/api/v1/status")
    assert refreshed([await sidecar.ask("GET", path, [bearer(token)]) for path in paths]) == []
    (stored,) = await sidecar.store.sessions.list(alice.id)
    assert stored.last_used_at == sidecar.clock.now()
    assert len(refreshed([await sidecar.ask("GET", path, [cookie]) for path in paths])) == 1

"""Whatever happens, a check gets the same bytes, whether it is decided or its answer given again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from sidecar.records import Role, UserChange
from tests.conftest import MEMORY
from tests.running import GATEWAYS, Line, Question, question
from tests.worlds import Both, Seed, World, both, seed

IS_LONG = fuzzing.get_current_profile_name() == "fuzz"

EXAMPLES = 5_000 if IS_LONG else 60
PEERS = st.sampled_from(["127.0.0.1", "127.0.0.1", "127.0.0.2"])
KINDS = ("cookie", "short session", "token", "key", "key beside a cookie")
GOOD = [f"{user}'s {kind}" for user in ("ann", "bob") for kind in KINDS]
BAD = ["nobody", "unknown", "bad token"]


pytestmark = pytest.mark.usefixtures("log")  # a reload begins the log anew


@pytest.fixture(scope="module")
def start() -> Iterator[Seed]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield asyncio.run(seed(Path(directory)))


# --- what is generated ---------------------------------------------------------------------------


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


SELECTORS = {
    "hosts": some("app.example.com", "*.example.com", "app.example.com:8443"),
    "paths": some("/**", "/a/**", "/a/*", "/b"),
    "methods": some("GET", "POST", "OPTIONS"),
    "networks": some("10.0.0.0/8", "127.0.0.2/32", "::/0"),
}
DEMANDS: dict[str, st.SearchStrategy[Any]] = {
    "roles": some("staff", "other"),
    "permissions": some("read"),
    "accounts": some("a1", "a2"),
    "scopes": some("read"),
    "app": st.sampled_from(["shop", "desk"]),
    "authenticators": some("session", "api_key"),
}
OPENED = {"allow_preflight": st.booleans(), "allow_encoded_slash": st.booleans()}
RULES = st.lists(
    st.fixed_dictionaries({}, optional={**SELECTORS, **DEMANDS, **OPENED})
    | st.fixed_dictionaries({"access": st.sampled_from(["public", "deny"])}, optional=SELECTORS),
    min_size=1,
    max_size=4,
).map(lambda rules: [*rules, {"name": "last"}])
OPEN = st.just([{"paths": ["/b"], "access": "public"}, {"name": "last"}])
SETTINGS = st.fixed_dictionaries(
    {"rules": OPEN | RULES, "identity_assertion": st.fixed_dictionaries({"enabled": st.booleans()})},
    optional={"server": st.just({"trusted_proxies": ["127.0.0.1/32"]})},
)

ORIGINALS = st.fixed_dictionaries(
    {
        "method": st.sampled_from([b"GET", b"POST", b"OPTIONS", b"HEAD"]),
        "scheme": st.sampled_from([b"https", b"http"]),
        "host": st.sampled_from(
            [b"app.example.com", b"app.example.com:8443", b"b.example.com", b"other.test"]
        ),
        "uri": st.builds(
            lambda path, query: path + query,
            st.sampled_from([b"/a", b"/a/b", b"/a/b/c", b"/b", b"/", b"/%61", b"/a%2Fb", b"/a/../b", b"//b"]),
            st.sampled_from(
                [b"", b"", b"?", b"?x=/b", b"?a=b?c", b"?#", b'?"<>|\\^`{}', b"?\xc3\xa9", b"? x"]
            ),
        ),
    }
)
LINES: list[Line] = [
    (b"X-Forwarded-For", b"10.0.0.1"),
    (b"X-Forwarded-For", b"192.0.2.1, 10.0.0.1"),
    (b"X-Forwarded-For", b"junk"),
    (b"Accept", b"text/html"),
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"X-Requested-With", b"XMLHttpRequest"),
    (b"Origin", b"https://other.test"),
    (b"Access-Control-Request-Method", b"PUT"),
    (b"Referer", b"https://app.example.com/"),
    (b"X-Original-URL", b"https://other.test/b"),
    (b"X-Forwarded-Uri", b"/b"),
    (b"Host", b"app.example.com"),
    (b"Connection", b"close"),
    (b"Connection", b"keep-alive"),
    (b"Content-Length", b"0"),
    (b"Content-Length", b"5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Upgrade", b"h2c"),
    (b"Expect", b"100-continue"),
]
SPELLED = st.sampled_from([bytes.lower, bytes.title, lambda name: name.title().replace(b"-Url", b"-URL")])


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, str, list[Line], dict[str, bytes], Any]:
    """A gateway, whose credential, more lines, what was asked of the gateway, and how names are written."""
    return (
        draw(st.sampled_from(GATEWAYS)),
        draw(st.sampled_from(GOOD) | st.sampled_from(GOOD) | st.sampled_from(BAD)),
        draw(st.just([]) | st.lists(st.sampled_from(LINES), max_size=2)),
        draw(ORIGINALS),
        draw(SPELLED),
    )


def written(start: Seed, request: tuple[str, str, list[Line], dict[str, bytes], Any]) -> Question:
    gateway, credential, more, original, spelled = request
    asked = question(gateway, [*start.credentials[credential], *more], **original)
    return asked._replace(lines=[(spelled(name), value) for name, value in asked.lines])


async def sign_out(world: World, user: int) -> None:
    await world.parts.store.sessions.revoke_user(user)


async def disable(world: World, user: int) -> None:
    await world.parts.store.users.change(user, UserChange(disabled=True), now=world.clock.now(), by="test")


async def enable(world: World, user: int) -> None:
    await world.parts.store.users.change(user, UserChange(disabled=False), now=world.clock.now(), by="test")


async def rename(world: World, user: int) -> None:
    change = UserChange(name=f"At {world.clock.now()}")
    await world.parts.store.users.change(user, change, now=world.clock.now(), by="test")


async def take_permission(world: World, _user: int) -> None:
    await world.parts.store.users.set_role(Role("staff", ()))


async def close_app(world: World, _user: int) -> None:
    await world.parts.store.apps.set_disabled("shop", disabled=True)


async def open_app(world: World, _user: int) -> None:
    await world.parts.store.apps.set_disabled("shop", disabled=False)


CHANGES = [sign_out, disable, enable, rename, take_permission, close_app, open_app]


# --- the property --------------------------------------------------------------------------------


class Story:
    """What happens, one thing after the other; requests of a few kinds are asked again and again."""

    def __init__(self, data: st.DataObject, start: Seed, worlds: Both) -> None:
        self._draw = data.draw
        self._start = start
        self._worlds = worlds
        self._requests = data.draw(st.lists(asked(), min_size=1, max_size=4), label="requests")

    async def goes_on(self) -> None:
        then = self._draw(
            st.sampled_from([*[self._ask] * 6, self._wait, self._change, self._reload]), label="then"
        )
        await then()

    async def _wait(self) -> None:
        self._worlds.advance(self._draw(st.sampled_from([0.1, 0.25, 1, 30, 60, 90, 600, 3600])))

    async def _change(self) -> None:
        change = self._draw(st.sampled_from(CHANGES), label="change")
        user = self._start.users[self._draw(st.sampled_from(["ann", "bob"]))].id
        await self._worlds.each(lambda world: change(world, user))
        self._worlds.advance(self._draw(st.sampled_from([0.0, 0.1, 1.0])))

    async def _reload(self) -> None:
        tables = self._draw(SETTINGS, label="settings")
        await self._worlds.each(lambda world: world.reload(tables))

    async def _ask(self) -> None:
        """In one piece each, or all at once, or cut where no head ends."""
        chosen = self._draw(st.lists(st.sampled_from(self._requests), min_size=1, max_size=3), label="asked")
        asked = [written(self._start, each) for each in chosen]
        requests, methods = [each.as_bytes() for each in asked], [each.method for each in asked]
        peer = self._draw(PEERS)
        garbage = self._draw(st.sampled_from([[], [], [b"no request\r\n\r\n"]]), label="garbage")
        whole, after = b"".join([*requests, *garbage]), ["GET"] * len(garbage)
        how = self._draw(st.sampled_from(["one by one"] * 4 + ["at once", "cut"]))
        if how == "one by one":
            for request, method in [*zip(requests, methods, strict=True)] * 3:
                await self._compare(peer, [request], [method])
        elif how == "at once":
            await self._compare(peer, [whole], [*methods, *after])
        else:
            at = self._draw(st.integers(0, len(whole)))
            await self._compare(peer, [whole[:at], whole[at:]], [*methods, *after])

    async def _compare(self, peer: str, pieces: list[bytes], methods: list[str]) -> None:
        express, plain = await self._worlds.exchange(peer, pieces, methods)
        assert express == plain, pieces


def test_what_is_given_again_is_what_would_be_decided(start: Seed, tmp_path: Path) -> None:
    given_again = 0

    async def tell(data: st.DataObject) -> None:
        nonlocal given_again
        async with both(start, tmp_path, data.draw(SETTINGS, label="settings")) as worlds:
            story = Story(data, start, worlds)
            for _ in range(data.draw(st.integers(5, 25), label="length")):
                await story.goes_on()
            given_again += worlds.express.given_again()

    @given(data=st.data())
    @fuzzing(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    def tell_all(data: st.DataObject) -> None:
        asyncio.run(tell(data))

    tell_all()
    assert given_again > 3 * EXAMPLES, "it is about answers that are given again, and hardly one was"

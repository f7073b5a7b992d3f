"""The identity assertion: a token for the application that tells who asks, and nothing to anybody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Unpack

import jwt
import pytest

from sidecar.identity_headers import LIMIT
from sidecar.records import Account, User, UserChange
from tests import issuer
from tests.conftest import Start
from tests.issuer import jwk, jwks
from tests.running import GATEWAYS, Line, Original, Running, bearer

HEADER = "X-Auth-Assertion"
ON: dict[str, Any] = {"identity_assertion": {"enabled": True}}
ISSUER = "http://127.0.0.1:9000"
HOST = "app.example.com"
LIFETIME = 60


@pytest.fixture
async def on(start: Start) -> AsyncIterator[Running]:
    """The application with assertions."""
    async with start(ON) as sidecar:
        yield sidecar


async def asserted(
    sidecar: Running, *lines: Line, gateway: str = "nginx", **original: Unpack[Original]
) -> str:
    """The assertion of an allowed check."""
    answer = await sidecar.check(gateway, lines, **original)
    assert answer.status == 200
    return answer.one(HEADER)


async def verified(sidecar: Running, assertion: str, host: str = HOST) -> dict[str, Any]:
    """What an application reads that goes by its claims as docs/identity.md says. Time is the sidecar's."""
    keys = jwt.PyJWKSet.from_dict((await sidecar.ask("GET", "/.well-known/jwks.json")).json)
    header = jwt.get_unverified_header(assertion)
    assert header["typ"] == "assertion+jwt"
    claims: dict[str, Any] = jwt.decode(
        assertion,
        keys[header["kid"]].key,
        algorithms=["ES256"],
        audience=host,
        issuer=ISSUER,
        options={"require": ["exp", "iat", "sub", "jti"], "verify_exp": False, "verify_iat": False},
    )
    assert claims["iat"] <= sidecar.clock.now()
    return claims


# --- what it says --------------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_it_says_who_asks_and_for_how_long(on: Running, gateway: str) -> None:
    await on.set_role("admin", "users:write")
    accounts = (Account("t-1", "Team one", primary=True),)
    ann = await on.add_user(
        "ann", emails=("ann@example.com",), full_name="Ann Ünal", roles=("admin",), accounts=accounts
    )
    claims = await verified(on, await asserted(on, await on.session(ann), gateway=gateway))
    session = (await on.store.sessions.list(ann.id))[0]
    now = int(on.clock.now())
    assert claims.pop("jti")
    assert claims == {
        "iss": ISSUER,
        "aud": HOST,
        "iat": now,
        "exp": now + LIFETIME,
        "sub": "1",
        "user_id": 1,
        "preferred_username": "ann",
        "name": "Ann Ünal",
        "email": "ann@example.com",
        "account": "t-1",
        "roles": ["admin"],
        "permissions": ["users:write"],
        "sid": session.id,
        "method": "session",
    }


async def test_it_leaves_out_what_is_not_there(on: Running) -> None:
    claims = await verified(on, await asserted(on, await on.session(await on.add_user())))
    assert claims.keys() == {
        *("iss", "aud", "iat", "exp", "jti", "sub", "user_id"),
        *("preferred_username", "sid", "method", "roles", "permissions"),
    }
    assert (claims["roles"], claims["permissions"]) == ([], [])


async def test_of_an_api_key_it_names_the_key_and_its_scopes(on: Running) -> None:
    key = await on.api_key(await on.add_user(), scopes=("read", "write"))
    claims = await verified(on, await asserted(on, (b"x-api-key", key)))
    (stored,) = await on.store.api_keys.list()
    assert (claims["key_id"], claims["scope"], claims["method"]) == (stored.id, "read write", "api_key")
    assert "sid" not in claims


async def test_a_scope_with_whitespace_in_it_is_never_read_as_two(on: Running) -> None:
    key = await on.api_key(await on.add_user(), scopes=("admin read", "list"))
    assert (await verified(on, await asserted(on, (b"x-api-key", key))))["scope"] == "list"


@pytest.mark.parametrize(
    ("scheme", "host", "audience"),
    [
        (b"https", b"app.example.com", "app.example.com"),
        (b"https", b"App.Example.COM.", "app.example.com"),
        (b"https", b"app.example.com:443", "app.example.com"),
        (b"http", b"app.example.com:80", "app.example.com"),
        (b"wss", b"app.example.com:443", "app.example.com"),
        (b"https", b"app.example.com:8443", "app.example.com:8443"),
        (b"http", b"app.example.com:443", "app.example.com:443"),
        (b"https", b"[::1]:8443", "[::1]:8443"),
    ],
)
async def test_it_is_for_the_host_as_rules_compare_it(
    on: Running, scheme: bytes, host: bytes, audience: str
) -> None:
    line = await on.session(await on.add_user())
    assertion = await asserted(on, line, gateway="traefik", scheme=scheme, host=host)
    assert (await verified(on, assertion, audience))["aud"] == audience


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_the_published_keys_verify_it(start: Start, algorithm: str) -> None:
    async with start({**ON, "tokens": {"algorithm": algorithm}}) as sidecar:
        assertion = await asserted(sidecar, await sidecar.session(await sidecar.add_user()))
        keys = jwt.PyJWKSet.from_dict((await sidecar.ask("GET", "/.well-known/jwks.json")).json)
        options: Any = {"verify_exp": False, "verify_iat": False}
        key = keys[jwt.get_unverified_header(assertion)["kid"]].key
        assert jwt.decode(assertion, key, algorithms=[algorithm], audience=HOST, options=options)


async def test_header_and_lifetime_are_the_operators(start: Start) -> None:
    settings = {"enabled": True, "header": "X-Who", "lifetime": "5m"}
    async with start({"identity_assertion": settings}) as sidecar:
        answer = await sidecar.check("nginx", [await sidecar.session(await sidecar.add_user())])
        claims = await verified(sidecar, answer.one("X-Who"))
        assert (claims["exp"] - claims["iat"], answer.all(HEADER)) == (300, [])


# --- where it is ---------------------------------------------------------------------------------


async def test_it_is_off_unless_the_operator_wants_it(sidecar: Running) -> None:
    answer = await sidecar.check("nginx", [await sidecar.session(await sidecar.add_user())])
    assert (answer.status, answer.all(HEADER)) == (200, [])


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_it_is_empty_where_nobody_is_signed_in(start: Start, gateway: str) -> None:
    async with start({**ON, "rules": [{"access": "public"}]}) as sidecar:
        forged: Line = (HEADER.lower().encode(), b"forged")
        alice = await sidecar.session(await sidecar.add_user())
        for lines in ([forged], [forged, (b"authorization", b"Bearer bad")]):
            assert (await sidecar.check(gateway, lines)).one(HEADER) == ""
        assert await verified(sidecar, await asserted(sidecar, forged, alice, gateway=gateway))


async def test_what_is_refused_has_none(start: Start) -> None:
    async with start({**ON, "rules": [{"roles": ["admin"]}]}) as sidecar:
        for lines in ([], [await sidecar.session(await sidecar.add_user())]):
            answer = await sidecar.check("nginx", lines)
            assert (answer.status in {401, 403}, answer.all(HEADER)) == (True, [])


# --- for how long it is repeated -----------------------------------------------------------------


async def test_it_is_repeated_for_half_of_its_life(on: Running) -> None:
    line = await on.session(await on.add_user())
    first = await asserted(on, line)
    on.clock.advance(LIFETIME / 2 - 1)
    assert await asserted(on, line) == first
    on.clock.advance(1)
    assert await asserted(on, line) != first
    metrics = await on.metrics()
    assert 'sidecar_cache_requests_total{cache="assertion",result="hit"} 1.0' in metrics
    assert 'sidecar_cache_requests_total{cache="assertion",result="miss"} 2.0' in metrics
    assert 'sidecar_cache_entries{cache="assertion"} 1.0' in metrics


async def test_it_never_outlives_what_it_was_made_from(on: Running) -> None:
    alice = await on.add_user()
    ends_at = on.clock.now() + 20
    key = await on.api_key(alice, expires_at=ends_at)
    assert (await verified(on, await asserted(on, (b"x-api-key", key))))["exp"] == ends_at
    on.clock.advance(19)
    assert (await verified(on, await asserted(on, (b"x-api-key", key))))["exp"] == ends_at
    on.clock.advance(1)
    assert (await on.check("nginx", [(b"x-api-key", key)])).status == 401


async def test_none_has_expired_already(on: Running) -> None:
    """Its times are whole seconds: what ends within this one is over."""
    on.clock.advance(0.5)
    alice = await on.add_user()
    session = await on.session(alice)
    key = (b"x-api-key", await on.api_key(alice, expires_at=on.clock.now() + 20))
    on.clock.advance(19.4)
    assert (await verified(on, await asserted(on, key)))["exp"] > int(on.clock.now())
    on.clock.advance(0.3)
    refused = await on.check("nginx", [key])
    assert (refused.status, refused.reason, refused.all(HEADER)) == (401, "key_expired", [])
    on.clock.advance(0.3)
    assert (await on.check("nginx", [key])).reason == "key_expired"
    assert await asserted(on, session)


async def renamed(on: Running, alice: User) -> None:
    await on.store.users.change(alice.id, UserChange(name="Alice B"), now=on.clock.now(), by="test")


async def given_a_role(on: Running, alice: User) -> None:
    await on.store.users.change(alice.id, UserChange(roles=("admin",)), now=on.clock.now(), by="test")


async def given_a_permission(on: Running, alice: User) -> None:
    await on.set_role("staff", "users:read")


async def keys_rotated(on: Running, alice: User) -> None:
    await on.parts.keys.rotate()


@pytest.mark.parametrize("change", [renamed, given_a_role, given_a_permission, keys_rotated])
async def test_a_change_is_in_it_within_a_second(
    on: Running, change: Callable[[Running, User], Awaitable[None]]
) -> None:
    alice = await on.add_user(roles=("staff",))
    line = await on.session(alice)
    before = await asserted(on, line)
    await change(on, alice)
    on.clock.advance(1)
    after = await asserted(on, line)
    said = [
        {**await verified(on, each), **jwt.get_unverified_header(each), "jti": "", "iat": 0, "exp": 0}
        for each in (before, after)
    ]
    assert said[0] != said[1]
    assert jwt.get_unverified_header(after)["kid"] == (await signing_kid(on))


async def signing_kid(on: Running) -> str:
    return (await on.store.signing_keys.list(now=on.clock.now()))[0].id


async def test_whoever_is_disabled_or_signed_out_gets_no_more(on: Running) -> None:
    alice = await on.add_user()
    line, key = await on.session(alice), await on.api_key(alice)
    for each in (line, (b"x-api-key", key)):
        await asserted(on, each)
    await on.store.sessions.revoke_user(alice.id)
    on.clock.advance(1)
    refused = await on.check("nginx", [line])
    assert (refused.status, refused.all(HEADER)) == (401, [])
    await on.store.users.change(alice.id, UserChange(disabled=True), now=on.clock.now(), by="test")
    on.clock.advance(1)
    refused = await on.check("nginx", [(b"x-api-key", key)])
    assert (refused.status, refused.all(HEADER)) == (401, [])


# --- nobody else's -------------------------------------------------------------------------------


async def test_nobody_ever_gets_anothers(on: Running) -> None:
    """Two users, each with two sessions, a token and two keys, at two hosts, all at once and again."""
    alice, bob = await on.add_user("alice"), await on.add_user("bob")
    asking: list[tuple[User, str, Line]] = []
    for user in (alice, bob):
        lines = [await on.session(user), await on.session(user), bearer(await on.token(user))]
        lines += [(b"x-api-key", await on.api_key(user)), (b"x-api-key", await on.api_key(user))]
        asking += [(user, host, line) for line in lines for host in (HOST, "other.example.com")]
    seen = []
    for _ in range(2):
        got = await asyncio.gather(*(asserted(on, line, host=host.encode()) for _, host, line in asking))
        for assertion, (user, host, _) in zip(got, asking, strict=True):
            claims = await verified(on, assertion, host)
            assert (claims["sub"], claims["preferred_username"]) == (str(user.id), user.username)
        seen.append(got)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == len(asking)


async def test_it_says_what_this_very_token_of_another_issuer_says(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(jwk("ES256", "k1")))
    corp = {"type": "jwt", "issuer": issuer.ISSUER, "audience": "app", "algorithms": ["ES256"]}
    async with start({**ON, "authenticators": {"corp": {**corp, "jwks_file": str(file)}}}) as sidecar:
        ends_at = int(sidecar.clock.now()) + 3600
        tokens = {
            role: issuer.token({"alg": "ES256", "kid": "k1"}, issuer.claims(exp=ends_at, roles=[role]))
            for role in ("admin", "staff")
        }
        for role in ("admin", "staff", "admin"):
            claims = await verified(sidecar, await asserted(sidecar, bearer(tokens[role])))
            assert (claims["sub"], claims["roles"], claims["method"]) == ("alice", [role], "jwt:corp")
            assert claims.keys().isdisjoint({"user_id", "sid", "key_id"})


async def test_one_for_another_host_does_not_verify(on: Running) -> None:
    assertion = await asserted(on, await on.session(await on.add_user()), host=b"other.example.com")
    with pytest.raises(jwt.InvalidAudienceError):
        await verified(on, assertion)


async def test_one_that_is_changed_does_not_verify(on: Running) -> None:
    assertion = await asserted(on, await on.session(await on.add_user()))
    header, claims, signature = assertion.split(".")
    unsigned = jwt.encode(
        jwt.decode(assertion, options={"verify_signature": False}),
        "",
        "none",
        {"typ": "assertion+jwt", "kid": jwt.get_unverified_header(assertion)["kid"]},
    )
    changed = claims[:40] + ("B" if claims[40] == "A" else "A") + claims[41:]
    for forged in (unsigned, f"{header}.{changed}.{signature}", f"{header}.{claims}."):
        with pytest.raises(jwt.PyJWTError):
            await verified(on, forged)


@pytest.mark.parametrize("audience", ["sidecar", HOST], ids=["another audience", "the audience of sessions"])
async def test_it_is_nobodys_credential(start: Start, audience: str) -> None:
    enabled = {"basic": {"enabled": True}}
    settings = {**ON, "tokens": {"audience": audience}, "authenticators": enabled}
    async with start(settings) as sidecar:
        assertion = await asserted(sidecar, await sidecar.session(await sidecar.add_user()))
        cookie: Line = (b"cookie", sidecar.cookie_name + b"=" + assertion.encode())
        for line in (bearer(assertion), (b"x-api-key", assertion.encode()), cookie):
            assert (await sidecar.check("nginx", [line])).status == 401
            assert (await sidecar.ask("GET", "/userinfo", [line])).status == 401
        assert (await sidecar.ask("GET", "/auth/session", [bearer(assertion)])).status == 401
        assert (await sidecar.post("/oauth2/introspect", [bearer(assertion)], token="x")).status == 401


# --- how long it may be --------------------------------------------------------------------------


async def test_d46_it_counts_towards_the_length_that_gateways_take(on: Running) -> None:
    fitting = await on.add_user("small", roles=tuple(f"role-{n:04}" for n in range(200)))
    large = await on.add_user("large", roles=tuple(f"role-{n:04}" for n in range(500)))
    answer = await on.check("nginx", [await on.session(fitting)])
    names = {HEADER.lower(), *map(str.lower, on.parts.settings.identity_headers)}
    lines = [line for line in answer.lines if line[0].decode().lower() in names]
    assert sum(len(name) + len(value) + 4 for name, value in lines) <= LIMIT
    assert len((await verified(on, answer.one(HEADER)))["roles"]) == 200
    refused = await on.check("nginx", [await on.session(large)])
    assert (refused.status, refused.reason, refused.all(HEADER)) == (403, "identity_too_large", [])


async def test_what_is_too_long_is_signed_no_more_often(on: Running) -> None:
    line = await on.session(await on.add_user("large", roles=tuple(f"role-{n:04}" for n in range(500))))
    for _ in range(3):
        assert (await on.check("nginx", [line])).reason == "identity_too_large"
    metrics = await on.metrics()
    assert 'sidecar_cache_requests_total{cache="assertion",result="hit"} 2.0' in metrics
    assert 'sidecar_cache_requests_total{cache="assertion",result="miss"} 1.0' in metrics


async def test_a_flood_of_hosts_fills_no_memory(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.assertions.MOST_BYTES", 20_000)
    async with start(ON) as sidecar:
        line = await sidecar.session(await sidecar.add_user())
        for number in range(60):
            host = f"h{number}.example.com"
            await verified(sidecar, await asserted(sidecar, line, host=host.encode()), host)
        (kept,) = re.findall(r'cache_entries{cache="assertion"} (.+)', await sidecar.metrics())
        (evicted,) = re.findall(r'cache_evictions_total{cache="assertion"} (.+)', await sidecar.metrics())
        assert 1 < float(kept) < 20
        assert float(kept) + float(evicted) == 60


# --- outages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("access", ["authenticated", "public"])
async def test_while_nobody_knows_there_is_none(start: Start, access: str) -> None:
    async with start({**ON, "rules": [{"access": access}]}) as sidecar:
        line = await sidecar.session(await sidecar.add_user())
        assert await asserted(sidecar, line)
        await sidecar.store.close()
        sidecar.clock.advance(2)
        answer = await sidecar.check("nginx", [line])
        expected = (200, [""]) if access == "public" else (503, [])
        assert (answer.status, answer.all(HEADER)) == expected

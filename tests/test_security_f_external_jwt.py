"""F. Tokens of other issuers, made by hand: every one that differs in a hair is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from sidecar.fetched_keys import COOLDOWN, OLDEST
from sidecar.jws import LONGEST
from tests.hostile import Exchange, Hostile, hostile
from tests.issuer import (
    ASYMMETRIC,
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    Json,
    claims,
    jwk,
    jwks,
    part,
    private_key,
    signer,
    token,
)
from tests.running import Running, bearer, running

ISSUED: Json = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "algorithms": list(ASYMMETRIC)}
GOOD, REFUSED, NOT_OURS = "good", "invalid_token", "unknown_credential"
TOO_LONG, NO_HTTP = "too long", "no HTTP"
ES256 = {"alg": "ES256", "kid": "ES256"}

Make = Callable[..., Awaitable[Running]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """The sidecar with such an issuer; unless told otherwise, one key of every kind is in a file."""
    async with AsyncExitStack() as open_until_the_end:

        async def made(**changes: Any) -> Running:
            if not {"secret", "public_key_file", "jwks_url"} & set(changes):
                file = tmp_path / "jwks.json"
                file.write_bytes(jwks(*(jwk(name, name, alg=name) for name in ASYMMETRIC)))
                changes = {"jwks_file": str(file), **changes}
            tables = {"authenticators": {"idp": {**ISSUED, **changes}}}
            return await open_until_the_end.enter_async_context(running(tmp_path, tables))

        yield made


@pytest.fixture
async def idp(make: Make) -> Running:
    return await make()


async def judged(sidecar: Running, presented: bytes) -> str:
    """What becomes of a token: GOOD, or why not."""
    answer = await sidecar.check("nginx", [bearer(presented)])
    if answer.status == 431:
        return TOO_LONG
    if answer.is_no_http:
        return NO_HTTP
    assert answer.status == (401 if answer.all("X-Auth-Reason") else 200)
    return answer.reason if answer.status == 401 else GOOD


async def accepts(sidecar: Running, presented: bytes) -> bool:
    return await judged(sidecar, presented) == GOOD


def good(algorithm: str = "ES256", /, **changes: Any) -> bytes:
    return token({"alg": algorithm, "kid": algorithm}, claims(**changes))


# --- what is good --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_good_token_is_accepted_so_that_what_follows_tests_one_change_at_a_time(
    idp: Running, algorithm: str
) -> None:
    assert await accepts(idp, good(algorithm))


async def test_a_token_says_who_it_is_and_until_when(make: Make) -> None:
    idp = await make(subject_prefix="idp|", claims={"roles": "realm_access.roles"})
    more: Json = {"preferred_username": "al", "realm_access": {"roles": ["b", "a"]}}
    line = bearer(good(**more, exp=NOW + 60.5))
    answer = await idp.check("nginx", [line])
    told = [answer.one(f"X-Auth-{name}") for name in ("User-Id", "Method", "User", "Roles")]
    assert told == ["idp|alice", "jwt:idp", "al", "a,b"]
    idp.clock.advance(60.25)
    assert (await idp.check("nginx", [line])).status == 200
    idp.clock.advance(0.25)
    assert (await idp.check("nginx", [line])).status == 401


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_secret_is_one_key_whatever_id_a_token_gives_it(make: Make, algorithm: str) -> None:
    idp = await make(secret=SECRET, algorithms=algorithm)
    for header in ({}, {"kid": "any"}):
        assert await accepts(idp, token({"alg": algorithm, **header}, claims()))
    wrong = signer(algorithm, b"another secret of 32 bytes or more, and no better")
    assert await judged(idp, token({"alg": algorithm}, claims(), wrong)) == REFUSED


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_public_key_file_is_one_key_whatever_id_a_token_gives_it(
    make: Make, tmp_path: Path, algorithm: str
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(encoded(private_key(algorithm).public_key(), "pem"))
    idp = await make(public_key_file=str(file), algorithms=algorithm)
    for header in ({}, {"kid": "any"}):
        assert await accepts(idp, token({"alg": algorithm, **header}, claims()))
    foreign = signer(algorithm, private_key(algorithm, 1))
    assert await judged(idp, token({"alg": algorithm}, claims(), foreign)) == REFUSED


async def test_a_token_without_a_kid_needs_one_key_that_fits_its_algorithm(
    make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(jwks(jwk("ES256", "a"), jwk("RSA", "b"), jwk("RSA", "c", 1), jwk("EdDSA")))
    idp = await make(jwks_file=str(file))
    answers = {
        name: await accepts(idp, token({"alg": name}, claims()))
        for name in ("ES256", "EdDSA", "RS256", "ES384")
    }
    assert answers == {"ES256": True, "EdDSA": True, "RS256": False, "ES384": False}


# --- who signed it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "RS512", ["none"], ["ES256"], None, 1, {}]
)
async def test_f64_a_token_that_nobody_signed_is_refused(idp: Running, alg: Any) -> None:
    for signature in ("", part("x"), part("\0" * 64)):
        written = f"{part({**ES256, 'alg': alg})}.{part(claims())}.{signature}"
        assert await judged(idp, written.encode()) == REFUSED


async def test_f64_a_token_without_alg_is_refused(idp: Running) -> None:
    assert await judged(idp, token({"kid": "ES256"}, claims(), signer("ES256"))) == REFUSED


def encoded(key: Any, form: str) -> bytes:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    match form:
        case "pem":
            return bytes(key.public_bytes(serialization.Encoding.PEM, info))
        case "pem without its last line break":
            return encoded(key, "pem").rstrip()
        case "der":
            return bytes(key.public_bytes(serialization.Encoding.DER, info))
        case "raw" if isinstance(key, ec.EllipticCurvePublicKey):
            return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        case "raw":
            return bytes(key.public_numbers().n.to_bytes(256))
        case _:
            kind = "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else "RS256"
            return json.dumps(jwk(kind, kind)).encode()


@pytest.mark.parametrize("form", ["pem", "pem without its last line break", "der", "raw", "jwk"])
@pytest.mark.parametrize("kind", ["ES256", "RS256"])
@pytest.mark.parametrize("hash", ["256", "384", "512"])
async def test_f65_a_public_key_is_no_secret(idp: Running, kind: str, form: str, hash: str) -> None:
    secret = encoded(private_key(kind).public_key(), form)
    for header in ({"kid": kind}, {}):
        forged = token(
            {"alg": f"HS{hash}", **header},
            claims(),
            lambda signed: hmac.digest(secret, signed, getattr(hashlib, f"sha{hash}")),
        )
        assert await judged(idp, forged) == REFUSED


@pytest.mark.parametrize(
    ("alg", "kid"),
    [
        ("PS256", "RS256"),
        ("RS256", "PS256"),
        ("ES256", "RS256"),
        ("RS256", "ES256"),
        ("EdDSA", "ES256"),
        ("ES256", "ES384"),
        ("ES384", "ES256"),
        ("ES256", "EdDSA"),
    ],
)
async def test_f66_a_key_is_used_for_its_own_algorithm_alone(idp: Running, alg: str, kid: str) -> None:
    by_the_named = token({"alg": alg, "kid": kid}, claims())
    assert await judged(idp, by_the_named) == REFUSED
    if {alg, kid} == {"RS256", "PS256"} or {alg, kid} == {"ES256", "ES384"}:
        by_this_key = token({"alg": alg, "kid": kid}, claims(), signer(alg, private_key(kid)))
        assert await judged(idp, by_this_key) == REFUSED


async def test_f66_an_algorithm_that_is_not_configured_is_refused_though_the_key_fits(
    make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "plain.json"
    file.write_bytes(jwks(jwk("RSA", "a")))
    idp = await make(jwks_file=str(file), algorithms=["RS256", "PS384"])
    answers = {
        name: await accepts(idp, token({"alg": name, "kid": "a"}, claims(), signer(name, private_key("RSA"))))
        for name in ("RS256", "PS384", "RS384", "PS256", "RS512")
    }
    assert answers == {"RS256": True, "PS384": True, "RS384": False, "PS256": False, "RS512": False}


async def test_a_signature_is_of_this_key_over_these_bytes(idp: Running) -> None:
    for name in ASYMMETRIC:
        first, second, third = good(name).split(b".")
        foreign = token({"alg": name, "kid": name}, claims(), signer(name, private_key(name, 1)))
        other = good(name, sub="bob").split(b".")
        for wrong in (
            foreign,
            b".".join((first, other[1], third)),
            b".".join((part({"alg": name, "kid": name, "x": 1}).encode(), second, third)),
            b".".join((first, second, part("").encode())),
            b".".join((first, second, b"AA")),
            b".".join((first, second, base64.urlsafe_b64encode(bytes(64)).rstrip(b"="))),
            b".".join((first, second, third + third)),
        ):
            assert await judged(idp, wrong) == REFUSED


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_any_one_character_of_a_good_token_changed_makes_it_a_bad_one(
    idp: Running, algorithm: str
) -> None:
    written = good(algorithm)
    for position in range(len(written)):
        for character in (b"A", b"B", b"."):
            changed = written[:position] + character + written[position + 1 :]
            assert changed == written or not await accepts(idp, changed)
        assert not await accepts(idp, written[:position])


# --- who and whom it is for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "iss",
    [
        ISSUER + "/",
        ISSUER[:-1],
        ISSUER.upper(),
        "https://idp.example.com",
        ISSUER + "#",
        " " + ISSUER,
        "",
        None,
        [ISSUER],
        {ISSUER: 1},
        1,
        True,
    ],
    ids=repr,
)
async def test_f67_a_token_of_another_issuer_is_not_ours(idp: Running, iss: Any) -> None:
    assert await judged(idp, good(iss=iss)) == NOT_OURS


@pytest.mark.parametrize(
    ("aud", "accepted"),
    [
        ("app", True),
        (["app"], True),
        (["other", "app"], True),
        ("api", True),
        (None, False),
        ("", False),
        ([], False),
        ("other", False),
        ("app,api", False),
        ("app api", False),
        ("apps", False),
        ("APP", False),
        (["other"], False),
        ([["app"]], False),
        ({"app": 1}, False),
        ([{"app": 1}], False),
        (True, False),
        (1, False),
    ],
    ids=repr,
)
async def test_f68_a_token_for_somebody_else_is_refused(make: Make, aud: Any, accepted: bool) -> None:
    idp = await make(audience=["app", "api"])
    answer = await judged(idp, good(aud=aud))
    assert answer == (GOOD if accepted else REFUSED)


@pytest.mark.parametrize("sub", [None, "", [], ["alice"], {"a": 1}, True, 1.5, "\ud800"], ids=repr)
async def test_a_token_that_names_nobody_is_refused(idp: Running, sub: Any) -> None:
    written = token(ES256, claims(sub=sub))
    assert not await accepts(idp, written)


# --- when ----------------------------------------------------------------------------------------

NO_DATES = ["null", '"1800000300"', "true", "[1800000300]", "{}", "1e30", "1" + "0" * 30, "NaN", "Infinity"]
NO_DATES += ["-Infinity", "1e999", "-1", "253402300800", "1" + "0" * 5000]


async def judged_with(idp: Running, name: str, value: str) -> str:
    """A token with this claim, as it is written."""
    rest = json.dumps({each: claim for each, claim in claims().items() if each != name})
    return await judged(idp, token(ES256, rest.replace("{", f'{{"{name}": {value}, ', 1)))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", NO_DATES, ids=lambda value: value[:32])
async def test_f69_f70_a_time_is_a_date(idp: Running, name: str, value: str) -> None:
    assert await judged_with(idp, name, value) != GOOD


async def test_f69_a_token_that_never_expires_is_refused(idp: Running) -> None:
    assert await judged(idp, good(exp=None)) == REFUSED


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("exp", NOW - 86400, False),
        ("exp", NOW - 1, False),
        ("exp", 0, False),
        ("exp", NOW, False),
        ("exp", NOW + 0.25, True),
        ("exp", NOW + 1, True),
        ("exp", 253_402_300_799, True),
        ("nbf", None, True),
        ("nbf", NOW - 86400, True),
        ("nbf", NOW + 30, True),
        ("nbf", NOW + 30.25, False),
        ("nbf", NOW + 31, False),
        ("iat", None, True),
        ("iat", 0, True),
        ("iat", NOW + 30, True),
        ("iat", NOW + 30.25, False),
        ("iat", NOW + 86400, False),
    ],
)
async def test_f70_a_token_is_good_from_its_beginning_to_its_end(
    idp: Running, name: str, value: float | None, accepted: bool
) -> None:
    answer = await judged(idp, good(**{name: value}))
    assert answer == (GOOD if accepted else REFUSED)


async def test_leeway_is_what_the_settings_say(make: Make) -> None:
    idp = await make(leeway="2m")
    answers = [await accepts(idp, good(nbf=NOW + seconds)) for seconds in (31, 120, 121)]
    assert answers == [True, True, False]


# --- the header ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": ["unknown"], "unknown": 1},
        {"crit": []},
        {"crit": None},
        {"crit": "b64"},
        {"b64": False},
        {"b64": True},
    ],
    ids=str,
)
async def test_f71_a_token_that_wants_an_extension_understood_is_refused(idp: Running, more: Json) -> None:
    assert await judged(idp, token({**ES256, **more}, claims())) == REFUSED


async def test_f71_an_unencoded_payload_is_refused(idp: Running) -> None:
    header = part({**ES256, "b64": False, "crit": ["b64"]})
    for payload in (json.dumps(claims()), ""):
        signature = signer("ES256")(f"{header}.{payload}".encode())
        written = f"{header}.{payload}.".encode() + base64.urlsafe_b64encode(signature).rstrip(b"=")
        assert not await accepts(idp, written)


@pytest.mark.parametrize(
    ("configured", "typ", "accepted"),
    [
        ("", None, True),
        ("", "JWT", True),
        ("", 1, True),
        ("at+jwt", "at+jwt", True),
        ("at+jwt", "AT+JWT", True),
        ("at+jwt", "application/at+jwt", True),
        ("at+jwt", "Application/At+Jwt", True),
        ("application/at+jwt", "at+jwt", True),
        ("at+jwt", "JWT", False),
        ("at+jwt", "x/at+jwt", False),
        ("at+jwt", "at+jwt2", False),
        ("at+jwt", None, False),
        ("at+jwt", "", False),
        ("at+jwt", ["at+jwt"], False),
        ("at+jwt", 1, False),
    ],
)
async def test_f72_a_token_is_of_the_type_that_is_configured(
    make: Make, configured: str, typ: Any, accepted: bool
) -> None:
    header = {**ES256, **({} if typ is None else {"typ": typ})}
    answer = await judged(await make(typ=configured), token(header, claims()))
    assert answer == (GOOD if accepted else REFUSED)


@pytest.mark.parametrize(
    "kid",
    [
        "../../x",
        "/dev/null",
        "' OR 1=1 --",
        "x" * 10_000,
        "",
        "ES256\0",
        "es256",
        1,
        None,
        True,
        ["ES256"],
        {},
    ],
    ids=lambda kid: repr(kid)[:20],
)
async def test_f73_a_kid_is_a_name_and_nothing_more(idp: Running, kid: Any) -> None:
    assert await judged(idp, token({**ES256, "kid": kid}, claims())) == REFUSED


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_f74_keys_that_a_token_brings_along_are_never_used_nor_fetched(make: Make, name: str) -> None:
    async with hostile() as server:
        published = jwks(jwk("ES256", "ES256"))
        server.parts["/jwks"] = lambda exchange: exchange.answer(published)
        idp = await make(jwks_url=server.url("/jwks"))
        address = server.url("/theirs")
        brought = {"jwk": jwk("ES256", "ES256", 1), "x5c": ["MIIB"]}.get(name, address)
        foreign = signer("ES256", private_key("ES256", 1))
        forged = token({**ES256, name: brought}, claims(), foreign)
        genuine = token({**ES256, name: brought}, claims())
        assert await judged(idp, forged) == REFUSED
        assert await judged(idp, token({"alg": "ES256", name: brought}, claims(), foreign)) == REFUSED
        assert await accepts(idp, genuine)
        assert [request.target for request in server.received] == ["/jwks"]


# --- the keys that an issuer publishes ------------------------------------------------------------

SOME_KEY = jwk("ES256", "ES256")


def publishing(server: Hostile, published: bytes | None) -> dict[str, str]:
    """The server has these keys from now on; None: it fails. Returns the setting that names it."""

    async def played(exchange: Exchange) -> None:
        await exchange.answer(published or b"", status="200 OK" if published else "503 -")

    server.parts["/jwks"] = played
    return {"jwks_url": server.url("/jwks")}


@pytest.mark.parametrize("published", [jwks(SOME_KEY), jwks()], ids=["keys", "an empty set"])
async def test_f75_a_thousand_unknown_kids_make_one_fetch_in_a_cooldown(make: Make, published: bytes) -> None:
    async with hostile() as server:
        idp = await make(**publishing(server, published))
        for fetches in (1, 2):
            for batch in range(20):
                unknown = [
                    token(
                        {"alg": "ES256", "kid": f"{fetches}-{batch}-{number}"}, claims(), lambda _: b"x" * 64
                    )
                    for number in range(50)
                ]
                assert {await judged(idp, each) for each in unknown} == {REFUSED}
            assert len(server.received) == fetches
            idp.clock.advance(COOLDOWN)


FAILING = ["/status?500", "/status?404", "/status?302", "/status?307", "/garbage", "/nothing", "/bomb"]


@pytest.mark.parametrize("fault", FAILING)
async def test_f76_while_keys_cannot_be_fetched_the_last_good_ones_go_on(make: Make, fault: str) -> None:
    async with hostile() as server:
        idp = await make(**publishing(server, jwks(SOME_KEY)))
        assert await accepts(idp, good())
        target, _, status = fault.partition("?")
        elsewhere = f"Location: {server.url('/elsewhere')}"
        found = jwks(jwk("ES256", "new", 1))

        async def failing(exchange: Exchange) -> None:
            if status:
                await exchange.answer(found, elsewhere, status=f"{status} -")
            else:
                await server.parts[target](exchange)

        server.parts["/jwks"] = failing
        idp.clock.advance(OLDEST)
        later = claims(exp=NOW + 2 * OLDEST)
        assert await accepts(idp, token(ES256, later))
        unknown = token({"alg": "ES256", "kid": "new"}, later, signer("ES256", private_key("ES256", 1)))
        answer = await idp.check("nginx", [bearer(unknown)])
        assert (answer.status, answer.reason) == (503, "upstream_unavailable")
        assert await accepts(idp, token(ES256, {**later, "sub": "bob"}))
        assert {request.target for request in server.received} == {"/jwks"}


@pytest.mark.parametrize(
    ("bad", "algorithm", "kind"),
    [
        pytest.param([jwk("ES256", "k"), jwk("ES256", "k", 1)], "ES256", "ES256", id="two keys with one kid"),
        pytest.param([jwk("RSA-1024", "k")], "RS256", "RSA-1024", id="RSA under 2048 bits"),
        pytest.param([jwk("ES256", "k", use="enc")], "ES256", "ES256", id="a key for encryption"),
    ],
)
async def test_f77_a_key_that_must_not_be_used_is_not_and_the_others_are(
    make: Make, bad: list[Json], algorithm: str, kind: str
) -> None:
    async with hostile() as server:
        idp = await make(**publishing(server, jwks(*bad, SOME_KEY)))
        by_it = token({"alg": algorithm, "kid": "k"}, claims(), signer(algorithm, private_key(kind)))
        assert await judged(idp, by_it) == REFUSED
        assert await accepts(idp, good())


# --- how it is written ---------------------------------------------------------------------------


async def test_f78_a_token_has_one_spelling(idp: Running) -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # Parts whose last character has bits to spare, so that others decode to the same bytes.
    header = json.dumps(ES256) + " " * ((2 - len(json.dumps(ES256))) % 3)
    payload = json.dumps(claims()) + " " * ((1 - len(json.dumps(claims()))) % 3)
    written = token(header, payload, signer("ES256"))
    assert await accepts(idp, written)
    parts = written.split(b".")
    for which, each in enumerate(parts):
        assert len(each) % 4
        twins = [each[:-1] + alphabet[i : i + 1] for i in range(64)]
        same = [twin for twin in twins if twin != each and decoded(twin) == decoded(each)]
        assert same
        for other in [
            *same,
            each + b"=" * (-len(each) % 4),
            each + b"=",
            b" " + each if which else each + b" ",
            each + b"\t" if which < 2 else b"\t" + each,
            each + b"A",
        ]:
            assert not await accepts(idp, b".".join([*parts[:which], other, *parts[which + 1 :]]))


def decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def twin_of(written: bytes) -> bytes:
    """The same token with (r, n - s), which verifies wherever (r, s) does: anybody can make it."""
    signed, _, last = written.rpartition(b".")
    r, s = (int.from_bytes(half) for half in (decoded(last)[:32], decoded(last)[32:]))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = signed + b"." + base64.urlsafe_b64encode(r.to_bytes(32) + (order - s).to_bytes(32)).rstrip(b"=")
    assert twin != written
    return twin


async def test_f78_another_signature_by_the_same_key_says_the_same_and_no_more(idp: Running) -> None:
    assert await accepts(idp, good())
    assert await accepts(idp, twin_of(good()))
    assert not await accepts(idp, twin_of(good(exp=NOW)))


@pytest.mark.parametrize("asked_before", [True, False], ids=["known", "not known"])
async def test_f78_the_twin_of_a_token_whose_session_was_revoked_is_revoked_with_it(
    idp: Running, asked_before: bool
) -> None:
    alice = await idp.add_user()
    written = await idp.token(alice)
    if asked_before:
        assert await accepts(idp, written)
        assert await accepts(idp, twin_of(written))
    await idp.store.sessions.revoke_user(alice.id)
    idp.clock.advance(1)
    assert await judged(idp, written) == await judged(idp, twin_of(written)) == "unknown_session"


DEEP = "[" * 100_000
DEEP_OBJECTS = '{"a":' * 2000 + "1" + "}" * 2000
HUGE = [
    pytest.param(b"A" * 1_000_000, id="1 MB"),
    pytest.param(b".".join([b"A" * 400_000] * 3), id="1 MB in three parts"),
    pytest.param(good(pad="x" * 1_000_000), id="1 MB and well signed"),
    pytest.param(good(pad="x" * LONGEST), id="a little too long and well signed"),
    pytest.param(b"." * 100_000, id="10^5 dots"),
    pytest.param(b"a." * 8000, id="dots that are read"),
    pytest.param(f"{part(DEEP)}.{part(claims())}.AAAA".encode(), id="10^5 deep header"),
    pytest.param(f"{part(ES256)}.{part(DEEP)}.AAAA".encode(), id="10^5 deep payload"),
    pytest.param(f"{part(ES256)}.{part(DEEP[:12_000])}.AAAA".encode(), id="deep and short enough to be read"),
    pytest.param(f"{part(ES256)}.{part(DEEP_OBJECTS)}.AAAA".encode(), id="deep objects"),
    pytest.param(b"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOa.48V1.5eym.XFBo", id="JWE"),
    pytest.param(b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..48V1.5eym.XFBo", id="JWE without a key"),
]


@pytest.mark.parametrize("written", HUGE)
async def test_f79_what_nobody_writes_is_refused_in_no_time(idp: Running, written: bytes) -> None:
    took = []
    for _ in range(5):
        began = time.process_time()
        answer = await judged(idp, written)
        took.append(time.process_time() - began)
    assert answer == (TOO_LONG if len(written) > 64 * 1024 else NOT_OURS)
    assert min(took) < 10 * 0.005  # ten times what it may take: other tests run beside this one


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        pytest.param('{"alg":"none","alg":"ES256","kid":"ES256"}', None, id="alg"),
        pytest.param('{"alg":"ES256","kid":"other","kid":"ES256"}', None, id="kid"),
        pytest.param('{"alg":"ES256","kid":"ES256","x":{"a":1,"a":1}}', None, id="deep in the header"),
        pytest.param(None, '{"sub":"bob",', id="sub"),
        pytest.param(None, '{"iss":"x",', id="iss"),
        pytest.param(None, '{"x":[{"a":1,"a":1}],', id="deep in the payload"),
        pytest.param(None, '{"\\u0073ub":"bob",', id="sub, escaped"),
    ],
)
async def test_f80_what_is_said_twice_is_said_by_nobody(
    idp: Running, header: str | None, payload: str | None
) -> None:
    written = json.dumps(claims()).replace("{", payload or "{", 1)
    assert await judged(idp, token(header or ES256, written, signer("ES256"))) == NOT_OURS


@pytest.mark.parametrize(
    "written",
    [
        token("[]", claims(), signer("ES256")),
        token(ES256, "[]", signer("ES256")),
        token(ES256, "", signer("ES256")),
        token(ES256, "\ufeff" + json.dumps(claims()), signer("ES256")),
        token(ES256, json.dumps(claims()) + "x", signer("ES256")),
        token(ES256, '"' + ISSUER + '"', signer("ES256")),
        good().rpartition(b".")[0],
        b"opaque",
        b"a.b",
        b"..",
        good().replace(b".", b"%2e", 1),
    ],
    ids=[
        "header no object",
        "payload no object",
        "payload empty",
        "byte-order mark",
        "more than JSON",
        "payload a string",
        "two parts",
        "opaque",
        "two words",
        "empty parts",
        "an escaped dot",
    ],
)
async def test_what_is_no_token_is_not_ours(idp: Running, written: bytes) -> None:
    assert await judged(idp, written) in {NOT_OURS, "malformed_credential"}


@given(
    written=st.binary(max_size=200).filter(lambda written: b"\n" not in written)  # which is another line
    | st.from_regex(r"[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,9}", fullmatch=True).map(str.encode)
)
@fuzzing(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_is_answered(idp: Running, written: bytes) -> None:
    assert await judged(idp, written) in {NOT_OURS, "unknown_key", "malformed_credential", NO_HTTP}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), JSON, min_size=1),
    payload=st.dictionaries(st.sampled_from(["aud", "exp", "nbf", "iat", "sub"]), JSON),
)
@fuzzing(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_types_the_members_have_the_answer_is_a_refusal(
    idp: Running, header: Json, payload: Json
) -> None:
    changed = token({**ES256, **header}, {**claims(), **payload}, lambda _: b"x" * 64)
    assert await judged(idp, changed) == REFUSED


# --- what is told --------------------------------------------------------------------------------


async def test_an_outage_is_no_refusal_but_a_bad_token_is_one_all_the_same(make: Make) -> None:
    async with hostile() as server:
        idp = await make(jwks_url=server.url("/status?503"))
        outage = await idp.check("nginx", [bearer(good())])
        assert (outage.status, outage.reason) == (503, "upstream_unavailable")
        for bad in (
            good(exp=NOW - 1),
            good(aud="x"),
            token({**ES256, "alg": "none"}, claims(), signer("ES256")),
        ):
            assert await judged(idp, bad) == REFUSED
        assert await judged(idp, good(iss="https://other")) == NOT_OURS


async def test_why_a_token_is_refused_is_told_and_the_token_is_not(make: Make, log: io.StringIO) -> None:
    idp = await make()
    bad = [
        good(aud="PLANTED"),
        good(exp=1),
        token({**ES256, "kid": "PLANTED"}, claims()),
        token({**ES256, "alg": "PLANTED"}, claims(), signer("ES256")),
    ]
    for each in [*bad, good(sub="PLANTED")]:
        await judged(idp, each)
    told = log.getvalue()
    refused = [entry for entry in map(json.loads, told.splitlines()) if entry["event"] == "token_refused"]
    assert len({entry["why"] for entry in refused}) == len(refused) == len(bad)
    assert {entry["level"] for entry in refused} == {"debug"}
    assert "PLANTED" not in told
    assert not any(part.decode() in told for each in bad for part in each.split(b"."))

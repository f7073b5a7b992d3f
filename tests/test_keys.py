"""Tokens that the sidecar signs: every one that differs in a hair is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import InvalidToken
from sidecar.keys import MANAGEMENT_LIFETIME, MANAGEMENT_TOKEN, SESSION_TOKEN, KeyRing, _PlainEncoder, new_key
from sidecar.records import SigningKey
from tests.conftest import Start
from tests.running import Running, bearer, running

ALGORITHMS = ("ES256", "RS256", "EdDSA", "HS256")


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.fixture(params=ALGORITHMS)
async def ring(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, {"tokens": {"algorithm": request.param}}) as sidecar:
        yield sidecar


async def signing_key(sidecar: Running) -> SigningKey:
    return (await sidecar.store.signing_keys.list(now=sidecar.clock.now()))[0]


async def good(sidecar: Running) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token that is accepted."""
    token = await sidecar.token(await sidecar.add_user())
    return jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})


async def accepts(sidecar: Running, token: str) -> bool:
    answer = await sidecar.check("nginx", [bearer(token)])
    assert answer.status in {200, 401}
    return answer.status == 200


async def test_a_token_says_who_it_is_for_and_how_long(ring: Running) -> None:
    header, claims = await good(ring)
    key = await signing_key(ring)
    assert header == {"alg": key.algorithm, "kid": key.id, "typ": "session+jwt"}
    now = int(ring.clock.now())
    assert {name: claims[name] for name in ("iss", "sub", "aud", "iat", "exp", "userId", "name")} == {
        "iss": "http://127.0.0.1:9000",
        "sub": "1",
        "aud": "sidecar",
        "iat": now,
        "exp": now + 3600,
        "userId": "1",
        "name": "alice",
    }


async def test_a_signed_copy_is_accepted_so_that_what_follows_tests_one_change_at_a_time(
    ring: Running,
) -> None:
    header, claims = await good(ring)
    key = await signing_key(ring)
    assert await accepts(ring, jwt.encode(claims, key.private, key.algorithm, header))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "http://127.0.0.1:9000/"},
        {"iss": "http://127.0.0.1"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": None},
        {"exp": 0},
        {"exp": "9999999999"},
        {"exp": 9999999999.5},
        {"iat": "1"},
        {"sub": None},
        {"sub": "2"},
        pytest.param({"sub": "\ud800"}, id="d45 a lone surrogate in sub"),
        pytest.param({"sid": "\ud800"}, id="d45 a lone surrogate in sid"),
        {"jti": None},
        {"sid": "unknown"},
        {"sid": None},
        {"sid": ["a"]},
    ],
    ids=str,
)
async def test_f67_to_f70_a_token_with_another_claim_is_refused(
    sidecar: Running, change: dict[str, Any]
) -> None:
    header, claims = await good(sidecar)
    key = await signing_key(sidecar)
    changed = {name: value for name, value in {**claims, **change}.items() if value is not None}
    assert not await accepts(sidecar, jwt.encode(changed, key.private, key.algorithm, header))


@pytest.mark.parametrize(
    "change",
    [
        {"typ": "JWT"},
        {"typ": "management+jwt"},
        {"typ": None},
        {"kid": "../../etc/passwd"},
        {"kid": "' OR 1=1"},
        {"kid": None},
        {"crit": ["exp"]},
        {"crit": []},
    ],
    ids=str,
)
async def test_f71_to_f73_a_token_with_another_header_is_refused(
    sidecar: Running, change: dict[str, Any]
) -> None:
    header, claims = await good(sidecar)
    key = await signing_key(sidecar)
    changed = {name: value for name, value in {**header, **change}.items() if value is not None}
    if "typ" not in changed:
        changed["typ"] = ""
    assert not await accepts(sidecar, jwt.encode(claims, key.private, key.algorithm, changed))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS256", "ES384"])
async def test_f64_a_token_that_nobody_signed_is_refused(sidecar: Running, alg: str) -> None:
    header, claims = await good(sidecar)
    for signature in ("", part("x")):
        assert not await accepts(sidecar, f"{part({**header, 'alg': alg})}.{part(claims)}.{signature}")
    for bad in ({"alg": ["none"]}, {"alg": None}, {"alg": 1}):
        assert not await accepts(sidecar, f"{part({**header, **bad})}.{part(claims)}.{part('x')}")


@pytest.mark.parametrize("form", ["pem", "der", "raw"])
async def test_f65_a_public_key_is_no_secret(sidecar: Running, form: str) -> None:
    header, claims = await good(sidecar)
    private = serialization.load_pem_private_key((await signing_key(sidecar)).private, None)
    public = private.public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    secret = {
        "pem": public.public_bytes(serialization.Encoding.PEM, info),
        "der": public.public_bytes(serialization.Encoding.DER, info),
        "raw": public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    }[form]
    signed = f"{part({**header, 'alg': 'HS256'})}.{part(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed.encode(), hashlib.sha256)).rstrip(b"=")
    assert not await accepts(sidecar, f"{signed}.{signature.decode()}")


async def test_f78_f80_a_token_is_written_one_way_only(sidecar: Running) -> None:
    header, claims = await good(sidecar)
    key = await signing_key(sidecar)
    token = jwt.encode(claims, key.private, key.algorithm, header)
    first, second, third = token.split(".")
    repeated = json.dumps(header).replace("{", '{"typ": "other", ', 1)
    twice = f"{part(repeated)}.{second}"
    es256 = jwt.get_algorithm_by_name("ES256")
    signature = base64.urlsafe_b64encode(es256.sign(twice.encode(), es256.prepare_key(key.private)))
    for wrong in (
        f"{token}=",
        f"{first}=.{second}.{third}",
        f"{first}.{second}.{third}.{third}",
        twice + "." + signature.rstrip(b"=").decode(),
        f"{part([header])}.{second}.{third}",
        f"{part('{')}.{second}.{third}",
        f"{part('[' * 10_000)}.{second}.{third}",
        "." * 60_000,
        f"{first}.{second}.",
        f"{first}.{second}.{third}".replace("e", "%65", 1),
    ):
        assert not await accepts(sidecar, wrong)


async def test_f74_keys_that_a_token_brings_along_are_never_used(sidecar: Running) -> None:
    header, claims = await good(sidecar)
    foreign = new_key("ES256", 0.0)
    for name in ("jku", "x5u", "jwk"):
        brought = {**header, name: "http://127.0.0.1:1/keys"}
        assert not await accepts(sidecar, jwt.encode(claims, foreign.private, "ES256", brought))


async def test_a_rotated_key_verifies_until_its_last_token_has_expired(ring: Running) -> None:
    old = (await ring.token(await ring.add_user())).decode()
    before = await signing_key(ring)
    after = await ring.parts.keys.rotate()
    assert (await signing_key(ring)).id == after.id != before.id
    new = (await ring.token(await ring.add_user("bob"))).decode()
    assert jwt.get_unverified_header(new)["kid"] == after.id
    assert [await accepts(ring, old), await accepts(ring, new)] == [True, True]
    # Of all tokens, management tokens live longest; others may sign with the old key for some more moments.
    ring.clock.advance(MANAGEMENT_LIFETIME + 2)
    await ring.application.purge()
    assert [key.id for key in await ring.store.signing_keys.list(now=ring.clock.now())] == [after.id]


async def test_a_rotated_key_verifies_the_longest_lived_token_to_its_end(ring: Running) -> None:
    keys = ring.parts.keys
    token = (await keys.sign(MANAGEMENT_TOKEN, {"sub": "ak_1"}, not_after=inf)).text.encode()
    await keys.rotate()
    ring.clock.advance(MANAGEMENT_LIFETIME - 1)
    await ring.application.purge()
    assert (await keys.verify(token, MANAGEMENT_TOKEN))["sub"] == "ak_1"


async def test_a_token_that_the_old_key_signs_before_all_know_of_the_new_one_is_good(tmp_path: Path) -> None:
    async with running(tmp_path) as late, running(tmp_path) as first:
        await late.parts.keys.jwks()
        late.clock.wall += 0.93
        first.clock.wall += 0.93
        await first.parts.keys.rotate()
        late.clock.wall += 0.1  # the second turns, and the change feed is not asked again yet
        token = await late.parts.keys.sign(MANAGEMENT_TOKEN, {"sub": "ak_1"}, not_after=inf)
        for each in (late, first):
            each.clock.advance(2)
            assert await each.parts.keys.verify(token.text.encode(), MANAGEMENT_TOKEN)


async def test_a_stolen_key_is_worth_nothing_when_it_is_retired(sidecar: Running) -> None:
    header, claims = await good(sidecar)
    stolen = await signing_key(sidecar)

    def forged(seconds: int) -> str:
        return jwt.encode(
            {**claims, "exp": claims["exp"] + seconds}, stolen.private, stolen.algorithm, header
        )

    assert await accepts(sidecar, forged(10_000))
    await sidecar.parts.keys.rotate()
    sidecar.clock.advance(1)
    assert [await accepts(sidecar, forged(seconds)) for seconds in (0, 10_000)] == [True, False]
    sidecar.clock.advance(MANAGEMENT_LIFETIME + 1)
    assert not await accepts(sidecar, forged(0))
    # Nobody has read the keys again since, and still it is not published.
    assert stolen.id not in json.dumps(await sidecar.parts.keys.jwks())


async def test_no_key_is_in_a_repr(ring: Running) -> None:
    await ring.token(await ring.add_user())
    secret = (await signing_key(ring)).private
    shown = repr(await ring.parts.keys._current()) + repr(await signing_key(ring))
    assert repr(secret)[2:-1] not in shown


async def test_a_key_that_another_process_rotated_is_known_within_a_second(tmp_path: Path) -> None:
    async with running(tmp_path) as first, running(tmp_path) as second:
        alice = await first.add_user()
        assert await accepts(second, (await first.token(alice)).decode())
        await first.parts.keys.rotate()
        second.clock.advance(1)
        assert await accepts(second, (await first.token(alice)).decode())


async def test_another_algorithm_in_the_settings_means_another_key(start: Start) -> None:
    async with start({"tokens": {"algorithm": "ES256"}}) as sidecar:
        alice = await sidecar.add_user()
        old = (await sidecar.token(alice)).decode()
    async with start({"tokens": {"algorithm": "EdDSA"}}) as sidecar:
        assert (await signing_key(sidecar)).algorithm == "EdDSA"
        assert await accepts(sidecar, old)
        published = await sidecar.parts.keys.jwks()
        assert [key["kty"] for key in published["keys"]] == ["OKP", "EC"]


async def test_a_symmetric_key_is_never_published(start: Start) -> None:
    async with start({"tokens": {"algorithm": "HS256"}}) as sidecar:
        assert await sidecar.parts.keys.jwks() == {"keys": []}


async def test_a_published_key_verifies_with_a_stock_client(sidecar: Running) -> None:
    token = (await sidecar.token(await sidecar.add_user())).decode()
    (key,) = (await sidecar.parts.keys.jwks())["keys"]
    options: Any = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(token, jwt.PyJWK(key), ["ES256"], options, audience="sidecar")["sub"] == "1"


async def test_verifying_says_which_rule_was_broken_and_never_the_token(sidecar: Running) -> None:
    ring: KeyRing = sidecar.parts.keys
    with pytest.raises(InvalidToken) as caught:
        await ring.verify(b"PLANTED.PLANTED.PLANTED", SESSION_TOKEN)
    assert "PLANTED" not in str(caught.value)


async def test_a_token_of_one_kind_is_none_of_another(ring: Running) -> None:
    keys = ring.parts.keys
    token = (await keys.sign(MANAGEMENT_TOKEN, {"sub": "ak_1"}, not_after=inf)).text.encode()
    claims = await keys.verify(token, MANAGEMENT_TOKEN)
    assert (claims["aud"], claims["exp"] - claims["iat"]) == ("sidecar-management", 7200)
    with pytest.raises(InvalidToken):
        await keys.verify(token, SESSION_TOKEN)
    header, session = await good(ring)
    key = await signing_key(ring)
    relabelled = jwt.encode(session, key.private, key.algorithm, {**header, "typ": "management+jwt"})
    with pytest.raises(InvalidToken):
        await keys.verify(relabelled.encode(), MANAGEMENT_TOKEN)


@given(name=st.text() | st.text(alphabet=">?~\x7f{}é\u2028\U0001f600", max_size=40))
@settings(max_examples=300)
def test_claims_are_the_same_in_both_alphabets_of_base64(name: str) -> None:
    token = jwt.encode({"name": name}, "k" * 32, "HS256", json_encoder=_PlainEncoder)
    claims = token.split(".")[1]
    assert not {"-", "_"} & set(claims)
    assert json.loads(base64.b64decode(claims + "=" * (-len(claims) % 4))) == {"name": name}

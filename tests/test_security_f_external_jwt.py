"""Security cases F: tokens of other issuers, made by hand. Every one that differs in a hair is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.authenticators.jwt import JwtAuthenticator
from sidecar.errors import UpstreamUnavailable
from sidecar.jwks import FixedKeys
from sidecar.jws import LONGEST
from sidecar.model import Credential, Form, Reason, Rejected, Verified
from tests.clocks import ManualClock
from tests.issuer import (
    ASYMMETRIC,
    ISSUER,
    NOW,
    SECRET,
    Json,
    claims,
    jwk,
    jwks,
    part,
    private_key,
    settings,
    signer,
    token,
)
from tests.test_jwks import scene

CLIENT = ip_address("192.0.2.1")
REFUSED = Rejected(Reason.INVALID_TOKEN)
ES256 = {"alg": "ES256", "kid": "ES256"}

Make = Callable[..., JwtAuthenticator]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """An authenticator by these settings; unless they say otherwise, one key of every kind in a file."""

    def made(**changes: Any) -> JwtAuthenticator:
        if not {"secret", "public_key_file"} & set(changes):
            file = tmp_path / "jwks.json"
            file.write_bytes(jwks(*(jwk(name, name, alg=name) for name in ASYMMETRIC)))
            changes = {"jwks_file": str(file), **changes}
        chosen = settings(**changes)
        return JwtAuthenticator(chosen, "idp", keys=FixedKeys(chosen, "idp"), clock=ManualClock())

    return made


@pytest.fixture
def authenticator(make: Make) -> JwtAuthenticator:
    return make()


async def judged(authenticator: JwtAuthenticator, presented: bytes) -> Verified | Rejected | None:
    return await authenticator.authenticate(Credential(Form.BEARER, presented), CLIENT)


async def accepts(authenticator: JwtAuthenticator, presented: bytes) -> bool:
    return isinstance(await judged(authenticator, presented), Verified)


def good(algorithm: str = "ES256", /, **changes: Any) -> bytes:
    return token({"alg": algorithm, "kid": algorithm}, claims(**changes))


# --- what is good --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_good_token_is_accepted_so_that_what_follows_tests_one_change_at_a_time(
    authenticator: JwtAuthenticator, algorithm: str
) -> None:
    assert await accepts(authenticator, good(algorithm))


async def test_a_token_says_who_it_is_and_until_when(make: Make) -> None:
    authenticator = make(subject_prefix="idp|", claims={"roles": "realm_access.roles"})
    more: Json = {"preferred_username": "al", "realm_access": {"roles": ["b", "a"]}, "scope": "read write"}
    answer = await judged(authenticator, good(**more, exp=NOW + 60.5))
    assert isinstance(answer, Verified)
    identity = answer.identity
    assert (identity.subject, identity.method, identity.issuer) == ("idp|alice", "jwt:idp", ISSUER)
    assert (identity.username, identity.roles, identity.scopes) == ("al", ("a", "b"), ("read", "write"))
    assert (identity.expires_at, answer.cacheable, identity.user_id) == (NOW + 60.5, inf, None)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_secret_is_one_key_whatever_id_a_token_gives_it(make: Make, algorithm: str) -> None:
    authenticator = make(secret=SECRET, algorithms=algorithm)
    for header in ({}, {"kid": "any"}):
        assert await accepts(authenticator, token({"alg": algorithm, **header}, claims()))
    wrong = signer(algorithm, b"another secret of 32 bytes or more, and no better")
    assert await judged(authenticator, token({"alg": algorithm}, claims(), wrong)) == REFUSED


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_public_key_file_is_one_key_whatever_id_a_token_gives_it(
    make: Make, tmp_path: Path, algorithm: str
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(encoded(private_key(algorithm).public_key(), "pem"))
    authenticator = make(public_key_file=str(file), algorithms=algorithm)
    for header in ({}, {"kid": "any"}):
        assert await accepts(authenticator, token({"alg": algorithm, **header}, claims()))
    foreign = signer(algorithm, private_key(algorithm, 1))
    assert await judged(authenticator, token({"alg": algorithm}, claims(), foreign)) == REFUSED


async def test_a_token_without_a_kid_needs_one_key_that_fits_its_algorithm(
    make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(jwks(jwk("ES256", "a"), jwk("RSA", "b"), jwk("RSA", "c", 1), jwk("EdDSA")))
    authenticator = make(jwks_file=str(file))
    answers = {
        name: await accepts(authenticator, token({"alg": name}, claims()))
        for name in ("ES256", "EdDSA", "RS256", "ES384")
    }
    assert answers == {"ES256": True, "EdDSA": True, "RS256": False, "ES384": False}


# --- who signed it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "RS512", ["none"], ["ES256"], None, 1, {}]
)
async def test_f64_a_token_that_nobody_signed_is_refused(authenticator: JwtAuthenticator, alg: Any) -> None:
    for signature in ("", part("x"), part("\0" * 64)):
        written = f"{part({**ES256, 'alg': alg})}.{part(claims())}.{signature}"
        assert await judged(authenticator, written.encode()) == REFUSED


async def test_f64_a_token_without_alg_is_refused(authenticator: JwtAuthenticator) -> None:
    assert await judged(authenticator, token({"kid": "ES256"}, claims(), signer("ES256"))) == REFUSED


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
async def test_f65_a_public_key_is_no_secret(
    authenticator: JwtAuthenticator, kind: str, form: str, hash: str
) -> None:
    secret = encoded(private_key(kind).public_key(), form)
    for header in ({"kid": kind}, {}):
        forged = token(
            {"alg": f"HS{hash}", **header},
            claims(),
            lambda signed: hmac.digest(secret, signed, getattr(hashlib, f"sha{hash}")),
        )
        assert await judged(authenticator, forged) == REFUSED


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
async def test_f66_a_key_is_used_for_its_own_algorithm_alone(
    authenticator: JwtAuthenticator, alg: str, kid: str
) -> None:
    by_the_named = token({"alg": alg, "kid": kid}, claims())
    assert await judged(authenticator, by_the_named) == REFUSED
    if {alg, kid} == {"RS256", "PS256"} or {alg, kid} == {"ES256", "ES384"}:
        by_this_key = token({"alg": alg, "kid": kid}, claims(), signer(alg, private_key(kid)))
        assert await judged(authenticator, by_this_key) == REFUSED


async def test_f66_an_algorithm_that_is_not_configured_is_refused_though_the_key_fits(
    make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "plain.json"
    file.write_bytes(jwks(jwk("RSA", "a")))
    authenticator = make(jwks_file=str(file), algorithms=["RS256", "PS384"])
    answers = {
        name: await accepts(
            authenticator, token({"alg": name, "kid": "a"}, claims(), signer(name, private_key("RSA")))
        )
        for name in ("RS256", "PS384", "RS384", "PS256", "RS512")
    }
    assert answers == {"RS256": True, "PS384": True, "RS384": False, "PS256": False, "RS512": False}


async def test_a_signature_is_of_this_key_over_these_bytes(authenticator: JwtAuthenticator) -> None:
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
            assert await judged(authenticator, wrong) == REFUSED


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_any_one_character_of_a_good_token_changed_makes_it_a_bad_one(
    authenticator: JwtAuthenticator, algorithm: str
) -> None:
    written = good(algorithm)
    for position in range(len(written)):
        for character in (b"A", b"B", b"."):
            changed = written[:position] + character + written[position + 1 :]
            assert changed == written or not await accepts(authenticator, changed)
        assert not await accepts(authenticator, written[:position])


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
async def test_f67_a_token_of_another_issuer_is_not_ours(authenticator: JwtAuthenticator, iss: Any) -> None:
    assert await judged(authenticator, good(iss=iss)) is None


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
    authenticator = make(audience=["app", "api"])
    answer = await judged(authenticator, good(aud=aud))
    assert isinstance(answer, Verified) if accepted else answer == REFUSED


@pytest.mark.parametrize("sub", [None, "", [], ["alice"], {"a": 1}, True, 1.5, "\ud800"], ids=repr)
async def test_a_token_that_names_nobody_is_refused(authenticator: JwtAuthenticator, sub: Any) -> None:
    written = token(ES256, claims(sub=sub))
    assert not await accepts(authenticator, written)


# --- when ----------------------------------------------------------------------------------------

NO_DATES = ["null", '"1800000300"', "true", "[1800000300]", "{}", "1e30", "1" + "0" * 30, "NaN", "Infinity"]
NO_DATES += ["-Infinity", "1e999", "-1", "253402300800", "1" + "0" * 5000]


async def judged_with(authenticator: JwtAuthenticator, name: str, value: str) -> Verified | Rejected | None:
    """A token with this claim, as it is written."""
    rest = json.dumps({each: claim for each, claim in claims().items() if each != name})
    return await judged(authenticator, token(ES256, rest.replace("{", f'{{"{name}": {value}, ', 1)))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", NO_DATES, ids=lambda value: value[:32])
async def test_f69_f70_a_time_is_a_date(authenticator: JwtAuthenticator, name: str, value: str) -> None:
    assert not isinstance(await judged_with(authenticator, name, value), Verified)


async def test_f69_a_token_that_never_expires_is_refused(authenticator: JwtAuthenticator) -> None:
    assert await judged(authenticator, good(exp=None)) == REFUSED


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
    authenticator: JwtAuthenticator, name: str, value: float | None, accepted: bool
) -> None:
    answer = await judged(authenticator, good(**{name: value}))
    assert isinstance(answer, Verified) if accepted else answer == REFUSED


async def test_leeway_is_what_the_settings_say(make: Make) -> None:
    authenticator = make(leeway="2m")
    answers = [await accepts(authenticator, good(nbf=NOW + seconds)) for seconds in (31, 120, 121)]
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
async def test_f71_a_token_that_wants_an_extension_understood_is_refused(
    authenticator: JwtAuthenticator, more: Json
) -> None:
    assert await judged(authenticator, token({**ES256, **more}, claims())) == REFUSED


async def test_f71_an_unencoded_payload_is_refused(authenticator: JwtAuthenticator) -> None:
    header = part({**ES256, "b64": False, "crit": ["b64"]})
    for payload in (json.dumps(claims()), ""):
        signature = signer("ES256")(f"{header}.{payload}".encode())
        written = f"{header}.{payload}.".encode() + base64.urlsafe_b64encode(signature).rstrip(b"=")
        assert not await accepts(authenticator, written)


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
    answer = await judged(make(typ=configured), token(header, claims()))
    assert isinstance(answer, Verified) if accepted else answer == REFUSED


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
async def test_f73_a_kid_is_a_name_and_nothing_more(authenticator: JwtAuthenticator, kid: Any) -> None:
    assert await judged(authenticator, token({**ES256, "kid": kid}, claims())) == REFUSED


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_f74_keys_that_a_token_brings_along_are_never_used_nor_fetched(name: str) -> None:
    async with scene(jwks(jwk("ES256", "ES256"))) as here:
        authenticator = JwtAuthenticator(here.settings, "idp", keys=here.keys, clock=here.clock)
        address = here.server.url("/theirs")
        brought = {"jwk": jwk("ES256", "ES256", 1), "x5c": ["MIIB"]}.get(name, address)
        foreign = signer("ES256", private_key("ES256", 1))
        forged = token({**ES256, name: brought}, claims(), foreign)
        genuine = token({**ES256, name: brought}, claims())
        assert await judged(authenticator, forged) == REFUSED
        assert (
            await judged(authenticator, token({"alg": "ES256", name: brought}, claims(), foreign)) == REFUSED
        )
        assert await accepts(authenticator, genuine)
        assert [request.target for request in here.server.received] == ["/jwks"]


# --- how it is written ---------------------------------------------------------------------------


async def test_f78_a_token_has_one_spelling(authenticator: JwtAuthenticator) -> None:
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # Parts whose last character has bits to spare, so that others decode to the same bytes.
    header = json.dumps(ES256) + " " * ((2 - len(json.dumps(ES256))) % 3)
    payload = json.dumps(claims()) + " " * ((1 - len(json.dumps(claims()))) % 3)
    written = token(header, payload, signer("ES256"))
    assert await accepts(authenticator, written)
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
            each + b"\n",
            b" " + each,
            each + b"A",
        ]:
            assert not await accepts(authenticator, b".".join([*parts[:which], other, *parts[which + 1 :]]))


def decoded(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


async def test_f78_another_signature_by_the_same_key_says_the_same_and_no_more(
    authenticator: JwtAuthenticator,
) -> None:
    """(r, n - s) verifies wherever (r, s) does: what depends on a token must not hang on its bytes."""
    written = good()
    signed, _, last = written.rpartition(b".")
    r, s = (int.from_bytes(half) for half in (decoded(last)[:32], decoded(last)[32:]))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = signed + b"." + base64.urlsafe_b64encode(r.to_bytes(32) + (order - s).to_bytes(32)).rstrip(b"=")
    assert twin != written
    assert await judged(authenticator, twin) == await judged(authenticator, written)


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
async def test_f79_what_nobody_writes_is_refused_in_no_time(
    authenticator: JwtAuthenticator, written: bytes
) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        answer = await judged(authenticator, written)
        took.append(time.perf_counter() - began)
    assert answer is None
    assert min(took) < 0.005


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
    authenticator: JwtAuthenticator, header: str | None, payload: str | None
) -> None:
    written = json.dumps(claims()).replace("{", payload or "{", 1)
    assert await judged(authenticator, token(header or ES256, written, signer("ES256"))) is None


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
        b"",
        b"sk_12345",
        b"opaque",
        b"a.b",
        b"..",
        good().replace(b".", b"%2e", 1),
        b"Bearer " + good(),
        good() + b"\n",
    ],
    ids=[
        "header no object",
        "payload no object",
        "payload empty",
        "byte-order mark",
        "more than JSON",
        "payload a string",
        "two parts",
        "nothing",
        "an API key",
        "opaque",
        "two words",
        "empty parts",
        "an escaped dot",
        "a scheme before it",
        "a line end",
    ],
)
async def test_what_is_no_token_is_not_ours(authenticator: JwtAuthenticator, written: bytes) -> None:
    assert await judged(authenticator, written) is None


@given(
    written=st.binary(max_size=200)
    | st.from_regex(r"[\w-]{0,60}\.[\w-]{0,60}\.[\w-]{0,9}", fullmatch=True).map(str.encode)
)
@fuzzing(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_is_answered(authenticator: JwtAuthenticator, written: bytes) -> None:
    assert await judged(authenticator, written) is None


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
    authenticator: JwtAuthenticator, header: Json, payload: Json
) -> None:
    changed = token({**ES256, **header}, {**claims(), **payload}, lambda _: b"x" * 64)
    assert await judged(authenticator, changed) == REFUSED


# --- what is told --------------------------------------------------------------------------------


async def test_an_outage_is_no_refusal_but_a_bad_token_is_one_all_the_same() -> None:
    async with scene(None) as here:
        authenticator = JwtAuthenticator(here.settings, "idp", keys=here.keys, clock=here.clock)
        with pytest.raises(UpstreamUnavailable):
            await judged(authenticator, good())
        for bad in (
            good(exp=NOW - 1),
            good(aud="x"),
            token({**ES256, "alg": "none"}, claims(), signer("ES256")),
        ):
            assert await judged(authenticator, bad) == REFUSED
        assert await judged(authenticator, good(iss="https://other")) is None


async def test_why_a_token_is_refused_is_told_and_the_token_is_not(make: Make) -> None:
    authenticator = make()
    bad = [
        good(aud="PLANTED"),
        good(exp=1),
        token({**ES256, "kid": "PLANTED"}, claims()),
        token({**ES256, "alg": "PLANTED"}, claims(), signer("ES256")),
    ]
    with capture_logs() as logs:
        for each in [*bad, good(sub="PLANTED")]:
            await judged(authenticator, each)
    told = repr(logs) + repr(authenticator) + repr(vars(authenticator))
    assert [entry["event"] for entry in logs] == ["token_refused"] * len(bad)
    assert len({entry["why"] for entry in logs}) == len(bad)
    assert {entry["log_level"] for entry in logs} == {"debug"}
    assert "PLANTED" not in told
    assert not any(part.decode() in told for each in bad for part in each.split(b"."))

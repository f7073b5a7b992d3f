"""Several authenticators on one rule, wired as the product wires them."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from tests.conftest import Start
from tests.hostile import Exchange, Hostile, hostile, make_certificate
from tests.running import Running, bearer

KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://idp.example.com"
REFUSED_PORT = "http://127.0.0.1:9/"


@pytest.fixture
def issuer(tmp_path: Path) -> dict[str, Any]:
    """The settings of an issuer whose key is in a file."""
    public = tmp_path / "issuer.pem"
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return {
        "type": "jwt",
        "issuer": ISSUER,
        "audience": "gateway",
        "algorithms": "ES256",
        "public_key_file": str(public),
        "subject_prefix": "idp:",
    }


ALICE = b'{"active": true, "sub": "u-1", "username": "ann"}'
NOT_ACTIVE = b'{"active": false}'


def answers(server: Hostile, body: bytes, status: str = "200 OK") -> None:
    """From now on it says this of every token."""

    async def part(exchange: Exchange) -> None:
        await exchange.answer(body, status=status)

    server.parts["/introspect"] = part


DOWN = {"type": "introspection", "url": REFUSED_PORT, "client_id": "gateway", "client_secret": "s"}


def token(sidecar: Running, **claims: object) -> bytes:
    now = int(sidecar.clock.now())
    known = {"iss": ISSUER, "aud": "gateway", "sub": "u-1", "exp": now + 60, "preferred_username": "ann"}
    return jwt.encode({**known, **claims}, KEY, "ES256").encode()


async def test_each_token_is_judged_by_whom_it_names_and_an_outage_touches_nobody_elses_users(
    start: Start, issuer: dict[str, Any]
) -> None:
    async with start({"authenticators": {"down": DOWN, "idp": issuer}}) as sidecar:
        alice = await sidecar.add_user()
        for line, status, method in [
            (bearer(token(sidecar)), 200, "jwt:idp"),
            (bearer(await sidecar.token(alice)), 200, "token"),
            (bearer(await sidecar.api_key(alice)), 200, "api_key"),
            (await sidecar.session(alice), 200, "session"),
            (bearer(token(sidecar, exp=1)), 401, "invalid_token"),
            (bearer((await sidecar.token(alice))[:-2]), 401, "invalid_token"),
            (bearer(b"opaque"), 503, "upstream_unavailable"),
        ]:
            answer = await sidecar.check("nginx", [line])
            told = answer.one("X-Auth-Method") if status == 200 else answer.reason
            assert (answer.status, told) == (status, method)
        # What says whose it is was shown to nobody.
        assert (
            'sidecar_upstream_requests_total{result="error",upstream="down"} 1.0' in await sidecar.metrics()
        )


async def test_a_subject_of_theirs_is_no_user_of_ours(start: Start, issuer: dict[str, Any]) -> None:
    theirs = {**issuer, "subject_prefix": ""}
    checks = {"authenticators": ["session", "idp"]}
    async with start({"authenticators": {"idp": theirs}, "checks": checks}) as sidecar:
        alice = await sidecar.add_user("ann", emails=("ann@example.com",), roles=("admin",))
        line = bearer(token(sidecar, sub=str(alice.id), email="ann@example.com"))
        answer = await sidecar.ask("GET", "/auth/session", [line])
        assert answer.status == 200
        assert answer.json["flatRolesList"] == []
        assert answer.json["id"] >= 2**52
        assert answer.json["id"] == (await sidecar.ask("GET", "/api/v1/status", [line])).json["userId"]
        validated = await sidecar.post_json("/auth/validate-session", {"user": {"role": "admin"}}, [line])
        assert validated.status == 401


@pytest.mark.parametrize(
    ("numeric", "subject", "expected"),
    [
        (True, "352", 352),
        (True, str(2**53), None),
        (True, "-1", None),
        (True, "٣", None),
        (False, "352", None),
    ],
)
async def test_a_number_is_theirs_only_where_the_settings_say_so(
    start: Start, issuer: dict[str, Any], numeric: bool, subject: str, expected: int | None
) -> None:
    theirs = {**issuer, "numeric_subject": numeric}
    checks = {"authenticators": ["idp"]}
    async with start({"authenticators": {"idp": theirs}, "checks": checks}) as sidecar:
        answer = await sidecar.ask("GET", "/api/v1/status", [bearer(token(sidecar, sub=subject))])
        assert answer.status == 200
        assert answer.json["userId"] == expected if expected else answer.json["userId"] >= 2**52


async def test_products_accept_our_own_credentials_alone_unless_told(
    start: Start, issuer: dict[str, Any]
) -> None:
    async with start({"authenticators": {"idp": issuer}}) as sidecar:
        line = bearer(token(sidecar))
        assert (await sidecar.check("nginx", [line])).status == 200
        for path in ("/auth/session", "/api/v1/status", "/api/v1/user/check"):
            assert (await sidecar.ask("GET", path, [line])).status == 401


async def test_an_issuer_that_is_down_keeps_nobody_from_starting(start: Start) -> None:
    down = {"type": "jwt", "issuer": "http://127.0.0.1:9", "audience": "gateway", "algorithms": "ES256"}
    async with start({"authenticators": {"idp": down}}) as sidecar:
        alice = await sidecar.add_user()
        assert (await sidecar.check("nginx", [await sidecar.session(alice)])).status == 200
        theirs = jwt.encode(
            {"iss": "http://127.0.0.1:9", "aud": "gateway", "sub": "a", "exp": 2**33}, KEY, "ES256"
        )
        answer = await sidecar.check("nginx", [bearer(theirs.encode())])
        assert (answer.status, answer.reason) == (503, "upstream_unavailable")


async def test_a_thousand_checks_of_one_unknown_token_ask_once(start: Start) -> None:
    async def introspects(exchange: Exchange) -> None:
        await server.release.wait()
        await exchange.answer(b'{"active": true, "sub": "u-1", "username": "ann"}')

    async with hostile() as server:
        server.parts["/introspect"] = introspects
        there = {**DOWN, "url": server.url("/introspect"), "timeout": "30s"}
        async with start({"authenticators": {"there": there}}) as sidecar:
            checks = [asyncio.create_task(sidecar.check("nginx", [bearer(b"opaque")])) for _ in range(1000)]
            await server.until(lambda: len(server.received) == 1)
            server.release.set()
            answers = await asyncio.gather(*checks)
            assert {(answer.status, answer.one("X-Auth-User")) for answer in answers} == {(200, "ann")}
        assert len(server.received) == 1


# --- what the settings say arrives where it counts -----------------------------------------------


def asking(server: Hostile, **more: object) -> dict[str, Any]:
    """The settings of whoever asks this server."""
    return {**DOWN, "url": server.url("/introspect"), **more}


async def test_a_breaker_opens_as_the_settings_say(start: Start) -> None:
    async with hostile() as server:
        answers(server, b"", "500 -")
        there = asking(server, breaker={"faults": 2, "open": "60s"})
        async with start({"authenticators": {"there": there}}) as sidecar:
            for asked, seconds in [(1, 0), (2, 0), (2, 0), (2, 59), (3, 1)]:
                sidecar.clock.advance(seconds)
                assert (await sidecar.check("nginx", [bearer(b"opaque")])).status == 503
                assert len(server.received) == asked


async def test_answers_are_remembered_as_the_settings_say(start: Start) -> None:
    async with hostile() as server:
        there = asking(server, cache="40s", negative_cache="30s", stale_if_error="20s")
        async with start({"authenticators": {"there": there}}) as sidecar:
            answers(server, NOT_ACTIVE)
            for asked, seconds in [(1, 0), (1, 29), (2, 1)]:
                sidecar.clock.advance(seconds)
                assert (await sidecar.check("nginx", [bearer(b"no")])).status == 401
                assert len(server.received) == asked
            answers(server, ALICE)
            assert (await sidecar.check("nginx", [bearer(b"yes")])).status == 200
            answers(server, b"", "500 -")
            for seconds, status in [(31, 200), (28, 200), (2, 503)]:
                sidecar.clock.advance(seconds)
                assert (await sidecar.check("nginx", [bearer(b"yes")])).status == status


async def test_a_certificate_is_trusted_that_the_settings_name(start: Start, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with hostile(certificate) as server:
        answers(server, ALICE)
        for ca_file, status in [(str(certificate.certificate), 200), ("", 503)]:
            async with start({"authenticators": {"there": asking(server, ca_file=ca_file)}}) as sidecar:
                assert (await sidecar.check("nginx", [bearer(b"opaque")])).status == status


async def test_what_is_ours_is_shown_to_nobody(start: Start) -> None:
    async with hostile() as server:
        answers(server, ALICE)
        authenticators = {
            "there": asking(server),
            "app": {"type": "upstream", "url": server.url("/introspect"), "forward_headers": "Authorization"},
        }
        rules = [{"authenticators": ["there", "app"]}]
        async with start({"authenticators": authenticators, "rules": rules}) as sidecar:
            alice = await sidecar.add_user()
            for credential in (await sidecar.token(alice), await sidecar.api_key(alice)):
                assert (await sidecar.check("nginx", [bearer(credential)])).status == 401
            assert not server.received
            assert (await sidecar.check("nginx", [bearer(b"opaque")])).status == 200


async def test_authing_is_asked_about_the_subject_without_our_prefix(start: Start) -> None:
    async def asks(exchange: Exchange) -> None:
        data: dict[str, object] = {"active": True}
        if exchange.request.target.endswith("token"):
            data = {"access_token": "t", "expires_in": 7200}
        await exchange.answer(json.dumps({"statusCode": 200, "data": data}).encode())

    async with hostile() as server:
        answers(server, ALICE)
        server.parts |= {"/v3/check-session-status": asks, "/v3/get-management-token": asks}
        authing = {
            "type": "upstream",
            "dialect": "authing",
            "url": server.url("/v3/check-session-status"),
            "over": "there",
            "app_id": "app1",
            "access_key_id": "ak_1",
            "access_key_secret": "s",
        }
        authenticators = {"there": asking(server, subject_prefix="kc:"), "app": authing}
        async with start(
            {"authenticators": authenticators, "rules": [{"authenticators": ["app"]}]}
        ) as sidecar:
            answer = await sidecar.check("nginx", [bearer(b"opaque")])
            assert (answer.status, answer.one("X-Auth-User-Id")) == (200, "kc:u-1")
        assert json.loads(server.received[-1].body)["userId"] == "u-1"


async def test_an_access_key_that_is_refused_opens_the_circuit(start: Start) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.answer(b'{"statusCode": 401, "apiCode": 2020, "message": "no"}')

    async with hostile() as server:
        answers(server, ALICE)
        server.parts["/v3/get-management-token"] = refuses
        authing = {
            "type": "upstream",
            "dialect": "authing",
            "url": server.url("/v3/check-session-status"),
            "over": "session",
            "app_id": "app1",
            "access_key_id": "ak_1",
            "access_key_secret": "s",
        }
        async with start(
            {"authenticators": {"app": authing}, "rules": [{"authenticators": ["app"]}]}
        ) as sidecar:
            line = await sidecar.session(await sidecar.add_user())
            assert [(await sidecar.check("nginx", [line])).status for _ in range(20)] == [503] * 20
        assert len(server.received) == 5


async def test_the_log_says_why_nobody_knows(start: Start, log: io.StringIO) -> None:
    async with start({"authenticators": {"there": DOWN}}) as sidecar:
        for _ in range(2):
            await sidecar.check("nginx", [bearer(b"opaque")])
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["why"] for line in lines if line["event"] == "check"] == ["there: no connection"] * 2
    assert [line["error"] for line in lines if line["event"] == "upstream_did_not_answer"] == [
        "there: no connection"
    ]


# --- a token says whose it is --------------------------------------------------------------------


async def test_a_token_whose_issuer_is_down_is_shown_to_nobody_else(start: Start) -> None:
    issuer_down = {
        "type": "jwt",
        "issuer": "http://127.0.0.1:9",
        "audience": "gateway",
        "algorithms": "ES256",
    }
    async with hostile() as server:
        answers(server, ALICE)
        async with start({"authenticators": {"idp": issuer_down, "there": asking(server)}}) as sidecar:
            line = bearer(token(sidecar, iss="http://127.0.0.1:9"))
            answer = await sidecar.check("nginx", [line])
            assert (answer.status, answer.reason) == (503, "upstream_unavailable")
        assert not server.received


@pytest.mark.parametrize(
    ("claimed", "roles"),
    [
        ("b a", "a,b"),
        ("  a  ", "a"),
        (["b c", "a"], "a,b c"),
        ("a\u3000b", "a%E3%80%80b"),
        ("a\u00a0b", "a%C2%A0b"),
        ("a\tb", "a%09b"),
        ("", ""),
        ([], ""),
        (7, ""),
    ],
)
async def test_words_have_spaces_between_them_and_nothing_else(
    start: Start, issuer: dict[str, Any], claimed: object, roles: str
) -> None:
    async with start({"authenticators": {"idp": issuer}}) as sidecar:
        answer = await sidecar.check("nginx", [bearer(token(sidecar, roles=claimed))])
        assert (answer.status, answer.one("X-Auth-Roles")) == (200, roles)


async def test_what_keys_have_verified_is_looked_at_again(start: Start) -> None:
    keys = {"keys": [{**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "a", "use": "sig"}]}
    async with hostile() as server:
        answers(server, json.dumps(keys).encode())
        idp = {"type": "jwt", "issuer": ISSUER, "audience": "gateway", "algorithms": "ES256"}
        url = {"jwks_url": server.url("/introspect")}
        async with start({"authenticators": {"idp": {**idp, **url}}}) as sidecar:
            now = int(sidecar.clock.now())
            claims = {"iss": ISSUER, "aud": "gateway", "sub": "u-1", "exp": now + 86400}
            line = bearer(jwt.encode(claims, KEY, "ES256", {"kid": "a"}))
            assert (await sidecar.check("nginx", [line])).status == 200
            answers(server, b'{"keys": []}')
            sidecar.clock.advance(600)
            assert (await sidecar.check("nginx", [line])).status == 401


# --- cookies of theirs ---------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "status"), [("", 200), ("admin", 403)])
@pytest.mark.parametrize("length", [10, 5000])
async def test_a_cookie_that_they_renewed_reaches_the_client_also_with_a_refusal(
    start: Start, role: str, status: int, length: int
) -> None:
    renewed = f"sid={'n' * length}; Path=/"

    async def renews(exchange: Exchange) -> None:
        await exchange.answer(b'{"sub": "u-1"}', f"Set-Cookie: {renewed}")

    async with hostile() as server:
        server.parts["/me"] = renews
        app = {"type": "upstream", "url": server.url("/me"), "forward_cookies": "sid", "pass_cookies": "sid"}
        rules = [{"authenticators": ["app"], "roles": [role] if role else []}]
        async with start({"authenticators": {"app": app}, "rules": rules}) as sidecar:
            answer = await sidecar.check("nginx", [(b"cookie", b"sid=old")])
            assert answer.status == status
            assert answer.all("Set-Cookie") == ([renewed] if length < 4096 else [])


async def test_one_of_several_cookies_may_be_empty(start: Start) -> None:
    async with hostile() as server:
        answers(server, b'{"sub": "u-1"}')
        app = {"type": "upstream", "url": server.url("/introspect"), "forward_cookies": ["remember", "sid"]}
        async with start({"authenticators": {"app": app}}) as sidecar:
            answer = await sidecar.check("nginx", [(b"cookie", b"remember=; sid=good")])
            assert answer.status == 200
            assert server.received[0].all("cookie") == ["sid=good"]

"""Several authenticators on one rule, wired as the product wires them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conftest import Start
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

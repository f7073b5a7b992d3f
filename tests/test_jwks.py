"""Keys of other issuers: which are used, and how often somebody asks for them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from sidecar.asking import Asker
from sidecar.breaker import Breaker
from sidecar.errors import InvalidToken, InvalidValue, IssuerUnavailable, UpstreamUnavailable
from sidecar.fetched_keys import COOLDOWN, OLDEST, FetchedKeys
from sidecar.jwks import FixedKeys, KeySet, VerifyingKeys, read_jwks
from sidecar.settings import JwtSettings
from sidecar.telemetry import Metrics
from tests.clocks import ManualClock
from tests.hostile import WATCHDOG, Exchange, Hostile, hostile
from tests.issuer import ASYMMETRIC, SECRET, jwk, jwks, pem, settings

A = jwk("ES256", "a")
B = jwk("RSA", "b", alg="RS256")
METADATA = "/.well-known/openid-configuration"


# --- which keys are used -------------------------------------------------------------------------


def usable(keys: VerifyingKeys) -> dict[str | None, list[str]]:
    """The ids, and what each is for."""
    return {key.id: sorted(key.algorithms) for key in keys._keys}


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (jwk("RSA", "k"), ["PS256", "RS256"]),
        (jwk("RSA", "k", use=None), ["PS256", "RS256"]),
        (jwk("RSA", "k", alg="PS256"), ["PS256"]),
        (jwk("RSA", "k", key_ops=["verify"]), ["PS256", "RS256"]),
        (jwk("RSA", "k", x5t="x", x5c=["MIIB"]), ["PS256", "RS256"]),
        (jwk("ES256", "k"), ["ES256"]),
        (jwk("ES384", "k"), ["ES384"]),
        (jwk("ES512", "k", alg="ES512"), ["ES512"]),
        (jwk("EdDSA", "k"), ["EdDSA"]),
        (jwk("Ed448", "k"), ["EdDSA"]),
        (jwk("ES256"), ["ES256"]),
    ],
)
def test_a_key_is_used_for_those_of_the_configured_algorithms_that_it_fits(
    key: dict[str, Any], algorithms: list[str]
) -> None:
    keys = read_jwks(jwks(key), ASYMMETRIC)
    assert usable(keys) == {key.get("kid"): algorithms}
    assert not keys.left_out


BAD_KEYS: list[Any] = [
    pytest.param(jwk("RSA-1024", "k"), "it has fewer than 2048 bits", id="RSA-1024"),
    pytest.param(jwk("RSA", "k", use="enc"), "its use is not sig", id="use enc"),
    pytest.param(jwk("RSA", "k", use=1), "its use is not sig", id="use 1"),
    pytest.param(jwk("RSA", "k", key_ops=["encrypt"]), "its key_ops have no verify", id="key_ops"),
    pytest.param(jwk("RSA", "k", key_ops=[]), "its key_ops have no verify", id="no key_ops"),
    pytest.param(jwk("RSA", "k", key_ops="verify"), "its key_ops have no verify", id="key_ops no list"),
    pytest.param(jwk("RSA", "k", alg="RSA-OAEP"), "its alg is not its own, or not configured", id="alg OAEP"),
    pytest.param(jwk("RSA", "k", alg="RS512"), "its alg is not its own, or not configured", id="alg RS512"),
    pytest.param(jwk("RSA", "k", alg="ES256"), "its alg is not its own, or not configured", id="alg of EC"),
    pytest.param(jwk("RSA", "k", alg="HS256"), "its alg is not its own, or not configured", id="alg HS256"),
    pytest.param(
        jwk("RSA", "k", alg=["RS256"]), "its alg is not its own, or not configured", id="alg a list"
    ),
    pytest.param(jwk("ES384", "k", alg="ES256"), "its alg is not its own, or not configured", id="curve"),
    pytest.param(jwk("ES256K", "k"), "it fits none of the configured algorithms", id="secp256k1"),
    pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, "it is a secret, and published", id="oct"),
    pytest.param(jwk("ES256", "k", d="AAAA"), "it is a secret, and published", id="private"),
    pytest.param(jwk("RSA", "k", n="!"), "it cannot be read", id="n is no number"),
    pytest.param(jwk("RSA", "k", n=5), "it cannot be read", id="n is 5"),
    pytest.param(jwk("RSA", "k", e=None), "it cannot be read", id="no e"),
    pytest.param(jwk("RSA", "k", e="AQ"), "it cannot be read", id="e is 1"),
    pytest.param(jwk("ES256", "k", x="AAAA"), "it cannot be read", id="short x"),
    pytest.param(jwk("ES256", "k", y=jwk("ES256", "k", 1)["y"]), "it cannot be read", id="off the curve"),
    pytest.param(jwk("ES256", "k", crv="P-0"), "it cannot be read", id="unknown curve"),
    pytest.param(jwk("EdDSA", "k", crv="X25519"), "it cannot be read", id="X25519"),
    pytest.param(jwk("EdDSA", "k", x="AA"), "it cannot be read", id="short Ed25519"),
    pytest.param(jwk("RSA", "k", kty="AKP"), "it cannot be read", id="kty unknown"),
    pytest.param(jwk("RSA", "k", kty=["RSA"]), "it cannot be read", id="kty a list"),
    pytest.param(jwk("RSA", "k", kty=None), "it cannot be read", id="no kty"),
    pytest.param(jwk("RSA", 1), "it is no JWK", id="kid 1"),  # type: ignore[arg-type]
    pytest.param("k", "it is no JWK", id="a string"),
    pytest.param(None, "it is no JWK", id="null"),
    pytest.param([], "it is no JWK", id="a list"),
]


@pytest.mark.parametrize(("key", "reason"), BAD_KEYS)
def test_f77_a_key_that_must_not_be_used_is_left_out_and_the_others_are_not(key: Any, reason: str) -> None:
    keys = read_jwks(jwks(A, key, B), ASYMMETRIC)
    assert usable(keys) == {"a": ["ES256"], "b": ["RS256"]}
    kid = "k" if isinstance(key, dict) and key["kid"] == "k" else "without a kid"
    assert keys.left_out == (f"{kid}: {reason}",)


def test_f77_of_several_keys_with_one_kid_none_is_used() -> None:
    twice = [jwk("ES256", "k"), A, jwk("RSA", "k", use="enc"), jwk("ES256", "k", 1)]
    keys = read_jwks(jwks(*twice), ASYMMETRIC)
    assert usable(keys) == {"a": ["ES256"]}
    assert keys.left_out == ("k: several have this kid",) * 3


def test_keys_without_a_kid_are_not_alike() -> None:
    assert len(read_jwks(jwks(jwk("ES256"), jwk("ES384")), ASYMMETRIC)) == 2


NO_SETS = [
    b"",
    b"x",
    b"[]",
    b"{}",
    b'{"keys":{}}',
    b'{"keys":null}',
    b'{"keys":[],"keys":[]}',
    b'{"keys":"a"}',
]


@pytest.mark.parametrize("text", NO_SETS)
def test_what_is_no_set_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidValue):
        read_jwks(text, ASYMMETRIC)


MEMBERS = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=6),
    st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "AA", "verify", A["x"], A["y"], B["n"]]),
    st.lists(st.sampled_from(["verify", "RS256"]), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)


@given(
    base=st.sampled_from([A, B, jwk("EdDSA", "c")]),
    changes=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops", "d"]), MEMBERS
    ),
)
@fuzzing(max_examples=300, deadline=None)
def test_whatever_a_key_holds_it_is_used_or_left_out(base: dict[str, Any], changes: dict[str, Any]) -> None:
    keys = read_jwks(jwks({**base, **changes}), ASYMMETRIC)
    assert len(keys) + len(keys.left_out) == 1
    for key in keys._keys:
        for algorithm in ASYMMETRIC:
            assert not key.verifies(algorithm, b"signed", b"x" * 64)


def test_no_key_is_in_a_repr(tmp_path: Path) -> None:
    keys = FixedKeys(settings(secret=SECRET, algorithms="HS256"), "idp")
    assert SECRET not in repr(keys._keys._keys) + repr(vars(keys))


# --- keys of the settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("jwks_file", b"PLANTED", "it is not JSON"),
        ("jwks_file", b'{"PLANTED":1}', "it is no JWK set"),
        ("jwks_file", jwks(), "none of its keys can be used"),
        ("jwks_file", jwks(jwk("RSA", "k", use="PLANTED")), "k: its use is not sig"),
        ("public_key_file", b"PLANTED", "it is no public key in PEM"),
        ("public_key_file", "RSA-1024", "it has fewer than 2048 bits"),
        ("public_key_file", "ES256K", "it fits none of the configured algorithms"),
        ("public_key_file", "X25519", "it fits none of the configured algorithms"),
        ("public_key_file", "private", "it is no public key in PEM"),
    ],
)
def test_a_file_without_a_key_of_use_is_a_fault_that_names_it(
    tmp_path: Path, setting: str, content: bytes | str, message: str
) -> None:
    file = tmp_path / "keys"
    if isinstance(content, str):
        content = pem("ES256", private=True) if content == "private" else pem(content)
    file.write_bytes(content)
    with pytest.raises(InvalidValue) as caught:
        FixedKeys(settings(**{setting: str(file)}), "idp")
    told = str(caught.value)
    assert told.startswith(f"{file}: ")
    assert message in told
    assert "PLANTED" not in told
    assert not any(line in told for line in content.decode().splitlines())


@pytest.mark.parametrize(
    ("secret", "algorithms", "message"),
    [
        (pem("ES256").decode(), ["HS256"], "it is a public key"),
        (json.dumps(A), ["HS256"], "it is a public key"),
    ],
)
def test_a_secret_that_is_none_is_a_fault(secret: str, algorithms: list[str], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        FixedKeys(settings(secret=secret, algorithms=algorithms), "idp")
    assert str(caught.value).startswith(message)
    assert secret not in str(caught.value)


async def test_keys_of_a_file_are_found_by_their_ids(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(A, jwk("RSA", "k", use="enc")))
    with capture_logs() as logs:
        keys: KeySet = FixedKeys(settings(jwks_file=str(file)), "idp")
    assert [(entry["authenticator"], entry["keys"]) for entry in logs] == [("idp", ["k: its use is not sig"])]
    keys.start()
    assert (await keys.find("a", "ES256")).id == "a"
    for kid in ("b", "k"):
        with pytest.raises(InvalidToken):
            await keys.find(kid, "ES256")
    await keys.close()


# --- keys that are fetched -----------------------------------------------------------------------


@dataclass
class Scene:
    """Keys, and the server that publishes them."""

    server: Hostile
    keys: FetchedKeys
    settings: JwtSettings
    metrics: Metrics
    clock: ManualClock

    def publish(self, body: bytes | None, target: str = "/jwks") -> None:
        """From now on; None: the server fails."""

        async def played(exchange: Exchange) -> None:
            await exchange.answer(body or b"", status="200 OK" if body is not None else "503 -")

        self.server.parts[target] = played

    def play(self, part: str) -> None:
        """What /jwks does from now on."""
        self.server.parts["/jwks"] = self.server.parts[part]

    @property
    def fetches(self) -> int:
        return len([request for request in self.server.received if request.target == "/jwks"])

    async def landed(self) -> None:
        """Returns when no fetch is under way."""
        while self.keys._flights._flights:
            await asyncio.wait(self.keys._flights._flights.values())

    async def has(self, kid: str | None, algorithm: str = "ES256") -> bool:
        try:
            return bool(await self.keys.find(kid, algorithm))
        except InvalidToken:
            return False

    def metric(self, name: str) -> dict[str, float]:
        """By result, where it has that label."""
        lines = generate_latest(self.metrics.registry).decode()
        found = re.findall(
            rf"^sidecar_jwks_{name}\{{authenticator=\"idp\"(.*)\}} (\S+)$", lines, re.MULTILINE
        )
        return {labels.removeprefix(',result="').rstrip('"'): float(value) for labels, value in found}


@asynccontextmanager
async def scene(
    published: bytes | None = jwks(A),
    *,
    patience: float = WATCHDOG,
    **changes: Any,
) -> AsyncIterator[Scene]:
    """Keys at /jwks. `changes` are settings; in them `SERVER` stands for the server's address."""
    clock, metrics = ManualClock(), Metrics()
    async with hostile() as server:
        given = {name: value.replace("SERVER", server.url("")) for name, value in changes.items()}
        chosen = settings(**(given or {"jwks_url": server.url("/jwks")}))
        breaker = Breaker("idp", faults=10_000, open_for=5.0, clock=clock)
        asker = Asker(
            name="idp", timeout=patience, breaker=breaker, metrics=metrics, clock=clock, largest=64 * 1024
        )
        made = Scene(
            server,
            FetchedKeys(chosen, "idp", asker=asker, metrics=metrics, clock=clock),
            chosen,
            metrics,
            clock,
        )
        made.publish(published)
        try:
            yield made
        finally:
            await made.keys.close()
            await asker.close()


async def test_keys_are_fetched_at_the_start_and_not_again() -> None:
    async with scene() as here:
        here.keys.start()
        await here.landed()
        for _ in range(5):
            assert await here.has("a")
        assert here.fetches == 1
        assert here.metric("refreshes_total") == {"ok": 1}
        assert here.metric("last_success_timestamp_seconds") == {"": here.clock.now()}


async def test_a_start_does_not_wait_for_a_server_that_is_silent() -> None:
    async with scene(patience=0.2) as here:
        here.play("/silent")
        here.keys.start()
        with pytest.raises(UpstreamUnavailable):  # the asker's timeout is the end of it
            await here.has("a")
        assert here.fetches == 1


async def test_whoever_needs_keys_while_the_first_fetch_runs_waits_for_it() -> None:
    async with scene() as here:
        published = here.server.parts["/jwks"]

        async def held(exchange: Exchange) -> None:
            await exchange.until_released()
            await published(exchange)

        here.server.parts["/jwks"] = held
        here.keys.start()
        waiting = [asyncio.create_task(here.has(kid)) for kid in ("a", None, "unknown")]
        gone = asyncio.create_task(here.has("a"))
        await here.server.until(lambda: here.fetches == 1)
        gone.cancel()
        assert not any(task.done() for task in waiting)
        here.server.release.set()
        assert await asyncio.gather(*waiting) == [True, True, False]
        assert here.fetches == 1


async def test_keys_are_fetched_by_whoever_needs_them_where_nobody_began() -> None:
    async with scene() as here:
        assert await here.has("a")


@pytest.mark.parametrize(
    "published", [jwks(A), jwks(), None, b"x"], ids=["a good set", "an empty set", "an outage", "garbage"]
)
async def test_f75_however_many_unknown_kids_come_there_is_one_fetch_per_cooldown(
    published: bytes | None,
) -> None:
    expected = InvalidToken if published in {jwks(A), jwks()} else IssuerUnavailable
    async with scene(published) as here:
        for fetches in (1, 2, 3):
            for tenth in range(10):
                kids = [f"{fetches}-{tenth}-{number}" for number in range(100)]
                found = await asyncio.gather(
                    *(here.keys.find(kid, "ES256") for kid in kids), return_exceptions=True
                )
                assert {type(each) for each in found} == {expected}
                here.clock.advance(COOLDOWN / 11)
            assert here.fetches == fetches
            here.clock.advance(COOLDOWN / 11)


async def test_a_new_key_is_found_when_the_cooldown_is_over() -> None:
    async with scene() as here:
        assert await here.has("a")
        here.publish(jwks(A, jwk("ES256", "new", 1)))
        here.clock.advance(COOLDOWN - 0.1)
        assert not await here.has("new")
        here.clock.advance(0.2)
        assert await here.has("new")
        assert here.fetches == 2


async def test_who_comes_after_a_long_time_does_not_pass_by_a_key_that_was_withdrawn() -> None:
    async with scene() as here:
        assert await here.has("a")
        here.publish(jwks(jwk("ES256", "new", 1)))
        here.clock.advance(2 * OLDEST)
        assert not await here.has("a")
        assert here.fetches == 2


async def test_while_keys_cannot_be_fetched_nobody_waits_for_one_that_is_there() -> None:
    async with scene() as here:
        assert await here.has("a")
        here.publish(None)
        here.clock.advance(2 * OLDEST)
        assert await here.has("a")  # who was first has waited, in vain
        here.clock.advance(COOLDOWN)
        here.publish(jwks(jwk("ES256", "new", 1)))
        assert await here.has("a")
        await here.landed()
        assert not await here.has("a")


async def test_keys_that_are_used_are_fetched_again_before_anybody_waits() -> None:
    async with scene() as here:
        assert await here.has("a")
        here.publish(jwks(jwk("ES256", "new", 1)))
        here.clock.advance(OLDEST - 0.1)
        assert await here.has("a")
        await here.landed()
        assert here.fetches == 1
        here.clock.advance(0.2)
        assert [await here.has("a") for _ in range(9)] == [True] * 9  # the old set, meanwhile
        await here.landed()
        assert here.fetches == 2
        assert [await here.has(kid) for kid in ("new", "a")] == [True, False]


FAULTS = ["/status?302", "/status?307", "/status?404", "/status?500", "/throttled", "/garbage", "/nothing"]
FAULTS += ["/reset", "/huge", "/bomb", "/two-lengths", "/"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_f76_while_they_cannot_be_fetched_the_last_good_keys_go_on(fault: str) -> None:
    async with scene() as here:
        assert await here.has("a")
        target, _, status = fault.partition("?")

        async def failing(exchange: Exchange) -> None:
            if status:
                there = f"Location: {here.server.url('/elsewhere')}"
                await exchange.answer(jwks(jwk("ES256", "b", 1)), there, status=f"{status} -")
            else:
                await here.server.parts[target](exchange)

        here.server.parts["/jwks"] = failing
        with capture_logs() as logs:
            for _ in range(3):
                here.clock.advance(OLDEST)
                assert await here.has("a")
                with pytest.raises(UpstreamUnavailable):
                    await here.has("b")
                assert await here.has("a")
                assert not await here.has("a", "RS256")
        assert {request.target for request in here.server.received} == {"/jwks"}
        assert here.metric("refreshes_total") == {"ok": 1, "error": 3}
        assert [entry["event"] for entry in logs] == ["jwks_not_fetched"]
        here.publish(jwks(jwk("ES256", "b", 1)))
        here.clock.advance(COOLDOWN)
        with capture_logs() as logs:
            assert await here.has("b")
        assert [entry["event"] for entry in logs] == ["jwks_fetched_again"]


async def test_an_issuer_that_was_down_at_the_start_is_asked_again() -> None:
    async with scene(None) as here:
        here.keys.start()
        await here.landed()
        with pytest.raises(UpstreamUnavailable):
            await here.has("a")
        assert here.metric("last_success_timestamp_seconds") == {}
        here.publish(jwks(A))
        here.clock.advance(COOLDOWN)
        assert await here.has("a")
        assert not await here.has("b")


async def test_an_issuer_that_withdraws_its_keys_has_none() -> None:
    async with scene() as here:
        assert await here.has("a")
        here.publish(jwks())
        here.clock.advance(OLDEST)
        await here.has("a")
        await here.landed()
        assert not await here.has("a")


async def test_f77_what_is_left_out_of_a_set_is_logged_once() -> None:
    bad = [jwk("RSA-1024", "short"), jwk("RSA", "n" * 1000, use="enc"), jwk("RSA", "x" * 3, n="PLANTED!")]
    async with scene(jwks(A, *bad)) as here:
        with capture_logs() as logs:
            for _ in range(3):
                assert await here.has("a")
                await here.landed()
                here.clock.advance(OLDEST)
        assert here.fetches == 3
        (entry,) = logs
        assert (entry["event"], entry["authenticator"], entry["count"]) == ("jwks_keys_left_out", "idp", 3)
        assert entry["keys"] == [
            "short: it has fewer than 2048 bits",
            f"{'n' * 64}: its use is not sig",
            "xxx: it cannot be read",
        ]
        here.publish(jwks(A, *(jwk("RSA", str(number), use="enc") for number in range(50))))
        with capture_logs() as logs:
            await here.has("a")
            await here.landed()
        assert [(entry["count"], len(entry["keys"])) for entry in logs] == [(50, 20)]


async def test_a_close_leaves_no_task_and_tells_who_waits() -> None:
    async with scene() as here:
        before = asyncio.all_tasks()
        assert await here.has("a")
        here.clock.advance(OLDEST)
        here.play("/held")
        waiting = asyncio.create_task(here.has("b"))
        await here.server.until(lambda: here.fetches == 2)
        await here.keys.close()
        assert not here.keys._flights._flights
        with pytest.raises(UpstreamUnavailable):
            await waiting
        here.clock.advance(OLDEST)
        assert await here.has("a")
        assert not here.keys._flights._flights
        await here.server.end()
        assert asyncio.all_tasks() <= before
        assert here.fetches == 2


# --- keys that are discovered --------------------------------------------------------------------


@pytest.mark.parametrize("issuer", ["SERVER", "SERVER/", "SERVER/realms/main", "SERVER/realms/main/"])
async def test_keys_are_found_by_the_issuers_metadata(issuer: str) -> None:
    async with scene(issuer=issuer) as here:
        where = issuer.removeprefix("SERVER").removesuffix("/") + METADATA
        here.publish(metadata(here), where)
        assert await here.has("a")
        assert [request.target for request in here.server.received] == [where, "/jwks"]
        assert here.metric("refreshes_total") == {"ok": 1}


def metadata(here: Scene, **changes: Any) -> bytes:
    found = {
        "issuer": here.settings.issuer,
        "jwks_uri": here.server.url("/jwks"),
        "scopes_supported": ["openid"],
    }
    return json.dumps({**found, **changes}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"issuer": []},
        {"jwks_uri": None},
        {"jwks_uri": ["/jwks"]},
        {"jwks_uri": ""},
        {"jwks_uri": "/jwks"},
        {"jwks_uri": "http://keys.example.com/jwks"},
        {"jwks_uri": "http://127.0.0.1.example.com/jwks"},
        {"jwks_uri": "ftp://127.0.0.1/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://[/"},
        {"jwks_uri": "https://127.0.0.1:x/"},
        {"jwks_uri": "https:///jwks"},
        {"jwks_uri": "https://\ud800/"},
        {"jwks_uri": "https://a b/\n"},
    ],
    ids=str,
)
async def test_metadata_of_another_issuer_or_without_a_good_address_are_an_outage(
    changes: dict[str, Any],
) -> None:
    async with scene(issuer="SERVER") as here:
        here.publish(metadata(here, **changes), METADATA)
        with pytest.raises(UpstreamUnavailable):
            await here.has("a")
        assert [request.target for request in here.server.received] == [METADATA]
        assert here.metric("refreshes_total") == {"error": 1}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"issuer":"a","issuer":"a"}', None])
async def test_what_is_no_metadata_is_an_outage(body: bytes | None) -> None:
    async with scene(issuer="SERVER") as here:
        here.publish(body, METADATA)
        with pytest.raises(UpstreamUnavailable):
            await here.has("a")


async def test_the_issuers_name_is_compared_letter_by_letter() -> None:
    async with scene(issuer="SERVER/") as here:
        here.publish(metadata(here, issuer=here.server.url("")), METADATA)
        with pytest.raises(UpstreamUnavailable):
            await here.has("a")


@pytest.mark.parametrize(
    ("allow_http", "address", "asked"),
    [
        (False, "https://keys.example.com/jwks", True),
        (False, "http://127.0.0.1:8080/jwks", False),
        (False, "https://", False),
        (False, "http://keys.example.com/jwks", False),
        (False, "http://127.0.0.1.example.com/jwks", False),
        (False, "http://127.0.0.1@keys.example.com/jwks", False),
        (True, "http://keys.example.com/jwks", True),
        (True, "ftp://keys.example.com/jwks", False),
    ],
)
def test_plain_http_beyond_this_machine_is_asked_only_where_that_is_allowed(
    allow_http: bool, address: str, asked: bool
) -> None:
    chosen = settings(issuer="https://idp.example.com", allow_http=allow_http)
    keys = FetchedKeys(chosen, "idp", asker=None, metrics=Metrics(), clock=ManualClock())  # type: ignore[arg-type]
    assert keys._may_be_asked(address) is asked


def test_an_issuer_on_this_machine_may_have_its_keys_here() -> None:
    chosen = settings(issuer="http://127.0.0.1:8080")
    keys = FetchedKeys(chosen, "idp", asker=None, metrics=Metrics(), clock=ManualClock())  # type: ignore[arg-type]
    assert keys._may_be_asked("http://127.0.0.1:8080/jwks")
    assert not keys._may_be_asked("http://keys.example.com/jwks")


async def test_an_issuer_may_move_its_keys() -> None:
    async with scene(issuer="SERVER") as here:
        here.publish(metadata(here), METADATA)
        assert await here.has("a")
        here.publish(metadata(here, jwks_uri=here.server.url("/moved")), METADATA)
        here.publish(jwks(jwk("ES256", "new", 1)), "/moved")
        here.clock.advance(COOLDOWN)
        assert await here.has("new")

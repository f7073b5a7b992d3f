"""The keys that the sidecar signs with, and the tokens that it signs (RFC 7515, 7517, 7519)."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sidecar.errors import InvalidToken
from sidecar.jws import read_jws
from sidecar.ports import Clock, SigningKeyStore
from sidecar.records import SignedToken, SigningKey
from sidecar.revocation import Reread, Revocations
from sidecar.settings import Tokens

SESSION_TOKEN = "session+jwt"
MANAGEMENT_TOKEN = "management+jwt"
ASSERTION = "assertion+jwt"

MANAGEMENT_LIFETIME = 7200
"""Seconds: as long as the vendor whose clients ask for such tokens lets them live."""

_LEARNT_WITHIN = 2.0
"""Seconds: what a process may not know yet (`LONGEST_BLINDNESS`), and whole seconds rounded up."""

_RSA_BITS = 2048
_SYMMETRIC = "HS256"
_REQUIRED = ("iss", "sub", "aud", "iat", "exp", "jti")


def new_key(algorithm: str, now: float) -> SigningKey:
    """A new key for `ES256`, `RS256`, `EdDSA` or `HS256`."""
    return SigningKey(
        id=secrets.token_hex(8), algorithm=algorithm, private=_new_private(algorithm), created_at=now
    )


def _new_private(algorithm: str) -> bytes:
    match algorithm:
        case "ES256":
            return _pem(ec.generate_private_key(ec.SECP256R1()))
        case "RS256":
            return _pem(rsa.generate_private_key(65537, _RSA_BITS))
        case "EdDSA":
            return _pem(ed25519.Ed25519PrivateKey.generate())
        case _:
            return secrets.token_bytes(32)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True, slots=True)
class _Key:
    """A key as PyJWT takes it: prepared once, since reading PEM costs more than signing."""

    stored: SigningKey
    signing: Any = field(repr=False)
    verifying: Any = field(repr=False)

    @classmethod
    def of(cls, stored: SigningKey) -> _Key:
        signing = jwt.get_algorithm_by_name(stored.algorithm).prepare_key(stored.private)
        verifying = signing if stored.algorithm == _SYMMETRIC else signing.public_key()
        return cls(stored, signing, verifying)

    def is_current(self, now: float) -> bool:
        """Whether a token that it signed may still be in force."""
        return self.stored.verifies_until is None or now < self.stored.verifies_until

    def may_have_signed(self, claims: dict[str, Any]) -> bool:
        """No token of ours outlives its key: one that would was signed by whoever stole that."""
        return self.stored.verifies_until is None or bool(claims["exp"] <= self.stored.verifies_until)

    def public(self) -> dict[str, str]:
        """The public half as a JWK."""
        fields = jwt.get_algorithm_by_name(self.stored.algorithm).to_jwk(self.verifying, as_dict=True)
        return {**fields, "kid": self.stored.id, "alg": self.stored.algorithm, "use": "sig"}


class _Kind(NamedTuple):
    """What tokens of one `typ` have in common: how many seconds they live, and their `aud`.

    `audience` is empty where each token is for somebody else.
    """

    audience: str
    lifetime: int


class _PlainEncoder(json.JSONEncoder):
    """Writes JSON whose base64url has neither `-` nor `_`: the same in the standard alphabet.

    Clients of vendors, and `atob` in browsers, read the claims of a token in that alphabet. In ASCII, these
    four are the only characters that come out as one of the two.
    """

    def encode(self, o: Any) -> str:
        """See JSONEncoder.encode."""
        text = super().encode(o)
        for character in ">?~\x7f":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return text


class KeyRing:
    """Signs with the newest key and verifies with every one that a living token may carry."""

    def __init__(
        self,
        store: SigningKeyStore,
        revocations: Revocations,
        clock: Clock,
        settings: Tokens,
        assertion_lifetime: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._keys = Reread(revocations, self._read)
        self._kinds = {
            SESSION_TOKEN: _Kind(settings.audience, int(settings.lifetime)),
            MANAGEMENT_TOKEN: _Kind("sidecar-management", MANAGEMENT_LIFETIME),
            ASSERTION: _Kind("", int(assertion_lifetime)),
        }

    async def start(self) -> None:
        """Makes the first key where there is none, and a new one where the algorithm was changed."""
        stored = await self._store.list(now=self._clock.now())
        if not stored:
            await self._store.add_first(new_key(self._settings.algorithm, self._clock.now()))
        elif stored[0].algorithm != self._settings.algorithm:
            await self.rotate()

    async def rotate(self) -> SigningKey:
        """Signs with a new key from now on; the old one verifies until its last token has expired."""
        key = new_key(self._settings.algorithm, self._clock.now())
        longest = max(kind.lifetime for kind in self._kinds.values())
        # Others sign with the old one until they learn of this.
        await self._store.rotate(key, verifies_until=self._clock.now() + longest + _LEARNT_WITHIN)
        self._keys.forget()
        return key

    async def sign(
        self, kind: str, claims: dict[str, Any], *, not_after: float, audience: str = ""
    ) -> SignedToken:
        """A token of this `typ`, with the registered claims added; it ends at `not_after` at the latest.

        `audience`: whom it is for, of a kind whose tokens are each for somebody else.
        """
        key, *_ = await self._current()
        usual_audience, lifetime = self._kinds[kind]
        now = int(self._clock.now())
        expires_at = int(min(now + lifetime, not_after))
        registered = {
            "iss": self._settings.issuer,
            "aud": usual_audience or audience,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_hex(16),
        }
        headers = {"kid": key.stored.id, "typ": kind}
        text = jwt.encode(
            {**claims, **registered}, key.signing, key.stored.algorithm, headers, json_encoder=_PlainEncoder
        )
        return SignedToken(text, now, expires_at)

    async def verify(self, token: bytes, kind: str) -> dict[str, Any]:
        """The claims of a token of this `typ` that we signed for this purpose and that is in force.

        Of a kind whose tokens are each for somebody else, the caller judges `aud`. Raises InvalidToken.
        What PyJWT would let pass is refused before it is asked: padding, duplicate members in the header,
        another `typ`, and (in older versions) `crit`.
        """
        header = read_jws(token).header
        key = next((key for key in await self._current() if key.stored.id == header.get("kid")), None)
        if key is None:
            raise InvalidToken("no key of ours signed it")
        if header.get("typ") != kind or "crit" in header:
            raise InvalidToken("it is of another kind")
        claims = self._decoded(token, key, self._kinds[kind].audience)
        if not self._is_in_force(claims, self._clock.now()) or not key.may_have_signed(claims):
            raise InvalidToken("it has expired, or is not in force yet")
        return claims

    def claims_to_be_ours(self, token: bytes) -> bool:
        """Whether the token says that we issued it. That proves nothing, but others need not be asked."""
        try:
            return bool(read_jws(token).claims.get("iss") == self._settings.issuer)
        except InvalidToken:
            return False

    async def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys (RFC 7517)."""
        return {"keys": [key.public() for key in await self._current() if key.stored.algorithm != _SYMMETRIC]}

    async def _current(self) -> list[_Key]:
        """Those that verify now, the signing one first."""
        now = self._clock.now()
        return [key for key in await self._keys.value() if key.is_current(now)]

    async def _read(self) -> list[_Key]:
        return [_Key.of(stored) for stored in await self._store.list(now=self._clock.now())]

    def _decoded(self, token: bytes, key: _Key, audience: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.verifying,
                algorithms=[key.stored.algorithm],
                audience=audience,
                issuer=self._settings.issuer,
                # Time is ours to judge: PyJWT has a clock of its own.
                options={
                    "require": list(_REQUIRED),
                    "verify_aud": bool(audience),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(type(error).__name__) from None
        return claims

    @staticmethod
    def _is_in_force(claims: dict[str, Any], now: float) -> bool:
        return type(claims["exp"]) is int and type(claims["iat"]) is int and now < claims["exp"]

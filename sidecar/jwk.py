"""One key of somebody else's, which verifies what they sign (RFC 7517, 7518, 8037)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sidecar.errors import InvalidValue

_RSA_BITS = 2048
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_READ_BY = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""Of each kind of public key, an algorithm by which PyJWT knows how to read it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, and what it is used for: those of the configured algorithms that it fits."""

    algorithms: frozenset[str]
    key: Any = field(repr=False)
    id: str | None = None

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether this key made the signature by this algorithm."""
        return algorithm in self.algorithms and jwt.get_algorithm_by_name(algorithm).verify(
            signed, self.key, signature
        )


def read_jwk(jwk: object, algorithms: Collection[str]) -> VerifyingKey:
    """The public key that a member of a JWK set is.

    Raises InvalidValue where it is of no use for these algorithms, or must not be used.
    """
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str | None):
        raise InvalidValue("it is no JWK")
    for reason in _reasons_against(jwk):
        raise InvalidValue(reason)
    key = _public_key(jwk)
    usable = _usable_for(key, algorithms)
    if "alg" in jwk:
        usable = usable.intersection([jwk["alg"]] if isinstance(jwk["alg"], str) else ())
        if not usable:
            raise InvalidValue("its alg is not its own, or not configured")
    return VerifyingKey(usable, key, jwk.get("kid"))


def read_pem(text: bytes, algorithms: Collection[str]) -> VerifyingKey:
    """A public key (SubjectPublicKeyInfo in PEM). Raises InvalidValue as `read_jwk`."""
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidValue("it is no public key in PEM") from None
    return VerifyingKey(_usable_for(key, algorithms), key)


def read_secret(secret: str, algorithms: Collection[str]) -> VerifyingKey:
    """What both sides know. Raises InvalidValue where it is no secret."""
    try:
        key = jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise InvalidValue("it is a public key, a certificate or a JWK, and no secret") from None
    return VerifyingKey(frozenset(algorithms), key)


def _reasons_against(jwk: dict[str, Any]) -> Iterator[str]:
    if jwk.get("kty") == "oct" or "d" in jwk:
        yield "it is a secret, and published"
    if jwk.get("use", "sig") != "sig":
        yield "its use is not sig"
    key_ops = jwk.get("key_ops", ["verify"])
    if not isinstance(key_ops, list) or "verify" not in key_ops:
        yield "its key_ops have no verify"


def _public_key(jwk: dict[str, Any]) -> Any:
    try:
        return jwt.get_algorithm_by_name(_READ_BY[jwk["kty"]]).from_jwk(jwk)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, LookupError, AttributeError):
        raise InvalidValue("it cannot be read") from None


def _usable_for(key: object, algorithms: Collection[str]) -> frozenset[str]:
    """Those of the algorithms that it fits, never none. Raises InvalidValue."""
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < _RSA_BITS:
                raise InvalidValue(f"it has fewer than {_RSA_BITS} bits")
            fitting = _RSA
        case ec.EllipticCurvePublicKey():
            fitting = frozenset({_CURVES.get(key.curve.name, "")})
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            fitting = frozenset({"EdDSA"})
        case _:
            fitting = frozenset()
    usable = fitting.intersection(algorithms)
    if not usable:
        raise InvalidValue("it fits none of the configured algorithms")
    return usable

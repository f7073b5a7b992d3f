"""Another issuer: its keys of every kind, its JWK sets, and tokens made by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from sidecar.settings import JwtSettings

ISSUER = "https://idp.example.com/realms/main"
AUDIENCE = "app"
NOW = 1_800_000_000
ASYMMETRIC = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
SECRET = "a secret of more than 64 bytes, as HS512 wants it: 0123456789abcdefghij"

Json = dict[str, Any]
Sign = Callable[[bytes], bytes]

_MAKERS: dict[str, Callable[[], Any]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ES256K": lambda: ec.generate_private_key(ec.SECP256K1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


def private_key(kind: str, number: int = 0) -> Any:
    """One of this kind or for this algorithm; another for every number, and the same every time."""
    return _made(kind if kind in _MAKERS else "RSA", number)


@cache
def _made(kind: str, _number: int) -> Any:
    return _MAKERS[kind]()


def jwk(kind: str, kid: str | None = None, number: int = 0, **members: Any) -> Json:
    """The public half, as its issuer publishes it. A member that is None is left out."""
    key = private_key(kind, number).public_key()
    match key:
        case rsa.RSAPublicKey():
            written = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
        case ec.EllipticCurvePublicKey():
            written = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
        case _:
            written = jwt.algorithms.OKPAlgorithm.to_jwk(key, as_dict=True)
    made = {**written, "key_ops": None, "kid": kid, "use": "sig", **members}
    return {name: value for name, value in made.items() if value is not None}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def pem(kind: str, *, private: bool = False) -> bytes:
    """A key of this kind, as a file has it."""
    key = private_key(kind)
    if private:
        form = serialization.PrivateFormat.PKCS8
        return bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, info))


def claims(**changes: Any) -> Json:
    """Good ones. A claim that is None is left out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 300, "iat": NOW, "nbf": 0}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def settings(**changes: Any) -> JwtSettings:
    given: Json = {"type": "jwt", "issuer": ISSUER, "audience": AUDIENCE, "algorithms": ASYMMETRIC}
    return JwtSettings(**{**given, **changes})


def part(value: object) -> str:
    """One part of a token: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signer(algorithm: str, key: Any = None) -> Sign:
    """Signs by this algorithm; without a key, with the one that `private_key` has for it."""
    made = jwt.get_algorithm_by_name(algorithm)
    secret = SECRET.encode() if algorithm.startswith("HS") else None
    return lambda signed: made.sign(signed, key or secret or private_key(algorithm))


def token(header: Json | str, payload: Json | str, sign: Sign | None = None) -> bytes:
    """By hand; without `sign`, by the algorithm that the header names."""
    signed = f"{part(header)}.{part(payload)}".encode()
    if sign is None:
        assert isinstance(header, dict)
        sign = signer(header["alg"])
    return signed + b"." + base64.urlsafe_b64encode(sign(signed)).rstrip(b"=")

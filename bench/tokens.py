"""JWTs of another issuer: its key, the settings that trust it, and a token for each session."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.data import USERS

ISSUER = "https://idp.example.com"
AUDIENCE = "gateway"
ALGORITHM = "RS256"

CACHED_FOR = 10
"""Seconds for which an answer is good: the figure for asking others is for this."""

ASKED_EVERY = 8
"""Seconds after which an answer in use is asked for again, ahead of its end."""

_LIFETIME = 3600


def make_issuer(folder: Path, count: int) -> tuple[Path, Path]:
    """The files of the issuer's public key, and of so many tokens, one a line."""
    key = rsa.generate_private_key(65537, 2048)
    public, tokens = folder / "issuer.pem", folder / "tokens.txt"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    lines = [jwt.encode(_claims(number), key, ALGORITHM, {"kid": "bench"}) for number in range(count)]
    tokens.write_text("\n".join(lines) + "\n", encoding="ascii")
    return public, tokens


def settings(public: Path) -> str:
    """What trusts the issuer."""
    return f"""
[authenticators.idp]
type = "jwt"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["{ALGORITHM}"]
public_key_file = "{public}"
"""


def make_opaque(folder: Path, name: str, count: int) -> Path:
    """The file of so many tokens that say nothing but this name, one a line."""
    tokens = folder / f"{name}.txt"
    tokens.write_text("".join(f"{name}-token-{number:019}\n" for number in range(count)), encoding="ascii")
    return tokens


def introspecting(port: int) -> str:
    """The settings that ask the server at this port about them."""
    return f"""
[authenticators.there]
type = "introspection"
url = "http://127.0.0.1:{port}/"
client_id = "bench"
client_secret = "bench"
cache = "{CACHED_FOR}s"
"""


def _claims(number: int) -> dict[str, object]:
    user, now = number % USERS, int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": f"00u{user:017}",
        "iat": now,
        "exp": now + _LIFETIME,
        "jti": f"{number:032x}",
        "preferred_username": f"user{user}",
        "email": f"user{user}@example.com",
        "name": f"User Number {user}",
        "roles": ["staff", "editors"],
        "scope": "openid profile email",
    }

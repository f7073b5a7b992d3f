"""Other systems that vouch for users: an issuer of JWTs, its key and tokens; and one that is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
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


class Issuer:
    """An issuer with a key of its own. `public`: the file of its public half."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.public = folder / "issuer.pem"
        self.public.write_bytes(
            self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def tokens(self, count: int) -> Iterator[str]:
        """So many of its tokens, of one user after the other."""
        for number in range(count):
            yield jwt.encode(_claims(number), self._key, ALGORITHM, {"kid": "bench"})

    def trust(self) -> str:
        """The settings that trust it."""
        return f"""
[authenticators.idp]
type = "jwt"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["{ALGORITHM}"]
public_key_file = "{self.public}"
"""


def introspecting(port: int) -> str:
    """The settings that ask the server at this port about tokens."""
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

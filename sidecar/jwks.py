"""The keys of another issuer, and which of them a token means (RFC 7515, 4.1.4; RFC 7517, 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import inf
from pathlib import Path
from typing import Protocol

import structlog

from sidecar.errors import InvalidToken, InvalidValue
from sidecar.jwk import VerifyingKey, read_jwk, read_pem, read_secret
from sidecar.settings import JwtSettings
from sidecar.strict_json import read_object

FIXED = ("secret", "public_key_file", "jwks_file")
"""The settings that hold or name keys which are there from the beginning."""

_LONGEST_ID = 64
_MOST_TOLD = 20

log = structlog.get_logger(__name__)


class KeySet(Protocol):
    """The keys of one issuer. What one of them has verified is good for `good_for` seconds."""

    good_for: float

    def start(self) -> None:
        """Begins to get them, and does not wait."""

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey:
        """The key that a token's header names. Raises InvalidToken where there is none.

        Raises IssuerUnavailable where nobody knows: they could not be fetched.
        """

    async def close(self) -> None:
        """Stops getting them."""


class VerifyingKeys:
    """Keys that may be used. `left_out` says of the others why not, each by its id."""

    def __init__(self, keys: Sequence[VerifyingKey] = (), left_out: Sequence[str] = ()) -> None:
        self.left_out = tuple(left_out)
        self._keys = tuple(keys)
        self._by_id = {key.id: key for key in keys if key.id is not None}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """The key with this id; without an id, the only one for this algorithm. None where there is none.

        Raises InvalidToken where there is one, but for other algorithms; or without an id several.
        """
        if kid is not None:
            key = self._by_id.get(kid)
            if key is not None and algorithm not in key.algorithms:
                raise InvalidToken("its key is not for its algorithm")
            return key
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if len(fitting) > 1:
            raise InvalidToken("it does not say which key signed it")
        return fitting[0] if fitting else None

    def tell_left_out(self, authenticator: str) -> None:
        """Logs what is left out, where anything is. Ids are public, and may be of any length."""
        if self.left_out:
            log.warning(
                "jwks_keys_left_out",
                authenticator=authenticator,
                count=len(self.left_out),
                keys=list(self.left_out[:_MOST_TOLD]),
            )


def read_jwks(text: bytes, algorithms: Collection[str]) -> VerifyingKeys:
    """The keys of a JWK set for these algorithms. Raises InvalidValue where it is no JWK set."""
    members = read_object(text).get("keys")
    if not isinstance(members, list):
        raise InvalidValue("it is no JWK set")
    ids = Counter(map(_id, members))
    repeated = {kid for kid, count in ids.items() if kid is not None and count > 1}
    good, left_out = [], []
    for member in members:
        try:
            good.append(_read_member(member, repeated, algorithms))
        except InvalidValue as error:
            left_out.append(f"{(_id(member) or 'without a kid')[:_LONGEST_ID]}: {error}")
    return VerifyingKeys(good, left_out)


def _id(member: object) -> str | None:
    kid = member.get("kid") if isinstance(member, dict) else None
    return kid if isinstance(kid, str) else None


def _read_member(
    member: object, repeated: Collection[str | None], algorithms: Collection[str]
) -> VerifyingKey:
    if _id(member) in repeated:
        raise InvalidValue("several have this kid")
    return read_jwk(member, algorithms)


class FixedKeys:
    """Keys that the settings hold or name. A PEM file or a secret is one key, whatever id a token gives it.

    Raises InvalidValue as `fixed_keys`.
    """

    good_for = inf

    def __init__(self, settings: JwtSettings, name: str) -> None:
        self._have_ids = bool(settings.jwks_file)
        self._keys = fixed_keys(settings, next(key for key in FIXED if getattr(settings, key)))
        self._keys.tell_left_out(name)

    def start(self) -> None:
        """They are there."""

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey:
        """See KeySet.find."""
        key = self._keys.find(kid if self._have_ids else None, algorithm)
        if key is None:
            raise InvalidToken("no key of its issuer signed it")
        return key

    async def close(self) -> None:
        """Nothing is under way."""


def fixed_keys(settings: JwtSettings, source: str) -> VerifyingKeys:
    """The keys that one of the settings FIXED holds or names.

    Raises InvalidValue where there is none to be used: the path and why, and nothing of what is in it.
    """
    given, algorithms = getattr(settings, source), settings.algorithms
    if source == "secret":
        return VerifyingKeys([read_secret(given, algorithms)])
    try:
        text = Path(given).read_bytes()
        one = source == "public_key_file"
        keys = VerifyingKeys([read_pem(text, algorithms)]) if one else read_jwks(text, algorithms)
    except OSError as error:
        raise InvalidValue(f"{given} cannot be read: {error.strerror}") from None
    except InvalidValue as error:
        raise InvalidValue(f"{given}: {error}") from None
    if not keys:
        why = "; ".join(keys.left_out[:_MOST_TOLD]) or "there are none"
        raise InvalidValue(f"{given}: none of its keys can be used: {why}")
    return keys

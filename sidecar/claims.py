"""Identities of people whom another system knows, from what it says about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from sidecar.errors import InvalidToken
from sidecar.model import Identity
from sidecar.settings import ExternalSettings

_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")  # written one way: no two subjects are the same number
_HASHED = 2**52
"""From here on numeric ids are hashes: see Identity.numeric_id."""


class ClaimsReader:
    """Reads claims as one authenticator's settings say."""

    def __init__(self, settings: ExternalSettings, name: str) -> None:
        self._paths = settings.claims
        self._prefix = settings.subject_prefix
        self._numeric = settings.numeric_subject
        self._method = f"{settings.type}:{name}"

    def identity(self, claims: Mapping[str, Any], issuer: str, expires_at: float = inf) -> Identity:
        """Who it is. `issuer` says whose subjects these are; `expires_at` is in seconds since the epoch.

        Raises InvalidToken where nobody is named. A member of another type than expected is as good as none.
        """
        subject = _text(at(claims, self._paths.subject))
        if not subject:
            raise InvalidToken("it names no subject")
        return Identity(
            subject=self._prefix + subject,
            method=self._method,
            number=self._number(subject),
            username=_text(at(claims, self._paths.username)),
            email=_text(at(claims, self._paths.email)),
            name=_text(at(claims, self._paths.name)),
            roles=_words(at(claims, self._paths.roles)),
            permissions=_words(at(claims, self._paths.permissions)),
            scopes=_words(at(claims, self._paths.scopes)),
            issuer=issuer,
            expires_at=expires_at,
        )

    def _number(self, subject: str) -> int | None:
        # The length first: a number of any length takes time to be read.
        if not self._numeric or not _NUMBER.fullmatch(subject):
            return None
        number = int(subject)
        return number if number < _HASHED else None


def at(claims: Mapping[str, Any], path: str) -> object:
    """What is at a dotted path; None where there is nothing. A name may have dots in it itself."""
    if path in claims:
        return claims[path]
    for name, rest in _splits(path):
        inner = claims.get(name)
        if isinstance(inner, Mapping) and (found := at(inner, rest)) is not None:
            return found
    return None


def is_null(claims: Mapping[str, Any], path: str) -> bool:
    """Whether a member on the way along a dotted path, or at its end, is there and null."""
    if path in claims:
        return claims[path] is None
    inner = [(claims[name], rest) for name, rest in _splits(path) if name in claims]
    return any(each is None or (isinstance(each, Mapping) and is_null(each, rest)) for each, rest in inner)


def _splits(path: str) -> Iterator[tuple[str, str]]:
    for position, character in enumerate(path):
        if character == ".":
            yield path[:position], path[position + 1 :]


def _text(value: object) -> str:
    """A string; a whole number is one too. Raises InvalidToken where no header could carry it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return ""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidToken("it is not Unicode") from None
    return value


def _words(value: object) -> tuple[str, ...]:
    """A list of strings, or words with spaces between them: sorted, each once, none empty.

    Only U+0020 is between words: in what others may choose, such as a branch's name, there may be any other.
    """
    items = value.split(" ") if isinstance(value, str) else value
    if not items or not isinstance(items, list | tuple):
        return ()
    return tuple(sorted({text for item in items if isinstance(item, str) and (text := _text(item))}))

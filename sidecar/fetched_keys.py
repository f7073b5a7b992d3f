"""The keys that an issuer publishes, fetched before they are needed and no more often than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from math import inf
from typing import TypeVar
from urllib.parse import urlsplit

import structlog

from sidecar.asking import Asker, Reply
from sidecar.caching import SingleFlight
from sidecar.errors import (
    InvalidToken,
    InvalidValue,
    IssuerUnavailable,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from sidecar.hosts import is_loopback
from sidecar.jwk import VerifyingKey
from sidecar.jwks import VerifyingKeys, read_jwks
from sidecar.ports import Clock
from sidecar.settings import JwtSettings
from sidecar.strict_json import read_object
from sidecar.telemetry import Metrics

COOLDOWN = 10.0
"""Seconds between the beginnings of two fetches, whatever happens."""

OLDEST = 300.0
"""Seconds after which keys that are used are fetched again."""

_TOO_OLD = 2 * OLDEST
"""Seconds after which nobody has used them for so long that the next one waits for new ones."""

_METADATA = "/.well-known/openid-configuration"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class FetchedKeys:
    """A KeySet at an address of the settings, or of the issuer's metadata (OpenID Connect Discovery 1.0).

    The last good set is used until there is another. One that is used and older than OLDEST is fetched again
    meanwhile; for a token whose key is not in it at once, and that token waits. So does one that finds a set
    which nobody has used for long: a key may have been withdrawn since. While fetching fails, nobody waits
    for a key that is there. A wait ends with the asker's timeout: with two, where there are metadata to be
    read first.

    Metadata are read each time: an issuer that moves its keys may leave the old ones where they were.
    """

    good_for = OLDEST

    def __init__(
        self, settings: JwtSettings, name: str, *, asker: Asker, metrics: Metrics, clock: Clock
    ) -> None:
        self._settings = settings
        self._name = name
        self._asker = asker
        self._metrics = metrics
        self._clock = clock
        self._keys = VerifyingKeys()
        self._is_here = is_loopback(urlsplit(settings.issuer).hostname or "")
        self._failed: bool | None = None
        self._asked = ""
        self._fetched_at = self._next_at = -inf
        self._flights: SingleFlight[None] = SingleFlight()

    def start(self) -> None:
        """See KeySet.start."""
        self._begin()

    async def find(self, kid: str | None, algorithm: str) -> VerifyingKey:
        """See KeySet.find."""
        key = self._keys.find(kid, algorithm)
        age = self._clock.monotonic() - self._fetched_at
        if key is not None and age < OLDEST:
            return key
        fetch = self._begin()
        if fetch and (key is None or (age >= _TOO_OLD and not self._failed)):
            await asyncio.wait((fetch,))
            key = self._keys.find(kid, algorithm)
        if key is not None:
            return key
        if self._failed is not False:
            raise IssuerUnavailable(f"{self._name}: its keys could not be fetched")
        raise InvalidToken("no key of its issuer signed it")

    async def close(self) -> None:
        """See KeySet.close. Who waits for a fetch is told that it failed."""
        self._failed = True
        self._next_at = inf
        await self._flights.close()

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, else one that begins now; None where none may."""
        if "" not in self._flights:
            if self._clock.monotonic() < self._next_at:
                return None
            self._next_at = self._clock.monotonic() + COOLDOWN
        return self._flights.start("", self._fetch)

    async def _fetch(self) -> None:
        try:
            keys = await self._get(self._read_keys, await self._address())
        except (UpstreamUnavailable, UpstreamThrottled, InvalidValue) as fault:
            self._metrics.jwks_refreshes.inc((self._name, "error"))
            if not self._failed:
                log.warning("jwks_not_fetched", authenticator=self._name, url=self._asked, error=str(fault))
            self._failed = True
            return
        self._metrics.jwks_refreshes.inc((self._name, "ok"))
        self._metrics.jwks_last_success.labels(self._name).set(self._clock.now())
        if self._failed:
            log.info("jwks_fetched_again", authenticator=self._name)
        if keys.left_out != self._keys.left_out:
            keys.tell_left_out(self._name)
        self._keys = keys
        self._fetched_at = self._clock.monotonic()
        self._failed = False

    async def _address(self) -> str:
        if self._settings.jwks_url:
            return self._settings.jwks_url
        # OpenID Connect Discovery 1.0, 4.1: a slash at its end is left out here, and here alone.
        metadata = self._settings.issuer.removesuffix("/") + _METADATA
        return await self._get(self._read_metadata, metadata)

    async def _get(self, read: Callable[[Reply], T], url: str) -> T:
        self._asked = url.partition("?")[0]  # what is behind may be a secret
        return await self._asker.ask_for(read, "GET", url)

    def _read_metadata(self, reply: Reply) -> str:
        with self._outages(reply):
            metadata = read_object(reply.body)
            if metadata.get("issuer") != self._settings.issuer:
                raise InvalidValue("its metadata are another issuer's")
            address = metadata.get("jwks_uri")
            if not isinstance(address, str) or not self._may_be_asked(address):
                raise InvalidValue("its metadata name no jwks_uri that may be asked")
            return address

    def _read_keys(self, reply: Reply) -> VerifyingKeys:
        with self._outages(reply):
            return read_jwks(reply.body, self._settings.algorithms)

    @contextmanager
    def _outages(self, reply: Reply) -> Iterator[None]:
        """What cannot be read is no answer."""
        if reply.status != HTTPStatus.OK:
            raise UpstreamUnavailable(f"{self._name}: status {reply.status}")
        try:
            yield
        except InvalidValue as error:
            raise UpstreamUnavailable(f"{self._name}: {error}") from None

    def _may_be_asked(self, address: str) -> bool:
        """By the rule for addresses in the settings; no issuer elsewhere sends us to this machine."""
        try:
            parts = urlsplit(address)
        except ValueError:
            return False
        if parts.scheme == "http":
            return self._settings.allow_http or (self._is_here and is_loopback(parts.hostname or ""))
        return parts.scheme == "https" and bool(parts.hostname)

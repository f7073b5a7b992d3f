"""Management clients: backends with an access key, by its secret, by a token, or by a signature."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from sidecar.access_keys import ROOT, access_key_secret
from sidecar.audit import Audit, Event, Result
from sidecar.credentials import id_of_secret
from sidecar.errors import InvalidToken, Throttled
from sidecar.keys import MANAGEMENT_TOKEN, KeyRing
from sidecar.limiting import RequestLimits
from sidecar.model import IPAddress, Reason
from sidecar.ports import Clock, Store
from sidecar.records import AccessKey, SignedToken
from sidecar.usage import UsageRecorder

LARGEST_SKEW = 300.0
"""Seconds by which the date of a signed request may differ from our clock."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signed request: HMAC-SHA1 of `text`, made at `signed_at` (seconds since the epoch)."""

    key_id: str
    digest: bytes = field(repr=False)
    text: bytes = field(repr=False)
    nonce: bytes
    signed_at: float


class ManagementClients:
    """Says whose access key it is. A key that was revoked, or has expired, is nobody's at once."""

    def __init__(
        self,
        store: Store,
        keys: KeyRing,
        limits: RequestLimits,
        usage: UsageRecorder,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._limits = limits
        self._usage = usage
        self._audit = audit
        self._clock = clock

    async def by_secret(self, key_id: str, secret: str, client: IPAddress) -> AccessKey | None:
        """The key with this id and secret, at an endpoint whose requests are counted already.

        A wrong secret counts towards a ban of the client, and of nothing else: 256 random bits are not
        guessed, and nobody who knows a key's id shall be able to lock its owner out. Raises Throttled,
        StoreUnavailable.
        """
        with self._recorded(client):
            await self._limits.refuse_banned(client)
        expected = await self._secret(key_id)
        if not hmac.compare_digest(expected.encode("ascii"), secret.encode("utf-8")):
            with self._recorded(client):
                await self._limits.count_failure(client)
            # Without the id: it is whatever the client sent, and may be the secret.
            self._refuse(Result.WRONG_SECRET, client)
            return None
        return await self._live(key_id, client)

    async def sign_in(self, key_id: str, secret: str, client: IPAddress) -> AccessKey | None:
        """The same, for who then goes on with a token: it is counted as a sign-in. Raises as `by_secret`."""
        with self._recorded(client):
            await self._limits.count_attempt(client)
        key = await self.by_secret(key_id, secret, client)
        if key is not None:
            self._audit.record(Event.SIGN_IN, Reason.AUTHENTICATED, key_id=key.id, client=client)
        return key

    async def token(self, key: AccessKey, claims: Mapping[str, str]) -> SignedToken:
        """A token for the key, with these claims besides."""
        not_after = inf if key.expires_at is None else key.expires_at
        return await self._keys.sign(MANAGEMENT_TOKEN, {**claims, "sub": key.id}, not_after=not_after)

    async def by_token(self, token: bytes, client: IPAddress) -> AccessKey | None:
        """The key that the token is for. Raises StoreUnavailable."""
        try:
            claims = await self._keys.verify(token, MANAGEMENT_TOKEN)
        except InvalidToken:
            self._refuse(Reason.INVALID_TOKEN, client)
            return None
        return await self._live(str(claims["sub"]), client)

    async def by_signature(self, signature: Signature, client: IPAddress) -> AccessKey | None:
        """The key that made this signature; each nonce of a key is good once.

        Raises StoreUnavailable, also where it cannot be written that the nonce was used.
        """
        secret = await self._secret(signature.key_id)
        now = self._clock.now()
        expected = hmac.digest(secret.encode("ascii"), signature.text, "sha1")
        if not hmac.compare_digest(expected, signature.digest):
            self._refuse(Result.WRONG_SIGNATURE, client)
            return None
        if abs(now - signature.signed_at) > LARGEST_SKEW:
            self._refuse(
                Result.SIGNATURE_OUT_OF_TIME, client, signature.key_id, round(now - signature.signed_at)
            )
            return None
        key = await self._live(signature.key_id, client)
        if key is None:
            return None
        mark = id_of_secret(b"%b\n%b" % (key.id.encode("utf-8"), signature.nonce))
        # A second longer than it could be good: dates have no fractions.
        expires_at = signature.signed_at + LARGEST_SKEW + 1
        if not await self._store.nonces.use(mark, now=now, expires_at=expires_at):
            self._refuse(Result.SIGNATURE_REPLAYED, client, key.id)
            return None
        return key

    async def _secret(self, key_id: str) -> str:
        """What the secret of a key with this id is, whether or not there is one: both take the same time."""
        return access_key_secret(await self._store.secret(ROOT), key_id)

    async def _live(self, key_id: str, client: IPAddress) -> AccessKey | None:
        """The key, where it is in force; noted as used. Only a secret of ours can have come with its id."""
        key = await self._store.access_keys.find(key_id)
        now = self._clock.now()
        if key is None:
            self._refuse(Reason.UNKNOWN_KEY, client, key_id)
            return None
        if key.expires_at is not None and now >= key.expires_at:
            self._refuse(Reason.KEY_EXPIRED, client, key_id)
            return None
        await self._usage.note(self._usage.of_key(key), "", now, by_cookie=False)
        return key

    @contextmanager
    def _recorded(self, client: IPAddress) -> Iterator[None]:
        """Records who has to wait."""
        try:
            yield
        except Throttled as throttled:
            self._refuse(throttled.reason, client)
            raise

    def _refuse(
        self, result: Reason | Result, client: IPAddress, key_id: str = "", seconds: float | None = None
    ) -> None:
        self._audit.record(Event.CREDENTIAL_REFUSED, result, key_id=key_id, client=client, seconds=seconds)

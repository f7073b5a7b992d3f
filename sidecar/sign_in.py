"""Signing in by name and password: one way, for the page and for Basic."""

from __future__ import annotations

import structlog

from sidecar.audit import Audit, Event
from sidecar.credentials import id_of_secret
from sidecar.errors import Overloaded, StoreUnavailable, Throttled
from sidecar.limiting import RequestLimits
from sidecar.model import IPAddress, Reason, Rejected, reason_of
from sidecar.names import LONGEST as LONGEST_NAME
from sidecar.names import sign_in_key
from sidecar.passwords import LONGEST, Passwords
from sidecar.ports import UserStore
from sidecar.records import User
from sidecar.telemetry import Metrics

log = structlog.get_logger(__name__)


class SignIn:
    """Says which user a name and a password belong to.

    A name that nobody has costs the same time as one that somebody has, counts as a failure in the
    same way, and gets the same answer.
    """

    def __init__(
        self, users: UserStore, passwords: Passwords, limits: RequestLimits, audit: Audit, metrics: Metrics
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._limits = limits
        self._audit = audit
        self._attempts = metrics.logins

    async def count_attempt(self, client: IPAddress) -> None:
        """Counts a sign-in of any kind. Raises Throttled where this client has tried too often."""
        try:
            await self._limits.count_attempt(client)
        except Throttled as throttled:
            self.record(throttled.reason, client)
            raise

    async def attempt(self, name: str, password: str, client: IPAddress) -> User | Rejected:
        """As `verify`, and counted against the rate of this client's sign-ins."""
        await self.count_attempt(client)
        return await self.verify(name, password, client)

    async def verify(self, name: str, password: str, client: IPAddress) -> User | Rejected:
        """The user, or why not. Raises Throttled, Overloaded, StoreUnavailable."""
        user = await self._users.find_by_sign_in_name(name) if len(name) <= LONGEST_NAME else None
        user_id = user.id if user else None
        key = str(user.id) if user else _unknown(name)
        try:
            await self._limits.refuse_banned(client, key)
            answer = await self._answer(user, password)
            # Guesses at once are all let in before the first of them is counted.
            await self._limits.refuse_banned(client, key)
            if isinstance(answer, Rejected) and answer.reason is Reason.WRONG_PASSWORD:
                await self._limits.count_failure(client, key)
        except (Throttled, Overloaded, StoreUnavailable) as error:
            self.record(reason_of(error), client, user_id)
            raise
        result = answer.reason if isinstance(answer, Rejected) else Reason.AUTHENTICATED
        self.record(result, client, user_id)
        return answer

    def record(self, result: Reason, client: IPAddress, user_id: int | None = None, key_id: str = "") -> None:
        """Counts a sign-in of any kind as one with this result, and puts it into the audit.

        `user_id` is whose it is, or would have been.
        """
        self._attempts.labels(result).inc()
        self._audit.record(Event.SIGN_IN, result, user_id=user_id, key_id=key_id, client=client)

    async def _answer(self, user: User | None, password: str) -> User | Rejected:
        stored = await self._users.password_hash(user.id) if user else ""
        if len(password) > LONGEST or not await self._passwords.verify(stored, password) or user is None:
            return Rejected(Reason.WRONG_PASSWORD)
        renewed = (
            await self._renewed(user, stored, password) if self._passwords.is_outdated(stored) else stored
        )
        # The password may have been changed, and the user disabled, while it was hashed.
        if await self._users.password_hash(user.id) not in {stored, renewed}:
            return Rejected(Reason.WRONG_PASSWORD)
        now = await self._users.find(user.id)
        if now is None or now.disabled:
            return Rejected(Reason.USER_DISABLED)
        return now

    async def _renewed(self, user: User, stored: str, password: str) -> str:
        """The hash under today's parameters. Where it cannot be made or written, nobody is refused for it."""
        try:
            renewed = await self._passwords.hash(password)
            await self._users.rehash_password(user.id, stored, renewed)
        except (StoreUnavailable, Overloaded) as error:
            log.warning("rehash_failed", user_id=user.id, error=str(error))
            return stored
        return renewed


def _unknown(name: str) -> str:
    """A name that nobody has, under which its failures are counted: of one length, whatever was typed."""
    return f"unknown:{id_of_secret(sign_in_key(name[: LONGEST_NAME + 1]).encode('utf-8', 'replace'))}"

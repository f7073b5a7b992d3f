"""Signing in by name and password: the one way for the page, for products' sign-ins and for Basic."""

from __future__ import annotations

import structlog

from sidecar.errors import Throttled
from sidecar.limiting import SignInLimits
from sidecar.model import IPAddress, Reason, Rejected, User
from sidecar.names import sign_in_key
from sidecar.passwords import LONGEST, Passwords
from sidecar.ports import UserStore
from sidecar.telemetry import Metrics
from sidecar.trust import client_network

log = structlog.get_logger(__name__)


class SignIn:
    """Says which user a name and a password belong to.

    A name that nobody has costs the same time as one that somebody has, counts as a failure in the
    same way, and gets the same answer.
    """

    def __init__(
        self, users: UserStore, passwords: Passwords, limits: SignInLimits, metrics: Metrics
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._limits = limits
        self._attempts = metrics.logins

    async def attempt(self, name: str, password: str, client: IPAddress) -> User | Rejected:
        """As `verify`, and counted against the rate of this client's sign-ins."""
        try:
            self._limits.count_attempt(client_network(client))
        except Throttled:
            self._attempts.labels("rate_limited").inc()
            raise
        return await self.verify(name, password, client)

    async def verify(self, name: str, password: str, client: IPAddress) -> User | Rejected:
        """The user, or why not. Raises Throttled (banned), Overloaded, StoreUnavailable."""
        network = client_network(client)
        user = await self._users.find_by_sign_in_name(name)
        key = str(user.id) if user else f"unknown:{sign_in_key(name)}"
        try:
            self._limits.refuse_banned(network, key)
        except Throttled:
            self._attempts.labels("banned").inc()
            raise
        result = await self._result(user, password)
        if result is Reason.WRONG_PASSWORD:
            self._limits.count_failure(network, key)
        self._attempts.labels(result).inc()
        log.info("sign_in", result=str(result), user_id=user.id if user else None, client=str(client))
        if user is None or result is not Reason.AUTHENTICATED:
            return Rejected(result)
        return user

    async def _result(self, user: User | None, password: str) -> Reason:
        stored = await self._users.password_hash(user.id) if user else ""
        if len(password) > LONGEST or not await self._passwords.verify(stored, password):
            return Reason.WRONG_PASSWORD
        if user is None or user.disabled:
            return Reason.USER_DISABLED
        if self._passwords.is_outdated(stored):
            await self._users.rehash_password(user.id, stored, await self._passwords.hash(password))
        return Reason.AUTHENTICATED

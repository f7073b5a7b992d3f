"""Passwords: hashed with Argon2id, off the event loop, a few at a time."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sidecar.errors import InvalidValue, Overloaded

SHORTEST = 8
LONGEST = 256
AT_ONCE = 2
"""Hashes computed at the same time: each takes 64 MiB and a core's whole attention."""

MOST_WAITING = 32
"""More than these wait in vain: by then their browsers have given up."""

T = TypeVar("T")


def check_new_password(password: str) -> None:
    """Raises InvalidValue for a password that must not be set."""
    if len(password) < SHORTEST:
        raise InvalidValue(f"a password has at least {SHORTEST} characters")
    if len(password) > LONGEST:
        raise InvalidValue(f"a password has at most {LONGEST} characters")


class Passwords:
    """Hashes and verifies. Raises Overloaded where too many are waiting."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._pending = 0

    async def hash(self, password: str) -> str:
        """The hash to store, with its parameters."""
        return await self._run(partial(self._hasher.hash, _normal(password)))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether it is this password. An empty hash is nobody's, and takes the same time to refuse."""
        return await self._run(partial(self._verify, stored, _normal(password)))

    def is_outdated(self, stored: str) -> bool:
        """Whether it was made under other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Ends the threads; what waits is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        if not stored:
            self._hasher.hash(password)
            return False
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= AT_ONCE + MOST_WAITING:
            raise Overloaded("too many passwords are being checked")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._pending -= 1


def _normal(password: str) -> str:
    """The same characters, however a keyboard composes them (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password)

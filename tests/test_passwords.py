"""Passwords: a few at a time, in a queue that ends."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import PasswordHasher

from sidecar.errors import InvalidValue, Overloaded
from sidecar.passwords import AT_ONCE, LONGEST, MOST_WAITING, SHORTEST, Passwords, check_new_password
from tests.running import CHEAP, Running


class SlowHasher(PasswordHasher):
    """Waits until it is told to go on, and notes how many waited at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go_on = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.go_on.wait(30)
        with self._lock:
            self.running -= 1
        return super().hash(password, salt=salt)


async def test_two_at_once_the_rest_waits_and_more_than_that_is_an_outage() -> None:
    hasher = SlowHasher()
    passwords = Passwords(hasher)
    waiting = [asyncio.ensure_future(passwords.hash("x")) for _ in range(AT_ONCE + MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await passwords.hash("one too many")
    hasher.go_on.set()
    assert len(set(await asyncio.gather(*waiting))) == AT_ONCE + MOST_WAITING
    assert hasher.most <= AT_ONCE
    assert await passwords.hash("room again")
    passwords.close()


async def test_a_password_is_the_same_however_it_was_typed() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("caf\u00e9")
    assert await passwords.verify(stored, "cafe\u0301")
    assert not await passwords.verify(stored, "cafe")
    assert not await passwords.verify("", "cafe")
    assert not await passwords.verify("not a hash", "cafe")
    passwords.close()


@pytest.mark.parametrize("password", ["", "x" * (SHORTEST - 1), "x" * (LONGEST + 1)], ids=len)
def test_a_password_that_must_not_be_set_is_refused(password: str) -> None:
    with pytest.raises(InvalidValue, match="a password has at"):
        check_new_password(password)


async def test_a_hash_under_old_parameters_is_made_anew_at_the_next_sign_in(sidecar: Running) -> None:
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash("correct horse")
    alice = await sidecar.add_user(password="something else")
    await sidecar.store.users.set_password_hash(alice.id, old, now=0.0, by="test")
    assert (await sidecar.sign_in("alice", "wrong password")).status == 401
    assert await sidecar.store.users.password_hash(alice.id) == old
    assert (await sidecar.sign_in("alice", "correct horse")).status == 303
    renewed = await sidecar.store.users.password_hash(alice.id)
    assert renewed != old
    assert not CHEAP.check_needs_rehash(renewed)
    assert (await sidecar.sign_in("alice", "correct horse")).status == 303

"""The stores that the conformance suite runs against. A further store is one line in `URLS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sidecar.ports import Store
from sidecar.records import NewUser, User
from sidecar.stores import open_store

URLS: dict[str, Callable[[Path], str]] = {"sqlite": lambda directory: f"sqlite:///{directory / 'store.db'}"}


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store."""
    return URLS[request.param](tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open, empty store."""
    opened = open_store(url)
    yield opened
    await opened.close()


@pytest.fixture
async def other(store: Store, url: str) -> AsyncIterator[Store]:
    """The same data as in `store`, opened as another process would."""
    opened = open_store(url)
    yield opened
    await opened.close()


@pytest.fixture
async def ann(store: Store) -> User:
    """A user with everything that has to be unique."""
    new = NewUser("ann", ("ann@example.com", "Ann@Example.org"), phone="+1 23", external_id="e-1")
    return await store.users.add(new, now=1000, by="cli")


@pytest.fixture
async def bob(store: Store, ann: User) -> User:
    """Another user, who has only a name."""
    return await store.users.add(NewUser("bob"), now=1000, by="cli")

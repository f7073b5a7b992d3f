"""Credentials, one a line in files that the load generator reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from bench.data import API_KEY, FEW, MANY, SECRET, url
from bench.issuer import Issuer
from sidecar.app import services
from sidecar.credentials import id_of_secret
from sidecar.settings import parse


class Credentials:
    """Files in a folder, each made when it is first used. `store`: that with few sessions."""

    def __init__(self, folder: Path, store: Path) -> None:
        self._folder = folder
        self._store = store
        self.issuer = Issuer(folder)

    @cached_property
    def sessions(self) -> Path:
        """The secrets of all sessions, those of the store with few of them first."""
        return self._written("sessions", (SECRET % number for number in range(MANY)))

    @cached_property
    def session_tokens(self) -> Path:
        """A token of each of the few sessions, as the product signs it."""
        return self._written("session-tokens", asyncio.run(_signed(self._store)))

    @cached_property
    def api_keys(self) -> Path:
        """API keys of the few users."""
        return self._written("api-keys", (API_KEY % number for number in range(FEW)))

    @cached_property
    def issued_tokens(self) -> Path:
        """Tokens of another issuer, of as many users."""
        return self._written("issued-tokens", self.issuer.tokens(FEW))

    def opaque(self, name: str) -> Path:
        """As many tokens that say nothing but this name."""
        return self._written(name, (f"{name}-token-{number:019}" for number in range(FEW)))

    def _written(self, name: str, lines: Iterable[str]) -> Path:
        file = self._folder / f"{name}.txt"
        with file.open("w", encoding="ascii") as output:
            output.writelines(f"{line}\n" for line in lines)
        return file


async def _signed(store: Path) -> list[str]:
    async with services(parse({"store": {"url": url(store)}})) as parts:
        await parts.keys.start()
        tokens = []
        for number in range(FEW):
            session = await parts.store.sessions.find(id_of_secret((SECRET % number).encode("ascii")))
            assert session is not None
            user = await parts.store.users.find(session.user_id)
            assert user is not None
            tokens.append((await parts.sessions.token(session, user)).text)
    return tokens

"""What it costs to sign a session token: the part of an answer that no design of ours makes cheaper."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.data import SECRET, url
from bench.machine import CannotMeasure, on_core
from sidecar.app import services
from sidecar.credentials import id_of_secret
from sidecar.settings import parse

_TIMES = 2_000


def signing_us(store: Path, core: int) -> float:
    """CPU microseconds for one token, as the product signs it, on this core."""
    with on_core(core):
        return asyncio.run(_signing_us(store))


async def _signing_us(store: Path) -> float:
    async with services(parse({"store": {"url": url(store)}})) as parts:
        await parts.keys.start()
        session = await parts.store.sessions.find(id_of_secret((SECRET % 0).encode("ascii")))
        user = None if session is None else await parts.store.users.find(session.user_id)
        if session is None or user is None:
            raise CannotMeasure("the store has no sessions")
        await parts.sessions.token(session, user)
        before = time.process_time()
        for _ in range(_TIMES):
            await parts.sessions.token(session, user)
        return (time.process_time() - before) / _TIMES * 1e6

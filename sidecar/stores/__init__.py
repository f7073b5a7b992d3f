"""Stores: where users, sessions and keys are kept.

A further kind of store is one package here and one line in `OPENERS`; it passes tests/stores unchanged.
"""

from __future__ import annotations

from pathlib import Path

from sidecar.errors import InvalidValue
from sidecar.ports import Store
from sidecar.stores.observe import Observe, unobserved
from sidecar.stores.sqlite import open_sqlite

OPENERS = {"sqlite": open_sqlite}


def missing(url: str) -> Path | None:
    """The file that opening the store at `url` would make; None where there is one, whatever is in it."""
    path = Path(url.removeprefix("sqlite:///")).absolute()
    try:
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError):
        return None  # opening it says what is wrong
    return None


def open_store(
    url: str, *, read_only: bool = False, busy_timeout: float = 5.0, observe: Observe = unobserved
) -> Store:
    """Opens the store at `url`, creating or migrating it first where that is needed.

    With `read_only` it must be there and up to date, and whatever writes raises StoreUnavailable.
    A write waits up to `busy_timeout` seconds for other writers; `observe` is called on the event loop.
    The store belongs to the process that opened it: fork first, open then. Raises InvalidValue for an
    address that names no store, StoreUnusable or StoreUnavailable where the store cannot be opened.
    """
    scheme, separator, location = url.partition("://")
    if not separator or scheme not in OPENERS:
        known = ", ".join(f"{each}://" for each in OPENERS)
        # The address itself stays out of the message: that of a database server may hold a password.
        raise InvalidValue(f"the store's url must begin with {known}")
    return OPENERS[scheme](location, read_only=read_only, busy_timeout=busy_timeout, observe=observe)

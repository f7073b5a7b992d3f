"""File descriptors: every connection takes one, and a process has only so many."""

from __future__ import annotations

import resource

import structlog

RESERVED = 256
"""Descriptors for all that is no connection of a gateway: the store's files, other systems that are asked,
the admin listener's connections, the listeners themselves and the log."""

MOST = 65_536
"""Connections where nothing else sets a bound: machines with a limit of a billion descriptors have not the
memory for as many connections."""

log = structlog.get_logger(__name__)


def raise_limit() -> int:
    """Takes as many descriptors as the system gives this process, and returns how many.

    The soft limit is low for the sake of programs that use select(); this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # a sandbox may forbid it
        return soft
    return hard


def most_connections(wanted: int, descriptors: int) -> int:
    """How many connections of gateways are served at once: `wanted`, 0 for as many as there may be.

    Fewer than there are descriptors, so that accepting one never takes the last. Logs where that is fewer
    than wanted.
    """
    if descriptors == resource.RLIM_INFINITY:
        return wanted or MOST
    room = max(descriptors - RESERVED, descriptors // 2)
    if wanted > room:
        log.warning("max_connections_lowered", wanted=wanted, most=room, descriptors=descriptors)
    return min(wanted or MOST, room)

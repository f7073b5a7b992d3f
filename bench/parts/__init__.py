"""The parts of the whole, one file each: servers, what they are asked, and the figures that come of it."""

from __future__ import annotations

from collections.abc import Callable

from bench.parts import (
    cached,
    connecting,
    connections,
    curves,
    elsewhere,
    gateway,
    latency,
    memory,
    products,
    rules,
    sessions,
    start,
    uncached,
)
from bench.report import Part
from bench.workbench import Workbench

PARTS: dict[str, Callable[[Workbench], Part]] = {
    "cached": cached.measure,
    "uncached": uncached.measure,
    "sessions": sessions.measure,
    "rules": rules.measure,
    "connections": connections.measure,
    "connecting": connecting.measure,
    "gateway": gateway.measure,
    "latency": latency.measure,
    "products": products.measure,
    "elsewhere": elsewhere.measure,
    "start": start.measure,
    "curves": curves.measure,
    "memory": memory.measure,
}
"""By name, in the order in which they are measured. Each raises CannotMeasure."""

"""How the stores say what they did."""

from collections.abc import Callable

Observe = Callable[[str, str, float], None]
"""Told of each operation: its name (`sessions.find`), `ok` or `error`, and the seconds it took."""


def unobserved(_operation: str, _result: str, _seconds: float) -> None:
    """Nobody counts."""

"""How a client on this machine reaches one of our listeners."""

from __future__ import annotations

from dataclasses import dataclass

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared, not listened on


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`http://host:port`, and the socket's path where it is a unix one."""

    url: str
    socket: str | None = None


def endpoint_of(listen: str) -> Endpoint:
    """The endpoint behind a listen address of the settings."""
    path = listen.removeprefix("unix:")
    if path != listen:
        return Endpoint("http://localhost", path)
    host, _, port = listen.rpartition(":")
    return Endpoint(f"http://{_ANYWHERE.get(host, host)}:{port}")

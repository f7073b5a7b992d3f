"""Listening sockets, bound before anything else starts, so that what cannot be bound is said at once."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.errors import ListenerError

_SOCKET_MODE = 0o660
_BACKLOG = 2048

_WHY = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not listen there",
    errno.ENOENT: "the directory does not exist",
}


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A listening socket at `host:port`, `[v6]:port` or `unix:/path`, closed and removed at the end.

    Raises ListenerError.
    """
    path = address.removeprefix("unix:")
    if path == address:
        with _tcp(address) as bound:
            yield bound
    else:
        with _unix(Path(path)) as bound, _removed_at_the_end(Path(path)):
            yield bound


@contextmanager
def _removed_at_the_end(path: Path) -> Iterator[None]:
    """Removes the socket's file, unless another process has put its own in its place.

    One that drains has closed its listener: a new one finds the socket stale and replaces it.
    """
    ours = _identity(path)
    try:
        yield
    finally:
        if _identity(path) == ours:
            path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """None where there is nothing.

    A file system may give the number of a file that was removed to the next one (ext4 does), so that it
    takes the time too: bind sets it, and what an operator changes is the mode or the owner.
    """
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _tcp(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", "that is no host name")
        raise ListenerError(f"cannot listen on {address}: {why}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return _bound(listener, target, address)


def _unix(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 - _SOCKET_MODE)
    try:
        return _bound(listener, str(path), f"unix:{path}")
    finally:
        os.umask(before)


def _bound(
    listener: socket.socket, target: str | tuple[str | int, ...] | tuple[int, bytes], address: str
) -> socket.socket:
    try:
        listener.bind(target)
        listener.listen(_BACKLOG)  # only now is the address surely ours
    except OSError as error:
        listener.close()
        why = _WHY.get(error.errno or 0, error.strerror or error)  # a path that is too long has neither
        raise ListenerError(f"cannot listen on {address}: {why}") from None
    return listener


def _remove_stale(path: Path) -> None:
    """Removes a socket that nobody listens on any more; nothing else."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenerError(f"cannot listen on unix:{path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # with a full backlog it would wait
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ListenerError(f"cannot listen on unix:{path}: {error.strerror}") from None
        else:
            raise ListenerError(f"cannot listen on unix:{path}: another process listens there")

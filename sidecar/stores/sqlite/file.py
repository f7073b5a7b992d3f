"""The database file itself: made privately, and known again whatever is done to its path."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sidecar.errors import StoreUnusable

APPLICATION_ID = 0x53444352  # "SDCR"

# https://www.sqlite.org/fileformat2.html#the_database_header
_HEADER_SIZE = 100
_MAGIC = slice(0, 16), b"SQLite format 3\x00"
_APPLICATION = slice(68, 72), APPLICATION_ID.to_bytes(4, "big")


RUN_AS = "run this as the user that the sidecar runs as"
"""What helps where permissions are missing."""


class StoreFile:
    """A database file, created where there is none and it may be, and held open by one descriptor.

    SQLite never notices that its file was removed, replaced or overwritten: it goes on with the old inode or
    its page cache. The descriptor shows what the path and the header say now. It must be opened before
    SQLite opens the file, and closed after SQLite has closed it: see `_Descriptor`.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """Raises StoreUnusable where the file cannot be used, and leaves it untouched."""
        self.path = path
        self._is_closed = False
        try:
            if create:
                _create_missing(path)
            self._descriptor = _hold(path)
        except OSError as error:
            raise StoreUnusable(_opening_failed(path, error)) from error
        try:
            self._require_ours_or_blank()
        except StoreUnusable:
            self.close()
            raise

    def fault(self) -> str:
        """Why what is at the path is not the database that was opened; empty where it is."""
        if self._is_closed:  # the descriptor's number may be another file's by now
            return "it is closed"
        try:
            identity = _identity(os.stat(self.path))  # noqa: PTH116 - a Path's own stat() costs twice as much
            header = os.pread(self._descriptor.number, _HEADER_SIZE, 0)
        except FileNotFoundError:
            return "the file is gone"
        except OSError as error:
            return f"the file cannot be read: {error.strerror}"
        if identity != self._descriptor.identity:
            return "another file is in its place"
        return _foreign(header)

    def has_journal(self) -> bool:
        """Whether there is a journal with something in it."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size > 0
        except OSError:
            return False

    def close(self) -> None:
        """Lets go of the file. Every SQLite connection to it must be closed before."""
        self._is_closed = True
        _release(self._descriptor)

    def _require_ours_or_blank(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor.number).st_mode):
            raise StoreUnusable(f"{self.path} is not a file: name a file in [store] url")
        header = os.pread(self._descriptor.number, _HEADER_SIZE, 0)
        if header and (fault := _foreign(header)):
            raise StoreUnusable(
                f"{self.path}: {fault}; it was left as it is: name another file in [store] url"
            )


def _foreign(header: bytes) -> str:
    """Why this is not the header of our database; empty where it is."""
    where, magic = _MAGIC
    if header[where] != magic:
        return "the file is not an SQLite database"
    where, application = _APPLICATION
    if header[where] != application:
        return "the file is an SQLite database of another application"
    return ""


def _create_missing(path: Path) -> None:
    """Creates the file, empty and private from its first moment, and the directories that it needs.

    SQLite alone would create it with the mode that the umask leaves; its journals take the file's mode.
    """
    for directory in reversed(path.parents):
        if not directory.is_dir():
            directory.mkdir(0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _opening_failed(path: Path, error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return f"{path} is a directory: name a file in [store] url"
    if isinstance(error, PermissionError):
        return f"{path} cannot be opened: this user may not read it or write in {path.parent}: {RUN_AS}"
    return f"{path} cannot be opened: {error.strerror}"


# --- descriptors ---------------------------------------------------------------------------------

_Identity = tuple[int, int]


@dataclass(slots=True)
class _Descriptor:
    """A file's descriptor, shared by all stores of this process that have the file open.

    When a process closes any descriptor of a file, the kernel drops all POSIX locks that it has on the file:
    SQLite's own too, and another process then takes itself for the only one and deletes the journal. Hence
    one descriptor for a file, closed when its last holder has closed its connections.
    """

    number: int
    identity: _Identity
    holders: int = 0


_held: dict[_Identity, _Descriptor] = {}
_held_lock = threading.Lock()


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _hold(path: Path) -> _Descriptor:
    with _held_lock:
        descriptor = _held.get(_identity(path.stat())) or _opened(path)
        descriptor.holders += 1
        return descriptor


def _opened(path: Path) -> _Descriptor:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    identity = _identity(os.fstat(number))
    # The path may have changed hands since it was looked up. Where its file is held already, this
    # descriptor stays open unused rather than drop the locks of the one that is.
    return _held.setdefault(identity, _Descriptor(number, identity))


def _release(descriptor: _Descriptor) -> None:
    with _held_lock:
        descriptor.holders -= 1
        if descriptor.holders == 0:
            del _held[descriptor.identity]
            os.close(descriptor.number)

"""A worker: a child of this process, from the fork to its end."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn, Self

import structlog

from sidecar.errors import SidecarError
from sidecar.server.channel import Channel, Failed

_PARENT_ALONE = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends them to all of its processes: what becomes of them, the parent decides."""

_HEARD = (signal.SIGTERM, *_PARENT_ALONE, signal.SIGCHLD)

log = structlog.get_logger(__name__)


class Signals:
    """The signals that a parent hears, as bytes that can be waited for. As a context it hears them."""

    def __enter__(self) -> Self:
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.settimeout(0)
        # The handlers do nothing: that there are any has Python write the number.
        for number in _HEARD:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when one has come."""
        return self._ours.fileno()

    def take(self) -> set[int]:
        """Those that have come since the last time."""
        try:
            return set(self._ours.recv(4096))
        except BlockingIOError:
            return set()

    def close(self) -> None:
        """Hears no more; none of them ends the process either."""
        signal.set_wakeup_fd(-1)
        self._ours.close()
        self._theirs.close()


def fork(
    work: Callable[[Channel], None], signals: Signals, channels: Iterable[Channel]
) -> tuple[int, Channel]:
    """Begins a worker, and returns its process id and this process's end of its channel.

    It does its work and exits: with status 1 where that raises, and then it says Failed.
    It shares neither the signals that this process hears, nor its `channels` to other workers.
    Raises OSError where there can be no more processes.
    """
    ours, theirs = Channel.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # none is heard in the wrong process
    try:
        pid = os.fork()
        if not pid:
            _work_and_exit(work, theirs, [signals, ours, *channels])
    except OSError:
        ours.close()
        theirs.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    theirs.close()
    return pid, ours


def _work_and_exit(
    work: Callable[[Channel], None], channel: Channel, inherited: Iterable[Signals | Channel]
) -> NoReturn:
    """Never returns to where the parent was: what that cleans up is the parent's."""
    status = 1
    try:
        for each in inherited:
            each.close()
        _forget_signals()
        work(channel)
        status = 0
    except* SidecarError as errors:
        _say_why(channel, "\n".join(map(str, errors.exceptions)))
    except* BaseException as errors:  # whatever it is, the process ends
        log.exception("worker_broke")
        # By name: what they say may be nobody's business but the log's.
        _say_why(channel, ", ".join(type(each).__name__ for each in errors.exceptions))
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _say_why(channel: Channel, why: str) -> None:
    with suppress(OSError):  # the parent may be gone
        channel.send(Failed(why))


def _forget_signals() -> None:
    for number in _HEARD:
        signal.signal(number, signal.SIG_IGN if number in _PARENT_ALONE else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

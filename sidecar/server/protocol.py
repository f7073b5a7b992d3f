"""HTTP/1.1 as uvicorn speaks it with httptools, with a limit on how long a request's head may be."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_TOO_LONG = b"The request head is too long.\n"
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n\r\n%b" % (len(_TOO_LONG), _TOO_LONG)
)


class HeadLimitedProtocol(HttpToolsProtocol):
    """Answers 431 to a head over `limit` bytes, without keeping more of it than that.

    httptools itself collects the lines of a head for as long as they come.
    """

    limit: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_size = 0
        self._in_head = False
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer, as asyncio hands them over."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self.limit:
                self._refuse()

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        self._in_head = True
        self._head_size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The parser has seen the whole head."""
        self._in_head = False
        if self._length_of_head() > self.limit:
            self._refuse()
        else:
            super().on_headers_complete()

    def _length_of_head(self) -> int:
        """Counted from what was parsed: one chunk may hold a head, a body and the next head."""
        return len(self.url) + sum([len(name) + len(value) for name, value in self.headers])

    def _refuse(self) -> None:
        self._refused = True
        self._in_head = False
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            # An answer to an earlier request is on its way: it is the last one on this connection.
            before.keep_alive = False
            return
        self.transport.write(_REFUSAL)
        self.transport.close()


def head_limited(limit: int) -> type[HeadLimitedProtocol]:
    """The protocol class for this limit, in bytes."""
    return type("HeadLimited", (HeadLimitedProtocol,), {"limit": limit})

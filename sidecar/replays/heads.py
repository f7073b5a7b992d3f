"""How a check's head is read: what of it decides, where its URL is, and what in it is of no account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.model import Grounds, HeaderLines, UrlPlace
from sidecar.ports import Gateway

_HARMFUL = bytes({*range(256)} - {*range(0x21, 0x7F)} | {ord("#")})

IF_HARMLESS = bytes.maketrans(_HARMFUL, b"!" * len(_HARMFUL))
"""`text.translate(IF_HARMLESS) == text` where a query or a request's name is of no account: all of it is
visible ASCII without `#`, in which no parser and no rule sees anything else. This is the cheapest test."""

NAMES = (b"\r\nX-Request-Id: ", b"\r\nx-request-id: ")
"""Gateways give each request a name, for the log."""

LONGEST_TARGET = 65_535
"""Bytes; httptools takes no longer one apart, and it is refused."""

BEYOND_A_HEAD = frozenset({b"content-length", b"transfer-encoding", b"upgrade", b"expect"})
_NO_BODY = (b"content-length", b"0")
_CHECK = re.compile(rb"[A-Z]+ /check/([a-z]+)")


class Head(NamedTuple):
    """A request's head as the parser has read it, names in lower case; `peer` is who asks."""

    peer: str
    method: bytes
    target: bytes
    headers: HeaderLines
    keeps_alive: bool

    def __repr__(self) -> str:
        return f"<Head of {self.peer}>"


class ReadHead(NamedTuple):
    """A head as a check reads it: who asks, all of it but the URL in one form, and the URL."""

    peer: str
    gateway: str
    key: bytes
    url: bytes

    def __repr__(self) -> str:
        return f"<ReadHead of {self.peer}, {self.gateway}>"


class Way(NamedTuple):
    """How a gateway asks: its check's path, where the URL is, and the names of the lines that decide."""

    name: str
    path: bytes
    url: UrlPlace
    reads: frozenset[bytes]

    def read(self, head: Head, url: bytes | None) -> ReadHead | None:
        """The head as a check of this gateway reads it, with its URL where that is in the target."""
        pieces = [head.peer.encode("ascii"), head.method, self.path, b"1" if head.keeps_alive else b"0"]
        for line in head.headers:
            name, value = line
            if name == self.url.header:
                if url is not None:
                    return None
                url = value
            elif name in self.reads:
                pieces += line
            elif name in BEYOND_A_HEAD and line != _NO_BODY:
                return None
        return None if url is None else ReadHead(head.peer, self.name, b"\n".join(pieces), url)

    def prefix(self, grounds: Grounds) -> bytes:
        """All that selects a rule but for what the URL says."""
        asked, seen_as = grounds.original, grounds.client_class
        host = "" if self.url.names_host else f"{asked.host.name} {asked.host.port}"
        return f"{asked.method} {seen_as} {host} ".encode("ascii")


class Ways:
    """Those of all gateways. `reads`: the names of the lines that decide about a check of each."""

    def __init__(self, reads: Mapping[Gateway, frozenset[bytes]]) -> None:
        self.by_name = {
            each.name: Way(each.name, f"/check/{each.name}".encode("ascii"), each.url, names)
            for each, names in reads.items()
        }

    def of(self, data: bytes) -> Way | None:
        """Whose check these bytes begin."""
        found = _CHECK.match(data)
        return self.by_name.get(found[1].decode("ascii")) if found else None

    def read(self, head: Head) -> ReadHead | None:
        """The head as a check reads it; None where it is no check's, or more than a head belongs to it."""
        if len(head.target) > LONGEST_TARGET:
            return None
        path, _, query = head.target.partition(b"?")
        for way in self.by_name.values():
            if not way.url.header and path.startswith(way.path + b"/"):
                return way.read(head, head.target.removeprefix(way.path))
            if way.url.header and path == way.path and query.translate(IF_HARMLESS) == query:
                return way.read(head, None)
        return None

"""Where uvicorn is not what the express lane expects, every check is decided, and the log says so."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sidecar.server.self_check import lane_fits

Change = Callable[[pytest.MonkeyPatch], None]


async def test_this_uvicorn_fits(log: io.StringIO) -> None:
    assert await lane_fits()
    assert log.getvalue() == ""


def another_way_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer goes out without the transport that its cycle was given."""
    init = RequestResponseCycle.__init__

    def keeps_its_own(self: Any, **parts: Any) -> None:
        init(self, **parts)
        object.__setattr__(self, "out", parts["transport"])

    async def send(self: Any, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.out.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            self.response_complete = True
            self.on_response()
        self.response_started = True

    monkeypatch.setattr(RequestResponseCycle, "__init__", keeps_its_own)
    monkeypatch.setattr(RequestResponseCycle, "send", send)


def another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called at the end of an answer has another name."""
    monkeypatch.setattr(RequestResponseCycle, "on_response", property(lambda _: print), raising=False)


def another_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser is asked in another way."""
    init = HttpToolsProtocol.__init__

    def without_parser(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        del self.parser

    monkeypatch.setattr(HttpToolsProtocol, "__init__", without_parser)


@pytest.mark.parametrize("change", [another_way_to_write, another_name, another_parser])
async def test_another_one_does_not(
    monkeypatch: pytest.MonkeyPatch, log: io.StringIO, change: Change
) -> None:
    change(monkeypatch)
    assert not await lane_fits()
    assert log.getvalue().count("lane_does_not_fit") == 1

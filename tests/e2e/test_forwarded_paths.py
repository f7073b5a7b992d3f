"""What the rules judged is what the application gets, byte for byte, or nobody gets anything.

Thousands of generated targets, each sent twice to every real proxy. Without a credential the sidecar sends a
browser to the sign-in page, and the way back in that address is the target that it judged. With one, the
application is given the target that the proxy passes on. Rules let in what lies below /open and nothing else.
"""

from __future__ import annotations

import posixpath
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from sidecar.paths import read_path
from tests.e2e.harness import (
    BROWSER,
    Answer,
    Installation,
    Lines,
    RecordingApp,
    Session,
    Stack,
    head,
    read_answer,
)
from tests.e2e.proxies import PROXIES, Proxy

TARGETS = 1000
"""For each proxy."""

OPEN = '[{"paths": ["/open/**"], "methods": ["GET"]}, {"access": "deny"}]'

# fmt: off
NASTY = [
    "/", "//", "/./", "/../", "/..", "/.", ".", "..", "...", "/.../", "%2e", "%2E%2e", ".%2e", "%2F", "%2f",
    "%5C", "%5c", "\\", "%252e", "%252F", "%25", "%", ";", ";x=1", "/..;/", "%3B", "%3b", "%00", "%0a",
    "%0d%0a", "%09", "%7f", "%80", "%c0%af", "%c3%a9", "%u002e", "%ff", "\xff", "\xc0\xaf", "\x01", "#",
    "#/../admin", "%23", "?", "%3F", "?a=/../b", "??", "&", "*", "+", "~", ":", "@", "!", "'", "(", ")",
    ",", "=", "|", "^", "`", '"', "<", ">", "{", "}", "[", "]", "admin", "open", "%6fpen", "OPEN", "a",
    "b.c", "%61", "_sidecar/login", "check",
]
# fmt: on
STARTS = [
    "/open/",
    "/open/",
    "/open/",
    "/open",
    "/",
    "//open/",
    "/./open/",
    "/x/../open/",
    "/admin/",
    "open/",
]
AUTHORITIES = ["http://localhost", "http://evil.example", "https://localhost", "http:", "//localhost"]


def generated(seed: str) -> Iterator[str]:
    """Targets, always the same ones: plain ones, and ones of nasty pieces."""
    chosen = random.Random(seed)
    for _ in range(TARGETS):
        pieces = [chosen.choice(NASTY) for _ in range(chosen.randint(0, 4))]
        between = [chosen.choice(["", "", "a", "/"]) for _ in pieces]
        path = chosen.choice(STARTS) + "".join(map("".join, zip(pieces, between, strict=True)))
        authority = chosen.choice(AUTHORITIES) if chosen.random() < 0.03 else ""
        yield authority + path or "/"


# --- careless readers ----------------------------------------------------------------------------


def _decoded_first(path: str) -> str:
    return posixpath.normpath(unquote(path))


def _decoded_last(path: str) -> str:
    return unquote(posixpath.normpath(path))


def _decoded_twice(path: str) -> str:
    return posixpath.normpath(unquote(unquote(path)))


def _merged_first(path: str) -> str:
    return posixpath.normpath(re.sub("/+", "/", unquote(path)))


def _merged_last(path: str) -> str:
    """Dot segments as RFC 3986, 5.2.4 has them: an empty segment is one."""
    kept: list[str] = []
    for segment in unquote(path).split("/")[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return re.sub("/+", "/", "/" + "/".join(kept))


def _as_windows_does(path: str) -> str:
    return posixpath.normpath(unquote(path).replace("\\", "/"))


def _without_parameters(path: str) -> str:
    return posixpath.normpath(unquote(re.sub(r";[^/]*", "", path)))


def _up_to_a_nul(path: str) -> str:
    return posixpath.normpath(unquote(path).partition("\0")[0])


READERS: list[Callable[[str], str]] = [
    lambda path: read_path(path.encode("latin-1")).text,
    _decoded_first,
    _decoded_last,
    _decoded_twice,
    _merged_first,
    _merged_last,
    _as_windows_does,
    _without_parameters,
    _up_to_a_nul,
]


def is_open(path: str) -> bool:
    """Whether it is below /open, as everybody reads it."""
    read = [re.sub("/+", "/", reader(path)) for reader in READERS]
    return all(each == "/open" or each.startswith("/open/") for each in read)


# --- asking --------------------------------------------------------------------------------------


class Client:
    """Sends targets on one connection for as long as the proxy keeps it."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._connection = stack.connected()

    def close(self) -> None:
        self._connection.close()

    def ask(self, target: str, lines: Lines) -> Answer | None:
        """The answer; None where the proxy closes without one."""
        try:
            self._connection.sendall(head("GET", target, self._stack.host, lines))
            answer = read_answer(self._connection)
        except ConnectionError:
            answer = None
        if answer is None or answer.all("Connection") == ["close"]:
            self.close()
            self._connection = self._stack.connected()
        return answer


@pytest.fixture(params=PROXIES)
def gateway(request: pytest.FixtureRequest) -> Proxy:
    """Each in turn; skipped where it is not installed."""
    proxy = PROXIES[request.param]
    proxy.need()
    return proxy


def judged(answer: Answer | None) -> str | None:
    """The target for which somebody has to sign in; None where nobody is let in.

    Empty where there is no way back to it: some characters may be in a target, and not in an address.
    """
    if answer is None or answer.status != 302:
        return None
    back = parse_qs(urlsplit(answer.one("Location")).query).get("rd")
    return "/" + back[0].split("/", 3)[3] if back else ""


def test_what_is_judged_is_what_the_application_gets(
    gateway: Proxy, tmp_path: Path, installation: Installation, app: RecordingApp, ann: Session
) -> None:
    compared = 0
    with gateway.standing(tmp_path, installation, app, rules__=OPEN) as stack:
        client = Client(stack)
        for target in generated("targets"):
            asked = judged(client.ask(target, BROWSER))
            assert not app.taken(), target
            client.ask(target, (gateway.session(ann),))
            received = [each.path for each in app.taken()]
            assert len(received) == (asked is not None), (target, asked, received)
            for path in received:
                assert is_open(path.partition("?")[0]), target
                if asked:
                    assert path.removesuffix("?") == asked.removesuffix("?"), target
                    compared += 1
        client.close()
    assert compared > TARGETS / 10

"""What no client of a product sends, sent to a real server over real connections."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest

from tests.checks.products import LONGEST, POSTS, REQUEST_ID, STATUS_PATH, TOKEN_PATH, Endpoint
from tests.e2e.harness import (
    Answer,
    Installation,
    Lines,
    Sidecar,
    ask,
    connected,
    eventually,
    head,
    read_answer,
)

SETTINGS = {"log__level": "debug", "log__format": "json"}
NAMED: Lines = ((REQUEST_ID[0].decode(), REQUEST_ID[1].decode()),)
GOOD = head("GET", "/api/v1/status", "sidecar")
"""A request that is as good as any: nobody is signed in."""

each_post = pytest.mark.parametrize("endpoint", POSTS, ids=str)


@dataclass
class Server:
    """The server, and what it takes for its endpoints to read a body."""

    sidecar: Sidecar
    management_token: str
    _numbers: Iterator[int] = field(default_factory=count)
    _judged: int = 0

    def marker(self) -> str:
        """What no other body has in it. What is logged counts from here."""
        self._judged = self.sidecar.log.stat().st_size
        return f"PLANTED-{next(self._numbers)}-"

    def head(self, endpoint: Endpoint, *lines: tuple[str, str]) -> bytes:
        """The head of a request to the endpoint."""
        bearer = (("Authorization", f"Bearer {self.management_token}"),)
        credential = bearer if endpoint.path == STATUS_PATH else ()
        return head(endpoint.method, endpoint.path, "sidecar", (*NAMED, *credential, *lines))

    def request(self, endpoint: Endpoint, body: bytes) -> bytes:
        """A request with this body."""
        return self.head(endpoint, ("Content-Length", str(len(body)))) + body

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        """One that is closed at the end."""
        with connected(self.sidecar.listen) as connection:
            yield connection

    def answers(self) -> None:
        """Asserts that it answers others."""
        assert ask(self.sidecar.listen, GOOD).status == 401

    def has_logged_nothing_of(self, marker: str) -> None:
        """Asserts that nothing of a body is in the log, and that nothing went wrong since it was made."""
        log = self.sidecar.log.read_bytes()[self._judged :].decode()
        assert marker not in log
        assert {json.loads(line)["level"] for line in log.splitlines()} <= {"info", "debug"}

    def in_flight(self) -> str:
        """How many requests are being answered."""
        metrics = ask(self.sidecar.admin, head("GET", "/metrics", "admin")).body.decode()
        (number,) = re.findall(r"^sidecar_requests_in_flight (\S+)$", metrics, re.MULTILINE)
        return str(number)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one access key."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "sidecar.toml"
    config.touch()
    installation = Installation(config, directory, SETTINGS)
    key = json.loads(installation.cli("access-keys", "create", "--name", "tests", "--json"))
    body = json.dumps({"accessKeyId": key["id"], "accessKeySecret": key["secret"]}).encode()
    with installation.serving() as sidecar:
        length = ("Content-Length", str(len(body)))
        answer = ask(sidecar.listen, head("POST", TOKEN_PATH, "sidecar", (length,)) + body)
        yield Server(sidecar, json.loads(answer.body)["data"]["access_token"])


def refused(endpoint: Endpoint, answer: Answer, status: int, why: str = "") -> None:
    """Asserts that this is the product's refusal of a body, and which."""
    message = f"The body cannot be read: {why}" if why else ""
    expected = endpoint.product.http_status(status), endpoint.product.envelope(status, message)
    assert (answer.status, json.loads(answer.body)) == expected
    assert answer.one("Content-Type") == "application/json"
    assert answer.one("Cache-Control") == "no-store"


# --- bodies that come whole --------------------------------------------------------------------------

AMBIGUOUS = "it is not JSON that can be read one way"
NO_OBJECT = "it is not a JSON object"

UNREADABLE = {
    "nothing": b"",
    "no JSON": b"MARK",
    "no end": b'{"MARK": ',
    "10,000 arrays": b'{"MARK": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 arrays without an end": b'{"MARK": ' + b"[" * 10_000,
    "10,000 objects": b'{"a":' * 10_000 + b'"MARK"' + b"}" * 10_000,
    "no deeper than Python reads": b'{"MARK": ' + b"[" * 900 + b"]" * 900 + b"}",
    "a member twice": b'{"MARK": 1, "MARK": 1}',
    "NaN": b'{"MARK": NaN}',
    "Infinity": b'{"MARK": Infinity}',
    "-Infinity": b'{"MARK": -Infinity}',
    "1e999": b'{"MARK": 1e999}',
    "half a surrogate pair": rb'{"MARK": "\ud800"}',
    "a byte-order mark": b'\xef\xbb\xbf{"MARK": 1}',
    "no UTF-8": b'{"MARK": "\xff"}',
    "UTF-16": '{"MARK": 1}'.encode("utf-16"),
    "a number of 5,000 digits": b'{"MARK": ' + b"7" * 5_000 + b"}",
}
NO_OBJECTS = {"an array": b'["MARK"]', "a string": b'"MARK"', "a number": b"5", "null": b"null"}
WRONG_TYPES = {
    "/auth/validate-session": [b'{"user": "MARK"}', b'{"user": {"_id": 1}}', b'{"token": ["MARK"]}', b"{}"],
    "/auth/login": [b'{"email": 1, "password": "MARK"}', b'{"email": "MARK", "password": null}', b"{}"],
    "/api/v1/login": [b'{"userName": {}, "password": "MARK"}', b'{"userName": "MARK"}'],
    "/api/v1/logout": [b'["MARK"]'],  # it takes any object
    TOKEN_PATH: [b'{"accessKeyId": 1.5, "accessKeySecret": "MARK"}', b'{"accessKeyId": "MARK"}'],
    STATUS_PATH: [b'{"appId": true, "userId": "MARK"}', b'{"appId": "MARK", "userId": "x", "options": []}'],
}


@pytest.mark.parametrize("body", [*UNREADABLE.values(), *NO_OBJECTS.values()], ids=[*UNREADABLE, *NO_OBJECTS])
@each_post
def test_what_cannot_be_read_is_refused_without_a_word_of_it(
    server: Server, endpoint: Endpoint, body: bytes
) -> None:
    marker = server.marker()
    why = NO_OBJECT if body in NO_OBJECTS.values() else AMBIGUOUS
    with server.connection() as connection:
        connection.sendall(server.request(endpoint, body.replace(b"MARK", marker.encode())))
        answer = read_answer(connection)
        refused(endpoint, answer, 400, why)
        connection.sendall(GOOD)
        assert read_answer(connection).status == 401
    server.answers()
    server.has_logged_nothing_of(marker)


@each_post
def test_what_has_the_wrong_type_is_named_and_not_quoted(server: Server, endpoint: Endpoint) -> None:
    with server.connection() as connection:
        for body in WRONG_TYPES[endpoint.path]:
            marker = server.marker()
            connection.sendall(server.request(endpoint, body.replace(b"MARK", marker.encode())))
            answer = read_answer(connection)
            assert answer.status == endpoint.product.http_status(400)
            assert b"The body cannot be read: " in answer.body
            assert marker.encode() not in answer.body
            server.has_logged_nothing_of(marker)
        connection.sendall(GOOD)
        assert read_answer(connection).status == 401


@each_post
def test_the_longest_body_is_read_and_one_byte_more_is_not(server: Server, endpoint: Endpoint) -> None:
    marker = server.marker()
    longest = json.dumps([marker]).encode().ljust(LONGEST)
    with server.connection() as connection:
        connection.sendall(server.request(endpoint, longest))
        refused(endpoint, read_answer(connection), 400, NO_OBJECT)
        connection.sendall(server.request(endpoint, longest + b" "))
        refused(endpoint, read_answer(connection), 413)
    server.answers()
    server.has_logged_nothing_of(marker)


@each_post
def test_a_body_without_an_end_is_refused_before_its_end(server: Server, endpoint: Endpoint) -> None:
    with server.connection() as connection:
        connection.sendall(
            server.head(endpoint, ("Content-Length", str(10 * LONGEST))) + b" " * (LONGEST + 1)
        )
        answer = read_answer(connection)
        refused(endpoint, answer, 413)
        assert answer.one("Connection") == "close"
    with server.connection() as connection:
        chunk = b"%x\r\n%b\r\n" % (LONGEST + 1, b" " * (LONGEST + 1))
        connection.sendall(server.head(endpoint, ("Transfer-Encoding", "chunked")) + chunk)
        answer = read_answer(connection)
        refused(endpoint, answer, 413)
        assert answer.one("Connection") == "close"
    server.answers()


# --- bodies that do not ------------------------------------------------------------------------------

TRUNCATED = {
    "Content-Length": (("Content-Length", "1000"), b'{"MARK": '),
    "Content-Length, none of it": (("Content-Length", "1000"), b""),
    "chunked": (("Transfer-Encoding", "chunked"), b'3e8\r\n{"MARK": '),
    "chunked, no last chunk": (("Transfer-Encoding", "chunked"), b"2\r\n{}\r\n"),
    "chunked, no chunk": (("Transfer-Encoding", "chunked"), b""),
}
each_truncated = pytest.mark.parametrize(("line", "part"), TRUNCATED.values(), ids=TRUNCATED)


@each_truncated
@each_post
def test_a_body_that_ends_in_the_middle_is_refused_and_the_connection_closed(
    server: Server, endpoint: Endpoint, line: tuple[str, str], part: bytes
) -> None:
    marker = server.marker()
    with server.connection() as connection:
        connection.sendall(server.head(endpoint, line) + part.replace(b"MARK", marker.encode()))
        server.answers()  # others, while this one is waited for
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        refused(endpoint, answer, 400, "it ends in the middle")
        assert answer.one("Connection") == "close"
        assert connection.recv(1) == b""
    assert server.in_flight() == "0.0"
    server.has_logged_nothing_of(marker)


@each_truncated
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_so_is_a_form(server: Server, path: str, line: tuple[str, str], part: bytes) -> None:
    with server.connection() as connection:
        connection.sendall(head("POST", path, "sidecar", (line,)) + part)
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        assert (answer.status, b"it ends in the middle" in answer.body) == (400, True)
        assert answer.one("Content-Type") == "text/html; charset=utf-8"
        assert connection.recv(1) == b""
    assert server.in_flight() == "0.0"


@each_post
def test_a_client_that_goes_away_in_the_middle_leaves_nothing(server: Server, endpoint: Endpoint) -> None:
    marker = server.marker()
    with server.connection() as connection:
        connection.sendall(server.request(endpoint, b'{"%b": ' % marker.encode())[:-1])
    with server.connection() as connection:
        connection.sendall(server.request(endpoint, b'{"%b": ' % marker.encode())[:-1])
        reset = b"\1\0\0\0\0\0\0\0"  # linger for no second: close() sends RST
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    eventually(lambda: server.in_flight() == "0.0")
    server.answers()
    server.has_logged_nothing_of(marker)

"""The five products as tests see them: their endpoints, a request that each answers, how each refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.records import App, User
from tests.running import Answer, Line, Running, bearer

PASSWORD = "correct horse"
LONGEST = 64 * 1024
REQUEST_ID: Line = (b"x-request-id", b"asked-by-a-test")

_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Product:
    """One product. `words` are its own for a status, `below` has nothing in it that is served."""

    name: str
    table: str
    below: str
    words: dict[int, str]

    def http_status(self, status: int) -> int:
        """The status of the HTTP answer: clients of Authing expect no other than 200."""
        return 200 if self.name == "authing" else status

    def envelope(self, status: int, message: str = "") -> dict[str, Any]:
        """The body of a refusal."""
        phrase = _PHRASES[status]
        message = message or self.words.get(status, phrase)
        match self.name:
            case "cargo-extra":
                return {"message": message}
            case "compass":
                code = "SERVER_ERROR" if status == 500 else phrase.upper().replace(" ", "_")
                return {"error": {"code": code, "message": message}}
            case "pulse":
                return {"error": phrase, "status": status, "message": message}
            case "virola":
                return {"errorText": message, "httpStatusCode": status}
            case _:
                api_code = {400: 2231, 401: 2020}.get(status, status)
                asked_by = REQUEST_ID[1].decode()
                return {"statusCode": status, "message": message, "apiCode": api_code, "requestId": asked_by}

    def refused(self, answer: Answer, status: int, message: str = "") -> None:
        """Asserts that this is the product's refusal, and that it leaves the client's cookies alone."""
        assert (answer.status, answer.json) == (self.http_status(status), self.envelope(status, message))
        written_as_json(answer)
        assert answer.all("Set-Cookie") == []


def written_as_json(answer: Answer) -> None:
    """Asserts what is true of every answer."""
    assert answer.one("Content-Type") == "application/json"
    assert answer.one("Cache-Control") == "no-store"
    assert answer.one("Content-Length") == str(len(answer.body))


CARGO_EXTRA = Product(
    "cargo-extra",
    "cargo_extra",
    "/api/v1/user/",
    {403: "Access denied", 429: "Too many requests", 500: "Unexpected Error"},
)
COMPASS = Product(
    "compass",
    "compass",
    "/auth/validate-session/",
    {401: "Invalid or expired session token", 500: "Internal server error"},
)
PULSE = Product("pulse", "pulse", "/auth/", {401: "Not authenticated"})
VIROLA = Product("virola", "virola", "/api/v1/", {401: "Wrong Bearer, please renew Web API Access Token"})
AUTHING = Product(
    "authing",
    "authing",
    "/api/v3/",
    {401: "The management token, or the signature of the request, is missing or not valid"},
)
PRODUCTS = (CARGO_EXTRA, COMPASS, PULSE, VIROLA, AUTHING)


@dataclass(frozen=True)
class Endpoint:
    """One of a product's endpoints, and a body that it answers with 200."""

    product: Product
    method: str
    path: str
    body: object = None
    signs_in_or_out: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


CARGO_EXTRA_CHECK = "/api/v1/user/check"
COMPASS_VALIDATE = "/auth/validate-session"
PULSE_SESSION, PULSE_LOGIN = "/auth/session", "/auth/login"
VIROLA_STATUS, VIROLA_LOGIN, VIROLA_LOGOUT = "/api/v1/status", "/api/v1/login", "/api/v1/logout"
TOKEN_PATH, STATUS_PATH = "/api/v3/get-management-token", "/api/v3/check-session-status"

ENDPOINTS = (
    Endpoint(CARGO_EXTRA, "GET", CARGO_EXTRA_CHECK),
    Endpoint(COMPASS, "POST", COMPASS_VALIDATE, {"user": {}}),
    Endpoint(PULSE, "GET", PULSE_SESSION),
    Endpoint(PULSE, "POST", PULSE_LOGIN, {"email": "alice", "password": PASSWORD}, signs_in_or_out=True),
    Endpoint(VIROLA, "GET", VIROLA_STATUS),
    Endpoint(VIROLA, "POST", VIROLA_LOGIN, {"userName": "alice", "password": PASSWORD}, signs_in_or_out=True),
    Endpoint(VIROLA, "POST", VIROLA_LOGOUT, {}, signs_in_or_out=True),
    Endpoint(AUTHING, "POST", TOKEN_PATH),
    Endpoint(AUTHING, "POST", STATUS_PATH, {"appId": "shop", "userId": "alice"}),
)
GETS = tuple(each for each in ENDPOINTS if each.method == "GET")
POSTS = tuple(each for each in ENDPOINTS if each.method == "POST")
ASKING = tuple(each for each in ENDPOINTS if not each.signs_in_or_out and each.product is not AUTHING)
"""Those that tell of whoever asks, and change nothing."""


class Request(NamedTuple):
    """What an endpoint is asked."""

    endpoint: Endpoint
    headers: tuple[Line, ...]
    body: bytes

    async def send(
        self,
        sidecar: Running,
        *more: Line,
        method: str = "",
        path: str = "",
        body: bytes | None = None,
        **to: Any,
    ) -> Answer:
        """Asks; what is not given stays as it is in a good request."""
        headers = [REQUEST_ID, *self.headers, *more]
        method, path = method or self.endpoint.method, path or self.endpoint.path
        return await sidecar.ask(method, path, headers, self.body if body is None else body, **to)


async def good(sidecar: Running, endpoint: Endpoint) -> Request:
    """A request that this endpoint answers with 200, from a user who was not there before."""
    token, body = await sidecar.token(await add_alice(sidecar)), endpoint.body
    if endpoint.product is AUTHING:
        await sidecar.store.apps.add(App("shop", "Shop", disabled=False, created_at=0.0))
        key, token = await management_client(sidecar)
        body = endpoint.body or key
    return Request(endpoint, (bearer(token),), json.dumps(body).encode())


async def add_alice(sidecar: Running) -> User:
    """A user who can sign in."""
    return await sidecar.add_user(emails=("alice@example.com",), password=PASSWORD)


async def management_client(sidecar: Running) -> tuple[dict[str, str], bytes]:
    """A new access key, as its owner sends it, and a management token."""
    key_id, secret = await sidecar.access_key()
    key = {"accessKeyId": key_id, "accessKeySecret": secret}
    answer = await sidecar.post_json(TOKEN_PATH, key)
    return key, answer.json["data"]["access_token"].encode()

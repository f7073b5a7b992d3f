"""What the products' endpoints have in common: a question, an answer, a refusal in the product's own form.

A product is one module. Its wire shape is written once, as pydantic models: they read what clients send,
write what is answered, and describe both in `/openapi.json`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from sidecar.errors import InvalidValue, QuestionRefused
from sidecar.model import Headers, Identity, IPAddress, Rejected
from sidecar.strict_json import read_object
from sidecar.visits import Visitor


class Wire(BaseModel):
    """A JSON object of the wire, in camelCase there. Types are never converted; other members are ignored."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
    )


W = TypeVar("W", bound=Wire)


class Question(NamedTuple):
    """A request to a product's endpoint. The body of a GET is empty, whatever was sent."""

    headers: Headers
    client: IPAddress
    body: bytes = b""

    def read(self, model: type[W]) -> W:
        """The body as this model. Raises InvalidValue, which names a member and quotes nothing of it."""
        try:
            return model.model_validate(read_object(self.body), by_alias=True, by_name=False)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidValue(f"{where}: {first['msg']}" if where else first["msg"]) from None


class Answer(NamedTuple):
    """An answer; `cookies` are Set-Cookie values."""

    body: Wire
    status: int = 200
    cookies: Sequence[bytes] = ()


Respond = Callable[[Question], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    `credentials` names the security schemes (`SECURITY`) of which any one is enough; none: it needs none.
    `from_own_sites` is for what a foreign page must not do in somebody's browser: signing in and out.
    """

    method: str
    path: str
    summary: str
    respond: Respond
    answer: type[Wire]
    question: type[Wire] | None = None
    credentials: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    headers: Mapping[str, str] | None = None
    from_own_sites: bool = False


SECURITY: Mapping[str, Mapping[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A session token, or an API key."},
    "session": {"type": "apiKey", "in": "cookie", "description": "The sidecar's own session cookie."},
}
"""Credentials that most endpoints take, as OpenAPI describes them; the cookie's name is missing."""


class Dialect(ABC):
    """One product."""

    name: ClassVar[str]
    """As the metrics and the documentation call it."""

    below: ClassVar[Sequence[str]]
    """Prefixes of paths at which clients of this product may ask for what is not there."""

    merges_slashes: ClassVar[bool] = False
    """Whether its clients write `//` at the beginning of a path."""

    security: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Its own credentials, beside `SECURITY`."""

    error: ClassVar[type[Wire]]

    endpoints: Sequence[Endpoint]

    @abstractmethod
    def refuse(self, refusal: QuestionRefused) -> Answer:
        """The refusal in this product's form: never more than its status and its message."""


def phrase(status: int) -> str:
    """What the status means, where a product has no words of its own for it (RFC 9110, 15)."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # Python changed its words for it in 3.13
        return "Content Too Large"
    return HTTPStatus(status).phrase


def admitted(visitor: Visitor | Rejected) -> Visitor:
    """Raises QuestionRefused (401) where the credential was refused."""
    if isinstance(visitor, Rejected):
        raise QuestionRefused(401)
    return visitor


def numeric_id(identity: Identity) -> int:
    """The id of a local user: products whose ids are integers have no other users yet."""
    assert identity.user_id is not None  # noqa: S101 - every authenticator vouches for local users
    return identity.user_id

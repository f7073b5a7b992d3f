"""What the products' endpoints have in common: a question, an answer, a refusal in the product's own form.

A product is one module. Its wire shape is written once, as pydantic models: they read what clients send,
write what is answered, and describe both in `/openapi.json`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from sidecar.cookies import Cookie
from sidecar.errors import BodyRefused, InvalidValue, QuestionRefused
from sidecar.form_fields import read_fields
from sidecar.model import Credential, Headers, IPAddress, Reason, Rejected
from sidecar.strict_json import read_object
from sidecar.visits import Visitor, Visits


class Wire(BaseModel):
    """A JSON object of the wire, in camelCase there. Types are never converted; other members are ignored.

    It keeps what is in it out of its `repr`: passwords and tokens are.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__


absent = partial(Field, default_factory=str)
"""A member that may be missing, and is never null; `model_fields_set` tells whether it was there."""

W = TypeVar("W", bound=Wire)


class Question(NamedTuple):
    """A request to a product's endpoint. The body of a GET is empty, whatever was sent."""

    headers: Headers
    client: IPAddress
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<Question of {self.client}>"

    def members(self) -> dict[str, Any]:
        """The body, which is a JSON object. Raises BodyRefused."""
        try:
            return read_object(self.body)
        except InvalidValue as error:
            raise BodyRefused(str(error)) from None

    def fields(self) -> Mapping[str, str]:
        """The body, which is a form. Raises BodyRefused."""
        try:
            return read_fields(self.body)
        except InvalidValue as error:
            raise BodyRefused(str(error)) from None

    def read(self, model: type[W]) -> W:
        """The body as this model. Raises BodyRefused, which names a member and quotes nothing of it."""
        try:
            return model.model_validate(self.members(), by_alias=True, by_name=False)
        except ValidationError as error:
            raise BodyRefused(first_fault(error)) from None


class Answer(NamedTuple):
    """An answer; `cookies` are Set-Cookie values."""

    body: Wire
    status: int = 200
    cookies: Sequence[bytes] = ()

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"


Respond = Callable[[Question], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path.

    `credentials` names the security schemes of which any one is enough; none: it needs none.
    `from_own_sites` is for what a foreign page must not do in somebody's browser: signing in and out, and
    guessing secrets, for which its visitor's network would be banned.
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


class Dialect(ABC):
    """One product."""

    name: ClassVar[str]
    """As the metrics and the documentation call it."""

    below: ClassVar[str]
    """The beginning of paths at which clients of this product may ask for what is not there."""

    merges_slashes: ClassVar[bool] = False
    """Whether its clients write `//` at the beginning of a path."""

    security: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Its own credentials, as OpenAPI describes them; all products know `bearer` and `session`."""

    error: ClassVar[type[Wire]]

    words: ClassVar[Mapping[int, str]] = {}
    """Its own words for a status; for the others it has HTTP's."""

    endpoints: Sequence[Endpoint]

    @abstractmethod
    def refuse(self, refusal: QuestionRefused) -> Answer:
        """The refusal in this product's form: never more than its status and its message."""

    def challenge(self, refusal: QuestionRefused) -> str:  # noqa: ARG002 - the same for all, as a rule
        """How a caller who is refused with 401 may do better (RFC 9110, 11.6.1)."""
        return 'Bearer realm="sidecar"'

    def message(self, refusal: QuestionRefused) -> str:
        """What the caller reads."""
        return refusal.message or self.words.get(refusal.status) or phrase(refusal.status)


def phrase(status: int) -> str:
    """What the status means, where a product has no words of its own for it (RFC 9110, 15)."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # Python changed its words for it in 3.13
        return "Content Too Large"
    return HTTPStatus(status).phrase


def first_fault(error: ValidationError) -> str:
    """What is wrong, and with which member; it quotes nothing of what was read."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    what = "Input should be an object" if first["type"] == "model_type" else first["msg"]
    return f"{where}: {what}" if where else what


async def visitor_of(
    visits: Visits,
    credential: Credential | None,
    client: IPAddress,
    text: str = "",
    stale: Cookie | None = None,
) -> Visitor:
    """Who asks. Raises QuestionRefused (401) with this text.

    It removes the cookie that the credential was in, where that is `stale`: it would hide a later sign-in
    elsewhere.
    """
    if credential is None:
        # While the store does not answer, nobody is told to sign in.
        await visits.revocations.look()
        raise QuestionRefused(401, text, reason=Reason.NO_CREDENTIAL)
    answer = await visits.of(credential, client)
    if isinstance(answer, Rejected):
        raise QuestionRefused(401, text, reason=answer.reason, cookies=(stale.forget(),) if stale else ())
    return answer

"""What asking products has in common: what is sent for a credential, and how an answer is read.

A product is asked in the module that has its wire shape: the models that write our answers read theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import ValidationError

from sidecar.asking import Reply
from sidecar.checks.dialect import W, first_fault
from sidecar.errors import InvalidValue
from sidecar.model import Credential, Form, HeaderLines
from sidecar.settings import UpstreamSettings
from sidecar.strict_json import read_object

JSON_WANTED = (b"accept", b"application/json")
JSON_SENT = (b"content-type", b"application/json")


class Request(NamedTuple):
    """What is sent."""

    method: str
    headers: HeaderLines
    content: bytes = b""

    def __repr__(self) -> str:
        return f"<Request {self.method}>"


class AskingDialect(ABC):
    """One product, as it is asked about a credential. `refused_statuses` mean that it does not know it."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.refused_statuses = frozenset(settings.refused_statuses)

    def request(self, credential: Credential) -> Request:
        """The question, which has nothing of the client's in it but the credential."""
        return Request("GET", (JSON_WANTED, forwarded(credential)))

    @abstractmethod
    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """Who it is, by the names that claims have by default; None: refused.

        `reply` has another status than those that refuse, and than other 4xx. Raises InvalidValue for what is
        no answer of this product; the message quotes nothing of it.
        """


def forwarded(credential: Credential) -> tuple[bytes, bytes]:
    """The one header line that the credential came in."""
    match credential.form:
        case Form.COOKIE:
            return (b"cookie", credential.value)
        case Form.BEARER:
            return (b"authorization", b"Bearer " + credential.value)
        case Form.BASIC:
            return (b"authorization", b"Basic " + credential.value)
        case Form.API_KEY:
            return (b"x-api-key", credential.value)


def read_answer(reply: Reply, model: type[W]) -> W:
    """The body of a 200 as this model. Raises InvalidValue."""
    answered_members(reply)  # JSON that can be read two ways is refused there
    try:
        return model.model_validate_json(reply.body, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidValue(first_fault(error)) from None


def answered_members(reply: Reply) -> dict[str, Any]:
    """The JSON object in the body of a 200. Raises InvalidValue."""
    if reply.status != HTTPStatus.OK:
        raise InvalidValue(f"status {reply.status}")
    return read_object(reply.body)

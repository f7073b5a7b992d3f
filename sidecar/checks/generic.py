"""Any application that answers a credential with a status: 2xx is good, what the settings list refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from sidecar.asking import Reply, ReplyHeaders
from sidecar.checks.asking_dialect import JSON_WANTED, AskingDialect, Request, forwarded
from sidecar.claims import is_null
from sidecar.errors import InvalidValue
from sidecar.model import Credential
from sidecar.settings import UpstreamSettings
from sidecar.settings.external import HEADER_CLAIM, header_claims
from sidecar.strict_json import read_object


class AskingGeneric(AskingDialect):
    """Asks such an application.

    Its claims are the members of the JSON object that it answers; and, under the names by which the settings
    want them, its headers. Where the subject is in a header no body is read. A subject that is null, as in
    `{"user": null}`, is nobody's: some answer so who is not signed in, with the status of success.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        super().__init__(settings)
        self._method = settings.method
        claims = settings.claims
        self._subject = claims.subject
        self._headers = header_claims(claims)
        self._lists = {claims.roles, claims.permissions, claims.scopes}
        self._has_body = not claims.subject.startswith(HEADER_CLAIM)

    def request(self, credential: Credential) -> Request:
        """See AskingDialect.request."""
        wanted = [JSON_WANTED] if self._has_body else []
        return Request(self._method, (*wanted, forwarded(credential)))

    def claims(self, reply: Reply) -> Mapping[str, Any] | None:
        """See AskingDialect.claims."""
        if reply.status // 100 != HTTPStatus.OK // 100:
            raise InvalidValue(f"status {reply.status}")
        members = read_object(reply.body) if self._has_body else {}
        if is_null(members, self._subject):
            return None
        # Over what the body has by such a name: what is wanted of a header comes from a header.
        return members | {path: self._in_header(path, reply.headers) for path in self._headers}

    def _in_header(self, path: str, headers: ReplyHeaders) -> str | list[str]:
        """What is in this header; "" where there is none. Raises InvalidValue where there are two."""
        name = path.removeprefix(HEADER_CLAIM)
        values = [_text(value) for value in headers.all(name)]
        if path in self._lists:
            return [item.strip() for value in values for item in value.split(",")]
        if len(values) > 1:
            raise InvalidValue(f"the header {name} is there twice")
        return "".join(values)


def _text(value: str) -> str:
    """What the bytes of a header mean: UTF-8, or else what they once meant (RFC 9110, 5.5)."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value

"""What Authing's and GenAuth's clients send, and what they are answered."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from sidecar.checks.dialect import Wire

UNKNOWN_USER = 2004
"""The `apiCode` of a 404 that is about the user, and not about the app or the address."""

UNKNOWN_APP = 2011
"""And of one that is about the app."""


class Success(Wire):
    """An answer that is no refusal; which it is stands in `statusCode`. Some come without `requestId`."""

    status_code: int = 200
    message: str = "Success"
    request_id: str = ""


class AccessKeyCredentials(Wire):
    """A management client's access key."""

    access_key_id: str = Field(min_length=1)
    access_key_secret: str = Field(min_length=1)


class ManagementToken(Wire):
    """A management token."""

    access_token: str = Field(alias="access_token")
    expires_in: int = Field(alias="expires_in", description="Seconds")


class ManagementTokenAnswer(Success):
    """A management token, for the bearer header of other requests."""

    data: ManagementToken


class UserIdType(StrEnum):
    """What a `userId` is. The last two name ids in sources of identity elsewhere, which nobody has here."""

    USER_ID = "user_id"
    USERNAME = "username"
    EMAIL = "email"
    PHONE = "phone"
    EXTERNAL_ID = "external_id"
    IDENTITY = "identity"
    SYNC_RELATION = "sync_relation"


FOUND_BY = (
    UserIdType.USER_ID,
    UserIdType.USERNAME,
    UserIdType.EMAIL,
    UserIdType.PHONE,
    UserIdType.EXTERNAL_ID,
)
"""In this order where the type is not said."""


class Options(Wire):
    """What a `userId` is; without it, the first user that it fits."""

    user_id_type: UserIdType | None = Field(None, strict=False)


class SessionQuestion(Wire):
    """Which user, and in which app."""

    app_id: str = Field(min_length=1)
    user_id: str = Field(min_length=1)
    options: Options | None = None


class SessionStatus(Wire):
    """Whether the user is logged in."""

    active: bool


class SessionAnswer(Success):
    """Whether the user has a session in the app."""

    data: SessionStatus


class Outcome(Wire):
    """Whether it is an answer, which is all that is read of one that is none."""

    status_code: int
    api_code: int | None = None


class Error(Wire):
    """What went wrong."""

    status_code: int
    message: str
    api_code: int
    request_id: str

"""`/openapi.json` is true: whatever a client makes of it is answered as it says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import jsonschema_rs
import openapi_spec_validator
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from schemathesis import BaseSchema, Case, Config, Response
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import CheckNode

from sidecar import __version__
from sidecar.records import Account
from sidecar.web.admin import admin_app
from tests.checks.products import (
    ENDPOINTS,
    PASSWORD,
    PRODUCTS,
    PULSE_LOGIN,
    VIROLA_LOGIN,
    Endpoint,
    Product,
    management_client,
)
from tests.checks.products import STATUS_PATH as STATUS
from tests.checks.products import TOKEN_PATH as TOKEN
from tests.checks.products import VIROLA_LOGOUT as LOGOUT
from tests.conftest import Start
from tests.running import Running, bearer, running

Json = dict[str, Any]
AnyCase = Case[Any]

OPEN = {PULSE_LOGIN, VIROLA_LOGIN, TOKEN}
"""The paths at which no credential is needed."""

ACCOUNT = Account("t-1", "Team one")


async def document_of(sidecar: Running) -> Json:
    """The document, as the operator gets it."""
    answer = await sidecar.ask("GET", "/openapi.json", listener="admin")
    assert (answer.status, answer.one("Content-Type")) == (200, "application/json")
    document: Json = answer.json
    return document


def operations(document: Json) -> dict[tuple[str, str], Json]:
    """Every operation, by its method and path."""
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


# --- what is in it -------------------------------------------------------------------------------


async def test_it_is_openapi(sidecar: Running) -> None:
    document = await document_of(sidecar)
    openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)
    assert document["info"]["version"] == __version__
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in document["components"]["schemas"])


async def test_it_is_for_the_operator_alone(sidecar: Running) -> None:
    assert (await sidecar.ask("GET", "/openapi.json")).status == 404


async def test_it_is_made_when_somebody_asks_and_once(sidecar: Running) -> None:
    made: list[Json] = []

    def describe() -> Json:
        made.append({"number": len(made)})
        return made[-1]

    parts = sidecar.parts
    sidecar.application.admin = admin_app(parts.exposition, parts.store, lambda: False, describe)
    assert made == []
    assert [await document_of(sidecar), await document_of(sidecar)] == [{"number": 0}] * 2


def asked(endpoints: Iterable[Endpoint]) -> set[tuple[str, str]]:
    """How they are called in `operations`."""
    return {(endpoint.method, endpoint.path) for endpoint in endpoints}


async def test_every_endpoint_is_in_it(sidecar: Running) -> None:
    assert operations(await document_of(sidecar)).keys() == asked(ENDPOINTS)


@pytest.mark.parametrize("enabled", PRODUCTS, ids=lambda product: product.name)
async def test_a_disabled_product_is_not_in_it(start: Start, enabled: Product) -> None:
    checks = {product.table: {"enabled": product is enabled} for product in PRODUCTS}
    async with start({"checks": checks}) as sidecar:
        document = await document_of(sidecar)
    openapi_spec_validator.validate(document)
    described = operations(document)
    assert described.keys() == asked(each for each in ENDPOINTS if each.product is enabled)
    assert {tag for operation in described.values() for tag in operation["tags"]} == {enabled.name}
    assert {name.partition(".")[0] for name in document["components"]["schemas"]} == {enabled.name}
    used = {name for operation in described.values() for each in operation["security"] for name in each}
    assert document["components"]["securitySchemes"].keys() == used


async def test_it_has_the_operators_address_and_cookie(start: Start) -> None:
    login = {"public_url": "https://app.example.com/_sidecar"}
    async with start({"login": login, "session": {"cookie_name": "mine"}}) as sidecar:
        document = await document_of(sidecar)
    assert document["servers"] == [{"url": "https://app.example.com"}]
    assert document["components"]["securitySchemes"]["session"]["name"] == "mine"


@pytest.mark.parametrize(
    ("method", "path", "own"),
    [
        ("GET", "/api/v1/user/check", {"401"}),
        ("POST", "/auth/validate-session", {"401", "413"}),
        ("GET", "/auth/session", {"401"}),
        ("POST", PULSE_LOGIN, {"401", "413"}),
        ("GET", "/api/v1/status", {"401"}),
        ("POST", VIROLA_LOGIN, {"401", "413"}),
        ("POST", LOGOUT, {"401", "413"}),
    ],
)
async def test_every_refusal_is_described_in_the_products_form(
    sidecar: Running, method: str, path: str, own: set[str]
) -> None:
    operation = operations(await document_of(sidecar))[method, path]
    responses, (product,) = operation["responses"], operation["tags"]
    assert responses.keys() == {"200", "400", "403", "429", "500", "503"} | own
    assert all(responses[status]["headers"]["Retry-After"]["required"] for status in ("429", "503"))
    error = {"$ref": f"#/components/schemas/{product}.Error"}
    assert schema_of(responses.pop("200")) != error
    assert all(schema_of(response) == error for response in responses.values())


@pytest.mark.parametrize("path", [TOKEN, STATUS])
async def test_authings_refusals_are_200_as_well(sidecar: Running, path: str) -> None:
    responses = operations(await document_of(sidecar))["POST", path]["responses"]
    assert responses.keys() == {"200"}
    _, error = schema_of(responses["200"])["oneOf"]
    assert error == {"$ref": "#/components/schemas/authing.Error"}


async def test_who_may_ask_is_said(sidecar: Running) -> None:
    described = operations(await document_of(sidecar))
    assert described["GET", "/api/v1/status"]["security"] == [{"virola": []}, {"session": []}, {"bearer": []}]
    assert described["POST", VIROLA_LOGIN]["security"] == []
    (header,) = described["GET", "/auth/session"]["parameters"]
    assert (header["name"], header["in"], header.get("required", False)) == ("X-Account-ID", "header", False)
    assert described["POST", LOGOUT]["requestBody"]["required"]


async def test_what_may_be_missing_in_an_answer_is_never_null(sidecar: Running) -> None:
    schemas = (await document_of(sidecar))["components"]["schemas"]
    optional = {
        f"{name}.{member}"
        for name in ("pulse.UserSession", "compass.Validated", "virola.Status", "authing.SessionAnswer")
        for member in schemas[name]["properties"].keys() - set(schemas[name]["required"])
    }
    of_local_users = {
        f"pulse.UserSession.{name}" for name in ("createdBy", "updatedBy", "createdAt", "updatedAt")
    }
    assert optional == {"pulse.UserSession.primaryAccount", "compass.Validated.token", *of_local_users}
    account = schemas["pulse.UserSession"]["properties"]["primaryAccount"]
    assert account.pop("description")
    assert account == {"$ref": "#/components/schemas/pulse.UserAccount"}
    assert schemas["compass.Validated"]["properties"]["token"] == {"type": "string"}


def schema_of(message: Json) -> Json:
    """Of a response's or a request's only kind of body."""
    ((media_type, content),) = message["content"].items()
    assert media_type == "application/json"
    schema: Json = content["schema"]
    return schema


# --- real answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "credential", "question", "status"),
    [
        ("GET", "/api/v1/user/check", "token", None, 200),
        ("GET", "/api/v1/user/check", "key", None, 200),
        ("GET", "/api/v1/user/check", "empty", None, 400),
        ("POST", "/auth/validate-session", "token", {"user": {}}, 200),
        ("POST", "/auth/validate-session", "token", {"user": {"role": "root"}}, 401),
        ("POST", "/auth/validate-session", "token", {"user": {"role": "r" * 65536}}, 413),
        ("GET", "/auth/session", "key", None, 200),
        ("GET", "/auth/session", "of nobody special", None, 200),
        ("POST", PULSE_LOGIN, "none", {"email": "ann", "password": PASSWORD}, 200),
        ("POST", PULSE_LOGIN, "none", {"email": "ann", "password": "wrong"}, 401),
        ("GET", "/api/v1/status", "token", None, 200),
        ("POST", LOGOUT, "token", {}, 200),
        ("POST", LOGOUT, "none", {}, 401),
        ("POST", STATUS, "none", {}, 200),
    ],
)
async def test_an_answer_has_what_is_described_and_nothing_else(
    sidecar: Running, method: str, path: str, credential: str, question: object, status: int
) -> None:
    document = await document_of(sidecar)
    ann = await sidecar.add_user("ann", roles=("admin",), accounts=(ACCOUNT,), password=PASSWORD)
    credentials = {
        "token": await sidecar.token(ann),
        "key": await sidecar.api_key(ann),
        "of nobody special": await sidecar.token(await sidecar.add_user("bob")),
        "empty": b"",
    }
    headers = [bearer(credentials[credential])] if credential != "none" else []
    answer = await sidecar.ask(method, path, headers, json.dumps(question).encode())
    assert answer.status == status
    schema = schema_of(operations(document)[method, path]["responses"][str(status)])
    closed = {name: {**each, "additionalProperties": False} for name, each in schemas_of(document)}
    whole = {**schema, "components": {"schemas": closed}}
    jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(answer.json)


def schemas_of(document: Json) -> list[tuple[str, Json]]:
    """Those of objects."""
    schemas = document["components"]["schemas"].items()
    return [(name, schema) for name, schema in schemas if schema["type"] == "object"]


# --- whatever a client makes of it ---------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A server on loopback, with a user and an access key."""

    url: str
    document: Json
    token: str
    new_token: Callable[[], str]
    """Of a session of its own: whoever signs out with it ends no other."""

    management_token: str
    known: Mapping[str, str]
    """Values with which a question gets as far as it can, by where they are in it."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The application on a real socket, in a thread, with limits that nobody reaches."""
    unlimited = {"checks": "1000000/minute", "login": "1000000/minute", "ban": {"failures": 1000000}}
    tables = {"limits": unlimited, "rules": [{"app": "app1"}]}
    directory = tmp_path_factory.mktemp("served")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running(directory, tables)) as sidecar,
        portal.wrap_async_context_manager(listening_at(sidecar)) as url,
    ):
        ann = portal.call(
            partial(
                sidecar.add_user,
                "ann",
                emails=("ann@example.com",),
                roles=("admin",),
                accounts=(ACCOUNT,),
                password=PASSWORD,
            )
        )
        token = portal.call(sidecar.token, ann).decode()
        key, management_token = portal.call(management_client, sidecar)
        known = {
            "header.X-Account-ID": ACCOUNT.id,
            "body.email": "ann",
            "body.userName": "ann",
            "body.password": PASSWORD,
            "body.user._id": str(ann.id),
            "body.user.emails": "ann@example.com",
            "body.user.role": "admin",
            "body.token": token,
            "body.appId": "app1",
            "body.userId": "ann",
            **{f"body.{name}": value for name, value in key.items()},
        }
        yield Served(
            url,
            portal.call(document_of, sidecar),
            token,
            lambda: portal.call(sidecar.token, ann).decode(),
            management_token.decode(),
            known,
        )


@asynccontextmanager
async def listening_at(sidecar: Running) -> AsyncIterator[str]:
    """The auth listener, as the process runs it."""
    here = await sidecar.served()
    yield f"http://127.0.0.1:{here.listener.getsockname()[1]}"


NOT_CHECKED: Mapping[str, tuple[str, ...]] = {
    # Everything is HTTP 200 there, also what is no valid request and whoever may not ask.
    TOKEN: ("negative_data_rejection", "unsupported_method"),
    STATUS: ("negative_data_rejection", "unsupported_method", "ignored_auth"),
    # The vendor documents 400 for a credential that is empty, where Schemathesis takes 401 alone.
    "/api/v1/user/check": ("positive_data_acceptance",),
    # The values of `Served.known` are put in also where the schema wants null.
    PULSE_LOGIN: ("positive_data_acceptance",),
    # A token in the body is a credential as well, which OpenAPI has no words for.
    "/auth/validate-session": ("ignored_auth",),
}


class Way(Enum):
    """How Schemathesis asks."""

    KNOWN = "with a good credential, and values that are good"
    STRANGE = "with a good credential, and values that it makes up"
    STRANGER = "with credentials that it makes up as well"


def reached(endpoint: Endpoint, way: Way) -> set[int]:
    """What this way leads to, among other answers: also methods that are not there are tried."""
    match way:
        case Way.KNOWN:
            return {200}
        case Way.STRANGE:
            return {400, 405} if endpoint.method == "POST" else {405}
        case Way.STRANGER:
            return {401}


def questions(served: Served, endpoint: Endpoint, way: Way) -> BaseSchema:
    """What Schemathesis is to ask."""
    path = endpoint.path
    is_known = way is Way.KNOWN
    config = {
        "seed": 1,
        "base-url": served.url,
        "continue-on-failure": True,
        "generation": {
            "mode": "positive" if is_known else "all",
            "max-examples": 60,
            "database": "none",
            # Such a header may be a Content-Length that is none: no request, and refused in plain text.
            "allow-extra-parameters": False,
            "with-security-parameters": way is Way.STRANGER,
        },
        "dictionaries": {name: {"values": [value]} for name, value in served.known.items()},
        "parameters": {name: {"dictionary": name, "probability": 1} for name in served.known if is_known},
        "checks": {name: {"enabled": False} for name in NOT_CHECKED.get(path, ())},
        "phases": {"stateful": {"enabled": False}},  # one endpoint at a time
        "output": {"sanitization": {"enabled": False}},
    }
    whole = schemathesis.openapi.from_dict(served.document, config=Config.from_dict(config))
    schema = whole.include(method=endpoint.method, path=path)
    if way is not Way.STRANGER:

        @schema.auth(refresh_interval=None)
        class _Bearer:
            def get(self, _case: AnyCase, _context: schemathesis.AuthContext) -> str:
                if path == LOGOUT:
                    return served.new_token()
                return served.management_token if path == STATUS else served.token

            def set(self, case: AnyCase, token: str, _context: schemathesis.AuthContext) -> None:
                case.headers["Authorization"] = f"Bearer {token}"

    return schema


@pytest.mark.parametrize(
    ("endpoint", "way"),
    [
        pytest.param(endpoint, way, id=f"{endpoint} {way.name}")
        for endpoint in ENDPOINTS
        for way in Way
        if way is not Way.STRANGER or endpoint.path not in OPEN
    ],
)
def test_whatever_is_asked_is_answered_as_described(served: Served, endpoint: Endpoint, way: Way) -> None:
    outcomes = set()
    for event in from_schema(questions(served, endpoint, way)).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError)
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorder = event.recorder
        checks = [check for checks in recorder.checks.values() for check in checks]
        assert "\n".join(failure_of(check) for check in checks if check.failure_info) == ""
        for case_id, interaction in recorder.interactions.items():
            assert interaction.response is not None
            outcome = outcome_of(interaction.response)
            if endpoint.path in {TOKEN, STATUS} and is_invalid(recorder.cases[case_id].value):
                assert outcome >= 400
            outcomes.add(outcome)
    assert max(outcomes) < 500
    assert reached(endpoint, way) <= outcomes


def failure_of(check: CheckNode) -> str:
    """What was wrong, and the command that shows it."""
    info = check.failure_info
    return f"{check.name}: {info.failure.message}\n{info.code_sample}\n" if info else ""


def outcome_of(response: Response) -> int:
    """The status that the body tells, where it tells one. HTTP's is no other, except at Authing."""
    body = response.json()
    told = next((body[name] for name in ("statusCode", "httpStatusCode", "status") if name in body), 0)
    assert told in {0, response.status_code} or "apiCode" in body
    return int(told or response.status_code)


def is_invalid(case: AnyCase) -> bool:
    """Whether it was made so that it is none of the requests that are described."""
    return case.meta is not None and case.meta.generation.mode.is_negative

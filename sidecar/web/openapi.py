"""The products' endpoints as OpenAPI 3.1 describes them, from the very models that read and write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import (
    DataclassField,
    ModelField,
    NullableSchema,
    TypedDictField,
    WithDefaultSchema,
)

from sidecar import __version__
from sidecar.checks.dialect import Dialect, Endpoint, phrase
from sidecar.errors import QuestionRefused
from sidecar.hosts import origin_of
from sidecar.settings import Settings

_OK = 200

_REFUSALS = frozenset({400, 403, 429, 500, 503})
"""With what every endpoint may refuse."""

_BODY_REFUSALS = frozenset({413})
"""And those that read a body."""

_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer"}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}

Json = dict[str, Any]
References = Mapping[tuple[Any, JsonSchemaMode], JsonSchemaValue]


def openapi_document(dialects: Iterable[Dialect], settings: Settings) -> Json:
    """The document. Wherever the pages are below, the endpoints are at the root of their host."""
    bearer = {"type": "http", "scheme": "bearer", "description": "A session token, or an API key."}
    session = {"type": "apiKey", "in": "cookie", "name": settings.session.cookie}
    paths: dict[str, Json] = {}
    schemas: Json = {}
    security: Json = {}
    for dialect in dialects:
        references, definitions = _described(dialect)
        schemas |= definitions
        known = {"bearer": bearer, "session": session, **dialect.security}
        for endpoint in dialect.endpoints:
            operation = _operation(dialect, endpoint, references)
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
            security |= {name: known[name] for name in endpoint.credentials}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Session checks of the sidecar", "version": __version__},
        "servers": [{"url": origin_of(settings.login.public_url)}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security},
    }


def _operation(dialect: Dialect, endpoint: Endpoint, references: References) -> Json:
    name = f"{dialect.name}-{endpoint.path.rpartition('/')[2]}"
    operation: Json = {
        "operationId": to_camel(name.replace("-", "_")),
        "summary": endpoint.summary,
        "tags": [dialect.name],
        "security": [{each: []} for each in endpoint.credentials],
        "responses": _responses(dialect, endpoint, references),
    }
    if endpoint.headers:
        operation["parameters"] = [
            {"name": each, "in": "header", "description": description, "schema": {"type": "string"}}
            for each, description in endpoint.headers.items()
        ]
    if endpoint.question:
        operation["requestBody"] = {"required": True, **_content(references[endpoint.question, "validation"])}
    return operation


def _responses(dialect: Dialect, endpoint: Endpoint, references: References) -> Json:
    """By HTTP status. Where a product refuses with 200 as well, that is one or the other."""
    answer, error = references[endpoint.answer, "serialization"], references[dialect.error, "serialization"]
    refusals = _REFUSALS.union(endpoint.refusals, _BODY_REFUSALS if endpoint.question else ())
    statuses = {dialect.refuse(QuestionRefused(each)).status for each in refusals}
    schemas = {_OK: answer} | dict.fromkeys(sorted(statuses), error)
    if _OK in statuses:
        schemas[_OK] = {"oneOf": [answer, error]}
    return {
        str(status): {
            "description": phrase(status),
            "headers": _HEADERS.get(status, {}),
            **_content(schema),
        }
        for status, schema in schemas.items()
    }


def _content(schema: JsonSchemaValue) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _described(dialect: Dialect) -> tuple[References, Json]:
    """References to the schemas of the product's models; and the schemas, named after the product too."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(dialect.error, "serialization")]
    for endpoint in dialect.endpoints:
        models.append((endpoint.answer, "serialization"))
        if endpoint.question:
            models.append((endpoint.question, "validation"))
    references, whole = models_json_schema(
        models,
        ref_template=f"#/components/schemas/{dialect.name}.{{model}}",
        schema_generator=_Schemas,
    )
    return references, {f"{dialect.name}.{name}": schema for name, schema in whole["$defs"].items()}


class _Schemas(GenerateJsonSchema):
    """Answers are written without the members that are None: those may be missing, and are never null.

    All others are always there, whether or not they have a default. No member has a title: its name in
    other words tells nothing.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - of no member
        """See GenerateJsonSchema."""
        return False

    def field_is_required(self, field: ModelField | DataclassField | TypedDictField, total: bool) -> bool:
        """See GenerateJsonSchema."""
        if self.mode == "validation":
            return super().field_is_required(field, total)
        schema = field["schema"]
        kind: str = (schema["schema"] if schema["type"] == "default" else schema)["type"]
        return kind != "nullable"

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """See GenerateJsonSchema."""
        if self.mode == "validation":
            return super().nullable_schema(schema)
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """See GenerateJsonSchema."""
        if self.mode == "validation":
            return super().default_schema(schema)
        return self.generate_inner(schema["schema"])

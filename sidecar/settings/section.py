"""What every table of the settings has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sidecar.settings.types import SecretMark, read_json, read_secret_file


class Contradiction(NamedTuple):
    """What is wrong with values each of which can be read.

    It is told of the first of the keys, where all of them could be read: of a key that has a fault already
    nobody knows what was meant.
    """

    keys: tuple[str, ...]
    message: str


class Section(BaseModel):
    """A table of the file. Unknown keys are faults, and a secret `x` may be given as `x_file`.

    From the environment it may come whole, as JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def contradictions(self) -> Iterator[Contradiction]:
        """What does not go together in it, by its own keys."""
        yield from ()

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        table = read_json(given)
        if isinstance(table, bool) and "enabled" in cls.model_fields:
            raise ValueError(f"it is a table: set enabled = {str(table).lower()} in it")
        return cls._with_secrets(table) if isinstance(table, dict) else table

    @classmethod
    def _with_secrets(cls, table: dict[str, Any]) -> dict[str, Any]:
        values = dict(table)
        for name in cls._secrets():
            if f"{name}_file" in values:
                if name in values:
                    raise ValueError(f"{name} and {name}_file are both set: leave one out")
                values[name] = read_secret_file(values.pop(f"{name}_file"))
        return values

    @classmethod
    def _secrets(cls) -> list[str]:
        """The keys that may also be given as `<key>_file`."""
        fields = cls.model_fields.items()
        return [
            name for name, field in fields if any(isinstance(mark, SecretMark) for mark in field.metadata)
        ]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema, with the keys that only the validator above knows."""
        schema = handler.resolve_ref_schema(handler(core))
        for name in cls._secrets():
            described = {"type": "string", "description": f"The path of a file that holds {name}."}
            schema["properties"][f"{name}_file"] = described
        return schema


class Table(Section):
    """A section within a section, which has a table of its own in the file."""

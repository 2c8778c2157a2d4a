"""The JSON Schema of a rules file, for editors: as pydantic generates it, without titles and empty defaults."""

from __future__ import annotations

from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema

from proxy.rules.loading.diagnostics import Value
from proxy.rules.loading.schema import FileModel

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a rules file, for editors."""
    return FileModel.model_json_schema(schema_generator=_Generator)


class _Generator(GenerateJsonSchema):
    """Leaves out what helps nobody in an editor: titles, and defaults that mean an absent key."""

    schema_dialect = SCHEMA_DIALECT

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        generated = _tidy(super().generate(schema, mode))
        assert isinstance(generated, dict)
        generated["patternProperties"] = {"^x-": {"description": "Ignored: a place for YAML anchors."}}
        return {"$schema": self.schema_dialect, "title": "nocache-proxy rules", **generated}


def _tidy(schema: Value, *, is_names: bool = False) -> Value:
    if isinstance(schema, list):
        return [_tidy(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    if is_names:
        return {name: _tidy(member) for name, member in schema.items()}
    noise = {"title"} | ({"default"} if schema.get("default") in (None, "", [], {}, ()) else set())
    tidy = {
        key: _tidy(member, is_names=key in ("properties", "$defs"))
        for key, member in schema.items()
        if key not in noise
    }
    kinds = tidy.get("anyOf")
    if isinstance(kinds, list) and "default" in noise and "default" in schema:
        tidy["anyOf"] = kinds = [kind for kind in kinds if kind != {"type": "null"}]
        if len(kinds) == 1 and isinstance(kinds[0], dict):
            del tidy["anyOf"]
            tidy = {**kinds[0], **tidy}
    return tidy

"""The JSON Schemas that editors use to complete and check the files: `python -m gateway.config.json_schema`.

Owns their making from the models of `schema`. The shipped files in `schemas/` are what this writes; a test
checks that they are in step.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

from gateway.config.schema import ConfigFile, HarmonyFile, ModelsFile

FOLDER: Final = Path(__file__).parent / "schemas"

FORMS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {"config.json": ConfigFile, "custom_models.json": ModelsFile, "harmony_models.json": HarmonyFile}
)


def schema_text(form: type[BaseModel]) -> str:
    """Return the JSON Schema of a file's form, as the text that is shipped."""
    schema = _with_empty_allowed(form.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write all schemas into `folder`."""
    for name, form in FORMS.items():
        (folder / name).write_text(schema_text(form), encoding="utf-8")


def _with_empty_allowed(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow every property to be left empty: the loader takes `server:` with nothing below as not written."""
    for part in (schema, *schema.get("$defs", {}).values()):
        for name, wanted in part.get("properties", {}).items():
            kept = {key: wanted.pop(key) for key in ("description", "title", "default") if key in wanted}
            options = wanted.get("anyOf", [wanted])
            nullable = options if {"type": "null"} in options else [*options, {"type": "null"}]
            part["properties"][name] = {"anyOf": nullable, **kept}
    return schema


if __name__ == "__main__":
    write()

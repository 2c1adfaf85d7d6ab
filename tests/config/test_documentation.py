"""What is shipped beside the code says what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.config.environment import VARIABLES, WITHOUT_MEANING
from gateway.config.json_schema import FOLDER, FORMS, schema_text, write
from gateway.config.locate import read_yaml
from gateway.config.schema import ConfigFile, Entry, HarmonyFile, ModelsFile
from tests.config.conftest import Place

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"`([A-Za-z_.]+)`", DOCUMENT))


def settings_keys() -> list[str]:
    return [
        f"{section}.{key}"
        for section, info in ConfigFile.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for key in info.annotation.model_fields
    ]


def test_every_key_of_every_file_is_documented() -> None:
    assert len(settings_keys()) > 30
    wanted = {*settings_keys(), *Entry.model_fields, *HarmonyFile.model_fields}
    assert wanted - DOCUMENTED == set()


def test_every_variable_is_documented() -> None:
    assert {variable.name for variable in VARIABLES} | WITHOUT_MEANING.keys() <= DOCUMENTED


def test_no_key_is_documented_that_does_not_exist() -> None:
    sections = "|".join(ConfigFile.model_fields)
    written = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", DOCUMENT))
    assert written - {"config.yaml"} == set(settings_keys())


def test_the_example_loads_and_says_nothing_but_the_defaults(place: Place) -> None:
    default = place.load().settings
    place.write("config.yaml", (ROOT / "config.yaml.example").read_text(encoding="utf-8"))
    loaded = place.load()
    assert loaded.warnings == ()
    for section in ConfigFile.model_fields:
        assert getattr(loaded.settings, section) == getattr(default, section)


def test_the_example_shows_every_key() -> None:
    text = (ROOT / "config.yaml.example").read_text(encoding="utf-8")
    missing = [key for key in settings_keys() if not re.search(rf"\b{key.split('.')[1]}: ", text)]
    assert missing == []


@pytest.mark.parametrize("name", ["custom_models.yaml", "harmony_models.yaml"])
def test_the_shipped_model_files_load_and_name_no_model(place: Place, name: str) -> None:
    place.write(name, (ROOT / name).read_text(encoding="utf-8"))
    loaded = place.load()
    assert dict(loaded.catalog.aliases) == {}
    assert (loaded.settings.harmony_models, loaded.warnings) == ((), ())


def test_the_commented_models_load_when_the_signs_are_removed(place: Place) -> None:
    text = (ROOT / "custom_models.yaml").read_text(encoding="utf-8")
    head, body = text.split("models:\n", 1)
    place.write("custom_models.yaml", head + "models:\n" + re.sub(r"(?m)^# ?", "", body))
    for file in ("qwen2.5-coder-7b-q4_k_m.gguf", "whisper-small.bin"):
        (place.home / "models").mkdir(exist_ok=True)
        (place.home / "models" / file).write_text("model")
    catalog = place.load().catalog
    assert list(catalog.aliases) == ["ms/coder", "ms/coder-creative", "ms/transcriber"]
    assert len(catalog.slots) == 2


@pytest.mark.parametrize("name", FORMS)
def test_the_shipped_json_schemas_are_in_step(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == schema_text(FORMS[name])


def test_the_json_schemas_are_made_by_a_command(tmp_path: Path) -> None:
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMS)


@pytest.mark.parametrize("form", [ConfigFile, ModelsFile, HarmonyFile])
def test_every_key_has_a_description_in_the_json_schema(form: type[BaseModel]) -> None:
    schema: dict[str, Any] = json.loads(schema_text(form))
    undescribed = [
        f"{part.get('title')}.{name}"
        for part in (schema, *schema.get("$defs", {}).values())
        for name, wanted in part.get("properties", {}).items()
        if not wanted.get("description") and "$ref" not in str(wanted)
    ]
    assert undescribed == []


def test_every_yaml_block_of_the_document_is_valid_yaml() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert blocks
    assert [read_yaml(block.encode(), "block").problems for block in blocks] == [()] * len(blocks)

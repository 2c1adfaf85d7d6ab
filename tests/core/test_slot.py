"""What makes two slots the same."""

from dataclasses import fields, replace

import pytest

from gateway.core.slot import Command, Launch, LlamaServer, SlotSpec

LLAMA = LlamaServer(model="/models/gemma3-12b.gguf")
COMMAND = Command(argv=("/usr/bin/serve", "--port", "${PORT}"))
LLAMA_EDITS: dict[str, object] = {
    "model": "/models/other/gemma3-12b.gguf",
    "ctx_size": 4096,
    "parallel": 2,
    "gpu_layers": 0,
    "cache_type_k": "q8_0",
    "cache_type_v": "q8_0",
    "embeddings": True,
    "mmproj": "/models/mmproj.gguf",
    "arguments": ("--flash-attn",),
    "environment": (("CUDA_VISIBLE_DEVICES", "0"),),
}
COMMAND_EDITS: dict[str, object] = {
    "argv": ("/usr/bin/serve", "--verbose"),
    "model": "/models/x.gguf",
    "environment": (("HOME", "/"),),
}
LIFE_EDITS: dict[str, object] = {
    "ttl": None,
    "pinned": True,
    "preload": True,
    "max_concurrent": 8,
    "start_timeout": 1.0,
}


def edited(launch: Launch, name: str, value: object) -> Launch:
    return replace(launch, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("launch", "name", "value"),
    [(LLAMA, *edit) for edit in LLAMA_EDITS.items()] + [(COMMAND, *edit) for edit in COMMAND_EDITS.items()],
)
def test_every_field_of_the_launch_changes_the_identity(launch: Launch, name: str, value: object) -> None:
    assert SlotSpec(launch=edited(launch, name, value)).id != SlotSpec(launch=launch).id


@pytest.mark.parametrize(("name", "value"), LIFE_EDITS.items())
def test_no_rule_of_life_changes_the_identity(name: str, value: object) -> None:
    spec = SlotSpec(launch=LLAMA)
    assert replace(spec, **{name: value}).id == spec.id  # type: ignore[arg-type]


def test_the_edits_above_are_all_fields_there_are() -> None:
    assert set(LLAMA_EDITS) == {field.name for field in fields(LlamaServer)}
    assert set(COMMAND_EDITS) == {field.name for field in fields(Command)}
    assert {"launch", *LIFE_EDITS} == {field.name for field in fields(SlotSpec) if field.init}


def test_equal_launches_are_one_slot() -> None:
    assert SlotSpec(launch=replace(LLAMA)).id == SlotSpec(launch=LLAMA).id


def test_a_llama_server_and_a_command_with_the_same_model_are_two_slots() -> None:
    assert SlotSpec(launch=Command(argv=("m",), model="m")).id != SlotSpec(launch=LlamaServer(model="m")).id


@pytest.mark.parametrize(
    ("launch", "stem"),
    [(LLAMA, "gemma3-12b"), (COMMAND, "serve"), (replace(COMMAND, model="/models/x.gguf"), "x")],
)
def test_the_identity_begins_with_a_name_that_people_know(launch: Launch, stem: str) -> None:
    name, _, digest = SlotSpec(launch=launch).id.rpartition("-")
    assert name == stem
    assert len(digest) == 10


def test_a_path_that_is_no_text_has_an_identity() -> None:
    path = b"/models/\xff.gguf".decode("utf-8", "surrogateescape")
    assert SlotSpec(launch=LlamaServer(model=path)).id == SlotSpec(launch=LlamaServer(model=path)).id

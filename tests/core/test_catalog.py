"""How people spell names, and where a name leads."""

import pytest

from gateway.core.alias import Alias
from gateway.core.catalog import Catalog, name_key
from gateway.core.errors import BadRequest, UnknownModel
from gateway.core.slot import Command, SlotSpec

SPEC = SlotSpec(launch=Command(argv=("serve",)))
OTHER = SlotSpec(launch=Command(argv=("other",)))


def catalog(*names: str, prefix: str = "", default_model: str | None = None, unlisted: str = "") -> Catalog:
    aliases = [Alias(name=name, slot=SPEC.id, unlisted=name == unlisted) for name in names]
    return Catalog.of(aliases, [SPEC], prefix=prefix, default_model=default_model)


def found(of: Catalog, name: str | None) -> str:
    return of.resolve(name).alias.name


def test_a_name_leads_to_its_alias_its_slot_and_remembers_how_it_was_asked() -> None:
    aliases = [Alias(name="coder", slot=OTHER.id), Alias(name="chat", slot=SPEC.id)]
    route = Catalog.of(aliases, [SPEC, OTHER]).resolve("Coder")
    assert (route.asked, route.alias, route.slot) == ("Coder", aliases[0], OTHER)


@pytest.mark.parametrize("asked", ["gemma3:12b-q8_0", "gemma3-12b-q8_0", "GEMMA3:12B-Q8_0", " gemma3:12b-q8_0 "])
@pytest.mark.parametrize("prefix", ["", "local/"])
@pytest.mark.parametrize("name", ["gemma3:12b-q8_0", "Gemma3-12B-Q8_0"])
def test_case_prefix_and_the_first_colon_make_no_difference(name: str, prefix: str, asked: str) -> None:
    names = catalog(prefix + name, prefix=prefix)
    assert found(names, asked) == prefix + name
    assert found(names, prefix.upper() + asked.strip()) == prefix + name


def test_a_prefix_that_is_not_configured_is_part_of_the_name() -> None:
    with pytest.raises(UnknownModel):
        catalog("gemma").resolve("local/gemma")


def test_only_the_first_colon_is_a_dash() -> None:
    assert name_key("a:b:c", "") == "a-b:c"


def test_an_exact_spelling_wins_over_a_loose_one() -> None:
    names = catalog("llama:8b", "llama-8b", "LLAMA-8B")
    assert [found(names, name) for name in names.aliases] == ["llama:8b", "llama-8b", "LLAMA-8B"]


def test_of_two_aliases_whose_spellings_meet_the_first_keeps_the_loose_match() -> None:
    assert found(catalog("llama:8b", "llama-8b"), "Llama-8B") == "llama:8b"


@pytest.mark.parametrize("asked", [None, ""])
def test_without_a_name_the_default_model_answers(asked: str | None) -> None:
    assert found(catalog("a", "b", default_model="b"), asked) == "b"


def test_without_a_name_and_a_default_the_request_is_wrong_and_says_what_to_send() -> None:
    with pytest.raises(BadRequest, match="names no model") as caught:
        catalog("a").resolve(None)
    assert (caught.value.status, caught.value.param) == (400, "model")
    assert caught.value.hint == "Send `model`, or set `default_model` in config.yaml."


def test_an_unknown_name_is_answered_with_the_nearest_ones_as_they_are_listed() -> None:
    names = catalog("local/Qwen3:8b", "local/qwen3:14b", "local/gemma", prefix="local/")
    with pytest.raises(UnknownModel) as caught:
        names.resolve("qwen3-8")
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert caught.value.message == "The model `qwen3-8` does not exist."
    assert caught.value.hint == "Did you mean `local/Qwen3:8b`, `local/qwen3:14b`?"


def test_what_is_not_listed_is_not_suggested_but_answers() -> None:
    names = catalog("secret-model", "chat", unlisted="secret-model")
    assert [alias.name for alias in names.listed()] == ["chat"]
    assert found(names, "secret-model") == "secret-model"
    with pytest.raises(UnknownModel) as caught:
        names.resolve("secret-mode")
    assert caught.value.hint == "GET /v1/models lists what there is."


def test_with_nothing_configured_the_hint_says_where_to_begin() -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog().resolve("chat")
    assert caught.value.hint == "No model is configured yet: add one to custom_models.yaml."


def test_an_endless_name_is_cut_in_the_message() -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog("chat").resolve("x" * 100_000)
    assert caught.value.message == f"The model `{'x' * 200}` does not exist."


def test_a_snapshot_cannot_be_changed() -> None:
    names = catalog("chat")
    with pytest.raises(TypeError):
        names.aliases["other"] = names.aliases["chat"]  # type: ignore[index]

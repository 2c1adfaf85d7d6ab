"""Puts settings into `CommonParams` of the xllamacpp wheel.

The only module that knows the shape of its attributes. Takes the wheel's module as an argument and imports
nothing of it, so that the table can be read without the wheel.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from gateway.embedded.flags import FlagError, Setting
from gateway.embedded.values import Grammar, Lora, Member, Value

_FILLED_UP = {"tensor_split", "fit_params_target"}
"""Arrays of a fixed length, one place per device: places that were not named keep what they have."""


def common_params(wheel: ModuleType, settings: Mapping[str, Setting]) -> Any:
    """A new `CommonParams` with every setting in its place.

    Raises FlagError where the wheel itself refuses a value (an unknown buffer type, a schema without a
    grammar).
    """
    params = wheel.CommonParams()
    for path, setting in settings.items():
        _assign(wheel, params, path, setting)
    return params


def _assign(wheel: ModuleType, params: Any, path: str, setting: Setting) -> None:
    *owners, name = path.split(".")
    owner = params
    for part in owners:
        owner = getattr(owner, part)
    try:
        setattr(owner, name, _converted(wheel, setting.value, name, getattr(owner, name)))
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise FlagError(
            f'error while handling argument "{setting.flag}": the wheel refuses the value: {error}'
        ) from error


def _converted(wheel: ModuleType, value: Value, name: str, current: Any) -> Any:
    match value:
        case Member():
            return getattr(getattr(wheel, value.enum), value.name)
        case Grammar():
            return _grammar(wheel, value)
        case frozenset():
            return [cpu in value for cpu in range(len(current))]
        case tuple() if name in _FILLED_UP:
            return [*value, *current[len(value) :]][: len(current)]
        case tuple() if name == "tensor_buft_overrides":
            return ",".join(str(pattern) for pattern in value)
        case tuple():
            return [_item(wheel, item) for item in value]
        case _:
            return value


def _item(wheel: ModuleType, item: str | float | Member | Lora) -> Any:
    match item:
        case Member():
            return getattr(getattr(wheel, item.enum), item.name)
        case Lora():
            return wheel.CommonAdapterLoraInfo(item.path, item.scale)
        case _:
            return item


def _grammar(wheel: ModuleType, grammar: Grammar) -> Any:
    kinds = wheel.common_grammar_type
    if grammar.is_schema:
        text = wheel.json_schema_to_grammar(grammar.text)
        return wheel.CommonGrammar(kinds.COMMON_GRAMMAR_TYPE_OUTPUT_FORMAT, text)
    return wheel.CommonGrammar(kinds.COMMON_GRAMMAR_TYPE_USER, grammar.text)

"""Pydantic's errors as problems with a place.

Owns the wording of the few errors that the kinds of `fields` and `composite` do not word themselves: unknown
keys (with the nearest one), and mappings or lists where something else was written.
"""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.config.problem import Place, Problem, nearest, shown

Locate = Callable[[tuple[str | int, ...]], tuple[Place, str]]

# Keys that other programs of this kind have, and what to write instead.
_ELSEWHERE = {
    "proxy": "the gateway chooses the address; give 'cmd' with ${PORT}",
    "backend": "entries are llama-server models ('path') or commands ('cmd')",
    "ollama_model": "entries are llama-server models ('path') or commands ('cmd')",
    "concurrencyLimit": "it is called max_concurrent",
    "n_ctx": "it is called ctx_size",
    "model": "it is called path",
}


def problems_of(fault: ValidationError, form: type[BaseModel], locate: Locate) -> Iterator[Problem]:
    """Yield one problem for each error; `locate` gives place and name of a path in the validated value."""
    for error in fault.errors(include_url=False):
        path = tuple(part for part in error["loc"] if part != "[key]")
        place, name = locate(path)
        yield Problem.at(place, name, _sentence(error["type"], error["msg"], error.get("input"), path, form))


def _sentence(kind: str, said: str, value: Any, path: tuple[str | int, ...], form: type[BaseModel]) -> str:
    match kind:
        case "extra_forbidden":
            return _unknown(str(path[-1]), form, path[:-1])
        case "value_error":
            return said.removeprefix("Value error, ")
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"expected a mapping (keys and values, indented below), got {shown(value)}"
        case "list_type" if "api_keys" in path:
            # A message never shows what may be a key.
            return "expected a list of keys (one '- ' line for each)"
        case "list_type":
            return f"expected a list ([a, b], or one '- ' line for each), got {shown(value)}"
        case _:
            return said[:1].lower() + said[1:]


def _unknown(key: str, form: type[BaseModel], above: tuple[str | int, ...]) -> str:
    known = sorted(_form_at(form, above).model_fields)
    if key in _ELSEWHERE and key not in known:
        return f"unknown key: {_ELSEWHERE[key]}"
    hint = nearest(key, known)
    return f"unknown key{hint}" if hint else f"unknown key; there are {', '.join(known)}"


def _form_at(form: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel]:
    """Return the model that validates the value at `path`; a mapping of models takes any key."""
    for part in path:
        found = form.model_fields.get(str(part))
        inner = _models_in(found.annotation) if found else None
        form = inner or form
    return form


def _models_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if inner := _models_in(argument):
            return inner
    return None

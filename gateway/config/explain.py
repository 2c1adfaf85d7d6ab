"""What every setting is, what it would be by default, and where it comes from: for `gateway config`.

Promises never to show an API key: keys are listed by name and role.
"""

from typing import Any, NamedTuple

from pydantic import BaseModel

from gateway.config.composite import ApiKey
from gateway.config.schema import ConfigFile
from gateway.config.settings import Settings


class Explained(NamedTuple):
    """One setting in words. `source` is `default`, a place in a file, a variable, or an option."""

    key: str
    value: str
    default: str
    source: str


def explain(settings: Settings) -> list[Explained]:
    """Return every setting in the order of config.yaml."""
    rows: list[Explained] = []
    defaults = ConfigFile()
    for section in ConfigFile.model_fields:
        form: BaseModel = getattr(defaults, section)
        for name in type(form).model_fields:
            key = f"{section}.{name}"
            source = settings.sources.get(key)
            value = _in_words(getattr(getattr(settings, section), name), name)
            default = _in_words(getattr(form, name), name)
            rows.append(Explained(key, value, default, str(source) if source else "default"))
    return rows


def _in_words(value: Any, name: str = "") -> str:
    match value:
        case None:
            return "never" if name == "ttl" else "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case ApiKey():
            return f"{value.name} ({value.role})"
        case list() | tuple():
            return ", ".join(_in_words(item) for item in value) or "none"
        case "":
            return "''"
        case _:
            return str(value)

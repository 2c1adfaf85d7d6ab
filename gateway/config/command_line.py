"""Settings that were given as options of the command line.

Owns the type in which the command line hands them over, and which setting each option is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config.layer import Layer, Written
from gateway.config.locate import plain_scalar
from gateway.config.problem import Place, Problem, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """Options as typed, `None` where not given. `settings` are the `key=value` of `--set`, keys dotted."""

    config: str | None = None
    host: str | None = None
    port: int | str | None = None
    log_level: str | None = None
    max_loaded: int | str | None = None
    memory_budget: str | None = None
    settings: tuple[str, ...] = ()


_OPTIONS: Final = (
    ("host", "--host", "server.host"),
    ("port", "--port", "server.port"),
    ("log_level", "--log-level", "log.level"),
    ("max_loaded", "--max-loaded", "memory.max_loaded"),
    ("memory_budget", "--memory-budget", "memory.budget"),
)
_PLACE: Final = Place(file="command line")


def command_line_layer(options: CommandLine, cwd: Path) -> Layer:
    """Return the settings that `options` make; relative paths among them start at `cwd`."""
    layer = Layer(kind="command line", folder=cwd)
    for setting in options.settings:
        key, equals, text = setting.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot and section and name):
            message = f"expected section.key=value such as models.ttl=5m, got {shown(setting)}"
            layer.problems.append(Problem.at(_PLACE, "--set", message))
            continue
        label = f"--set {section}.{name}"
        layer.values[f"{section}.{name}"] = Written(value=plain_scalar(text.strip()), place=_PLACE, label=label)
    for field, label, key in _OPTIONS:
        value = getattr(options, field)
        if value is not None:
            scalar = plain_scalar(value) if isinstance(value, str) and field in {"port", "max_loaded"} else value
            layer.values[key] = Written(value=scalar, place=_PLACE, label=label)
    layer.validate()
    return layer

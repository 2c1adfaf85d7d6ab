"""Reloading: when files are read again, what becomes of what they say, and what a person is told about it.

Owns the decision when to read again and the snapshot that is in force. How a snapshot is put in force is `apply`,
which `main` brings along.

Files are looked at once a second rather than watched: a look costs microseconds, and it sees the same thing whether an
editor writes a file in place, puts another in its place, or turns a link, on a local disk or on one that another
machine changes. A change counts when two looks in a row saw the same, so that many saves in a second, or one that is
half done, make one reload.

Promises: a snapshot with a mistake is told, problem by problem, and changes nothing; a good one is put in force as a
whole, on the event loop, between two requests.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config.load import Loaded
from gateway.config.mark import Mark, marks
from gateway.config.problem import ConfigError, Place, Problem
from gateway.config.settings import Settings, loopback
from gateway.core.catalog import Catalog

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files."""

AFTER_RESTART: Final = ("server.host", "server.port", "llama_server.program", "log.format")
"""Settings that a running gateway cannot change."""

_MOST_NAMES: Final = 10


class Reloader:
    """Reads files again when they change, when it is time to look for model files, and when it is asked to."""

    def __init__(
        self,
        loaded: Loaded,
        load: Callable[[], Loaded],
        apply: Callable[[Loaded, Loaded], None],
        *,
        look_every: float = LOOK_EVERY,
    ) -> None:
        """`load` blocks and raises `ConfigError`; `apply` gets the old and the new snapshot, on the event loop."""
        self._started = loaded.settings
        self._loaded = loaded
        self._load = load
        self._apply = apply
        self._look_every = look_every
        self._asked = asyncio.Event()
        self._read: Mapping[Path, Mark] = loaded.marks
        self._seen = self._read
        self._sync_at = self._next_sync()

    @property
    def loaded(self) -> Loaded:
        """The snapshot in force."""
        return self._loaded

    def ask(self) -> None:
        """Read everything again at once, whether it changed or not: what SIGHUP does."""
        self._asked.set()

    async def run(self) -> None:
        """Do it for ever."""
        while True:
            asked = await self._asked_by_now()
            if asked or self._sync_due() or await self._changed():
                await self._reload(asked=asked)

    async def _asked_by_now(self) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._look_every)
        return self._asked.is_set()

    def _next_sync(self) -> float:
        return asyncio.get_running_loop().time() + self._loaded.settings.library.sync_interval

    def _sync_due(self) -> bool:
        return asyncio.get_running_loop().time() >= self._sync_at

    async def _changed(self) -> bool:
        """Look; return whether the files are not those that were read, and have been left alone since the last look."""
        now = await asyncio.to_thread(marks, self._read)
        settled, self._seen = now == self._seen, now
        return settled and now != self._read

    async def _reload(self, *, asked: bool) -> None:
        self._asked.clear()
        try:
            loaded = await asyncio.to_thread(self._load)
            _check_door(self._started, loaded)
        except ConfigError as error:
            self._reject(error)
            self._read = error.marks
        except Exception:
            log.exception("the configuration in force stays: what is written could not be read")
            self._read = await asyncio.to_thread(marks, self._read)
        else:
            self._accept(loaded, asked=asked)
            self._read = loaded.marks
        self._seen = self._read
        self._sync_at = self._next_sync()

    def _reject(self, error: ConfigError) -> None:
        for problem in error.problems:
            log.error("%s", problem)
        log.error("the configuration in force stays; mistakes to correct: %d", len(error.problems))

    def _accept(self, loaded: Loaded, *, asked: bool) -> None:
        old, self._loaded = self._loaded, loaded
        for warning in loaded.warnings:
            if warning not in old.warnings:
                log.warning("%s", warning)
        changes = [*_changed_models(old.catalog, loaded.catalog), *_changed_settings(old.settings, loaded.settings)]
        if changes:
            self._apply(old, loaded)
            log.info("configuration reloaded: %s", "; ".join(changes))
        elif asked:
            log.info("configuration reloaded: nothing has changed")
        for key in AFTER_RESTART:
            if (wanted := _value(loaded.settings, key)) != (running := _value(self._started, key)):
                log.warning("%s is %s and will be %s after a restart", key, running, wanted)


def _check_door(started: Settings, wanted: Loaded) -> None:
    """Raise `ConfigError` if the address that is listened on would be open to other machines without a key.

    The new address may be this machine's alone, but it is not listened on before a restart.
    """
    if wanted.settings.server.api_keys or loopback(started.server.host):
        return
    source = wanted.settings.sources.get("server.host")
    place = source.place if source else Place(file="default")
    message = f"until a restart the gateway listens on {started.server.host}, where server.api_keys are needed"
    raise ConfigError([Problem.at(place, "server.host", message)], wanted.marks)


def _changed_models(old: Catalog, new: Catalog) -> Iterator[str]:
    if added := [name for name in new.aliases if name not in old.aliases]:
        yield f"new {_named(added)}"
    if removed := [name for name in old.aliases if name not in new.aliases]:
        yield f"gone {_named(removed)}"
    both = [name for name in new.aliases if name in old.aliases]
    if launch := [name for name in both if old.aliases[name].slot != new.aliases[name].slot]:
        yield f"launched differently {_named(launch)}"
    if rules := [name for name in both if name not in launch and _terms(old, name) != _terms(new, name)]:
        yield f"changed {_named(rules)}"
    if (old.prefix, old.default_model) != (new.prefix, new.default_model) and not (added or removed):
        yield "names"


def _terms(catalog: Catalog, name: str) -> tuple[Any, ...]:
    alias = catalog.aliases[name]
    return (alias, catalog.slots[alias.slot])


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _changed_settings(old: Settings, new: Settings) -> Iterator[str]:
    keys = [key for key in _keys(new) if _value(old, key) != _value(new, key)]
    if keys:
        yield _named(keys)


def _keys(settings: Settings) -> Iterable[str]:
    for section in fields(settings):
        values = getattr(settings, section.name)
        if is_dataclass(values):
            yield from (f"{section.name}.{field.name}" for field in fields(values))


def _value(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)

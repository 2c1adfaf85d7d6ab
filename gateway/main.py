"""The composition root: builds everything in visible order, owns nothing, and takes it down in reverse."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil

from gateway.api.app import build_app
from gateway.api.keys import ApiOptions
from gateway.api.runner import Runner
from gateway.backends.kinds import Backends
from gateway.backends.llama_server import Program, find_program
from gateway.config.load import Loaded
from gateway.config.settings import Settings
from gateway.core.access import ApiKey, Role
from gateway.core.errors import GatewayError
from gateway.core.occupancy import Limits
from gateway.core.slot import SlotId, SlotSpec
from gateway.engine.journal import Journal
from gateway.engine.metrics import Metrics
from gateway.engine.pool import Pool
from gateway.engine.registry import Current, Registry
from gateway.engine.tasks import Tasks
from gateway.library.needs import Needs
from gateway.reload import Reloader
from gateway.system.logs import set_level
from gateway.system.process import Launcher
from gateway.system.upstream import Timeouts

log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class Gateway:
    """What runs: for those who start it inside another program, such as the tests."""

    runner: Runner
    pool: Pool
    registry: Registry
    program: Program
    reloader: Reloader
    crashed: "asyncio.Future[BaseException]"

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self.runner.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True, slots=True)
class _Replaceable:
    """What a reload reaches."""

    pool: Pool
    registry: Registry
    options: Current[ApiOptions]
    timeouts: Current[Timeouts]
    tasks: Tasks

    def apply(self, old: Loaded, new: Loaded) -> None:
        """Put `new` in force. Nothing here waits: a request comes before all of it or after all of it."""
        settings = new.settings
        self.registry.replace(new.catalog)
        self.options.replace(api_options_of(settings))
        self.timeouts.replace(timeouts_of(settings))
        self.pool.replace_specs(new.catalog.slots.values())
        self.pool.replace_limits(limits_of(settings), stop_grace=settings.llama_server.stop_grace)
        if settings.log.level != old.settings.log.level:
            set_level(settings.log.level)
        preloads = [spec for spec in _preloads(new) if spec not in _preloads(old)]
        removed = [slot for slot in old.catalog.slots if slot not in new.catalog.slots]
        if preloads:
            _ = self.tasks.start(_preload(self.pool, preloads, after=removed), "preload")


@asynccontextmanager
async def running(
    loaded: Loaded, environ: Mapping[str, str], reload: Callable[[], Loaded] | None = None
) -> AsyncIterator[Gateway]:
    """Run the gateway inside this block. Leaving it lets answers finish for `server.drain`, then ends everything.

    `reload` reads the configuration again; it may block, and raises `ConfigError`. Without it nothing is reloaded.
    Raises `OSError` if the address is taken, `StartFailed` if there is no llama-server.
    """
    settings = loaded.settings
    crashed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    tasks = Tasks(on_crash=lambda error: None if crashed.done() else crashed.set_result(error))
    program = await find_program(settings.llama_server.program, environ.get("PATH"))
    launcher = Launcher()
    timeouts = Current(timeouts_of(settings))
    metrics = Metrics()
    pool = Pool(
        limits_of(settings),
        make=Backends(launcher, program, environ, lambda: timeouts.current).make,
        need=Needs().of,
        tasks=tasks,
        stop_grace=settings.llama_server.stop_grace,
        observer=metrics,
    )
    registry = Registry(loaded.catalog)
    options = Current(api_options_of(settings))
    app = build_app(options, pool=pool, registry=registry, tasks=tasks, journal=Journal(metrics))
    runner = Runner(app, settings.server.host, settings.server.port)
    reloader = Reloader(
        loaded, reload or (lambda: loaded), _Replaceable(pool, registry, options, timeouts, tasks).apply
    )
    try:
        await runner.start()
        _ = tasks.start(_preload(pool, _preloads(loaded)), "preload")
        if reload is not None:
            _ = tasks.start(reloader.run(), "reload")
        yield Gateway(runner, pool, registry, program, reloader, crashed)
    finally:
        await runner.stop_listening()
        await pool.close(reloader.loaded.settings.server.drain)
        await runner.close()
        await tasks.close()
        await asyncio.to_thread(launcher.close)


def limits_of(settings: Settings) -> Limits:
    """Return the scheduler's bounds."""
    return Limits(
        memory=settings.memory.budget_bytes(_memory_of_this_machine()),
        max_loaded=settings.memory.max_loaded,
        queue_length=settings.queue.length,
        queue_timeout=settings.queue.timeout,
        turn=settings.queue.turn,
    )


@cache
def _memory_of_this_machine() -> int:
    """Return its bytes."""
    return psutil.virtual_memory().total


def timeouts_of(settings: Settings) -> Timeouts:
    """Return the limits on the silence of a model's server."""
    limits = settings.timeouts
    return Timeouts(connect=limits.connect, first_byte=limits.first_byte or None, between_bytes=limits.silence or None)


def api_options_of(settings: Settings) -> ApiOptions:
    """Return what the HTTP side needs to know."""
    server = settings.server
    return ApiOptions(
        keys=tuple(
            ApiKey(name=key.name, digest=bytes.fromhex(key.digest), role=Role[key.role.upper()])
            for key in server.api_keys
        ),
        allowed_hosts=server.allowed_hosts,
        body_limit=server.body_limit,
        keepalive_after=server.keepalive_after,
        loading_progress=server.loading_progress,
        timing_headers=server.timing_headers,
    )


async def serve(loaded: Loaded, environ: Mapping[str, str], reload: Callable[[], Loaded]) -> int:
    """Run until a signal comes; return the exit code. A second signal ends it without waiting for answers.

    SIGHUP reads the configuration again, with `reload`.
    """
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)  # the kernel and the guardian end the children
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    _on_hang_up(lambda: None)  # while it starts; what changes meanwhile is seen at the first look at the files
    return await _serve_until(stop, loaded, environ, reload)


async def _serve_until(
    stop: asyncio.Event, loaded: Loaded, environ: Mapping[str, str], reload: Callable[[], Loaded]
) -> int:
    try:
        async with running(loaded, environ, reload) as gateway:
            _on_hang_up(gateway.reloader.ask)
            names = ", ".join(alias.name for alias in loaded.catalog.listed()) or "none yet"
            log.info("listening on %s", gateway.url)
            log.info("llama-server: %s (%s)", " ".join(gateway.program.argv), gateway.program.version)
            log.info("models: %s", names)
            _spare_the_collector()
            gateway.crashed.add_done_callback(lambda _error: stop.set())
            await stop.wait()
            drain = gateway.reloader.loaded.settings.server.drain
            log.info("shutting down; running answers have %g s to finish", drain)
            return 1 if gateway.crashed.done() else 0
    except OSError as error:
        server = loaded.settings.server
        log.error("cannot listen on %s port %s: %s", server.host, server.port, error)  # noqa: TRY400 - for people
        return 1
    except GatewayError as error:
        log.error("%s", error)  # noqa: TRY400 - for people
        return 1


def _spare_the_collector() -> None:
    """Let the garbage collector look less often, and never at what is there for good: a tenth of all CPU time.

    What a request leaves behind is freed by reference counts; the collector only finds cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _on_hang_up(act: Callable[[], None]) -> None:
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, act)


def _preloads(loaded: Loaded) -> list[SlotSpec]:
    return [spec for spec in loaded.catalog.slots.values() if spec.preload]


async def _preload(pool: Pool, specs: list[SlotSpec], *, after: Iterable[SlotId] = ()) -> None:
    """Load these slots when those in `after`, whose place they may take, have gone."""
    await pool.gone(after)
    for spec in specs:
        await pool.preload(spec)


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where there is one."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop  # noqa: PLC0415 - not there on Windows

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

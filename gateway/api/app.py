"""The application: every route with its role, as data, and the order of what wraps them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from functools import partial

from aiohttp import hdrs, web

from gateway.api import models, operation, passage, telemetry
from gateway.api.body import continue_later
from gateway.api.exchange import model_request
from gateway.api.faults import faults
from gateway.api.guard import guard
from gateway.api.journal import add_headers, journaled
from gateway.api.keys import JOURNAL, OPTIONS, POOL, REGISTRY, SCRAPING, TASKS, ApiOptions
from gateway.api.routes import MODEL_ROUTES
from gateway.core.access import Role
from gateway.core.errors import UpgradeRequired
from gateway.engine.journal import Journal
from gateway.engine.pool import Pool
from gateway.engine.registry import Current, Registry
from gateway.engine.tasks import Tasks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One route."""

    method: str
    path: str
    handler: Handler
    role: Role = Role.USER


async def no_websocket(request: web.Request) -> web.StreamResponse:
    """Answer `GET /v1/responses`: Codex asks for a WebSocket first and falls back at once on 426."""
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        raise UpgradeRequired("There is no WebSocket here.", hint="POST /v1/responses streams over HTTP.")
    raise web.HTTPMethodNotAllowed(request.method, [hdrs.METH_POST])


ENTRIES = (
    *(
        Entry(method, path, handler, Role.OPEN)
        for path, handler in (("/", operation.index), ("/health", operation.health), ("/ready", operation.ready))
        for method in ("GET", "HEAD")
    ),
    *(Entry("GET", prefix + "/models", models.list_models) for prefix in ("/v1", "")),
    *(Entry("GET", prefix + "/models/{id:.+}", models.show_model) for prefix in ("/v1", "")),
    *(Entry("GET", prefix + "/responses", no_websocket) for prefix in ("/v1", "")),
    *(Entry("POST", path, partial(model_request, route=route)) for path, route in MODEL_ROUTES),
    Entry("GET", "/props", passage.look),
    Entry("GET", "/slots", passage.look),
    # What a model's own server offers beyond answers may change it for everybody, or write files.
    *(Entry(method, "/upstream/{rest:.+}", passage.upstream) for method in ("GET", "HEAD")),
    Entry("*", "/upstream/{rest:.+}", passage.upstream, Role.ADMIN),
    Entry("GET", "/metrics", telemetry.metrics),
    *(Entry("GET", prefix + "/requests", telemetry.last_requests, Role.ADMIN) for prefix in ("/v1", "")),
    Entry("GET", "/running", operation.running),
    Entry("POST", "/unload", operation.unload, Role.ADMIN),
)


def build_app(
    options: Current[ApiOptions], *, pool: Pool, registry: Registry, tasks: Tasks, journal: Journal
) -> web.Application:
    """Return the application. Middlewares from the outside in: journal, faults, guard."""
    roles: dict[tuple[str, str], Role] = {}
    names: dict[str, str] = {}
    app = web.Application(middlewares=[journaled(names), faults, guard(roles)])
    app[OPTIONS], app[POOL], app[REGISTRY], app[TASKS] = options, pool, registry, tasks
    app[JOURNAL], app[SCRAPING] = journal, asyncio.Lock()
    app.on_response_prepare.append(add_headers)
    for entry in ENTRIES:
        route = app.router.add_route(entry.method, entry.path, entry.handler, expect_handler=continue_later)
        if route.resource is not None:
            roles[entry.method, route.resource.canonical] = entry.role
    names.update(_names({path for _, path in roles}))
    return app


def _names(paths: Collection[str]) -> dict[str, str]:
    """Return what each route is called in logs and metrics: with and without its version it is the same route."""
    return {path: "/v1" + path if "/v1" + path in paths else path for path in paths}

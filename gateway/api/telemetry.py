"""What an operator's tools read: the metrics, and the last requests."""

import asyncio
from typing import Any

from aiohttp import hdrs, web

from gateway.api.keys import JOURNAL, POOL, REGISTRY, SCRAPING
from gateway.core.catalog import Catalog
from gateway.core.errors import BadRequest
from gateway.engine.exposition import State, exposition
from gateway.engine.journal import KEPT

SHOWN = 100


async def metrics(request: web.Request) -> web.Response:
    """Answer `GET /metrics`. A thread puts it into words, for one who asks after the other."""
    catalog, pool = request.app[REGISTRY].current, request.app[POOL]
    state = State(
        counted=request.app[JOURNAL].metrics.counted(),
        slots=pool.view(),
        names=_names(catalog),
        budget=pool.budget,
    )
    async with request.app[SCRAPING]:
        text, content_type = await asyncio.to_thread(exposition, state, request.headers.get(hdrs.ACCEPT, ""))
    return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type})


async def last_requests(request: web.Request) -> web.Response:
    """Answer `GET /v1/requests?limit=&model=`: the last requests that have ended, newest first."""
    limit = _limit(request.query.get("limit", str(SHOWN)))
    model = request.query.get("model")
    alias = None if model is None else request.app[REGISTRY].current.resolve(model).alias.name
    rows: list[Any] = []
    for facts in request.app[JOURNAL].last():
        if len(rows) == limit:
            break
        if alias is None or facts.alias == alias:
            rows.append(facts.fields())
    return web.json_response({"requests": rows})


def _limit(text: str) -> int:
    if text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= KEPT:
        return int(text)
    raise BadRequest(f"`limit` must be a whole number from 1 to {KEPT}, got {text[:40]!r}.", param="limit")


def _names(catalog: Catalog) -> dict[str, str]:
    """Return each slot with the first of its names."""
    names: dict[str, str] = {}
    for alias in catalog.aliases.values():
        names.setdefault(alias.slot, alias.name)
    return names

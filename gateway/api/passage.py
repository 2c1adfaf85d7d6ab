"""Passing through to a model's own server: `/upstream/{model}/...`, `/props`, `/slots`.

Nothing is translated but the server's private alias. The model is loaded if it is not; a POST counts as a generation.
"""

from time import monotonic
from urllib.parse import unquote

from aiohttp import hdrs, web

from gateway.api.body import read_body
from gateway.api.exchange import passed_headers, renaming
from gateway.api.keys import FACTS, OPTIONS, POOL, REGISTRY
from gateway.api.outlet import Outlet
from gateway.core.backend import BackendRequest
from gateway.core.catalog import Catalog, Route
from gateway.core.errors import BadRequest, GatewayError, UnknownModel
from gateway.wire.dialect import OPENAI
from gateway.wire.transducer import close, feed
from gateway.wire.usage import Meter

PASSED_UP = (hdrs.CONTENT_TYPE, hdrs.ACCEPT)
LONGEST_NAME = 20  # path segments


async def look(request: web.Request) -> web.StreamResponse:
    """Answer `GET /props?model=` and `GET /slots?model=`."""
    route = request.app[REGISTRY].current.resolve(request.query.get("model"))
    return await _passed(request, route, request.path)


async def upstream(request: web.Request) -> web.StreamResponse:
    """Answer anything under `/upstream/{model}/`."""
    if request.headers.get(hdrs.UPGRADE):
        raise BadRequest("WebSockets are not passed through.")
    route, path = _split(request.app[REGISTRY].current, request.rel_url.raw_path.removeprefix("/upstream/"))
    query = request.rel_url.raw_query_string
    return await _passed(request, route, f"{path}?{query}" if query else path)


def _split(catalog: Catalog, raw: str) -> tuple[Route, str]:
    """Return the model and the path on its server. Names may contain slashes: the longest name that exists counts."""
    parts = raw.split("/")
    for length in range(min(len(parts), LONGEST_NAME), 0, -1):
        try:
            route = catalog.resolve(unquote("/".join(parts[:length])))
        except UnknownModel:
            continue
        return route, "/" + "/".join(parts[length:])
    return catalog.resolve(unquote(parts[0])), "/"  # raises with the nearest names


async def _passed(request: web.Request, route: Route, target: str) -> web.StreamResponse:
    facts, pool, meter = request[FACTS], request.app[POOL], Meter()
    facts.alias, facts.slot = route.alias.name, route.slot.id
    body = await read_body(request, request.app[OPTIONS].current.body_limit)
    headers = tuple(
        (name.lower().encode(), request.headers[name].encode("utf-8", "surrogateescape"))
        for name in PASSED_UP
        if name in request.headers
    )
    outlet = Outlet(request, OPENAI)
    facts.asked = monotonic()
    lease = await pool.lease(route.slot, occupies=request.method == hdrs.METH_POST)
    async with lease as backend:
        facts.granted, facts.loading = monotonic(), lease.loading
        question = BackendRequest(method=request.method, target=target, headers=headers, body=body)
        facts.sent = monotonic()
        async with backend.open(question) as answer:
            facts.answered = monotonic()
            try:
                await outlet.begin(answer.status, passed_headers(answer))
                facts.first_byte = monotonic()
                machines = [meter] if backend.served_name is None else [meter, *renaming(backend, route.asked)]
                async for chunk in answer.chunks():
                    await outlet.write(feed(machines, chunk))
                await outlet.write(close(machines))
                return await outlet.end()
            except GatewayError as error:
                facts.outcome = error.code
                return await outlet.fail(OPENAI.error(error))
            finally:
                facts.metered(meter.usage(), meter.events)

"""The outermost middleware: gives each request its id, notes what becomes of it, and enters it in the journal.

Who asks whether we are there, and who reads the metrics, is not noted.
"""

import random
import re
from collections.abc import Mapping
from time import monotonic, time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.keys import FACTS, JOURNAL, OPTIONS, PRINCIPAL
from gateway.core.errors import ShuttingDown
from gateway.engine.facts import CLIENT_LEFT, DONE, Facts

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
QUIET = frozenset({"/health", "/ready", "/metrics"})
LEFT = 499  # the client left: nginx's number for it
LONGEST_PATH = 200
_number = random.Random()  # noqa: S311 - an id need not be a secret, and a system call for each costs more


def journaled(names: Mapping[str, str]) -> Middleware:
    """Return the middleware. `names` says what a route is called, by its canonical path."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        facts = Facts(_request_id(request), monotonic(), time(), request.method)
        request[FACTS] = facts
        facts.status = LEFT
        try:
            response = await handler(request)
            facts.status = response.status
        except web.HTTPException as answer:
            facts.status = answer.status
            raise
        finally:
            if request.path not in QUIET:
                resource = request.match_info.route.resource
                facts.route = "" if resource is None else names.get(resource.canonical, "")
                _enter(request, facts)
        return response

    return note


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on every answer, and times where they are wished.

    A signal and not the middleware: streams begin long before they end.
    """
    facts = request.get(FACTS)
    if facts is None:
        return
    response.headers["x-request-id"] = facts.request_id
    if "x-gateway-timing" in request.headers or request.app[OPTIONS].current.timing_headers:
        _add_times(facts, response)


def _add_times(facts: Facts, response: web.StreamResponse) -> None:
    overhead = facts.overhead(monotonic())
    if overhead is None or facts.asked is None or facts.granted is None:
        return  # no model was asked, or the answer has not begun: this is a sign of life
    response.headers["x-gateway-overhead-ms"] = f"{overhead * 1e3:.3f}"
    response.headers["x-gateway-queue-ms"] = f"{(facts.granted - facts.asked - facts.loading) * 1e3:.3f}"
    response.headers["x-gateway-load-ms"] = f"{facts.loading * 1e3:.3f}"


def _request_id(request: web.Request) -> str:
    """Return the client's own id where it is a sane one."""
    given = request.headers.get("x-request-id", "")
    return given if given and ACCEPTABLE_ID.fullmatch(given) else f"{_number.getrandbits(96):024x}"


def _enter(request: web.Request, facts: Facts) -> None:
    facts.ended = monotonic()
    facts.path = request.rel_url.raw_path[:LONGEST_PATH]  # raw: a line break in it must not become one in the log
    if PRINCIPAL in request:
        facts.key = request[PRINCIPAL].name
    facts.outcome = facts.outcome or _outcome(request, facts.status)
    request.app[JOURNAL].enter(facts)


def _outcome(request: web.Request, status: int) -> str:
    """Return what became of a request that nobody has said anything of: no error was raised."""
    if status != LEFT:
        return DONE if status < 400 else "http_error"
    gone = request.transport is None or request.transport.is_closing()
    return CLIENT_LEFT if gone else ShuttingDown.code  # what else cancels a handler is the end of the gateway

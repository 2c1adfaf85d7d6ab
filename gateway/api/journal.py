"""The outermost middleware: gives each request its id and times, and writes one line when it has ended."""

import asyncio
import logging
import random
import re

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api.keys import FACTS, PRINCIPAL, Facts

log = logging.getLogger("gateway.request")

ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_number = random.Random()  # noqa: S311 - an id need not be a secret, and a system call for each costs more
QUIET = frozenset({"/health", "/ready"})


@web.middleware
async def journal(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note what becomes of a request."""
    facts = Facts(_request_id(request), asyncio.get_running_loop().time())
    request[FACTS] = facts
    status = 499  # the client left: nginx's number for it
    try:
        response = await handler(request)
        status = response.status
    finally:
        if request.path not in QUIET:
            _write(request, facts, status)
    return response


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on every answer (a signal: also on those that begin to stream long before they end)."""
    if FACTS in request:
        response.headers["x-request-id"] = request[FACTS].request_id


def _request_id(request: web.Request) -> str:
    """Return the client's own id where it is a sane one."""
    given = request.headers.get("x-request-id", "")
    return given if given and ACCEPTABLE_ID.fullmatch(given) else f"{_number.getrandbits(96):024x}"


def _write(request: web.Request, facts: Facts, status: int) -> None:
    now = asyncio.get_running_loop().time()
    key = request[PRINCIPAL].name if PRINCIPAL in request else "-"
    log.info(
        "%s %s %s id=%s key=%s model=%s slot=%s wait=%s first=%s total=%.3f outcome=%s",
        status,
        request.method,
        request.path[:200],
        facts.request_id,
        key,
        facts.alias or "-",
        facts.slot or "-",
        _after(facts.arrived, facts.granted),
        _after(facts.arrived, facts.first_byte),
        now - facts.arrived,
        facts.outcome or ("left" if status == 499 else "done"),
    )


def _after(start: float, moment: float | None) -> str:
    return "-" if moment is None else f"{moment - start:.3f}"

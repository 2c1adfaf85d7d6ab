"""Who may come in: the Host and Origin headers, the key, the role.

Without a configured key only this machine is served (`config` refuses another bind address), and the Host header must
name this machine: a page in the browser whose name was rebound to 127.0.0.1 carries its own name there. With keys a
page would not know one, so any Host will do. A request that a browser sends for a page of another site is refused
always: no CORS header is ever sent.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from gateway.api.keys import OPTIONS, PRINCIPAL
from gateway.core.access import LOCAL, Principal, Role, identify
from gateway.core.errors import Forbidden, Unauthorized


def guard(roles: Mapping[tuple[str, str], Role]) -> Middleware:
    """Return the middleware. `roles` has the least role by method (or `*`) and canonical path; without one: user."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = request.match_info.route
        path = "" if route.resource is None else route.resource.canonical
        least = roles.get((route.method, path), Role.USER)
        _check_origin(request)
        if least is not Role.OPEN:
            principal = _principal(request)
            if principal.role < least:
                raise Forbidden(f"The key {principal.name!r} may not do this: it takes the role {least.name.lower()}.")
            request[PRINCIPAL] = principal
        return await handler(request)

    return check


def _principal(request: web.Request) -> Principal:
    options = request.app[OPTIONS].current
    if not options.keys:
        _check_host(request, options.allowed_hosts)
        return LOCAL
    presented = _presented_key(request)
    principal = identify(presented, options.keys) if presented else None
    if principal is None:
        what = "The API key is wrong." if presented else "An API key is needed."
        raise Unauthorized(what, hint="Send it as `Authorization: Bearer KEY` or `x-api-key: KEY`.")
    return principal


def _presented_key(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key", "")


def _check_host(request: web.Request, allowed: tuple[str, ...]) -> None:
    header = request.headers.get(hdrs.HOST)
    if header is None:  # HTTP/1.0; every browser sends one
        return
    name = _host_name(header)
    if name in allowed or _is_loopback(name):
        return
    raise Forbidden(
        f"The Host header {name[:100]!r} is not a name of this machine.",
        hint="Add it to `server.allowed_hosts`, or configure an API key.",
    )


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or origin.partition("://")[2] == request.headers.get(hdrs.HOST):
        return
    raise Forbidden(f"Requests from pages of {origin[:100]!r} are not answered.", hint="Call the API from a server.")


@lru_cache(maxsize=256)  # each request has one, and there are few
def _host_name(header: str) -> str:
    """Return the name in a Host header, without port and brackets; empty if there is none to be found."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:  # an open bracket
        return ""


@lru_cache(maxsize=256)
def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False

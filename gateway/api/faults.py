"""From exception to answer, in the dialect of the caller. The only place where a failure becomes an HTTP status."""

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api.keys import FACTS
from gateway.core.errors import GatewayError, MethodNotAllowed, UnknownRoute
from gateway.wire.dialect import ANTHROPIC, OPENAI, Dialect

log = logging.getLogger(__name__)


class BackendAnswer(Exception):
    """The model's server answered with an error of its own: its status, and its body in the caller's envelope."""

    code = "backend_error"

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body
        self.headers = headers


def dialect_of(request: web.Request) -> Dialect:
    """Return the dialect in which errors on this path are said."""
    path = request.path.removeprefix("/v1")
    return ANTHROPIC if path.startswith("/messages") else OPENAI


@web.middleware
async def faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong before the first byte of an answer."""
    try:
        return await handler(request)
    except GatewayError as error:
        request[FACTS].outcome = error.code
        return error_response(error, dialect_of(request))
    except BackendAnswer as answer:
        request[FACTS].outcome = answer.code
        return _json(answer.status, answer.body, {"x-gateway-error": "backend", **answer.headers})
    except web.HTTPNotFound:
        request[FACTS].outcome = UnknownRoute.code
        return error_response(UnknownRoute(f"There is no {request.method} {request.path[:200]}."), dialect_of(request))
    except web.HTTPMethodNotAllowed as error:
        request[FACTS].outcome = MethodNotAllowed.code
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = MethodNotAllowed(f"{request.path[:200]} takes {allowed}, not {request.method}.")
        response = error_response(wrong, dialect_of(request))
        response.headers["Allow"] = allowed
        return response
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        request[FACTS].outcome = GatewayError.code
        log.exception("request %s failed", request[FACTS].request_id)
        message = "The gateway failed. Its log has the details under this request's x-request-id."
        return error_response(GatewayError(message), dialect_of(request))


def error_response(error: GatewayError, dialect: Dialect) -> web.Response:
    """Return the answer to a failure of the gateway's own."""
    headers = {"x-gateway-error": "gateway"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status >= 500 and not error.retryable:
        headers["x-should-retry"] = "false"  # the OpenAI SDKs retry every 5xx otherwise
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _json(error.status, dialect.error(error), headers)


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)

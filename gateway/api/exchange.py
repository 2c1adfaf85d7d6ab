"""The one inference path: a request in, a lease, an exchange with the model's server, the answer out.

Everything that is acquired here is left by `async with`: the lease, the upstream connection, the signs of life. A
client that leaves cancels this coroutine (`api.runner` sees to that), and so everything goes at once.
"""

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from aiohttp import hdrs, web

from gateway.api.body import read_body
from gateway.api.faults import BackendAnswer
from gateway.api.keys import FACTS, OPTIONS, POOL, REGISTRY, TASKS
from gateway.api.outlet import EVENT_STREAM, Outlet
from gateway.api.routes import ModelRoute
from gateway.core.backend import Answer, Backend, BackendRequest
from gateway.core.catalog import Route
from gateway.core.errors import BackendBroken, BackendRefused, BackendUnreachable, GatewayError
from gateway.engine.pool import Lease
from gateway.wire import progress
from gateway.wire.body import Body
from gateway.wire.dialect import ANTHROPIC, RESPONSES, message_start, response_id
from gateway.wire.embeddings import as_base64
from gateway.wire.responses import CompleteEvents
from gateway.wire.transducer import Opening, Rename, RenameModel, Transducer, Watch, close, feed
from gateway.wire.usage import Meter, usage_of

JSON = "application/json"
REQUEST_HEADERS = ((b"content-type", JSON.encode()), (b"accept", b"*/*"))
PASSED_HEADERS = frozenset({b"content-type", b"cache-control", b"retry-after"})
ERROR_BODY_LIMIT = 1 << 20
WHOLE_BODY_LIMIT = 256 << 20
DYING_FOR = 0.05  # seconds that a killed server of many gigabytes may still seem to take requests


class Exchange:
    """One request of one client for one model."""

    def __init__(self, request: web.Request, route: ModelRoute, body: Body) -> None:
        self._request = request
        self._route = route
        self._body = body
        self._facts = request[FACTS]
        self._options = request.app[OPTIONS].current
        self._pool = request.app[POOL]
        self._target: Route = request.app[REGISTRY].current.resolve(body.text("model"))
        self._streaming = body.flag("stream") and bool(route.final)
        self._base64 = route.path == "/embeddings" and body.value("encoding_format") == "base64"
        self._outlet = Outlet(request, route.dialect)
        self._lease: Lease | None = None
        self._meter = Meter()
        self._facts.alias, self._facts.slot = self._target.alias.name, self._target.slot.id
        self._facts.streaming = self._streaming
        if route.sampled:
            body.apply(self._target.alias.sampling)

    async def run(self) -> web.StreamResponse:
        """Carry it out. Raises what went wrong before the first byte; says it in the stream after that."""
        if self._streaming:
            self._outlet.beat(
                self._target.asked, self._options.keepalive_after, self._note, self._request.app[TASKS].start
            )
        try:
            return await self._served()
        except (GatewayError, BackendAnswer) as error:
            self._facts.outcome = error.code
            if not self._outlet.begun:
                raise
            said = error.body if isinstance(error, BackendAnswer) else self._route.dialect.error(error)
            return await self._outlet.fail(said)
        finally:
            if self._streaming:
                self._facts.metered(self._meter.usage(), self._meter.events)
            await self._outlet.hush()

    async def _served(self) -> web.StreamResponse:
        """Lease and serve; once more if the server turns out to have been dying when it was asked.

        The kernel takes connections for a process that it is already tearing down, and resets them: whoever comes in
        these milliseconds did nothing wrong. A server that dies later may have died of this request.
        """
        try:
            return await self._leased()
        except BackendUnreachable as error:
            failed = monotonic()
            died = await self._pool.notice(self._target.slot.id)
            dying = died and failed - (self._facts.granted or 0.0) < DYING_FOR
            if not isinstance(error, BackendRefused) and not dying:
                raise
            return await self._leased()
        except BackendBroken:
            # A connection breaks a moment before the death of its process is seen. Whoever is told of the one may ask
            # again at once, and must not be sent to the dead.
            await self._pool.notice(self._target.slot.id)
            raise

    async def _leased(self) -> web.StreamResponse:
        facts = self._facts
        facts.asked = facts.asked or monotonic()
        self._lease = await self._pool.lease(self._target.slot, occupies=self._route.occupies)
        async with self._lease as backend:
            facts.granted, facts.loading = monotonic(), self._lease.loading
            question = self._backend_request(backend)
            facts.sent = monotonic()
            async with backend.open(question) as answer:
                if answer.status >= 400:
                    raise await self._backend_error(answer)
                if self._streaming:
                    return await self._relay_stream(answer, backend)
                return await self._relay_whole(answer, backend)

    def _backend_request(self, backend: Backend) -> BackendRequest:
        name = backend.served_name
        self._body.replace({"model": self._target.asked if name is None else name.decode()})
        return BackendRequest(
            method="POST",
            target=self._route.target,
            headers=REQUEST_HEADERS,
            body=self._body.encode(),
            streaming=self._streaming,
        )

    # -- answers --

    async def _relay_stream(self, answer: Answer, backend: Backend) -> web.StreamResponse:
        headers = passed_headers(answer)
        if not headers.get(hdrs.CONTENT_TYPE, "").startswith(EVENT_STREAM):
            raise self._wrong_type(headers, await _read(answer, ERROR_BODY_LIMIT), "an event stream")
        watch = Watch(self._route.final)
        machines = [self._meter, *self._transducers(backend), watch]
        async for chunk in answer.chunks():
            self._facts.answered = self._facts.answered or monotonic()
            if data := feed(machines, chunk):
                await self._pass_on(data, headers)
                await self._outlet.follow(answer, machines)
                break
        rest = close(machines)
        if not watch.seen:
            raise BackendBroken("The model's server ended its stream without saying that the answer is complete.")
        await self._pass_on(rest, headers)
        return await self._outlet.end()

    async def _pass_on(self, data: bytes, headers: Mapping[str, str]) -> None:
        if self._facts.first_byte is None:
            await self._outlet.begin(200, headers)
        if data:
            await self._outlet.write(data)
        self._facts.first_byte = self._facts.first_byte or monotonic()

    async def _relay_whole(self, answer: Answer, backend: Backend) -> web.StreamResponse:
        """Pass on an answer only when it is there to its end, so that one that breaks off has a proper status."""
        body = await _read(answer, WHOLE_BODY_LIMIT)
        self._facts.answered = monotonic()
        headers = passed_headers(answer)
        if body.startswith(b'{"error"') or not headers.get(hdrs.CONTENT_TYPE, "").startswith(JSON):
            raise self._wrong_type(headers, body, "JSON")
        self._facts.metered(usage_of(body))
        if self._base64:
            body = as_base64(body)
        machines = self._transducers(backend)
        body = feed(machines, body) + close(machines)
        self._facts.first_byte = monotonic()
        return await self._outlet.whole(answer.status, headers, body)

    def _transducers(self, backend: Backend) -> list[Transducer]:
        machines = renaming(backend, self._target.asked)
        if self._streaming and self._route.dialect is RESPONSES:
            machines.append(CompleteEvents(response_id(self._facts.request_id), lambda: self._outlet.beats))
        if self._streaming and self._route.dialect is ANTHROPIC:
            # llama-server (build 11669) leaves it out where the first token is a part of a character.
            machines.append(Opening(b"message_start", message_start(self._target.asked, self._facts.request_id)))
        return machines

    # -- failures --

    async def _backend_error(self, answer: Answer) -> BackendAnswer:
        """Return the server's own error, with its status, in the caller's envelope."""
        raw = await _read(answer, ERROR_BODY_LIMIT)
        fallback = raw[:500].decode("utf-8", "replace").strip() or f"The model's server answered {answer.status}."
        body = self._route.dialect.backend_error(answer.status, _object(raw), fallback)
        headers = passed_headers(answer)
        headers.pop(hdrs.CONTENT_TYPE, None)
        return BackendAnswer(answer.status, body, headers)

    def _wrong_type(self, headers: Mapping[str, str], raw: bytes, asked: str) -> Exception:
        """A 200 of another type than was asked for is an error: clients read it as an empty answer, or as the text."""
        body = _object(raw)
        if "error" in body:
            return BackendAnswer(502, self._route.dialect.backend_error(502, body, "unknown error"), {})
        kind = headers.get(hdrs.CONTENT_TYPE, "nothing")
        return BackendBroken(f"The model's server answered with {kind} where {asked} was asked for.")

    def _note(self, beat: int) -> bytes:
        """Return what a waiting client is told beside a sign of life, where that is wished."""
        if not (self._options.loading_progress and self._route.path == "/chat/completions" and self._lease):
            return b""
        reason = self._pool.explain(self._lease)
        return progress.reasoning(self._target.asked, self._facts.request_id, beat, reason) if reason else b""


async def model_request(request: web.Request, route: ModelRoute) -> web.StreamResponse:
    """Handle one request on a model route."""
    begun = monotonic()
    data = await read_body(request, request.app[OPTIONS].current.body_limit)
    request[FACTS].upload = monotonic() - begun
    body = Body.parse(data)
    for field in route.lists:
        body.expect_list(field)
    return await Exchange(request, route, body).run()


def passed_headers(answer: Answer) -> dict[str, str]:
    """Return the headers of a server's answer that a client gets to see."""
    return {
        name.decode("latin-1").title(): value.decode("latin-1")
        for name, value in answer.headers
        if name in PASSED_HEADERS
    }


def renaming(backend: Backend, asked: str) -> list[Transducer]:
    """Return what puts the name that the client asked for where the server puts its own."""
    if backend.served_name is None:
        return [RenameModel(asked)]
    return [Rename(backend.served_name, json.dumps(asked, ensure_ascii=False)[1:-1].encode())]


async def _read(answer: Answer, limit: int) -> bytes:
    parts, size = [], 0
    async for chunk in answer.chunks():
        size += len(chunk)
        if size > limit:
            raise BackendBroken(f"The answer of the model's server is longer than {limit} bytes.")
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

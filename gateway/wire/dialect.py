"""The dialects that clients speak, as far as the gateway itself has to say something in them.

A dialect renders an error as a body and as the last event of a broken stream, and says something harmless to keep a
waiting stream alive: a comment where comments do that, a real event where the client's idle timer only counts those
(Codex 0.169 on `/v1/responses`).
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.core.errors import GatewayError

COMMENT = b": keep-alive\n\n"


class Dialect(Protocol):
    """How one API looks on the wire."""

    name: str

    def error(self, error: GatewayError) -> dict[str, Any]:
        """Return the body of an error answer."""

    def backend_error(self, status: int, body: Mapping[str, Any], fallback: str) -> dict[str, Any]:
        """Return an error of the model's server in this API's envelope."""

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the last event of a stream that broke off."""

    def last_event(self, body: Mapping[str, Any], request_id: str) -> bytes:
        """Return the same for what `error` or `backend_error` returned."""

    def keep_alive(self, model: str, request_id: str, beat: int) -> bytes:
        """Return the `beat`-th sign of life (from 0) of a stream that has not begun."""


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """Return one server-sent event."""
    head = f"event: {name}\n".encode() if name else b""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # A message may quote half of a surrogate pair from a request; UTF-8 has no bytes for it.
    return head + b"data: " + text.encode("utf-8", "replace") + b"\n\n"


def backend_message(body: Mapping[str, Any], fallback: str) -> tuple[str, Mapping[str, Any]]:
    """Return the message of a server's error body, whichever of the usual shapes it has, and the error's fields."""
    inner = body.get("error", body.get("detail"))
    if isinstance(inner, str):
        return inner, {}
    if isinstance(inner, Mapping):
        message = inner.get("message")
        return (message if isinstance(message, str) and message else fallback), inner
    return fallback, {}


class OpenAI:
    """OpenAI's API, and llama-server's own routes, which use the same errors."""

    name = "openai"

    def error(self, error: GatewayError) -> dict[str, Any]:
        """Return `{"error": {...}}`."""
        return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}

    def backend_error(self, status: int, body: Mapping[str, Any], fallback: str) -> dict[str, Any]:
        """Return the server's error with the fields that OpenAI's clients look for; its other fields are kept."""
        message, inner = backend_message(body, fallback)
        kind = inner.get("type") or ("invalid_request_error" if status < 500 else "server_error")
        code = inner.get("code")
        if not isinstance(code, str):  # llama-server repeats the status here; SDKs expect a name
            code = _OPENAI_CODES.get(str(kind), str(kind))
        return {"error": {**inner, "message": message, "type": kind, "param": inner.get("param"), "code": code}}

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return `data: {"error": ...}`, which the SDKs raise."""
        return self.last_event(self.error(error), request_id)

    def last_event(self, body: Mapping[str, Any], request_id: str) -> bytes:
        """Return the same for an error's body."""
        del request_id
        return event(body)

    def keep_alive(self, model: str, request_id: str, beat: int) -> bytes:
        """Return a comment."""
        del model, request_id, beat
        return COMMENT


_OPENAI_CODES = {"exceed_context_size_error": "context_length_exceeded"}


def response_id(request_id: str) -> str:
    """Return the id under which a response is streamed, from its first sign of life to its last event."""
    return f"resp_{request_id}"


class Responses(OpenAI):
    """OpenAI's `/v1/responses`."""

    name = "responses"

    def last_event(self, body: Mapping[str, Any], request_id: str) -> bytes:
        """Return `response.failed`, which ends a stream for these clients."""
        failure = {key: body["error"][key] for key in ("code", "message")}
        response = {
            "id": response_id(request_id),
            "object": "response",
            "status": "failed",
            "error": failure,
            "output": [],
        }
        return event({"type": "response.failed", "response": response}, "response.failed")

    def keep_alive(self, model: str, request_id: str, beat: int) -> bytes:
        """Return `response.created` first, as the SDKs insist, then `response.in_progress`."""
        name = "response.created" if beat == 0 else "response.in_progress"
        response = {
            "id": response_id(request_id),
            "object": "response",
            "created_at": 0,
            "status": "in_progress",
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        return event({"type": name, "sequence_number": beat, "response": response}, name)


class Anthropic:
    """Anthropic's `/v1/messages`."""

    name = "anthropic"

    def error(self, error: GatewayError) -> dict[str, Any]:
        """Return `{"type": "error", "error": {...}}`."""
        return _anthropic(_ANTHROPIC_TYPES.get(error.status, "api_error"), str(error))

    def backend_error(self, status: int, body: Mapping[str, Any], fallback: str) -> dict[str, Any]:
        """Return the server's message under Anthropic's name for the status."""
        message, _ = backend_message(body, fallback)
        return _anthropic(_ANTHROPIC_TYPES.get(status, "api_error"), message)

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return an `error` event."""
        return self.last_event(self.error(error), request_id)

    def last_event(self, body: Mapping[str, Any], request_id: str) -> bytes:
        """Return the same for an error's body."""
        del request_id
        return event(body, "error")

    def keep_alive(self, model: str, request_id: str, beat: int) -> bytes:
        """Return a `ping`, which this API has for the purpose."""
        del model, request_id, beat
        return event({"type": "ping"}, "ping")


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


OPENAI = OpenAI()
RESPONSES = Responses()


def message_start(model: str, request_id: str) -> bytes:
    """Return the event that begins every stream of `/v1/messages`."""
    message: dict[str, Any] = {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }
    return event({"type": "message_start", "message": message}, "message_start")


ANTHROPIC = Anthropic()

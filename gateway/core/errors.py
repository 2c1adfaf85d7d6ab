"""Every failure that reaches a person has one shape: what, where, what was expected, what to do.

    GatewayError
    ├── BadRequest            400  the request cannot be understood
    ├── Unauthorized          401  no key, or a wrong one
    ├── Forbidden             403  a good key without the right
    ├── UnknownModel          404  no such model; names the nearest
    ├── BodyTooLarge          413
    ├── UnsupportedEncoding   415  a compressed request body
    ├── UpgradeRequired       426  a WebSocket where there is none
    ├── QueueFull             429  too many requests wait already
    ├── QueueTimeout          503  waited as long as the settings allow
    ├── ShuttingDown          503
    ├── NeverFits             503  more memory than the budget has, whatever is evicted
    ├── StartFailed           503  the model's server did not start; carries its last log lines
    ├── CoolingDown           503  it failed a moment ago; carries why and when to ask again
    ├── BackendUnreachable    502  gone before the first byte
    │   └── BackendRefused    502  no connection: nothing was sent, so it may be tried again
    ├── BackendBroken         502  the answer broke off, or is not what was asked for
    └── BackendSilent         504  nothing came within the limit

A class exists only where somebody catches it or it has its own code. `status` is the HTTP status, `code` the
machine-readable name on the wire, `hint` the way out; a dialect renders them (`wire.openai`, `wire.anthropic`).
"""

from typing import ClassVar


class GatewayError(Exception):
    """A failure with a status and a code, made by the gateway itself (never by a model's server)."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = True

    def __init__(
        self, message: str, *, hint: str = "", param: str | None = None, retry_after: float | None = None
    ) -> None:
        """Say what happened in `message`, the way out in `hint`; `retry_after` is in seconds."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class BadRequest(GatewayError):
    """The request cannot be understood; `param` names the field."""

    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"
    retryable = False


class Unauthorized(GatewayError):
    """No key, or a wrong one."""

    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"
    retryable = False


class Forbidden(GatewayError):
    """The caller is known, or local, but may not do this."""

    status = 403
    code = "forbidden"
    kind = "permission_error"
    retryable = False


class UnknownModel(GatewayError):
    """No alias answers to this name."""

    status = 404
    code = "model_not_found"
    kind = "invalid_request_error"
    retryable = False


class UnknownRoute(GatewayError):
    """No such path, or not with this method."""

    status = 404
    code = "unknown_url"
    kind = "invalid_request_error"
    retryable = False


class MethodNotAllowed(GatewayError):
    """The path exists, with another method."""

    status = 405
    code = "method_not_allowed"
    kind = "invalid_request_error"
    retryable = False


class BodyTooLarge(GatewayError):
    """The request body is longer than the limit."""

    status = 413
    code = "request_too_large"
    kind = "invalid_request_error"
    retryable = False


class UnsupportedEncoding(GatewayError):
    """The request body is compressed; bodies are accepted as they are only."""

    status = 415
    code = "unsupported_content_encoding"
    kind = "invalid_request_error"
    retryable = False


class UpgradeRequired(GatewayError):
    """A WebSocket was asked for where there is none. Codex falls back at once on 426, after seven tries on 404."""

    status = 426
    code = "upgrade_required"
    kind = "invalid_request_error"
    retryable = False


class QueueFull(GatewayError):
    """As many requests wait as the settings allow."""

    status = 429
    code = "queue_full"
    kind = "rate_limit_error"


class QueueTimeout(GatewayError):
    """The request waited as long as the settings allow."""

    status = 503
    code = "queue_timeout"
    kind = "overloaded_error"


class ShuttingDown(GatewayError):
    """The gateway is going away."""

    status = 503
    code = "shutting_down"
    kind = "overloaded_error"


class NeverFits(GatewayError):
    """The model needs more memory than there is for all, so waiting cannot help."""

    status = 503
    code = "model_too_large"
    retryable = False


class StartFailed(GatewayError):
    """The model's server did not become ready."""

    status = 503
    code = "model_start_failed"
    retryable = False


class CoolingDown(GatewayError):
    """The model failed a moment ago and is not started again before `retry_after` seconds have passed."""

    status = 503
    code = "model_cooling_down"


class BackendUnreachable(GatewayError):
    """The model's server refused the connection or left before the first byte of its answer."""

    status = 502
    code = "backend_unreachable"
    kind = "upstream_error"


class BackendRefused(BackendUnreachable):
    """No connection to the model's server could be made, so nothing was sent to it."""


class BackendBroken(GatewayError):
    """The answer of the model's server broke off or is not what was asked for."""

    status = 502
    code = "backend_broken"
    kind = "upstream_error"


class BackendSilent(GatewayError):
    """The model's server said nothing within the limit."""

    status = 504
    code = "backend_timeout"
    kind = "upstream_error"

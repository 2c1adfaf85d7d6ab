"""Request bodies: read once, bounded, never decompressed."""

from aiohttp import hdrs, web

from gateway.api.faults import dialect_of, error_response
from gateway.api.keys import OPTIONS
from gateway.core.errors import BodyTooLarge, GatewayError, UnsupportedEncoding


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body. Raises `BodyTooLarge` without reading on past `limit` bytes, `UnsupportedEncoding`."""
    check_head(request, limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def check_head(request: web.Request, limit: int) -> None:
    """Raise what can be known of a body from its head alone."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding(
            f"The request body is encoded with {encoding[:40]!r}.", hint="Send it without Content-Encoding."
        )
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)


async def expect_continue(request: web.Request) -> web.StreamResponse | None:
    """Say `100 Continue` only to who may send the body (curl asks before it sends a large one)."""
    try:
        check_head(request, request.app[OPTIONS].body_limit)
    except GatewayError as error:  # this comes before any middleware
        return error_response(error, dialect_of(request))
    if request.headers[hdrs.EXPECT].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
    return None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is longer than {limit} bytes.", hint="`server.body_limit` sets how long it may be."
    )

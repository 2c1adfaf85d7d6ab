"""Request bodies: read once, bounded, never decompressed."""

from aiohttp import hdrs, web

from gateway.core.errors import BodyTooLarge, UnsupportedEncoding


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body. Raises `BodyTooLarge` without reading on past `limit` bytes, `UnsupportedEncoding`."""
    _check_head(request, limit)
    await _say_continue(request)
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_head(request: web.Request, limit: int) -> None:
    """Raise what can be known of a body from its head alone."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding(
            f"The request body is encoded with {encoding[:40]!r}.", hint="Send it without Content-Encoding."
        )
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)


async def continue_later(_request: web.Request) -> None:
    """Take note of `Expect: 100-continue` and say nothing yet: `read_body` answers it.

    So a large body (curl asks before it sends one) is not sent to be refused, whoever refuses it.
    """


async def _say_continue(request: web.Request) -> None:
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The request body is longer than {limit} bytes.", hint="`server.body_limit` sets how long it may be."
    )

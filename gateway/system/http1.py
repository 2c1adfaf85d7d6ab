"""Heads of HTTP/1.1 messages on the upstream leg: which headers travel, and how a request's head is written.

Promises that a head arrives as the lines it was meant to be: nothing in a path or a header can add a line to
it. Pure functions over bytes. Does not read answers (`gateway.system.connection` does).
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from gateway.core.backend import BackendRequest, Header
from gateway.core.errors import BadRequest

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade"})
"""Names that concern one connection only (RFC 9110, section 7.6.1); those that start with `proxy-` do too."""

REWRITTEN = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
"""Request headers that are not passed on: this module writes its own, and never sends `Expect`, because the
model servers at hand do not answer it."""

_HEAD = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)


def field_lines(headers: Sequence[Header]) -> bytes:
    """Return headers as they stand on the wire.

    Raises `BadRequest` for a name that would be read as a shorter one, and for a header of more than one line.
    """
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    if lines.count(b"\n") != len(headers) or b":" in b"".join([name for name, _ in headers]):
        raise _forbidden()
    return lines


def request_head(request: BackendRequest, *, fixed: bytes = b"", dropped: frozenset[bytes] = REWRITTEN) -> bytes:
    """Return the head of `request` up to and including the empty line.

    `fixed` holds complete field lines that every request gets (`field_lines`), `dropped` the names that are
    not passed on. Raises `BadRequest` if method, target or a header would not arrive as the single line that
    it is.
    """
    begin, end = _frame(request.method, request.target, tuple(request.headers), fixed, dropped)
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        return b"%bcontent-length: %d\r\n%b" % (begin, len(request.body), end)
    return begin + end


@lru_cache(maxsize=256)  # most requests for a model differ in their bodies alone
def _frame(
    method: str, target: str, headers: tuple[Header, ...], fixed: bytes, dropped: frozenset[bytes]
) -> tuple[bytes, bytes]:
    """Return what is before and after the field that says how long the body is."""
    kept = end_to_end(headers, dropped)
    begin = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogatepass") + fixed
    end = field_lines(kept) + b"\r\n"
    head = begin + end
    # The head must be well-formed *and* have as many lines as it is meant to have: a path with a line end in it may
    # read like a good request line and a field more.
    if _HEAD.fullmatch(head) is None or head.count(b"\n") != 2 + len(kept) + fixed.count(b"\n"):
        raise _forbidden()
    return begin, end


def end_to_end(headers: Sequence[Header], dropped: frozenset[bytes]) -> list[Header]:
    """Return `headers` without those in `dropped`, those of proxies, and those that `Connection` names."""
    kept: list[Header] = []
    named: set[bytes] = set()
    for header in headers:
        name = header[0].lower()
        if name == b"connection":
            named.update(token.strip() for token in header[1].lower().split(b","))
        if name not in dropped and not name.startswith(b"proxy-"):
            kept.append(header)
    return [header for header in kept if header[0].lower() not in named] if named else kept


def _forbidden() -> BadRequest:
    return BadRequest(
        "The request cannot be passed on: its path or a header holds a character that HTTP forbids.",
        hint="Send the path percent-encoded, and header values without line ends and control characters.",
    )

"""What a connection makes of the bytes of an answer, wherever they are cut: its side of the wire, without a socket."""

import asyncio
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import GatewayError
from gateway.system.connection import Connection
from gateway.system.exchange import Head, Limits

CL = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Empty:\r\nX-A:  b \r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-b\r\nX-B: 1\r\n\r\n"
    b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello world"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 11\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
CLOSING = b"HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
_H = b"HTTP/1.1 200 OK\r\n"
_C = _H + b"Transfer-Encoding: chunked\r\n\r\n"
MALFORMED = {
    "garbage": b"SSH-2.0-OpenSSH_9\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x16",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "both framings": _H + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, other order": _H + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two lengths": _H + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "list of lengths": _H + b"Content-Length: 2, 2\r\n\r\nhi",
    "signed length": _H + b"Content-Length: +2\r\n\r\nhi",
    "huge length": _H + b"Content-Length: 99999999999999999999\r\n\r\nhi",
    "other coding": _H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": _H + b"Transfer-Encoding: identity\r\n\r\nhi",
    "chunked twice": _H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxx",
    "bare switch": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status 099": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": _H + b"A: b\0\r\nContent-Length: 2\r\n\r\nhi",
    "space before the colon": _H + b"Content-Length : 2\r\n\r\nhi",
    "folded line": _H + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
    "chunk size": _C + b"x\r\nhi\r\n0\r\n\r\n",
    "chunk size overflow": _C + b"fffffffffffffffff\r\nhi",
    "chunk longer than said": _C + b"2\r\nhello\r\n0\r\n\r\n",
    "line feed after chunk": _C + b"2\r\nhi\n0\n\n",
    "head too long": _H + b"A: " + b"x" * 1024 + b"\r\n\r\n",
    "head too long, with its end": _H + b"".join(b"A%d: b\r\n" % i for i in range(200)) + b"\r\n" + b"z" * 99,
    "interim heads without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 60,
}
TRUNCATED = {
    "in the head": _H + b"Content-Le",
    "in the body": _H + b"Content-Length: 12\r\n\r\nhello world",
    "without its body": _H + b"Content-Length: 12\r\n\r\n",
    "in a chunk": _C + b"5\r\nhel",
    "without its last chunk": _C + b"5\r\nhello\r\n",
    "in the trailers": _C + b"5\r\nhello\r\n0\r\nA: b\r\n",
    "after an interim head": INTERIM,
}


class Wires(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: object) -> None:
        """Keep what is written."""
        self.written += cast("bytes", data)

    def get_write_buffer_size(self) -> int:
        """Have sent everything."""
        return 0

    def is_closing(self) -> bool:
        """Be open until aborted."""
        return self.aborted

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


class Told:
    """A sink, and the owner, that remember what they are told."""

    def __init__(self, answer: bytes, cuts: list[int], *, ended: bool, bodyless: bool = False) -> None:
        self.heads: list[Head] = []
        self.body = b""
        self.ends: list[str] = []
        self.reused = False
        self.left: Connection | None = None
        self.wires = Wires()
        loop = cast("asyncio.AbstractEventLoop", self)  # for its clock, all a connection without limits asks for
        self.connection = Connection(loop, self, "peer", Limits(first_byte=None, between_bytes=None, head=1024))
        self.connection.connection_made(self.wires)
        self.connection.send(b"GET", b"", self, bodyless=bodyless)
        self.play(answer, cuts, ended=ended)

    def play(self, answer: bytes, cuts: list[int], *, ended: bool) -> None:
        """Deliver the answer in pieces, and the end of the connection if `ended`."""
        places = [0, *sorted(cuts), len(answer)]
        for start, stop in pairwise(places):
            if start < stop and not self.wires.aborted:
                self.connection.data_received(answer[start:stop])
        if ended and not self.wires.aborted:
            self.connection.eof_received()

    @property
    def outcome(self) -> tuple[list[Head], bytes, list[str]]:
        """All that the sink was told."""
        return self.heads, self.body, self.ends

    def time(self) -> float:
        """Stand still."""
        return 0.0

    def head(self, head: Head, /) -> None:
        """Keep the head."""
        assert not self.ends
        self.heads.append(head)

    def data(self, part: bytes, /) -> None:
        """Keep a part; parts come after the head and before the end."""
        assert self.heads
        assert not self.ends
        assert part
        self.body += part

    def end(self) -> None:
        """Note the end."""
        self.ends.append("end")

    def failed(self, error: GatewayError, /) -> None:
        """Note the failure by its code."""
        self.ends.append(error.code)

    def released(self, connection: Connection, /) -> None:
        """Note that it may be used again."""
        self.reused = connection is self.connection

    def gone(self, connection: Connection, /) -> None:
        """Keep the connection that went."""
        self.left = connection


@pytest.mark.parametrize("interim", [b"", INTERIM], ids=["", "after interim heads"])
@pytest.mark.parametrize(
    ("answer", "status", "headers", "body", "reused"),
    [
        (CL, 200, [(b"content-length", b"11"), (b"x-empty", b""), (b"x-a", b"b")], b"hello world", True),
        (CHUNKED, 200, [], b"hello world", True),
        (UNTIL_CLOSE, 200, [(b"content-type", b"text/plain")], b"hello world", False),
        (EMPTY, 204, [], b"", True),
        (NOT_MODIFIED, 304, [(b"content-length", b"11")], b"", True),
        (CLOSING, 500, [(b"content-length", b"2")], b"no", False),
    ],
    ids=["length", "chunked", "until close", "204", "304", "closing"],
)
def test_an_answer_is_read_the_same_wherever_it_is_cut(
    answer: bytes,
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    interim: bytes,
    *,
    reused: bool,
) -> None:
    whole = interim + answer
    for cuts in [[at] for at in range(len(whole))] + [list(range(len(whole)))]:
        told = Told(whole, cuts, ended=answer is UNTIL_CLOSE)
        assert ([Head(status=status, headers=headers)], body, ["end"]) == told.outcome
        assert reused == told.reused


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_http_1_1_is_broken_and_the_connection_dropped_wherever_it_is_cut(answer: bytes) -> None:
    whole = Told(answer, [], ended=False)
    assert (whole.ends, whole.wires.aborted, whole.reused) == (["backend_broken"], True, False)
    for cuts in [[at] for at in range(len(answer))] + [list(range(len(answer)))]:
        assert whole.outcome == Told(answer, cuts, ended=False).outcome


@pytest.mark.parametrize("answer", TRUNCATED.values(), ids=TRUNCATED)
def test_an_answer_that_breaks_off_never_ends_well(answer: bytes) -> None:
    for cuts in [[at] for at in range(len(answer))] + [list(range(len(answer)))]:
        assert Told(answer, cuts, ended=True).ends == ["backend_broken"]


def test_no_beginning_of_an_answer_ends_well() -> None:
    for answer in (CL, CHUNKED, CLOSING):
        for length in range(1, len(answer)):
            assert Told(answer[:length], [], ended=True).ends == ["backend_broken"]


@pytest.mark.parametrize("answer", [CL, CHUNKED, CLOSING, EMPTY], ids=["length", "chunked", "closing", "204"])
@pytest.mark.parametrize("junk", [b"x", CL, b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"])
def test_bytes_after_an_answer_are_not_part_of_it_and_end_the_connection(answer: bytes, junk: bytes) -> None:
    clean = Told(answer, [], ended=False)
    for at in range(len(answer) + 1):
        told = Told(answer + junk, [at], ended=False)
        assert clean.outcome == told.outcome
        assert told.wires.aborted


def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    told = Told(CL[: -len(b"hello world")], [], ended=False, bodyless=True)
    assert (told.body, told.ends) == (b"", ["end"])


def test_trailers_and_chunk_extensions_without_end_are_broken() -> None:
    for endless in (b"0\r\nA: " + b"x" * 4096, b"1;" + b"x" * 4096):
        assert Told(_C + endless, list(range(0, 4096, 64)), ended=False).ends == ["backend_broken"]


def test_a_connection_is_told_once_of_its_failure() -> None:
    told = Told(_H + b"Content-Length: 5\r\n\r\nhi", [], ended=True)
    told.connection.connection_lost(ConnectionResetError())
    assert told.ends == ["backend_broken"]


_pieces = st.sampled_from(
    [
        CL,
        CHUNKED,
        INTERIM,
        EMPTY,
        _C,
        _H,
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"Content-Length: 3\r\n",
    ]
)


@given(
    answer=st.lists(st.one_of(_pieces, st.binary(max_size=3)), max_size=6).map(b"".join),
    cuts=st.lists(st.integers(0, 600), max_size=12),
    ended=st.booleans(),
)
def test_the_outcome_of_any_bytes_does_not_depend_on_the_cuts(answer: bytes, cuts: list[int], *, ended: bool) -> None:
    whole = Told(answer, [], ended=ended)
    cut = Told(answer, [at for at in cuts if at < len(answer)], ended=ended)
    assert whole.outcome == cut.outcome

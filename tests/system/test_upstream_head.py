"""Heads of requests: what is written, what is left out, what is refused."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.backend import BackendRequest, Header
from gateway.core.errors import BadRequest
from gateway.system.http1 import end_to_end, field_lines, request_head
from gateway.system.upstream import Timeouts, Upstream


class Seen:
    """What a server's parser makes of a head."""

    def __init__(self, head: bytes) -> None:
        self.headers: list[Header] = []
        self.target = b""
        self.complete = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    def on_url(self, url: bytes) -> None:
        """Keep a part of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Count heads."""
        self.complete += 1


def test_a_head_has_the_request_line_the_fixed_fields_the_length_and_the_headers() -> None:
    request = BackendRequest(
        method="POST", target="/v1/x?y=1", headers=[(b"accept", b"*/*"), (b"x-a", b"")], body=b"12345"
    )
    expected = b"POST /v1/x?y=1 HTTP/1.1\r\nhost: h:1\r\ncontent-length: 5\r\naccept: */*\r\nx-a: \r\n\r\n"
    assert expected == request_head(request, fixed=field_lines([(b"host", b"h:1")]))


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", b"", b"0"), ("PUT", b"", b"0"), ("GET", b"", None), ("DELETE", b"", None), ("GET", b"x", b"1")],
)
def test_a_length_is_sent_with_a_body_and_with_methods_that_have_one(
    method: str, body: bytes, length: bytes | None
) -> None:
    head = request_head(BackendRequest(method=method, target="/", body=body))
    assert length == dict(Seen(head).headers).get(b"content-length")


def test_headers_of_one_connection_are_not_passed_on() -> None:
    names = b"connection keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
    names += b" host content-length expect Expect x-once"
    headers = [(name, b"x-once" if name == b"connection" else b"1") for name in names.split()]
    head = request_head(BackendRequest(method="GET", target="/", headers=[*headers, (b"accept", b"a")]))
    assert head == b"GET / HTTP/1.1\r\naccept: a\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "header"),
    [
        ("GET", "/ HTTP/1.1\r\nx: y\r\n", (b"a", b"b")),
        ("GET", "/ HTTP/1.1\r\nx: y", (b"a", b"b")),
        ("GET", "/a b", (b"a", b"b")),
        ("GET", "", (b"a", b"b")),
        ("GET", "/\N{LATIN SMALL LETTER E WITH ACUTE}", (b"a", b"b")),
        ("GET", "/\ud800", (b"a", b"b")),
        ("GE T", "/", (b"a", b"b")),
        ("GET", "/", (b"a", b"b\r\nx: y")),
        ("GET", "/", (b"a", b"b\nx: y")),
        ("GET", "/", (b"a", b"b\rx")),
        ("GET", "/", (b"a", b"b\0")),
        ("GET", "/", (b"a\r\nx", b"b")),
        ("GET", "/", (b"a: 1\r\nx", b"b")),
        ("GET", "/", (b"a: c", b"b")),
        ("GET", "/", (b"a b", b"b")),
        ("GET", "/", (b"", b"b")),
    ],
)
def test_what_would_add_to_a_head_is_refused(method: str, target: str, header: Header) -> None:
    with pytest.raises(BadRequest, match="cannot be passed on"):
        request_head(BackendRequest(method=method, target=target, headers=[header]))


_texts = st.one_of(
    st.binary(max_size=12),
    st.lists(st.sampled_from([b"a", b": ", b"\r\n", b"\n", b"\r", b" ", b"\0", b"\xff"])).map(b"".join),
)


@given(headers=st.lists(st.tuples(_texts, _texts), max_size=4), target=st.text(max_size=8))
@example(headers=[(b"a", b"1\r\nb: 2")], target="/")
@example(headers=[(b"a: ", b"")], target="/")
def test_a_server_reads_what_was_meant_or_nothing_is_sent(headers: list[Header], target: str) -> None:
    request = BackendRequest(method="GET", target="/" + target, headers=headers)
    try:
        head = request_head(request, dropped=frozenset())
    except BadRequest:
        return
    seen = Seen(head)
    kept = end_to_end(headers, frozenset())
    assert [(n, v.strip(b" \t")) for n, v in kept] == [(n, v.strip(b" \t")) for n, v in seen.headers]
    assert (request.target.encode(), 1) == (seen.target, seen.complete)


@pytest.mark.parametrize("value", [b"Bearer x\r\n", b"Bearer x\r\ny: z", b"x\ny", b"x\0"])
def test_headers_of_the_upstream_that_cannot_stand_in_a_head_are_refused_at_once(value: bytes) -> None:
    with pytest.raises(BadRequest):
        Upstream("h", 1, timeouts=Timeouts(), headers=[(b"authorization", value)])

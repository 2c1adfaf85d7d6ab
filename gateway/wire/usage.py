"""How many tokens an answer took, read from the answer itself, and how many events it had.

Model servers report their counts at the end of an answer: `usage` (OpenAI, Anthropic, llama-server's imitations of
both) or `timings` (llama-server's own, also where no `usage` was asked for). Only the two ends of an answer are looked
at, once, when it is over; nothing is decoded on the way. What cannot be found is not known: nothing is estimated.
"""

import re
from collections import deque
from typing import NamedTuple

WINDOW = 4096
"""Bytes at each end of an answer in which its counts are looked for."""
LAST_PARTS = 4
"""Parts of a stream that are kept for its end: that one ends in three reads (counts, end of the message, end mark)."""
OBJECT = 600
"""Bytes of a `usage` object that are looked at: it has a dozen numbers at most."""

_OUTPUT = frozenset({b"completion_tokens", b"output_tokens", b"predicted_n"})
_COUNT = re.compile(
    rb'"(prompt_tokens|completion_tokens|input_tokens|output_tokens|cache_read_input_tokens'
    rb'|cache_creation_input_tokens)"\s*:\s*(\d{1,12})\b'
)
_TIMING = re.compile(rb'"(cache_n|prompt_n|predicted_n)"\s*:\s*(\d{1,12})\b')


class Usage(NamedTuple):
    """Tokens of one answer; `None` where its server did not say."""

    tokens_in: int | None = None
    tokens_out: int | None = None


NOTHING = Usage()


def usage_of(body: bytes) -> Usage:
    """Return what a whole answer says, at its end or, as answers to embeddings may, at its beginning."""
    usage = _at_end(body[-WINDOW:])
    if usage == NOTHING:
        usage = _reported(body, body.find(b'"usage"', 0, WINDOW))
    return usage


class Meter:
    """A transducer that passes everything, counts events and keeps both ends of the stream, by reference only."""

    __slots__ = ("_first", "_keep", "_last", "events")

    def __init__(self) -> None:
        self.events = 0
        self._first = b""
        self._last: deque[bytes] = deque(maxlen=LAST_PARTS)
        self._keep = self._last.append

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return it as it is."""
        self.events += data.count(b"data: ")
        self._keep(data)
        if not self._first:
            self._first = data
        return data

    def close(self) -> bytes:
        """Take the end."""
        return b""

    def usage(self) -> Usage:
        """Return what the stream so far says of its tokens.

        Anthropic's report the input in their first event, with an output of 0 that only means "not yet", and the
        output in the last but one.
        """
        end = _at_end(b"".join(part[-WINDOW:] for part in self._last)[-WINDOW:])
        tokens_in = end.tokens_in
        if tokens_in is None:
            tokens_in = _reported(self._first, self._first.find(b'"usage"', 0, WINDOW)).tokens_in
        return Usage(tokens_in, end.tokens_out or None)


def _at_end(text: bytes) -> Usage:
    usage = _reported(text, text.rfind(b'"usage"'))
    return usage if usage != NOTHING else _timed(text, text.rfind(b'"timings"'))


def _reported(text: bytes, start: int) -> Usage:
    """Read the `usage` object at `start`. Within a model's words its quotes would be escaped: those never match.

    Anthropic's `input_tokens` leave out what came from the cache, which is added.
    """
    if start < 0:
        return NOTHING
    return _counted(_COUNT.findall(text, start, start + OBJECT))


def _timed(text: bytes, start: int) -> Usage:
    if start < 0:
        return NOTHING
    return _counted(_TIMING.findall(text, start, start + OBJECT))


def _counted(found: list[tuple[bytes, bytes]]) -> Usage:
    tokens_in = tokens_out = None
    for name, number in found:
        if name in _OUTPUT:
            tokens_out = int(number)
        else:
            tokens_in = (tokens_in or 0) + int(number)
    return Usage(tokens_in, tokens_out)

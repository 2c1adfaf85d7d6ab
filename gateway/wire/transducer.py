"""A transducer turns one stream of bytes into another: `feed` pieces, then `close` once.

Where the input is cut must not change the concatenated output. The same machine serves streamed and whole answers.
"""

import json
import re
from collections.abc import Sequence
from typing import Protocol

LINE_LIMIT = 8 << 20
_MODEL = re.compile(rb'("model"\s*:\s*)"(?:[^"\\]|\\.)*"')


class Transducer(Protocol):
    """Bytes in, bytes out."""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return what can be passed on by now."""

    def close(self) -> bytes:
        """Take the end; return what was held back."""


def feed(machines: Sequence[Transducer], data: bytes) -> bytes:
    """Send a piece through a chain of transducers."""
    for machine in machines:
        if not data:
            break
        data = machine.feed(data)
    return data


def close(machines: Sequence[Transducer]) -> bytes:
    """Close a chain: what each held back still goes through those after it."""
    rest = b""
    for machine in machines:
        rest = (machine.feed(rest) if rest else b"") + machine.close()
    return rest


class Rename:
    """Replaces every occurrence of one text by another, also where a piece ends in the middle of it.

    It holds back at most `len(old) - 1` bytes, and only those that may be the beginning of `old`, so pieces that do
    not end in the middle of it pass one for one.
    """

    __slots__ = ("_held", "_new", "_old")

    def __init__(self, old: bytes, new: bytes) -> None:
        self._old = old
        self._new = new
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return it renamed, without a possible beginning of `old` at its end."""
        if self._held:
            data = self._held + data
            self._held = b""
        done, rest = b"", data
        if self._old in data:
            # Only what came in may go on in the next piece: the end of `new` may look like a beginning of `old`.
            *before, rest = data.split(self._old)
            done = self._new.join((*before, b""))
        cut = self._possible_start(rest)
        if cut:
            self._held = rest[-cut:]
            rest = rest[:-cut]
        return done + rest if done else rest

    def close(self) -> bytes:
        """Return what was held back: it was not `old` after all."""
        held, self._held = self._held, b""
        return held

    def _possible_start(self, data: bytes) -> int:
        """Return the length of the longest end of `data` that is a proper beginning of `old`."""
        tail = data[1 - len(self._old) :]
        start = tail.find(self._old[:1])
        while start >= 0:
            if self._old.startswith(tail[start:]):
                return len(tail) - start
            start = tail.find(self._old[:1], start + 1)
        return 0


class RenameModel:
    """Puts a name where a server whose own name is not known puts its: the value of each `model` key.

    A quote inside a JSON string is escaped, so `"model":` is always a key. Works line by line, since an event never
    ends within one: holds back a line that is not whole, and lets go of one longer than `LINE_LIMIT` bytes.
    """

    __slots__ = ("_held", "_value")

    def __init__(self, name: str) -> None:
        self._value = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return the lines that are whole by now."""
        data = self._held + data
        end = len(data) if len(data) > LINE_LIMIT else data.rfind(b"\n") + 1
        self._held = data[end:]
        return self._renamed(data[:end])

    def close(self) -> bytes:
        """Return what was held back."""
        held, self._held = self._held, b""
        return self._renamed(held)

    def _renamed(self, lines: bytes) -> bytes:
        return _MODEL.sub(lambda found: found[1] + self._value, lines)


class Opening:
    """Puts an opening event in front of a stream of server-sent events that lacks it.

    `name` is the event that must come first; where another one does, `opening` is sent before it. Comments pass.
    """

    __slots__ = ("_held", "_name", "_open", "_opening")

    def __init__(self, name: bytes, opening: bytes) -> None:
        self._name = b"event: " + name + b"\n"
        self._opening = opening
        self._held = b""
        self._open = False

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return it, after the first event with the opening in front if it was missing."""
        if self._open:
            return data
        self._held += data
        passed = b""
        while self._held.startswith(b":") and (end := self._held.find(b"\n\n")) >= 0:
            passed, self._held = passed + self._held[: end + 2], self._held[end + 2 :]
        if not self._held or self._held.startswith(b":") or self._name.startswith(self._held):
            return passed  # not enough to tell
        self._open = True
        held, self._held = self._held, b""
        return passed + (b"" if held.startswith(self._name) else self._opening) + held

    def close(self) -> bytes:
        """Return what was held back."""
        held, self._held = self._held, b""
        return held


class Watch:
    """Passes everything and remembers whether one of some texts has passed, wherever the pieces were cut."""

    __slots__ = ("_longest", "_tail", "_texts", "seen")

    def __init__(self, texts: tuple[bytes, ...]) -> None:
        self._texts = texts
        self._longest = max((len(text) for text in texts), default=1)
        self._tail = b""
        self.seen = not texts

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return it as it is."""
        if not self.seen:
            window = self._tail + data
            self.seen = any(text in window for text in self._texts)
            self._tail = window[1 - self._longest :] if self._longest > 1 else b""
        return data

    def close(self) -> bytes:
        """Take the end."""
        return b""

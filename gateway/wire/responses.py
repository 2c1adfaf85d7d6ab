"""What `/v1/responses` needs beyond relaying."""

from gateway.wire.transducer import Rename

ID_START = b'"id":"resp_'
FIRST_EVENT_LIMIT = 1 << 16


class AdoptId:
    """Gives a stream of responses events the id that its keep-alive events already announced.

    openai-python 3.51 refuses a stream whose response changes its id. The server's own id is taken from the first
    event and replaced wherever it occurs; it is random, so it occurs nowhere else. Until it is known nothing passes,
    at most `FIRST_EVENT_LIMIT` bytes.
    """

    __slots__ = ("_held", "_ours", "_rename")

    def __init__(self, ours: str) -> None:
        """Use `ours`, a full id such as `resp_1f...`."""
        self._ours = ours.encode()
        self._held = b""
        self._rename: Rename | None = None

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return it with our id."""
        if self._rename is None:
            self._held += data
            theirs = self._their_id()
            if theirs is None:
                return b""
            self._rename = Rename(theirs, self._ours)
            data, self._held = self._held, b""
        return self._rename.feed(data)

    def close(self) -> bytes:
        """Return what was held back."""
        held, self._held = self._held, b""
        return held if self._rename is None else self._rename.close()

    def _their_id(self) -> bytes | None:
        """Return the id once it has passed; our own when there is none to be found, so that nothing changes."""
        start = self._held.find(ID_START)
        end = self._held.find(b'"', start + len(ID_START)) if start >= 0 else -1
        if end >= 0:
            return self._held[start + len(b'"id":"') : end]
        return self._ours if len(self._held) > FIRST_EVENT_LIMIT else None

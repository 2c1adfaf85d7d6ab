"""Reading a request off a connection: as much of HTTP/1.1 as the stand-in needs, and no checks."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, read to its end; names in `headers` are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """Return the body as an object; an empty one if it is none."""
        with contextlib.suppress(ValueError):
            decoded = json.loads(self.body)
            if isinstance(decoded, dict):
                return decoded
        return {}


def read(stream: BinaryIO) -> Request | None:
    """Return the next request of a connection, `None` at its end."""
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while line := stream.readline().strip().decode("latin-1"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(_chunks(stream))
    else:
        body = stream.read(int(headers.get("content-length", "0")))
    return Request(method=first[0], target=first[1], headers=headers, body=body)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while size := int(stream.readline(), 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()

"""What `/v1/responses` needs beyond relaying.

llama-server (build 11669) leaves out of its stream what OpenAI's SDKs index by: `output_index`, `content_index`,
`sequence_number` (openai-python 3.51 fails on the first delta without them). And the SDKs refuse a stream whose id
changes, so the id that the keep-alive events announced must stay.
"""

import json
from collections.abc import Callable
from typing import Any

from gateway.wire.dialect import event

EVENT_LIMIT = 8 << 20
_IN_CONTENT = ("response.content_part.", "response.output_text.", "response.refusal.", "response.reasoning_text.")


class CompleteEvents:
    """Completes the events of a responses stream; what is there already stays. Events of other kinds pass as they are.

    Only the first event is `response.created`: where one was sent before, the server's own becomes another
    `response.in_progress`.

    `ours` is the response's id from its first sign of life on, `sequence` says how many events were sent before the
    first one. Holds back at most one event; one longer than `EVENT_LIMIT` bytes is let through as it is.
    """

    def __init__(self, ours: str, sequence: Callable[[], int]) -> None:
        self._ours = ours
        self._first = sequence
        self._sequence = -1  # until the first event
        self._partial = b""
        self._items: dict[str, int] = {}
        self._last_item = 0
        self._parts: dict[int, int] = {}

    def feed(self, data: bytes) -> bytes:
        """Take a piece; return the events that are whole by now."""
        *events, self._partial = (self._partial + data).split(b"\n\n")
        done = b"".join(self._complete(raw) + b"\n\n" for raw in events)
        if len(self._partial) > EVENT_LIMIT:
            done, self._partial = done + self._partial, b""
        return done

    def close(self) -> bytes:
        """Return what was held back."""
        held, self._partial = self._partial, b""
        return held

    def _complete(self, raw: bytes) -> bytes:
        if raw.startswith(b":"):
            return raw
        lines = raw.split(b"\n")
        if self._sequence < 0:
            self._sequence = self._first()
            if self._sequence == 0 and lines[0] != b"event: response.created":
                return self._created() + self._complete(raw)
        created = self._sequence > 0
        for number, line in enumerate(lines):
            if line.startswith(b"data:"):
                lines[number] = self._complete_data(line)
            elif created and line == b"event: response.created":
                lines[number] = b"event: response.in_progress"
        return b"\n".join(lines)

    def _created(self) -> bytes:
        """Return the beginning, where the server left it out (as it does if its first token is part of a character)."""
        created = {"type": "response.created", "response": {"object": "response", "status": "in_progress"}}
        self._fill(created)
        return event(created, "response.created")

    def _complete_data(self, line: bytes) -> bytes:
        try:
            data = json.loads(line[len(b"data:") :])
        except (ValueError, RecursionError):
            return line
        if not isinstance(data, dict) or not str(data.get("type", "")).startswith("response."):
            return line
        self._fill(data)
        return event(data).rstrip(b"\n")

    def _fill(self, data: dict[str, Any]) -> None:
        if self._sequence > 0 and data["type"] == "response.created":
            data["type"] = "response.in_progress"  # there is one beginning, and it was said
        data["sequence_number"] = self._sequence
        self._sequence += 1
        if isinstance(response := data.get("response"), dict):
            response["id"] = self._ours
            response.setdefault("output", [])
        item = data.get("item")
        if "item_id" in data or isinstance(item, dict):
            index = self._item_index(data, item if isinstance(item, dict) else {})
            data.setdefault("output_index", index)
            if data["type"].startswith(_IN_CONTENT):
                data.setdefault("content_index", self._content_index(data["type"], index))

    def _item_index(self, data: dict[str, Any], item: dict[str, Any]) -> int:
        """Return the place of the item that an event speaks of: in the order in which items were added."""
        key = str(data.get("item_id") or item.get("id") or item.get("call_id"))
        if data["type"] == "response.output_item.added":
            self._last_item = self._items.setdefault(key, len(self._items))
        return self._items.get(key, self._last_item)

    def _content_index(self, kind: str, item: int) -> int:
        if kind == "response.content_part.added":
            self._parts[item] = self._parts.get(item, -1) + 1
        return max(self._parts.get(item, 0), 0)

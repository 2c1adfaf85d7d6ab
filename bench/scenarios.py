"""What the proxies are measured at: the scenarios, as data, and the requests they are made of. Pure."""

import json
from dataclasses import dataclass
from typing import Literal

EVENTS_PER_SECOND = 100
"""Of each paced stream of the peer (`peer.c`)."""

MESSAGE_BYTES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of load.

    `wish` is what the peer is asked for, `body` the size of a request in bytes. CPU time is counted per `unit`. A
    `paced` one has one request on each connection, which lasts as long as the measurement; else each connection asks
    again and again.
    """

    name: str
    title: str
    wish: str
    unit: Literal["request", "chunk"] = "request"
    body: int = 1_000
    connections: int = 8

    @property
    def paced(self) -> bool:
        """Whether the peer sets the pace."""
        return self.wish == "paced"


SCENARIOS = (
    Scenario(name="s1", title="1 KB in, 1 KB out, 1 connection", wish="small", connections=1),
    Scenario(name="s64", title="1 KB in, 1 KB out, 64 connections", wish="small", connections=64),
    Scenario(name="b1", title="stream of 200 chunks at once, 8 connections", wish="burst", unit="chunk"),
    Scenario(name="pc", title="50 streams of 100 chunks per second", wish="paced", unit="chunk", connections=50),
    Scenario(name="k100", title="100 KB in, 1 KB out, 8 connections", wish="small", body=100_000),
    Scenario(name="m1", title="1 MB in, 1 KB out, 4 connections", wish="small", body=1_000_000, connections=4),
    Scenario(name="br", title="1 KB in, 1 MB out, 4 connections", wish="large", connections=4),
)

HELD = Scenario(name="idle", title="250 open streams", wish="idle", connections=250)
"""For the memory that open streams take: held for each of four models, because one takes 256 requests at most."""


def request_body(scenario: Scenario, model: str, seconds: float) -> bytes:
    """Return the chat that is sent: a history of messages of about 1 KB. `seconds` is how long a paced stream lasts."""
    wish = f"paced/{max(1, round(seconds * EVENTS_PER_SECOND))}" if scenario.paced else scenario.wish
    streamed = scenario.wish in {"burst", "paced", "idle"}
    # Go writes the fields of an object in order of their names, and the peer looks for its own near the beginning.
    head = {"model": model, "bench": wish, "stream": streamed, "max_tokens": 100}
    body = head | {"messages": _history(scenario.body - len(json.dumps(head)))}
    return json.dumps(body, separators=(",", ":")).encode()


def _history(size: int) -> list[dict[str, str]]:
    count = max(1, round(size / MESSAGE_BYTES))
    words = 'the quick brown fox \\ jumps over the "lazy" dog\n'
    overhead = len('{"role":"assistant","content":""},') + 4 * (size // count // len(words))
    text = (words * (MESSAGE_BYTES // len(words) + 1))[: max(1, size // count - overhead)]
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number in range(count)]

"""What the gateway adds to each request for a model that is loaded: one token, whole, on a connection that is kept."""

import time
from collections.abc import Iterator
from http.client import HTTPConnection
from statistics import quantiles

from bench import servers
from bench.servers import Program

HEADING = f"{'llama-server':14}{'':6}{'direct':>10}{'gateway':>10}{'added':>10}"
WARMING_UP = 20


def table(requests: int) -> Iterator[str]:
    """Yield the lines of the table as they are measured; all times in milliseconds."""
    yield f"Warm: a whole answer of one token, ms, {requests} requests each, taking turns"
    yield HEADING
    for program in servers.programs():
        direct, through = _measure(program, requests)
        for name, percentile in (("p50", 50), ("p99", 99)):
            theirs, mine = _percentile(direct, percentile), _percentile(through, percentile)
            yield f"{program.name:14}{name:6}{theirs:10.2f}{mine:10.2f}{mine - theirs:10.2f}"


def _measure(program: Program, requests: int) -> tuple[list[float], list[float]]:
    direct, through = [], []
    with servers.by_hand(program) as port, servers.gateway(program) as gateway:
        servers.until_healthy(port)
        one, other = servers.connect(port), servers.connect(gateway.port)
        for _ in range(WARMING_UP):
            _timed(one)
            _timed(other)
        for _ in range(requests):
            direct.append(_timed(one))
            through.append(_timed(other))
        one.close()
        other.close()
    return direct, through


def _timed(client: HTTPConnection) -> float:
    began = time.perf_counter()
    servers.one_token(client)
    return (time.perf_counter() - began) * 1000


def _percentile(values: list[float], percentile: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percentile - 1]

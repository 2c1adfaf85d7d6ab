"""From a request for a model that is not loaded to its first streamed token.

The gateway's time is compared with what a person gets who starts the same llama-server with the same flags, looks at
/health every 2 ms, and asks as soon as it says 200. The two take turns, the order changing every round, so that both
see the same machine. The model's file is in the page cache for both.
"""

import time
from collections.abc import Iterator
from statistics import median

from bench import servers
from bench.servers import Program
from tests.e2e.process import GatewayProcess

HEADING = f"{'llama-server':14}{'by hand':>10}{'gateway':>10}{'added':>10}   added, quartiles"


def table(rounds: int) -> Iterator[str]:
    """Yield the lines of the table as they are measured; all times in milliseconds."""
    yield f"Cold start: from the request to the first streamed token, ms, medians of {rounds} alternating rounds"
    yield HEADING
    for program in servers.programs():
        by_hand, gateway = _measure(program, rounds)
        added = sorted(mine - theirs for mine, theirs in zip(gateway, by_hand, strict=True))
        quartiles = f"{added[len(added) // 4]:.1f} to {added[-1 - len(added) // 4]:.1f}"
        row = f"{program.name:14}{median(by_hand):10.1f}{median(gateway):10.1f}{median(added):10.1f}   {quartiles}"
        yield row
        yield f"The gateway adds {median(added):.0f} ms to a cold start of the {program.name} llama-server."


def _measure(program: Program, rounds: int) -> tuple[list[float], list[float]]:
    by_hand, through = [], []
    with servers.gateway(program) as gateway:
        _through(gateway)  # the first start of all is not like the others
        for turn in range(rounds):
            if turn % 2:
                by_hand.append(_by_hand(program))
                through.append(_through(gateway))
            else:
                through.append(_through(gateway))
                by_hand.append(_by_hand(program))
    return by_hand, through


def _by_hand(program: Program) -> float:
    began = time.perf_counter()
    with servers.by_hand(program) as port:
        servers.until_healthy(port)
        servers.first_token(port)
        return (time.perf_counter() - began) * 1000


def _through(gateway: GatewayProcess) -> float:
    began = time.perf_counter()
    servers.first_token(gateway.port)
    took = (time.perf_counter() - began) * 1000
    gateway.post("/unload", {})
    return took

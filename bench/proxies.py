"""`python -m bench.proxies`: CPU time of the gateway beside that of a small proxy in Go and of nginx.

All stand before the same peer (`peer.c`) and take the same load (`load.c`). They are alive at once and idle but for the
one under load; the order rotates from round to round. The gateway runs as users run it, with its log written to a
file. The proxies have one processor, the peer and the load another one where there are two.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.build import CannotMeasure, c_program
from bench.contenders import MODELS, Contender, gateway, go, nginx
from bench.measure import Load, Places, cpu_seconds, resident_bytes
from bench.scenarios import HELD, SCENARIOS, Scenario, request_body
from bench.table import printed, summary

ROUNDS, SECONDS = 5, 1.2
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.4
WARM_UP = 0.2  # seconds


class Comparison:
    """The contenders in front of one peer, and what has been measured of them."""

    def __init__(self, contenders: Sequence[Contender], upstream: int, load: Load, folder: Path) -> None:
        self._contenders = contenders
        self._load = load
        self._folder = folder
        self._direct = Contender(name="direct", port=upstream, version="", pids=())

    def rounds(self, scenario: Scenario, count: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of one scenario: each contender once a round, the peer alone as well."""
        rows: dict[str, list[dict[str, Any]]] = {"direct": []}
        rows |= {contender.name: [] for contender in self._contenders}
        for contender in self._contenders:
            self._load.run(scenario, contender.port, self._body(scenario, WARM_UP), WARM_UP)
        body = self._body(scenario, seconds)
        for number in range(count):
            turn = number % len(self._contenders)
            for contender in [self._direct, *self._contenders[turn:], *self._contenders[:turn]]:
                rows[contender.name].append(self._row(scenario, contender, body, seconds))
        return rows

    def memory(self) -> dict[str, dict[str, float]]:
        """Return the bytes that each contender has resident with and without open streams."""
        found: dict[str, dict[str, float]] = {}
        for contender in self._contenders:
            idle = resident_bytes(contender.pids)
            with ExitStack() as streams:
                for model in MODELS:
                    streams.enter_context(self._load.held(HELD, contender.port, self._body(HELD, 0, model)))
                held = resident_bytes(contender.pids)
            found[contender.name] = {"idle": idle, "held": held, "streams": HELD.connections * len(MODELS)}
        return found

    def _row(self, scenario: Scenario, contender: Contender, body: Path, seconds: float) -> dict[str, Any]:
        before = cpu_seconds(contender.pids)
        counts = self._load.run(scenario, contender.port, body, seconds)
        used = cpu_seconds(contender.pids) - before
        times = counts["event"] if scenario.paced else counts["request"]
        return {
            "cpu_us": used * 1e6 / counts["requests" if scenario.unit == "request" else "events"],
            "p50_us": times["p50"],
            "p99_us": times["p99"],
            "requests": counts["requests"],
            "merged_percent": 100 * counts["merged"] / max(1, counts["events"]),
            "seconds": counts["seconds"],
        }

    def _body(self, scenario: Scenario, seconds: float, model: str = MODELS[0]) -> Path:
        file = self._folder / f"{scenario.name}-{model}.json"
        file.write_bytes(request_body(scenario, model, seconds))
        return file


def compare(scenarios: Sequence[Scenario], count: int, seconds: float) -> dict[str, Any]:
    """Measure `scenarios` in `count` rounds of `seconds` for each contender. Raises `CannotMeasure`."""
    places = Places.of_this_machine()
    busy = os.getloadavg()[0]
    load = Load(c_program("load"), places.others)
    peer = c_program("peer")
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, ExitStack() as running:
        folder = Path(name)
        ours, upstream = running.enter_context(gateway(folder / "gateway", peer, places))
        others = [running.enter_context(start(folder / start.__name__, upstream, places)) for start in (go, nginx)]
        contenders = [ours, *(other for other in others if other is not None)]
        comparison = Comparison(contenders, upstream, load, folder)
        memory = comparison.memory()
        rounds = {}
        for scenario in scenarios:
            print(f"measuring {scenario.name}: {scenario.title}", file=sys.stderr, flush=True)
            rounds[scenario.name] = comparison.rounds(scenario, count, seconds)
    return {
        "machine": f"{platform.platform()}, {_processor()}",
        "versions": {contender.name: contender.version for contender in contenders},
        "load_average_before": busy,
        "rounds_measured": count,
        "seconds": seconds,
        "summary": summary(rounds),
        "memory": memory,
        "rounds": rounds,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m bench.proxies", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--rounds", type=int, help=f"rounds of each scenario (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of one measurement (default {SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help="a first look: few and short rounds")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--store", type=Path, metavar="FILE", help="write everything that was measured as JSON")
    options = parser.parse_args(arguments)
    count = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaving the blocks ends what was started
    try:
        result = compare([scenario for scenario in SCENARIOS if scenario.name in options.only], count, seconds)
    except CannotMeasure as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
    if options.store is not None:
        options.store.write_text(json.dumps(result, indent=1) + "\n")
    print(printed(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

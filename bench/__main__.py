"""`python -m bench [--rounds N] [--requests N] [-- ARG...]`: measure and print. Takes about four minutes."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from itertools import chain

from bench import cold_start, proxies, warm

ROUNDS = 25
REQUESTS = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every measurement and print its table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"cold starts of each kind (default {ROUNDS})")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"warm requests of each kind ({REQUESTS})")
    parser.add_argument("proxies", nargs="*", help="after `--`: arguments for `python -m bench.proxies`")
    options = parser.parse_args(arguments)
    print(_machine(), flush=True)
    for line in chain([""], cold_start.table(options.rounds), [""], warm.table(options.requests), ["", _machine()]):
        print(line, flush=True)
    return proxies.main(options.proxies) if sys.platform == "linux" else 0


def _machine() -> str:
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load average {load}"


if __name__ == "__main__":
    sys.exit(main())

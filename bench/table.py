"""From measured rounds to medians, ratios, and the tables that people read. Pure.

A ratio is the median of the ratios within each round, not the ratio of medians: what the machine does to one proxy in
a round it does to the others too.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.scenarios import SCENARIOS, Scenario

QUIET = 0.5
"""Load average up to which nothing else seems to run."""

Rounds = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""Scenario -> proxy -> one row of figures for each round; the rows of a round stand at the same place."""


def ratios(rounds: Mapping[str, Sequence[Mapping[str, Any]]], one: str, other: str) -> float | None:
    """Return the CPU time of `one` as a multiple of that of `other`; `None` if one of them was not measured."""
    pairs = zip(rounds.get(one, ()), rounds.get(other, ()), strict=False)
    values = [mine["cpu_us"] / theirs["cpu_us"] for mine, theirs in pairs if theirs["cpu_us"]]
    return median(values) if values else None


def summary(rounds: Rounds) -> dict[str, Any]:
    """Return, for each scenario, the ratios of the gateway and the medians of every proxy."""
    return {
        name: {
            "ratio_to_go": ratios(proxies, "gateway", "go"),
            "ratio_to_nginx": ratios(proxies, "gateway", "nginx"),
            "median": {proxy: _medians(rows) for proxy, rows in proxies.items() if rows},
        }
        for name, proxies in rounds.items()
    }


def printed(result: Mapping[str, Any]) -> str:
    """Return the tables: ratios, CPU time, latency, memory."""
    found: Mapping[str, Any] = result["summary"]
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in found]
    parts = [
        f"CPU time of the gateway, medians of {result['rounds_measured']} rounds; lower is better",
        _table(["scenario", "per", "x Go", "x nginx", "us gateway", "us Go", "us nginx", ""], _cpu(scenarios, found)),
        "Latency p50 / p99 in us: of a request, of a chunk where the pace is set",
        _table(["scenario", "direct", "gateway", "Go", "nginx", "merged chunks"], _latency(scenarios, found)),
        "Resident memory in MB",
        _table(["proxy", "idle", "1000 open streams", "KB per stream"], _memory(result.get("memory", {}))),
        f"{result['machine']}; " + "; ".join(f"{name} {version}" for name, version in result["versions"].items()),
    ]
    if result["load_average_before"] > QUIET:
        parts.append(
            f"The machine was busy before (load average {result['load_average_before']:.1f}): who is interrupted finds "
            "cold caches. Times are too long, ratios less sure."
        )
    return "\n\n".join(parts)


def _medians(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    keys = [key for key, value in rows[0].items() if isinstance(value, int | float)]
    return {key: median(row[key] for row in rows) for key in keys}


def _cpu(scenarios: Iterable[Scenario], found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for scenario in scenarios:
        one = found[scenario.name]
        times = [one["median"].get(proxy, {}).get("cpu_us") for proxy in ("gateway", "go", "nginx")]
        rows.append(
            [
                scenario.name,
                scenario.unit,
                _number(one["ratio_to_go"], 2),
                _number(one["ratio_to_nginx"], 2),
                *(_number(time, 2 if scenario.name == "b1" else 1) for time in times),
                scenario.title,
            ]
        )
    return rows


def _latency(scenarios: Iterable[Scenario], found: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            scenario.name,
            *(_times(found[scenario.name]["median"].get(proxy)) for proxy in ("direct", "gateway", "go", "nginx")),
            _merged(found[scenario.name]["median"]) if scenario.paced else "",
        ]
        for scenario in scenarios
    ]


def _times(medians: Mapping[str, float] | None) -> str:
    return "-" if medians is None else f"{medians['p50_us']:.0f} / {medians['p99_us']:.0f}"


def _merged(medians: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{proxy} {row['merged_percent']:.1f} %" for proxy, row in medians.items())


def _memory(memory: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    return [
        [
            proxy,
            f"{row['idle'] / 1e6:.1f}",
            f"{row['held'] / 1e6:.1f}",
            f"{(row['held'] - row['idle']) / row['streams'] / 1e3:.1f}",
        ]
        for proxy, row in memory.items()
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 or column == len(head) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *rows]
    )

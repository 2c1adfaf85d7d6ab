"""What was counted, in Prometheus's words: the only place that knows the names of the metrics.

Where OpenTelemetry's conventions for generative AI have a name for a thing, the thing has it here, dots as
underscores, with their attributes as labels; `key` and `route` are added. Every family is always there, if without a
sample, so that a dashboard finds what it names.

Slow, half a second for the most series that there can be, so it runs in a thread while counting goes on: whatever has
several parts is copied in one call before it is read.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import exposition as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.occupancy import Phase, SlotView
from gateway.core.slot import SlotId
from gateway.engine.facts import CLIENT_LEFT, DONE
from gateway.engine.metrics import Counted, Histogram, Loads, Requests
from gateway.system.resources import Resources, resources

# Codes of requests that were turned away, by decision and not because something broke.
REFUSALS: Final = frozenset(
    {
        "queue_full",
        "queue_timeout",
        "shutting_down",
        "model_cooling_down",
        "model_too_large",
        "invalid_api_key",
        "forbidden",
    }
)
# Routes by OpenTelemetry's `gen_ai.operation.name`; those of other routes are called after the route.
OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/completion": "text_completion",
    "/infill": "text_completion",
    "/v1/embeddings": "embeddings",
}

OURS: Final = ("model", "key", "route")
GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_request_model", "key", "route")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is shown. `names`: of the slots, for people; `budget`: bytes for all slots together."""

    counted: Counted
    slots: Mapping[SlotId, SlotView]
    names: Mapping[str, str]
    budget: int | None


def exposition(state: State, accept: str) -> tuple[bytes, str]:
    """Return all metrics in the format that `accept` asks for, and its content type."""
    encode, content_type = prometheus.choose_encoder(accept)
    return encode(_All(state, resources())), content_type


class _All(Collector):
    def __init__(self, state: State, used: Resources) -> None:
        self._state = state
        self._used = used

    def collect(self) -> Iterable[Metric]:
        counted = self._state.counted
        yield from _outcomes(counted.requests)
        yield from _times(counted.requests)
        yield _tokens(counted.requests)
        yield from _loads({self._name(slot): loads for slot, loads in counted.loads.items()})
        yield from _now({self._name(slot): view for slot, view in self._state.slots.items()}, self._state)
        yield from _process(self._used)

    def _name(self, slot: str) -> str:
        return self._state.names.get(slot, slot)


def _outcomes(requests: Iterable[Requests]) -> Iterator[Metric]:
    ended = CounterMetricFamily("gateway_requests", "Requests that have ended.", labels=[*OURS, "outcome"])
    refused = CounterMetricFamily("gateway_refusals", "Requests that were turned away.", labels=[*OURS, "reason"])
    failed = CounterMetricFamily("gateway_errors", "Requests that failed.", labels=[*OURS, "kind"])
    aborted = CounterMetricFamily("gateway_client_aborts", "Requests whose client left before the end.", labels=OURS)
    for series in requests:
        labels = _ours(series)
        for code, number in series.outcomes.copy().items():
            ended.add_metric([*labels, _class(code)], number)
            if code == CLIENT_LEFT:
                aborted.add_metric(labels, number)
            elif code in REFUSALS:
                refused.add_metric([*labels, code], number)
            elif code != DONE:
                failed.add_metric([*labels, code], number)
    yield from (_summed(ended), refused, failed, aborted)


def _class(code: str) -> str:
    if code in {DONE, CLIENT_LEFT}:
        return code
    return "refused" if code in REFUSALS else "error"


def _summed(family: CounterMetricFamily) -> CounterMetricFamily:
    """Add up the samples with the same labels: several codes are one outcome."""
    sums: dict[tuple[str, ...], float] = {}
    for sample in family.samples:
        labels = tuple(sample.labels.values())
        sums[labels] = sums.get(labels, 0) + sample.value
    family.samples.clear()
    for labels, value in sums.items():
        family.add_metric(labels, value)
    return family


def _times(requests: tuple[Requests, ...]) -> Iterator[Metric]:
    spans = (
        ("gen_ai_server_request_duration_seconds", "From arrival to the last byte.", "duration"),
        ("gen_ai_server_time_to_first_token_seconds", "From arrival to a stream's first byte.", "first_token"),
        ("gen_ai_server_time_per_output_token_seconds", "For each token of a stream after the first.", "per_token"),
        ("gateway_queue_seconds", "Waiting for a turn or for memory.", "queue"),
        ("gateway_load_wait_seconds", "Waiting for a model to load, of requests that had to.", "load"),
        ("gateway_overhead_seconds", "What the gateway itself took until the answer began.", "overhead"),
    )
    for name, text, attribute in spans:
        gen_ai = name.startswith("gen_ai_")
        family = HistogramMetricFamily(name, text, labels=GEN_AI if gen_ai else OURS)
        for series in requests:
            _add(family, _gen_ai(series) if gen_ai else _ours(series), getattr(series, attribute))
        yield family


def _tokens(requests: Iterable[Requests]) -> Metric:
    labels = [*GEN_AI, "gen_ai_token_type"]
    family = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens of a request, as its server says.", labels=labels
    )
    for series in requests:
        _add(family, [*_gen_ai(series), "input"], series.tokens_in)
        _add(family, [*_gen_ai(series), "output"], series.tokens_out)
    return family


def _loads(slots: Mapping[str, Loads]) -> Iterator[Metric]:
    load = HistogramMetricFamily("gateway_model_load_seconds", "From launch to ready.", labels=["model"])
    stop = HistogramMetricFamily("gateway_model_stop_seconds", "From being asked to end to gone.", labels=["model"])
    swaps = CounterMetricFamily("gateway_model_swaps", "Loads for which other models had to go.", labels=["model"])
    evictions = CounterMetricFamily("gateway_model_evictions", "Stops, by why.", labels=["model", "reason"])
    failures = CounterMetricFamily("gateway_model_start_failures", "Loads that failed.", labels=["model"])
    exits = CounterMetricFamily("gateway_model_exits", "Servers that died by themselves.", labels=["model"])
    for model, loads in slots.items():
        _add(load, [model], loads.loads)
        _add(stop, [model], loads.ends)
        swaps.add_metric([model], loads.swaps)
        failures.add_metric([model], loads.failures)
        exits.add_metric([model], loads.exits)
        for reason, number in loads.stops.copy().items():
            evictions.add_metric([model, reason], number)
    yield from (load, stop, swaps, evictions, failures, exits)


def _now(slots: Mapping[str, SlotView], state: State) -> Iterator[Metric]:
    running = GaugeMetricFamily("gateway_requests_in_flight", "Requests that a model works on.", labels=["model"])
    waiting = GaugeMetricFamily("gateway_queue_depth", "Requests that wait for a model.", labels=["model"])
    memory = GaugeMetricFamily("gateway_model_memory_bytes", "What a loaded model is counted with.", labels=["model"])
    phase = GaugeMetricFamily("gateway_model_state", "1 for the state that it is in.", labels=["model", "state"])
    for model in dict.fromkeys([*state.names.values(), *slots]):
        view = slots.get(model)
        current = view.phase if view else Phase.COLD
        running.add_metric([model], view.running if view else 0)
        waiting.add_metric([model], view.waiting if view else 0)
        memory.add_metric([model], view.need if view and current is not Phase.COLD else 0)
        for state_name in Phase:
            phase.add_metric([model, state_name.value], int(state_name is current))
    budget = float("inf") if state.budget is None else float(state.budget)
    yield from (running, waiting, memory, phase)
    yield GaugeMetricFamily("gateway_memory_budget_bytes", "What all models together may take.", value=budget)


def _process(used: Resources) -> Iterator[Metric]:
    info = GaugeMetricFamily("gateway_build_info", "1, with the version.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    yield CounterMetricFamily("process_cpu_seconds", "Processor time of the gateway itself.", value=used.cpu)
    gauges = (
        ("process_resident_memory_bytes", "Memory of the gateway itself.", used.resident),
        ("process_virtual_memory_bytes", "Address space of the gateway itself.", used.virtual),
        ("process_threads", "Threads of the gateway itself.", used.threads),
        ("process_start_time_seconds", "Unix time at which the gateway was started.", used.started),
        ("gateway_machine_memory_total_bytes", "Memory of this machine.", used.machine_total),
        ("gateway_machine_memory_available_bytes", "Memory that new programs could have.", used.machine_available),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(name, text, value=value)
    if used.open_files is not None:
        yield GaugeMetricFamily("process_open_fds", "Open files and sockets.", value=used.open_files)


def _ours(series: Requests) -> list[str]:
    labels = series.labels
    return [labels.model, labels.key, labels.route]


def _gen_ai(series: Requests) -> list[str]:
    labels = series.labels
    return [OPERATIONS.get(labels.route, labels.route), labels.model, labels.key, labels.route]


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Add a histogram, if there is anything in it."""
    sums = list(accumulate(histogram.counts.copy()))
    if not sums[-1]:
        return
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, sums, strict=True)), histogram.total)

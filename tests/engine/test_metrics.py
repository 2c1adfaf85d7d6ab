"""Counting: what is counted where, and that it is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.effects import Effect, Stop, TicketId
from gateway.core.occupancy import Limits, Wish
from gateway.core.scheduler import Scheduler
from gateway.core.slot import LlamaServer, SlotId, SlotSpec
from gateway.engine.exposition import REFUSALS, State, exposition
from gateway.engine.facts import CLIENT_LEFT, DONE, Facts
from gateway.engine.journal import Journal
from gateway.engine.metrics import OTHER, SECONDS, STOPS, Histogram, Metrics

A, B = SlotId("a"), SlotId("b")


def facts(model: str = "m", **changed: object) -> Facts:
    """Return a stream that waited 0.5 s, loaded 2 s of it later, and took 10 s for 5 tokens."""
    told = Facts(
        "id",
        arrived=100.0,
        route="/v1/chat/completions",
        key="k",
        alias=model,
        streaming=True,
        upload=0.1,
        asked=100.2,
        granted=102.7,
        loading=2.0,
        sent=102.75,
        answered=105.0,
        first_byte=105.25,
        ended=110.0,
        tokens_in=7,
        tokens_out=6,
        status=200,
        outcome=DONE,
    )
    for name, value in changed.items():
        setattr(told, name, value)
    return told


def shown(metrics: Metrics, names: dict[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels."""
    text, _ = exposition(State(counted=metrics.counted(), slots={}, names=names or {}, budget=None), "")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_times_of_a_request_are_told_apart() -> None:
    told = facts()
    assert pytest.approx(0.5) == told.queued
    assert pytest.approx(5.25) == told.first_token
    assert pytest.approx(0.95) == told.per_token  # 4.75 s for the five that follow the first
    assert pytest.approx(0.1 + 0.05 + 0.25) == told.overhead()
    assert pytest.approx(10.0) == told.total


def test_what_a_request_did_not_come_to_is_not_known() -> None:
    told = facts(granted=None, loading=0.0, sent=None, answered=None, first_byte=None, outcome="queue_timeout")
    assert (None, None, None) == (told.first_token, told.per_token, told.overhead())
    assert pytest.approx(9.8) == told.queued
    assert None is Facts("id", 0.0).queued


def test_a_request_is_counted_once_in_each_family() -> None:
    metrics = Metrics()
    metrics.requested(facts())
    samples = shown(metrics)
    labels = ("chat", "m", "k", "/v1/chat/completions")
    assert 1 == samples["gateway_requests_total", "k", "m", "done", "/v1/chat/completions"]
    assert 1 == samples["gen_ai_server_time_to_first_token_seconds_count", *labels]
    assert pytest.approx(0.95) == samples["gen_ai_server_time_per_output_token_seconds_sum", *labels]
    usage = "gen_ai_client_token_usage_sum"
    assert 7 == samples[usage, "chat", "m", "input", "k", "/v1/chat/completions"]
    assert 6 == samples[usage, "chat", "m", "output", "k", "/v1/chat/completions"]
    assert pytest.approx(2.0) == samples["gateway_load_wait_seconds_sum", "k", "m", "/v1/chat/completions"]


@pytest.mark.parametrize(
    ("outcome", "kind", "family"),
    [
        (CLIENT_LEFT, "client_left", ("gateway_client_aborts_total", "k", "m", "/r")),
        ("queue_full", "refused", ("gateway_refusals_total", "k", "m", "queue_full", "/r")),
        ("backend_broken", "error", ("gateway_errors_total", "k", "backend_broken", "m", "/r")),
    ],
)
def test_each_bad_end_has_its_family(outcome: str, kind: str, family: tuple[str, ...]) -> None:
    metrics = Metrics()
    metrics.requested(facts(outcome=outcome, route="/r"))
    metrics.requested(facts(outcome=outcome, route="/r"))
    samples = shown(metrics)
    assert 2 == samples["gateway_requests_total", "k", "m", kind, "/r"]
    assert 2 == samples[family]


def test_several_codes_of_one_outcome_are_added_up() -> None:
    metrics = Metrics()
    for code in ("queue_full", "queue_timeout", "shutting_down"):
        metrics.requested(facts(outcome=code, route="/r"))
    assert 3 == shown(metrics)["gateway_requests_total", "k", "m", "refused", "/r"]
    assert {"queue_full", "queue_timeout", "shutting_down"} <= REFUSALS


def test_combinations_beyond_the_limit_are_counted_as_one() -> None:
    metrics = Metrics(limit=3)
    for number in range(10):
        metrics.requested(facts(f"m{number}"))
    counted = metrics.counted()
    assert ["m0", "m1", "m2", OTHER] == [series.labels.model for series in counted.requests]
    assert [1, 1, 1, 7] == [series.outcomes[DONE] for series in counted.requests]


def test_slots_beyond_the_limit_are_counted_as_one() -> None:
    metrics = Metrics(limit=2)
    for number in range(5):
        metrics.exited(SlotId(f"s{number}"))
    assert {"s0": 1, "s1": 1, OTHER: 3} == {slot: loads.exits for slot, loads in metrics.counted().loads.items()}


def test_a_load_for_which_another_had_to_go_is_a_swap() -> None:
    metrics = Metrics()
    metrics.started(A, 1.0)
    metrics.stopped(A, "makes room for b", 0.5)
    metrics.started(B, 1.0)
    samples = shown(metrics, {"a": "ms/a", "b": "ms/b"})
    assert (0, 1) == (samples["gateway_model_swaps_total", "ms/a"], samples["gateway_model_swaps_total", "ms/b"])
    assert 1 == samples["gateway_model_evictions_total", "ms/a", "make_room"]


def test_every_reason_of_the_scheduler_is_known() -> None:
    reasons = {_cause(effect) for effect in _every_stop()}
    assert set(STOPS.values()) == reasons


def _cause(effect: Stop) -> str:
    metrics = Metrics()
    metrics.stopped(effect.slot, effect.reason, 0.0)
    [cause] = metrics.counted().loads[effect.slot].stops
    return cause


def _every_stop() -> list[Stop]:
    """Return the effects of stopping a slot for every reason that there is."""
    spec = SlotSpec(launch=LlamaServer(model="a.gguf"), ttl=60.0)
    other = SlotSpec(launch=LlamaServer(model="b.gguf"))
    effects: list[Effect] = []
    for event in range(5):
        scheduler = Scheduler(Limits(max_loaded=1))
        scheduler.request(TicketId(1), Wish(spec=spec, need=1), 0.0)
        scheduler.started(spec.id, 0.0)
        scheduler.released(TicketId(1), 1.0)
        effects += [
            lambda s: s.request(TicketId(2), Wish(spec=other, need=1), 2.0),
            lambda s: s.tick(100.0),
            lambda s: s.unload(spec.id, 2.0),
            lambda s: s.replace_specs([], 2.0),
            lambda s: s.closing(2.0),
        ][event](scheduler)
    return [effect for effect in effects if isinstance(effect, Stop)]


@given(st.lists(st.floats(min_value=0, max_value=1e6, allow_nan=False)))
def test_a_histogram_counts_each_value_in_the_first_bound_that_is_not_below_it(values: list[float]) -> None:
    histogram = Histogram(SECONDS)
    for value in values:
        histogram.observe(value)
    bounds = [*SECONDS, float("inf")]
    below = [sum(value <= bound for value in values) for bound in bounds]
    assert below == [sum(histogram.counts[: place + 1]) for place in range(len(bounds))]
    assert pytest.approx(sum(values)) == histogram.total


def test_the_bounds_reach_the_load_of_a_large_model() -> None:
    assert 600.0 == SECONDS[-1]


def test_openmetrics_are_given_to_whom_asks_for_them() -> None:
    state = State(counted=Metrics().counted(), slots={}, names={}, budget=None)
    text, content_type = exposition(state, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_the_journal_keeps_the_last_requests_newest_first() -> None:
    journal = Journal(Metrics(), kept=2)
    for number in range(3):
        journal.enter(facts(request_id=str(number)))
    assert ["2", "1"] == [told.request_id for told in journal.last()]

"""What is shipped for Prometheus and Grafana fits the metrics that the gateway has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.schema import ServerSection
from gateway.core.slot import LlamaServer, SlotId, SlotSpec
from gateway.engine.exposition import State, exposition
from gateway.engine.facts import CLIENT_LEFT, DONE, Facts
from gateway.engine.metrics import Metrics
from tests.serving import serving

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "model-gateway.json").read_text(encoding="utf-8"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
FUNCTIONS = {"histogram_quantile", "increase", "rate", "sum", "label_values"}


def expressions() -> list[str]:
    variables = DASHBOARD["templating"]["list"]
    return [
        *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
        *(variable["query"]["query"] for variable in variables if variable["type"] == "query"),
    ]


def metrics_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\bby \([^)]*\)|\[[^\]]*\]", " ", expression)
    bare = re.sub(r"(label_values\(\w+), \w+\)", r"\1)", bare)
    return set(re.findall(r"[a-z][a-z_]+", bare)) - FUNCTIONS


def labels_in(expression: str) -> set[str]:
    selected = {name for block in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)=~?\"", block)}
    grouped = {name.strip() for block in re.findall(r"\bby \(([^)]*)\)", expression) for name in block.split(",")}
    return selected | grouped | set(re.findall(r"label_values\(\w+, (\w+)\)", expression))


def everything() -> str:
    """Return metrics with a sample in each family."""
    metrics, slot = Metrics(), SlotId("slot")
    for outcome in (DONE, CLIENT_LEFT, "queue_full", "backend_broken"):
        facts = Facts("id", 0.0, asked=0.1, granted=0.3, loading=0.1, sent=0.4, answered=0.5, first_byte=0.6, ended=1.0)
        facts.streaming, facts.tokens_in, facts.tokens_out, facts.outcome = True, 3, 5, outcome
        metrics.requested(facts)
    metrics.stopped(slot, "makes room for slot", 1.0)
    metrics.started(slot, 1.0)
    state = State(counted=metrics.counted(), slots={}, names={slot: "a"}, budget=None)
    return exposition(state, "")[0].decode()


@pytest.mark.parametrize("expression", expressions())
def test_every_label_of_the_dashboard_is_one_of_its_metric(expression: str) -> None:
    samples = [sample for family in text_string_to_metric_families(everything()) for sample in family.samples]
    for metric in metrics_in(expression):
        known = {label for sample in samples if sample.name == metric for label in sample.labels}
        assert set() == labels_in(expression) - known


async def test_every_metric_of_the_dashboard_is_there_before_the_first_request(
    tmp_path: Path, llama_server_program: Path
) -> None:
    async with serving(tmp_path, {}, program=llama_server_program) as gateway, gateway.http.get("/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    there = {family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, ("",))}
    named = set().union(*(metrics_in(expression) for expression in expressions()))
    assert len(named) > 20
    assert set() == named - there


def test_every_metric_is_in_the_documentation() -> None:
    document = (DEPLOY.parent / "docs" / "API.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:gateway|gen_ai|process)_[a-z_]+)`", document))
    families = list(text_string_to_metric_families(everything()))
    there = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert there == documented


def test_the_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len(panels) == len({panel["id"] for panel in panels})
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(places) == len(set(places))


def test_prometheus_reads_the_gateways_own_port() -> None:
    [job] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    defaults = ServerSection()
    assert [{"targets": [f"{defaults.host}:{defaults.port}"]}] == job["static_configs"]
    assert "/metrics" == job["metrics_path"]


def test_a_slot_is_shown_by_its_name() -> None:
    spec = SlotSpec(launch=LlamaServer(model="m.gguf"))
    state = State(counted=Metrics().counted(), slots={}, names={spec.id: "ms/m"}, budget=1)
    assert 'gateway_requests_in_flight{model="ms/m"} 0.0' in exposition(state, "")[0].decode()

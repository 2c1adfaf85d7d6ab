"""The sampler values that reach the server: read from its own answer, for each regime and for twenty aliases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Served, serving

# As llama-server calls them in `generation_settings`, which it answers to POST /completion (build 11669).
DEFAULTS = {"temperature": 0.8, "min_p": 0.05, "top_k": 40, "top_p": 0.95, "repeat_penalty": 1.0, "seed": 4294967295}


def alias_of(number: int) -> dict[str, Any]:
    """Return one of many aliases: they differ in three sampler values."""
    args = f"--temp {number / 10} --min-p {number / 100} --top-k {number}"
    return {"base_model": "base", "sampler_args": args}


@pytest.fixture
async def twenty(tmp_path: Path, program: str, tiny_model: Path) -> AsyncIterator[Served]:
    """A gateway with twenty aliases of one model, and one alias for each regime."""
    models: dict[str, Any] = {"base": {"path": str(tiny_model), "ctx_size": 512, "parallel": 4}}
    models |= {f"alias-{number}": alias_of(number) for number in range(1, 21)}
    values = {"temperature": 0.3, "min_p": 0.2}
    models |= {
        "suggests": {"base_model": "base", "request_params": values},
        "enforces": {"base_model": "base", "request_params": {"enforce": values}},
        "strips": {"base_model": "base", "request_params": {"strip": list(values)}},
        "all": {
            "base_model": "base",
            "request_params": {
                "suggest": {"temperature": 0.3, "top_k": 7},
                "enforce": {"min_p": 0.2},
                "strip": ["top_k", "repeat_penalty"],
            },
        },
    }
    async with serving(tmp_path, models, program=program) as gateway:
        yield gateway


async def used(gateway: Served, model: str, **sent: Any) -> dict[str, float]:
    """Return the sampler values that the server says it used."""
    body = {"model": model, "prompt": "hi", "n_predict": 1, **sent}
    status, answer = await gateway.post("/completion", body)
    assert status == 200, answer
    return {name: round(answer["generation_settings"][name], 3) for name in DEFAULTS}


async def test_twenty_aliases_with_their_own_samplers_share_one_process(twenty: Served) -> None:
    names = [f"alias-{number}" for number in range(1, 21)]
    answers = await asyncio.gather(*(used(twenty, name) for name in names))
    expected = [
        DEFAULTS | {"temperature": number / 10, "min_p": number / 100, "top_k": number} for number in range(1, 21)
    ]
    assert expected == answers
    [row] = (await twenty.running()).values()
    assert {f"ms/{name}" for name in names} < {row["model"], *row["aliases"]}


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        ("base", {}, {}),
        ("base", {"temperature": 1.1}, {"temperature": 1.1}),
        ("suggests", {}, {"temperature": 0.3, "min_p": 0.2}),
        ("suggests", {"temperature": 1.1}, {"temperature": 1.1, "min_p": 0.2}),
        ("suggests", {"temperature": None}, {"temperature": 0.3, "min_p": 0.2}),
        ("suggests", {"temperature": 0}, {"temperature": 0.0, "min_p": 0.2}),
        ("enforces", {}, {"temperature": 0.3, "min_p": 0.2}),
        ("enforces", {"temperature": 1.1, "top_k": 9}, {"temperature": 0.3, "min_p": 0.2, "top_k": 9}),
        ("strips", {"temperature": 1.1, "min_p": 0.9, "top_p": 0.5}, {"top_p": 0.5}),
        (
            "all",
            {"temperature": 1.1, "min_p": 0.9, "top_k": 99, "repeat_penalty": 1.5, "seed": 5},
            {"temperature": 1.1, "min_p": 0.2, "top_k": 7, "seed": 5},
        ),
    ],
)
async def test_enforced_wins_over_the_client_and_the_client_over_suggested(
    twenty: Served, model: str, sent: dict[str, Any], expected: dict[str, float]
) -> None:
    assert DEFAULTS | expected == await used(twenty, model, **sent)

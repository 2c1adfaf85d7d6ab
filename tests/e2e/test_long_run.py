"""Models that take turns, and what many requests leave behind in the gateway: nothing."""

from pathlib import Path

import psutil

from tests.e2e.conftest import Start
from tests.e2e.process import GatewayProcess, own

REQUESTS = 200
MORE_DESCRIPTORS = 4  # connections that are kept open for the next request
MORE_MEMORY = 8 << 20  # an allocator's slack; 200 requests that were kept would be more


def test_two_models_take_turns_where_there_is_room_for_one(
    start: Start, llama_server: Path | None, tiny_model: Path, other_tiny_model: Path
) -> None:
    models = {"a": own(tiny_model), "b": own(other_tiny_model)}
    gateway = start(models, "--max-loaded", "1", llama_server=llama_server)
    for model in ("a", "b", "a", "b"):
        assert model == gateway.chat(model)["model"]
        assert [f"ms/{model}"] == gateway.running()
        assert 1 == len(gateway.servers())


def test_many_requests_leave_neither_descriptors_nor_memory_behind(
    start: Start, llama_server_program: Path, tiny_model: Path
) -> None:
    gateway = start({"a": own(tiny_model)}, llama_server=llama_server_program)
    _ask(gateway, REQUESTS // 4)
    descriptors, memory = _held(gateway)
    _ask(gateway, REQUESTS)
    more_descriptors, more_memory = _held(gateway)
    assert more_descriptors - descriptors <= MORE_DESCRIPTORS
    assert more_memory - memory <= MORE_MEMORY


def _ask(gateway: GatewayProcess, times: int) -> None:
    for _ in range(times):
        gateway.chat("a", "x" * 1000, max_tokens=1)


def _held(gateway: GatewayProcess) -> tuple[int, int]:
    process = psutil.Process(gateway.process.pid)
    return process.num_fds(), process.memory_info().rss

"""Footprints against a living llama-server: what it logs that it allocates, and what it really takes."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from gateway.core.footprint import LoadShape, footprint
from gateway.library.gguf import read_header
from tests.core.models import MODELS
from tests.library.sparse_gguf import write

MIB = 1 << 20

LAUNCHES = {
    "llama-gqa": LoadShape(ctx_size=1000, parallel=3, cache_type_k="q8_0", cache_type_v="q4_0"),
    "deci": LoadShape(ctx_size=1024, flash_attention=False),
    "gemma3": LoadShape(ctx_size=4096, parallel=2, unified_cache=True),
    "qwen3": LoadShape(ctx_size=2048, parallel=2, ubatch=128),
    "lfm2": LoadShape(ctx_size=1024, parallel=4),
    "mamba": LoadShape(ctx_size=1024, parallel=4),
    "deepseek2": LoadShape(ctx_size=2048),
}


@contextmanager
def running(program: Path, model: Path, shape: LoadShape, *, until: str) -> Iterator[tuple[int, str]]:
    """Launch `program`; give its process id and its log once that has a line with `until` in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_ARG_")}
    with TemporaryDirectory() as folder:  # a socket's path must be short
        place = ["-m", str(model), "--host", f"{folder}/s.sock"]
        fixed = ["-lv", "4", "-ngl", "999", "-fit", "off", "--no-warmup", "--cache-ram", "0"]
        process = subprocess.Popen(
            [str(program), *place, *fixed, *arguments(shape)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        with process:
            try:
                assert process.stdout is not None
                log = ""
                for line in process.stdout:
                    log += line
                    if until in line:
                        break
                assert until in log
                yield process.pid, log
            finally:
                process.kill()


def arguments(shape: LoadShape) -> list[str]:
    """Return the flags of llama-server that say what `shape` says."""
    numbers = {"-c": shape.ctx_size, "-np": shape.parallel, "-b": shape.batch, "-ub": shape.ubatch}
    flags = [part for flag, number in numbers.items() for part in (flag, str(number))]
    flags += ["-ctk", shape.cache_type_k, "-ctv", shape.cache_type_v]
    flags += ["-fa", "auto" if shape.flash_attention else "off"]
    return [*flags, *(["-kvu"] if shape.unified_cache else [])]


def logged(log: str, what: str) -> float:
    """Return the sum, in MiB, of all buffers that the log calls so."""
    return sum(float(size) for size in re.findall(rf" {what} size = *([\d.]+) MiB", log))


@pytest.mark.parametrize("name", sorted(LAUNCHES))
def test_llama_server_allocates_what_the_footprint_says(tmp_path: Path, llama_server_program: Path, name: str) -> None:
    model, shape = tmp_path / "m.gguf", LAUNCHES[name]
    write(model, MODELS[name])
    need = footprint(read_header(model), shape)
    with running(llama_server_program, model, shape, until="graph: nodes") as (_, log):
        pass
    assert pytest.approx(logged(log, "model buffer"), rel=0.01) == need["weights"] / MIB
    assert pytest.approx(logged(log, "KV buffer"), rel=0.01, abs=0.02) == need["kv cache"] / MIB
    assert pytest.approx(logged(log, "RS buffer"), rel=0.01, abs=0.02) == need["recurrent state"] / MIB
    assert pytest.approx(logged(log, "compute buffer"), rel=0.2) == need["compute buffer"] / MIB


def test_a_llama_server_is_no_larger_than_its_footprint(llama_server_program: Path, tiny_model: Path) -> None:
    shape = LoadShape(ctx_size=2048)
    need = footprint(read_header(tiny_model), shape)
    with running(llama_server_program, tiny_model, shape, until="model loaded") as (pid, _):
        resident = psutil.Process(pid).memory_info().rss
    assert resident <= need.total

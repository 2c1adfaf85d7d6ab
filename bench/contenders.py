"""The proxies that are compared, each as a user would run it, and the peer behind all of them.

Each is started with its files in a folder of its own and ended by its process id. The gateway comes first: it launches
the peer in the place of a llama-server, and the others forward to that very process.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.build import HERE, CannotMeasure, go_proxy
from bench.measure import Places, on_processor
from gateway.demo import model_path

MODELS = ("peer", "peer-2", "peer-3", "peer-4")
"""All measurements but that of open streams ask for the first one."""
START_TIME = 30.0  # seconds
END_TIME = 15.0
AT_ONCE = 256
"""Requests that a model is configured to take at once, so that nobody queues: the most that can be configured."""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000000; client_max_body_size 64m;
    client_body_buffer_size 2m;  # else bodies go through a file
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream peer {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://peer; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A proxy that runs. `pids` are the processes that are its own, without the peer."""

    name: str
    port: int
    version: str
    pids: tuple[int, ...]


def free_port() -> int:
    """Return a port of loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str, body: bytes | None = None) -> Any:
    """Return the JSON of an answer; raise `OSError` if there is none, `CannotMeasure` if it is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise CannotMeasure(f"{path} was answered with {answer.status}: {text[:500]!r}")
    return json.loads(text)


@contextmanager
def gateway(folder: Path, peer: Path, places: Places) -> Iterator[tuple[Contender, int]]:
    """Run the gateway inside this block; yields it and the port of the peer, which it has started."""
    folder.mkdir()
    port = free_port()
    _configure(folder, peer, places)
    argv = [sys.executable, "-m", "gateway", "serve", "--config", str(folder), "--port", str(port)]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    with _running(argv, folder, places, {"PYTHONPATH": os.pathsep.join(filter(None, paths))}) as process:
        _wait(process, port, folder, "/health")
        for model in MODELS:
            hello = {"model": model, "bench": "small", "messages": [{"role": "user", "content": "hi"}]}
            ask(port, "/v1/chat/completions", json.dumps(hello).encode())
        upstream = next(row["proxy"] for row in ask(port, "/running")["running"] if row["model"].endswith(MODELS[0]))
        children = psutil.Process(process.pid).children(recursive=True)
        own = tuple(child.pid for child in children if child.exe() != str(peer))
        version = f"CPython {sys.version.split()[0]}"
        yield (
            Contender(name="gateway", port=port, version=version, pids=(process.pid, *own)),
            int(upstream.split(":")[-1]),
        )


def _configure(folder: Path, peer: Path, places: Places) -> None:
    settings = {
        "models": {"demo": False},
        "memory": {"budget": "none"},
        "llama_server": {"program": str(peer)},
        "log": {"level": "info"},
    }
    model: dict[str, Any] = {
        "path": str(model_path()),
        "ctx_size": 256,
        "max_concurrent": AT_ONCE,
        "ttl": "never",
        "sampler_args": "--temp 0.7",
    }
    entries = {
        name: model | {"env": {"PEER_CPU": str(places.others), "PEER_NAME": name}}  # other variables, another process
        for name in MODELS
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "custom_models.yaml").write_text(yaml.safe_dump({"models": entries}))


@contextmanager
def go(folder: Path, upstream: int, places: Places) -> Iterator[Contender | None]:
    """Run the proxy in Go inside this block, on one processor like the others; `None` where there is no Go."""
    program = go_proxy()
    if program is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    argv = [str(program), "-listen", f"127.0.0.1:{port}", "-upstream", f"http://127.0.0.1:{upstream}"]
    with _running(argv, folder, places, {"GOMAXPROCS": "1"}) as process:
        _wait(process, port, folder, None)
        yield Contender(name="go", port=port, version=_go_version(program), pids=(process.pid,))


def _go_version(program: Path) -> str:
    """Return the version that a program was built with: it stands in the program, `go1.` and what follows."""
    found = re.search(rb"go(1\.[0-9]+(?:\.[0-9]+)?)", program.read_bytes())
    return "of unknown version" if found is None else found[1].decode()


@contextmanager
def nginx(folder: Path, upstream: int, places: Places) -> Iterator[Contender | None]:
    """Run nginx inside this block; `None` where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    shown = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False).stderr
    argv = [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(conf)]
    with _running(argv, folder, places, {}) as process:
        _wait(process, port, folder, "/health")
        workers = tuple(child.pid for child in psutil.Process(process.pid).children())
        yield Contender(name="nginx", port=port, version=shown.strip().split("/")[-1], pids=(process.pid, *workers))


@contextmanager
def _running(
    argv: Sequence[str], folder: Path, places: Places, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "log").open("wb") as log, on_processor(places.proxy):
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=os.environ | environment
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, folder: Path, path: str | None) -> None:
    """Return when `path` is answered, or, without a path, when the port is open."""
    deadline = time.monotonic() + START_TIME
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            else:
                ask(port, path)
        except OSError:
            time.sleep(0.02)
        else:
            return
    said = (folder / "log").read_text(errors="replace")[-2000:]
    raise CannotMeasure(f"{process.args!r} did not start. It said:\n{said}")

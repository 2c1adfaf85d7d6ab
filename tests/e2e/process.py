"""The gateway as people run it: a process of its own, with an environment that says nothing to it but where to look.

`started` returns once it listens. What it logs is kept and can be waited for line by line. Whatever a test does to it,
leaving the block ends it and waits for its end.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

import gateway

ROOT = Path(gateway.__file__).resolve().parents[1]
PATIENCE = 30.0  # seconds; a busy machine takes its time, and nothing here measures it
LISTENING = re.compile(r"listening on (http://\S+)")


class Logged:
    """The lines that a process writes, read by a thread as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tell(line.rstrip("\n"))
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _tell(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def until(self, pattern: str | re.Pattern[str], within: float = PATIENCE) -> "re.Match[str]":
        """Return the first match in a line, written already or still to come; fail if none comes."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._found(pattern) is not None, within)
            found = self._found(pattern)
        assert found is not None, f"no line has {pattern!r}:\n" + "\n".join(self.lines)
        return found

    def _found(self, pattern: str | re.Pattern[str]) -> "re.Match[str] | None":
        matches = (re.search(pattern, line) for line in self.lines)
        return next((match for match in matches if match is not None), None)

    def close(self) -> None:
        """Return once the last line has come: everything that could have written one is gone."""
        self._reader.join(PATIENCE)
        assert self._process.stderr is not None
        self._process.stderr.close()


class GatewayProcess:
    """A running gateway."""

    def __init__(self, process: "subprocess.Popen[str]", log: Logged) -> None:
        self.process = process
        self.log = log
        self.url = log.until(LISTENING)[1]

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return int(self.url.rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def exit_code(self, within: float = PATIENCE) -> int:
        """Return its exit code once it has ended; fail if it has not after `within` seconds."""
        return self.process.wait(within)

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:
            return json.load(response)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the JSON of a POST; raises `HTTPError` for any other status than success."""
        with urllib.request.urlopen(self.asking(path, body), timeout=PATIENCE) as response:
            return json.load(response)

    def asking(self, path: str, body: Mapping[str, Any]) -> urllib.request.Request:
        """Return a POST that has not been sent."""
        headers = {"Content-Type": "application/json"}
        return urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)

    def chat(self, model: str, prompt: str = "hi", **fields: Any) -> Any:
        """Return the answer to one message."""
        return self.post("/v1/chat/completions", chat(model, prompt, **fields))

    def running(self) -> list[str]:
        """Return the names of the models that are loaded."""
        return [row["model"] for row in self.get("/running")["running"]]

    def servers(self) -> list[psutil.Process]:
        """Return the llama-servers that it has started."""
        return [child for child in self.family() if "--model" in child.cmdline()]

    def family(self) -> list[psutil.Process]:
        """Return every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)


def chat(model: str, prompt: str = "hi", **fields: Any) -> dict[str, Any]:
    """Return the body of a short chat."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8} | fields


def own(model: Path, **keys: Any) -> dict[str, Any]:
    """Return an entry of custom_models.yaml; one thread, because two that share a core wait for each other."""
    return {"path": str(model), "extra_args": "--threads 1"} | keys


def configure(folder: Path, models: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> None:
    """Write configuration files as a person would."""
    (folder / "custom_models.yaml").write_text(yaml.safe_dump({"models": dict(models)}))
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(settings or {})))


def environment(folder: Path, llama_server: Path | None = None) -> dict[str, str]:
    """Return what a fresh user has: nothing set, a home without files, and on PATH this llama-server or none."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = [place for place in folders if not (Path(place) / "llama-server").exists()]
    if llama_server is not None:
        path.insert(0, str(llama_server.parent))
    return {"PATH": os.pathsep.join(path), "HOME": str(folder), "PYTHONPATH": str(ROOT), "NO_PROXY": "*"}


def command(*arguments: str) -> list[str]:
    """Return the command line of `gateway`."""
    return [sys.executable, "-m", "gateway", *arguments]


@contextmanager
def started(
    folder: Path, arguments: Sequence[str] = (), *, llama_server: Path | None = None
) -> Iterator[GatewayProcess]:
    """Run `gateway serve` in `folder` on a free port."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *arguments),
        cwd=folder,
        env=environment(folder, llama_server),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Logged(process)
    try:
        yield GatewayProcess(process, log)
    finally:
        _end(process)
        log.close()


def _end(process: "subprocess.Popen[str]") -> None:
    """End it as gently as it lets us: the second SIGTERM waits for nobody."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)


def living(processes: Sequence[psutil.Process], within: float) -> list[str]:
    """Return the command lines of those that still live after at most `within` seconds.

    Looks every 10 ms: the end of processes that are not our children cannot be waited for.
    """
    deadline = time.monotonic() + within
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [str(process) for process in left]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

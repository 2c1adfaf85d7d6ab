"""Makes the lock files from pyproject.toml, and tells whether they are in step with it.

Three files, all with hashes and good for every platform and Python that the project supports:

- `deploy/requirements.lock`: what the gateway needs to run, the embedded model server included;
- `.ci/requirements.lock`: that and what its tests and checks need, the shared packages at the same versions;
- `.ci/build.lock`: what builds the package itself.

`python .ci/lock.py` makes them (network needed; pins that still fit are kept, `--upgrade` renews them all);
`python .ci/lock.py --check` compares without the network. A lock's first line carries a digest of the fields of
pyproject.toml that it was made from: that line going stale is what the check sees.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = "3.11"
RUNTIME = "deploy/requirements.lock"
EVERYTHING = ".ci/requirements.lock"
BUILD = ".ci/build.lock"
PIN = re.compile(r"^([A-Za-z0-9._-]+==\S+)", re.MULTILINE)


def head(inputs: object) -> str:
    """Return the first line of a lock made from `inputs`."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return f"# Made by `make lock`; do not edit. Inputs: {digest[:32]}\n"


def inputs(pyproject: Mapping[str, Any]) -> dict[str, object]:
    """Return, for each lock, what it is made from."""
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    runtime = [project["requires-python"], project["dependencies"], extras["embedded"]]
    return {
        RUNTIME: runtime,
        EVERYTHING: [*runtime, extras["dev"]],
        BUILD: pyproject["build-system"]["requires"],
    }


def resolve(lock: str, arguments: Sequence[str], requirements: Sequence[str] = ()) -> None:
    """Write `lock` by uv; `requirements` go to its standard input, for sources that are named "-"."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--python-version", OLDEST_PYTHON, "--no-header", "--no-annotate", "--output-file", lock, *arguments]
    subprocess.run(command, cwd=ROOT, input="\n".join(requirements), text=True, check=True)


def make(pyproject: Mapping[str, Any], options: Sequence[str]) -> None:
    """Make all locks, the runtime's first: it binds the other."""
    extras = ["--extra", "embedded"]
    resolve(RUNTIME, ["pyproject.toml", *extras, *options])
    resolve(EVERYTHING, ["pyproject.toml", *extras, "--extra", "dev", "--constraints", RUNTIME, *options])
    resolve(BUILD, ["-", *options], pyproject["build-system"]["requires"])
    for lock, source in inputs(pyproject).items():
        path = ROOT / lock
        path.write_text(head(source) + path.read_text(encoding="utf-8"), encoding="utf-8")
        print(f"made {lock}: {len(pins(lock))} packages")


def pins(lock: str) -> set[str]:
    """Return the `name==version` of each package in `lock`."""
    return set(PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


def faults(pyproject: Mapping[str, Any]) -> list[str]:
    """Return what is out of step, one sentence each."""
    stale = [
        f"{lock} was made from other requirements than pyproject.toml has now: run `make lock`"
        for lock, source in inputs(pyproject).items()
        if not (ROOT / lock).read_text(encoding="utf-8").startswith(head(source))
    ]
    differing = sorted(pins(RUNTIME) - pins(EVERYTHING))
    if differing:
        stale.append(f"{EVERYTHING} lacks or changes {', '.join(differing)} of {RUNTIME}: run `make lock`")
    return stale


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="make or check the lock files")
    parser.add_argument("--check", action="store_true", help="only tell whether they are in step")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not the pinned ones")
    options = parser.parse_args()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    if not options.check:
        make(pyproject, ["--upgrade"] if options.upgrade else [])
        return 0
    found = faults(pyproject)
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

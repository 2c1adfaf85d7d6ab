"""Programs of Debian's testing suite, unpacked into a folder without touching the system.

apt itself does the work, with a state folder of its own and an empty list of installed packages: it checks the
signature of the suite, resolves what the package needs down to the C library, and verifies each download. The
mirror is the one that the system's apt uses. Needs no root. Roughly 40 packages and 20 MB for llama-server.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers.cache import PeerMissing

SUITE = "testing"


def unpack(package: str, root: Path, work: Path) -> None:
    """Unpack `package` and everything that it depends on into `root`; `work` takes the downloads."""
    environment = _private_apt(work)
    _run(["apt-get", "update"], environment)
    _run(["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", package], environment)
    root.mkdir(parents=True, exist_ok=True)
    for archive in sorted((work / "cache/archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(root)], environment)


def mirror() -> str:
    """Return the address of the Debian mirror among the sources of the system's apt (not the security archive)."""
    wanted = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = sorted({site.rstrip("/") for site in _run(wanted, os.environ).split()})
    for site in sites:
        if site.endswith("/debian"):
            return site
    raise PeerMissing(f"no Debian mirror among apt's sources: {', '.join(sites) or 'there are none'}")


def _private_apt(work: Path) -> dict[str, str]:
    """Prepare `work` for apt; return the environment in which apt uses it and nothing of the system's state."""
    for part in ("lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb {mirror()} {SUITE} main\n")
    (work / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",  # root's apt would otherwise drop rights that it needs in this folder
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Update::Error-Mode": "any",  # `update` would otherwise succeed without the lists
    }
    file = work / "apt.conf"
    file.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    return {**os.environ, "APT_CONFIG": str(file), "LC_ALL": "C"}


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise PeerMissing(f"{command[0]} is not on PATH: this machine is no Debian or Ubuntu") from None
    except subprocess.CalledProcessError as failure:
        raise PeerMissing(f"`{' '.join(command)}` failed: {failure.stderr.strip()[-800:]}") from None
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"`{' '.join(command)}` took more than 300 s: is the mirror reachable?") from None
    return done.stdout

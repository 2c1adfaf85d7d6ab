"""Where the files are.

Owns the search for the configuration folder. All files are taken from *one* folder, so that no setting comes
from a file nobody thought of: the one named by `--config`, else the working directory, else the user's
configuration folder; of the last two the first that holds a YAML file of ours, or if neither does, a `.env`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from gateway.config.problem import Place, Problem

CONFIG: Final = "config.yaml"
CUSTOM_MODELS: Final = "custom_models.yaml"
HARMONY_MODELS: Final = "harmony_models.yaml"
DOTENV: Final = ".env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The configuration folder and the config.yaml in it; the file need not exist.

    `decisive`: the files by whose existence the folder was chosen.
    """

    folder: Path
    config: Path
    problems: tuple[Problem, ...] = ()
    decisive: tuple[Path, ...] = ()


def user_folder() -> Path:
    """Return the user's configuration folder on this platform. Looks at the environment: for `main` only."""
    return Path(platformdirs.user_config_dir("model-gateway", appauthor=False))


def find(named: Path | None, cwd: Path, user: Path) -> Found:
    """Return where to read; `named` is the absolute path that `--config` gave."""
    if named is not None:
        return _named(named)
    yaml = (CONFIG, CUSTOM_MODELS, HARMONY_MODELS)
    decisive = tuple(folder / name for folder in (cwd, user) for name in (*yaml, DOTENV))
    for wanted in (yaml, (DOTENV,)):
        for folder in (cwd, user):
            if any((folder / name).is_file() for name in wanted):
                return Found(folder=folder, config=folder / CONFIG, decisive=decisive)
    return Found(folder=cwd, config=cwd / CONFIG, decisive=decisive)


def _named(path: Path) -> Found:
    if path.is_dir():
        return Found(folder=path, config=path / CONFIG)
    problems: tuple[Problem, ...] = ()
    if not path.is_file():
        message = f"there is no file or folder {path}"
        problems = (Problem.at(Place(file="command line"), "--config", message),)
    return Found(folder=path.parent, config=path, problems=problems)


def read(path: Path) -> bytes | str | None:
    """Return what a file holds, `None` if there is none, or a sentence that says why it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        return f"cannot be read: {fault.strerror}"

"""A folder to write configuration in, and to load it from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.config.command_line import CommandLine
from gateway.config.discovery import Discovery, ModelFile
from gateway.config.load import Loaded, Surroundings, load
from gateway.config.problem import ConfigError


@dataclass(kw_only=True)
class Place:
    """A working directory, a home and a user's configuration folder of their own."""

    cwd: Path
    home: Path
    user: Path
    discovered: dict[str, ModelFile] = field(default_factory=dict)
    oddities: dict[Path, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the working directory."""
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def models(self, text: str) -> None:
        """Write custom_models.yaml; `a.gguf` and `b.gguf` exist beside it."""
        self.write("a.gguf", "GGUF")
        self.write("b.gguf", "GGUF")
        self.write("custom_models.yaml", text)

    def load(
        self,
        options: CommandLine | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        demo_model: Path | None = None,
    ) -> Loaded:
        """Load what was written."""
        around = Surroundings(
            environ=environ or {},
            cwd=self.cwd,
            home=self.home,
            user_folder=self.user,
            demo_model=demo_model,
            discover=lambda _folder: Discovery(models=self.discovered, oddities=self.oddities),
        )
        return load(options or CommandLine(), around)

    def problems(self, options: CommandLine | None = None, *, environ: Mapping[str, str] | None = None) -> list[str]:
        """Load, expecting problems, and return them as text."""
        with pytest.raises(ConfigError) as caught:
            self.load(options, environ=environ)
        assert "\n".join(str(problem) for problem in caught.value.problems) == str(caught.value)
        return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(cwd=tmp_path / "cwd", home=tmp_path / "home", user=tmp_path / "user")
    for folder in (made.cwd, made.home, made.user):
        folder.mkdir()
    return made

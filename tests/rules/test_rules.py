"""The rules of the house that a script can check. A list of exceptions may only shrink."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "config.yaml.example",
    "custom_models.yaml",
    "deploy",
    "docs",
    "gateway",
    "harmony_models.yaml",
    "pyproject.toml",
    "tests",
}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGER_FILES: set[str] = set()
LONGER_FUNCTIONS: set[str] = set()
MODULES = sorted(path for path in (ROOT / "gateway").rglob("*.py"))
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _kept_files() -> list[str]:
    """Return the files that git keeps, or would keep: what is ignored is nobody's business."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.splitlines()
    return [_name(path) for path in ROOT.iterdir()]  # an unpacked archive: git was never there


def test_only_known_names_lie_at_the_top() -> None:
    names = {file.split("/")[0] for file in _kept_files()}
    assert set() == {name for name in names if not name.startswith(".")} - TOP_LEVEL


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_each_module_says_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))), f"{_name(module)} has no docstring"


def test_no_module_is_too_long() -> None:
    too_long = {_name(path) for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE}
    assert too_long == LONGER_FILES


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{_name(path)}:{node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LONGEST_FUNCTION
    }
    assert too_long == LONGER_FUNCTIONS


def test_no_work_is_left_for_later() -> None:
    left = [
        f"{_name(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert left == []

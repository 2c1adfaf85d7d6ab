"""Which models are found in a folder, and what they are called."""

from pathlib import Path

import pytest

from gateway.config.discovery import ModelFile
from gateway.library import scan as module
from gateway.library.scan import scan


def put(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path) -> dict[str, str]:
    """Return the path below `root` of each model by its name."""
    return {name: file.path.relative_to(root).as_posix() for name, file in scan(root).models.items()}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ollama/gemma3/gemma3-12.2B-Q8_0.gguf", "gemma3-12.2b-q8_0"),
        ("ollama/gemma3/Gemma3.gguf", "gemma3"),
        ("ollama/codestral/other-22.2B.gguf", "codestral-other-22.2b"),
        ("ollama/GLM 4.7 (Flash)/x_y+z.gguf", "glm-4.7-flash-x_y-z"),
        ("lmstudio-community/Qwen2.5-7B-GGUF/qwen2.5-7b-q4_k_m.gguf", "lmstudio-community-qwen2.5-7b-gguf"),
        ("Big/Model/model-q8-00001-of-00002.gguf", "big-model"),
        ("ollama/gpt-oss/gpt-oss-20b-00001-of-00002.gguf", "gpt-oss-20b"),
        ("mine/Tiny.GGUF", "mine-tiny"),
        ("Tiny.gguf", "tiny"),
        ("\u65e5/\u672c/\u8a9e.gguf", "model"),
    ],
)
def test_names_come_from_folder_and_file_as_model_serve_makes_them(tmp_path: Path, file: str, name: str) -> None:
    put(tmp_path, file, file.replace("-00001-", "-00002-"))
    assert found(tmp_path) == {name: file}


def test_of_files_that_would_share_a_name_none_is_dropped(tmp_path: Path) -> None:
    names = ["p/m/m-q4.gguf", "p/m/m-q8.gguf", "p/m+/m-q8.gguf", "p/m+/m-q9.gguf", "p-m/x/y.gguf", "ollama/p/m.gguf"]
    put(tmp_path, *names)
    assert found(tmp_path) == {
        "p-m": "ollama/p/m.gguf",
        "p-m-q4": "p/m/m-q4.gguf",
        "p-m-q8": "p/m/m-q8.gguf",
        "p-m-q8-2": "p/m+/m-q8.gguf",
        "p-m-q9": "p/m+/m-q9.gguf",
        "p-m-x": "p-m/x/y.gguf",
    }


def test_names_do_not_depend_on_the_order_in_which_files_came(tmp_path: Path) -> None:
    names = [f"p/m/{letter}.gguf" for letter in "abcdef"]
    put(tmp_path / "one", *names)
    put(tmp_path / "two", *reversed(names))
    assert found(tmp_path / "one") == found(tmp_path / "two")


def test_a_projector_belongs_to_the_one_model_beside_it_and_is_none_itself(tmp_path: Path) -> None:
    put(tmp_path, "p/one/m.gguf", "p/one/mmproj-F16.gguf")
    put(tmp_path, "p/two/a.gguf", "p/two/b.gguf", "p/two/mmproj.gguf")
    put(tmp_path, "p/three/m.gguf", "p/three/mmproj-f16.gguf", "p/three/m-mmproj-f32.gguf")
    assert {name: file.mmproj for name, file in scan(tmp_path).models.items()} == {
        "p-one": tmp_path / "p/one/mmproj-F16.gguf",
        "p-two": None,
        "p-b": None,
        "p-three": None,
    }


def test_a_model_in_parts_is_one_model_and_only_when_all_parts_are_there(tmp_path: Path) -> None:
    put(tmp_path, *(f"p/m/m-0000{number}-of-00003.gguf" for number in (1, 2, 3)))
    put(tmp_path, "p/n/n-00001-of-00002.gguf", "p/o/o-00002-of-00002.gguf")
    assert found(tmp_path) == {"p-m": "p/m/m-00001-of-00003.gguf"}
    assert {path.parent.name: "is missing" in why for path, why in scan(tmp_path).oddities.items()} == {
        "n": True,
        "o": True,
    }


def test_a_link_is_followed_by_name_and_one_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    put(tmp_path, "blob", "models/ollama/m/other.txt")
    (tmp_path / "models/ollama/m/m-7b.gguf").symlink_to(tmp_path / "blob")
    (tmp_path / "models/ollama/m/m-8b.gguf").symlink_to(tmp_path / "gone")
    seen = scan(tmp_path / "models")
    assert seen.models == {"m-7b": ModelFile(path=tmp_path / "models/ollama/m/m-7b.gguf")}
    assert list(seen.oddities) == [tmp_path / "models/ollama/m/m-8b.gguf"]


def test_folders_that_lead_back_are_looked_at_once(tmp_path: Path) -> None:
    put(tmp_path, "p/m/m.gguf", "p/m/deeper/n.gguf", ".hidden/m/m.gguf", "p/m/.hidden.gguf", "p/m/m.gguf.part")
    (tmp_path / "p" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "p2").symlink_to(tmp_path / "p", target_is_directory=True)
    assert found(tmp_path) == {"p-m": "p/m/m.gguf"}


def test_there_is_an_end_to_the_folders_that_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FOLDERS", 3)
    put(tmp_path, *(f"p/{letter}/m.gguf" for letter in "abcd"))
    seen = scan(tmp_path)
    assert list(seen.models) == ["p-a"]
    assert list(seen.oddities) == [tmp_path]


def test_a_folder_that_is_not_there_or_a_file_has_no_models(tmp_path: Path) -> None:
    put(tmp_path, "file")
    assert (found(tmp_path / "none"), found(tmp_path / "file")) == ({}, {})

"""YAML to values, and where each was written."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import locate
from gateway.config.locate import Document, dotted, plain_scalar, read_yaml
from gateway.config.problem import Place


@pytest.fixture(params=["the fast reader", "the plain reader"], autouse=True)
def _reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML has a reader in C where it was built with one; both must say the same."""
    if request.param == "the plain reader":
        monkeypatch.setattr(locate, "LOADER", yaml.SafeLoader)


def read(text: str) -> Document:
    return read_yaml(text.encode(), "f.yaml")


def problems(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [str(problem) for problem in read_yaml(data, "f.yaml").problems]


def test_values_have_the_types_of_yaml_1_2() -> None:
    text = "a: 1\nb: 1e3\nc: on\nd: 010\ne: 1:30\nf: ~\ng: '5'\nh: [.5, 0x10, true]\ni:\nj: 2024-01-01\n"
    assert read(text).value == {
        "a": 1, "b": 1000.0, "c": "on", "d": 10, "e": "1:30", "f": None, "g": "5", "h": [0.5, 16, True],
        "i": None, "j": "2024-01-01",
    }  # fmt: skip


def test_keys_are_the_text_as_written() -> None:
    assert read("1: a\nyes: b\n~: c\n").value == {"1": "a", "yes": "b", "~": "c"}


def test_every_key_and_item_has_its_place() -> None:
    document = read("a:\n  b: [x,\n    y]\n")
    assert document.place(("a",)) == Place(file="f.yaml", line=1, column=1)
    assert document.place(("a", "b", 1)) == Place(file="f.yaml", line=3, column=5)
    assert document.place(("a", "b", 7, "z")) == Place(file="f.yaml", line=2, column=3)


def test_places_count_characters_and_a_byte_order_mark_is_none() -> None:
    assert read("\ufeff'é': {ü: 1}\n").place(("é", "ü")) == Place(file="f.yaml", line=1, column=7)


def test_an_anchor_may_be_used_again() -> None:
    assert read("a: &x {b: 1}\nc: *x\n").value == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n  b: 1\n\tc: 2\n", "f.yaml:3:1: a tab in the indentation; YAML wants spaces, replace it with two"),
        ("a: b: c\n",
         "f.yaml:1:5: unreadable YAML: a second ': ' in one line; put the value in quotes, or start a new line"),
        ("a: 1\n---\nb: 2\n",
         "f.yaml:2:1: unreadable YAML: a second document ('---') begins here; one file holds one document"),
        ("a: @x\n",
         "f.yaml:1:4: unreadable YAML: a value cannot begin with this character; put the value in quotes"),
        ("a: 'x\n", "f.yaml:2:1: unreadable YAML: a quote is opened and never closed"),
        ("a: *x\n",
         "f.yaml:1:4: unreadable YAML: '*' uses an anchor that is not defined; put the value in quotes if it is text"),
        ("a: !secret x\n", "f.yaml:1:4: a: the tag '!secret' has no meaning here; write the value without it"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: written twice, here and in line 1; remove one of them"),
        ("? [a]\n: 1\n", "f.yaml:1:3: a key must be a single word or text"),
        ("x: {<<: {a: 1}}\n",
         "f.yaml:1:5: x: merge keys (<<) are not read here; inherit with 'base_model'"),
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: not UTF-8 text; save the file as UTF-8"),
        ("a: &a [*a]\n", "f.yaml:1:4: nested deeper than 40 levels"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_problem_with_a_place(text: str | bytes, problem: str) -> None:
    assert problems(text) == [problem]


def test_a_control_character_has_a_place() -> None:
    [problem] = problems("a: 1\nb: x\x07\n")
    assert problem.startswith("f.yaml:2:5: unreadable YAML: ")


def test_anchors_cannot_make_a_small_file_large() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    [problem] = problems("\n".join(lines))
    assert problem.endswith("too many values")


def test_a_very_large_file_is_refused() -> None:
    [problem] = problems(b"a" * (locate.MAX_BYTES + 1))
    assert problem == "f.yaml:1:1: larger than 4 MiB; is this the right file?"


def test_deep_nesting_is_a_problem_and_not_a_crash() -> None:
    assert problems("[" * 900 + "]" * 900) != []


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_problem(data: bytes) -> None:
    document = read_yaml(data, "f.yaml")
    assert document.value is None or not document.problems or document.problems[0].line >= 1


@given(st.text(max_size=30))
def test_a_quoted_text_is_itself(text: str) -> None:
    quoted = yaml.safe_dump({"key": text}, default_style='"')
    assert read(quoted).value == {"key": text}


@given(st.integers())
def test_small_integers_are_numbers_and_absurd_ones_are_text(number: int) -> None:
    expected = number if len(str(number)) <= 40 else str(number)
    assert plain_scalar(str(number)) == expected


def test_a_number_too_large_for_a_float_is_text() -> None:
    assert plain_scalar("1e999") == "1e999"


def test_a_path_is_shown_with_dots_and_brackets() -> None:
    assert dotted(("models", "a", "aliases", 0)) == "models.a.aliases[0]"

"""The body of a request against the standard library's parser, which reads everything."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.alias import Json, Sampling
from gateway.core.errors import BadRequest
from gateway.wire.body import Body

SPACE = st.text(" \t\r\n", max_size=3)
KEYS = st.sampled_from(["model", "stream", "temperature", "min_p", "messages", "ü", "", 'q"\\/\n', "\ud800"]) | st.text(
    st.characters(exclude_categories=()), max_size=5
)
PLAIN_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("model"), inner, max_size=3)
    ),
    max_leaves=8,
)
# What strict parsers refuse and clients do send.
ODD_VALUES = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e400", "1" * 30, "9" * 5000, "-0.0", "1E+2", r'"\ud800"', r'"\udc00\ud800"']
)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string, each character plain or escaped as chance has it."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=not text.isprintable() or draw(st.booleans()))
    units = text.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)) + '"'


@st.composite
def values(draw: st.DrawFn) -> str:
    """A value as some client may have written it."""
    if draw(st.integers(0, 5)) == 0:
        return draw(ODD_VALUES)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    return json.dumps(draw(PLAIN_VALUES), ensure_ascii=draw(st.booleans()), separators=separators)


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """An object as text, and what of it counts: the last value of each key, as it was written."""
    fields = draw(st.lists(st.tuples(KEYS, values()), max_size=6))
    gap = [draw(SPACE) for _ in range(4 * len(fields) + 3)]
    parts = [
        gap[4 * at] + draw(spelled(key)) + gap[4 * at + 1] + ":" + gap[4 * at + 2] + value + gap[4 * at + 3]
        for at, (key, value) in enumerate(fields)
    ]
    text = gap[-1] + "{" + (",".join(parts) or gap[-2]) + "}" + gap[-3]
    return text.encode(), dict(fields)


def loads(text: str | bytes) -> Any:
    """Parse with numbers as they were written."""
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


@given(objects())
@example((b'{"\\ud800":1}', {"\ud800": "1"}))
@example(
    (
        b'{"a":1e400,"b":"\\ud800","c":1.00000000000000000001}',
        {"a": "1e400", "b": r'"\ud800"', "c": "1.00000000000000000001"},
    )
)
def test_what_is_encoded_is_what_the_full_parser_reads(body: tuple[bytes, dict[str, str]]) -> None:
    text, expected = body
    encoded = Body.parse(text).encode()
    assert loads(text) == loads(encoded)
    assert list(expected) == [key for key, _ in json.loads(encoded, object_pairs_hook=list, parse_int=str)]


@given(objects())
def test_untouched_values_survive_byte_for_byte(body: tuple[bytes, dict[str, str]]) -> None:
    text, expected = body
    parsed = Body.parse(text)
    assert {key: value.encode() for key, value in expected.items()} == {
        key: bytes(raw) for key, raw in parsed._fields.items()
    }
    assert all(value.encode() in parsed.encode() for value in expected.values())


@given(objects())
def test_a_field_reads_as_the_full_parser_reads_it(body: tuple[bytes, dict[str, str]]) -> None:
    text, fields = body
    parsed = Body.parse(text)
    for key, value in fields.items():
        assert key in parsed
        if value == "9" * 5000:
            with pytest.raises(BadRequest, match="cannot be read"):
                parsed.value(key)
        else:
            assert repr(_floats(json.loads(value))) == repr(_floats(parsed.value(key)))
    assert "no such key" not in parsed
    assert parsed.value("no such key") is None


def _floats(value: Any) -> Any:
    """Let 30 digits be a float: one parser keeps them exactly, the other does not."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(objects(), st.text(max_size=10))
def test_replacing_the_model_changes_nothing_else(body: tuple[bytes, dict[str, str]], name: str) -> None:
    text, fields = body
    parsed = Body.parse(text)
    parsed.replace({"model": name})
    assert loads(text) | {"model": name} == loads(parsed.encode())
    assert sum(key == "model" for key, _ in json.loads(parsed.encode(), object_pairs_hook=list, parse_int=str)) == 1
    del fields


def test_a_model_inside_a_value_is_not_the_model() -> None:
    parsed = Body.parse(b'{"tools":[{"model":"inner"}],"mod\\u0065l":"first","model":"last"}')
    assert parsed.text("model") == "last"
    parsed.replace({"model": "x"})
    assert parsed.encode() == b'{"tools":[{"model":"inner"}],"model":"x"}'


damage = st.lists(
    st.tuples(
        st.integers(0, 1000),
        st.sampled_from([b"", b"{", b"}", b"]", b",", b":", b'"', b"\\", b"\n", b"\x00", b"1", b"-", b"e"]),
    ),
    min_size=1,
    max_size=3,
)


@given(objects(), damage)
def test_what_is_accepted_is_what_the_full_parser_accepts(
    body: tuple[bytes, dict[str, str]], harm: list[tuple[int, bytes]]
) -> None:
    data = body[0]
    for place, new in harm:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + 1 :]
    try:
        expected = loads(data.decode())
    except UnicodeDecodeError:
        return  # a character was cut in two; whether that is seen depends on whether it is read
    except json.JSONDecodeError as error:
        with pytest.raises(BadRequest, match=f"not valid JSON: .* at line {error.lineno}, column {error.colno}\\."):
            Body.parse(data)
        return
    if isinstance(expected, dict):
        assert expected == loads(Body.parse(data).encode())
    else:
        with pytest.raises(BadRequest, match="must be a JSON object"):
            Body.parse(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not valid JSON: Expecting value at line 1, column 1."),
        (b"[]", "must be a JSON object, got a list."),
        (b"null", "must be a JSON object, got null."),
        (b"7", "must be a JSON object, got a number."),
        (b"7" * 5000, "must be a JSON object, got a number."),
        (b'"x"', "must be a JSON object, got a string."),
        (b"true", "must be a JSON object, got a boolean."),
        (b'{"a":\n tru}', "not valid JSON: Expecting value at line 2, column 2."),
        (b'{"a":"\n"}', "not valid JSON: Invalid control character at line 1, column 7."),
        (b'{"a":1}{', "not valid JSON: Extra data at line 1, column 8."),
        (b'{"\xff":1}', "not UTF-8 at byte 2."),
        (b'{"a":NaN,"b":"\xff"}', "not UTF-8 at byte 14."),
        ('{"a":1}'.encode("utf-16"), "not UTF-8 at byte 0."),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deeply."),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "is nested too deeply."),
        (b"[" * 100_000, "is nested too deeply."),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else None,
)
def test_what_is_no_object_is_refused_with_the_place(data: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Body.parse(data)
    assert f"The request body {'is ' if words.startswith('not') else ''}{words}" == str(caught.value)


@pytest.mark.parametrize("depth", range(900, 1010, 5))
def test_a_field_nested_around_the_limit_is_refused(depth: int) -> None:
    """Skipping and reading reach the limit at different depths."""
    with pytest.raises(BadRequest, match=r"nested too deeply|got a list|cannot be read"):
        Body.parse(b'{"model":' + b"[" * depth + b"]" * depth + b"}").text("model")


def test_a_byte_order_mark_is_no_part_of_the_object() -> None:
    assert Body.parse(b'\xef\xbb\xbf{"a":1}').encode() == b'{"a":1}'


@pytest.mark.parametrize("raw", [b'"\xff"', b"9" * 5000, b'"' + b"\xc3" + b'"'])
def test_a_field_that_cannot_be_read_is_named(raw: bytes) -> None:
    parsed = Body.parse(b'{"model":' + raw + b"}")
    with pytest.raises(BadRequest, match="`model` cannot be read") as caught:
        parsed.text("model")
    assert caught.value.param == "model"
    assert b'{"model":' + raw + b"}" == parsed.encode()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b'"x"', "x"), (b"null", None), (rb'"\ud83d\ude00"', "\U0001f600"), (rb'"\ud800"', "\ud800")],
)
def test_text_is_a_string_or_nothing(raw: bytes, expected: str | None) -> None:
    assert expected == Body.parse(b'{"model": %s}' % raw).text("model")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(b"1", "a number"), (b"1e400", "a number"), (b"{}", "an object"), (b"[]", "a list"), (b"true", "a boolean")],
)
def test_text_of_another_kind_is_refused(raw: bytes, kind: str) -> None:
    with pytest.raises(BadRequest, match=f"`model` must be a string, got {kind}") as caught:
        Body.parse(b'{"model":%s}' % raw).text("model")
    assert caught.value.param == "model"


@pytest.mark.parametrize(("raw", "expected"), [(b"true", True), (b"false", False), (b"null", False)])
def test_a_flag_is_a_boolean_or_nothing(raw: bytes, expected: bool) -> None:  # noqa: FBT001 - a table
    assert expected is Body.parse(b'{"stream":%s}' % raw).flag("stream")
    assert Body.parse(b"{}").flag("stream") is False


@pytest.mark.parametrize("raw", [b"1", b'"true"', b"[]", b"NaN"])
def test_a_flag_of_another_kind_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest, match="`stream` must be true or false"):
        Body.parse(b'{"stream":%s}' % raw).flag("stream")


def test_a_list_is_expected_without_reading_it() -> None:
    parsed = Body.parse(b'{"messages": [NaN, 1], "input": {}}')
    parsed.expect_list("messages")
    with pytest.raises(BadRequest, match="`input` must be a list"):
        parsed.expect_list("input")
    with pytest.raises(BadRequest, match="`prompt` is missing"):
        parsed.expect_list("prompt")


SAMPLERS = st.dictionaries(st.sampled_from("abcd"), st.integers() | st.none() | st.text(max_size=3), max_size=4)


@given(SAMPLERS, SAMPLERS, SAMPLERS, st.frozensets(st.sampled_from("abcd")))
def test_sampling_strips_then_suggests_then_enforces(
    sent: dict[str, Json], suggest: dict[str, Json], enforce: dict[str, Json], strip: frozenset[str]
) -> None:
    parsed = Body.parse(msgspec.json.encode({"messages": [], **sent}))
    parsed.apply(Sampling(suggest=suggest, enforce=enforce, strip=strip))
    kept = {key: value for key, value in sent.items() if key not in strip}
    asked = {key: value for key, value in kept.items() if value is not None}
    assert {"messages": []} | kept | suggest | asked | enforce == json.loads(parsed.encode())

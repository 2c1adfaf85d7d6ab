"""Sizes, times and percentages as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.problem import UnfitError
from gateway.config.quantity import Share, byte_size, duration, lifetime, percent, share_or_bytes


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0), ("0", 0), (1024, 1024), ("64MB", 64_000_000), ("64 MB", 64_000_000), ("1.5GiB", 1_610_612_736),
        ("48gib", 48 * 2**30), ("2TB", 2 * 10**12), ("10B", 10), ("3KiB", 3072),
    ],
)  # fmt: skip
def test_sizes(written: object, size: int) -> None:
    assert byte_size(written) == size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(0, 0.0), (1.5, 1.5), ("30", 30.0), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("250ms", 0.25),
     ("1 d", 86400.0), ("1h 30m", 5400.0)],
)  # fmt: skip
def test_times(written: object, seconds: float) -> None:
    assert duration(written) == seconds


@pytest.mark.parametrize("written", [True, None, [], "", "x", "-5", "5x", "5 5", "1h30", -1, float("inf"), "1:30"])
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(UnfitError):
        duration(written)


@pytest.mark.parametrize("written", [True, None, 1.5, "", "x", "-5", "5x", "64M", "5m", -1, "90%"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(UnfitError):
        byte_size(written)


@pytest.mark.parametrize("written", [0, "0%", 101, "x", True, None, "nan", []])
def test_what_is_no_percentage_is_refused(written: object) -> None:
    with pytest.raises(UnfitError, match="expected a percentage above 0 and up to 100"):
        percent(written)


def test_a_budget_is_a_share_or_a_size() -> None:
    assert share_or_bytes("90%") == Share(90.0)
    assert share_or_bytes("48GiB") == 48 * 2**30


def test_a_lifetime_may_be_for_ever() -> None:
    assert [lifetime(written) for written in (None, -1, "-1", "never", "Forever")] == [None] * 5


@given(st.text(max_size=20))
def test_any_text_is_a_quantity_or_a_sentence_about_it(written: str) -> None:
    for parse in (byte_size, duration, percent, share_or_bytes, lifetime):
        try:
            parse(written)
        except UnfitError as fault:
            assert "expected" in str(fault) or "unknown unit" in str(fault)  # noqa: PT017 - every parser is tried


@given(st.integers(0, 10**15))
def test_a_bare_number_is_itself(number: int) -> None:
    assert byte_size(number) == byte_size(str(number)) == number
    assert duration(number) == duration(str(number)) == float(number)

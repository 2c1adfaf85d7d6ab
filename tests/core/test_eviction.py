"""Which of those who may go, go."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.eviction import Candidate, choose_victims
from gateway.core.slot import SlotId


def candidate(name: str, need: int, last_used: float, *, busy: bool = False, draining: bool = False) -> Candidate:
    return Candidate(slot=SlotId(name), need=need, last_used=last_used, busy=busy, draining=draining)


def chosen(*candidates: Candidate, excess_bytes: int = 0, excess_slots: int = 0) -> list[str] | None:
    victims = choose_victims(candidates, excess_bytes=excess_bytes, excess_slots=excess_slots)
    return None if victims is None else [str(victim.slot) for victim in victims]


crowds = st.lists(
    st.builds(
        Candidate,
        slot=st.uuids().map(lambda name: SlotId(str(name))),
        need=st.integers(0, 9),
        last_used=st.integers(0, 9).map(float),
        busy=st.booleans(),
        draining=st.booleans(),
    ),
    max_size=6,
)


def test_nobody_goes_where_nothing_is_missing() -> None:
    assert chosen(candidate("a", 4, 1.0)) == []
    assert chosen(excess_bytes=-5, excess_slots=-1) == []


def test_none_where_all_together_are_not_enough() -> None:
    assert chosen(candidate("a", 4, 1.0), candidate("b", 4, 2.0), excess_bytes=9) is None
    assert chosen(candidate("a", 4, 1.0), excess_slots=2) is None


def test_the_least_recently_used_goes_first() -> None:
    assert chosen(candidate("a", 4, 2.0), candidate("b", 4, 1.0), excess_bytes=4) == ["b"]


def test_the_idle_go_before_the_busy() -> None:
    assert chosen(candidate("a", 4, 1.0, busy=True), candidate("b", 4, 2.0), excess_bytes=4) == ["b"]


def test_of_the_busy_those_that_drain_go_first() -> None:
    working = candidate("a", 4, 1.0, busy=True)
    draining = candidate("b", 4, 2.0, busy=True, draining=True)
    assert chosen(working, draining, excess_bytes=4) == ["b"]


def test_of_the_idle_the_least_recently_used_goes_first_whether_it_drains_or_not() -> None:
    assert chosen(candidate("a", 4, 1.0), candidate("b", 4, 2.0, draining=True), excess_bytes=4) == ["a"]


def test_the_small_ones_stay_when_a_big_one_makes_all_the_room() -> None:
    assert chosen(candidate("a", 1, 1.0), candidate("b", 1, 2.0), candidate("c", 9, 3.0), excess_bytes=9) == ["c"]


def test_both_bytes_and_places_are_counted() -> None:
    three = [candidate("a", 1, 1.0), candidate("b", 1, 2.0), candidate("c", 9, 3.0)]
    assert chosen(*three, excess_bytes=9, excess_slots=2) == ["a", "c"]
    assert chosen(*three, excess_bytes=1, excess_slots=3) == ["a", "b", "c"]


@settings(database=None, deadline=None)
@given(crowds, st.integers(-5, 30), st.integers(-2, 6))
def test_the_chosen_are_enough_and_not_one_too_many(crowd: list[Candidate], missing: int, places: int) -> None:
    victims = choose_victims(crowd, excess_bytes=missing, excess_slots=places)
    if victims is None:
        assert sum(one.need for one in crowd) < missing or len(crowd) < places
        return
    assert sum(one.need for one in victims) >= missing
    assert len(victims) >= places
    for fewer in combinations(victims, max(len(victims) - 1, 0)):
        if victims:
            assert sum(one.need for one in fewer) < missing or len(fewer) < places


@settings(database=None, deadline=None)
@given(crowds, st.integers(-5, 30), st.integers(-2, 6))
def test_nobody_busy_goes_where_the_idle_are_enough(crowd: list[Candidate], missing: int, places: int) -> None:
    idle = [one for one in crowd if not one.busy]
    if sum(one.need for one in idle) >= missing and len(idle) >= places:
        victims = choose_victims(crowd, excess_bytes=missing, excess_slots=places)
        assert victims is not None
        assert [one.slot for one in victims if one.busy] == []

"""Who is served, who waits, who makes room for whom."""

import pytest

from gateway.core.occupancy import Limits
from tests.core.scripted import Script, slot

ONE = Limits(max_loaded=1)
TWO = Limits(max_loaded=2)


# -- serving --


def test_abab_with_room_for_one_is_served_aabb_with_two_starts() -> None:
    story = Script(limits=ONE)
    assert story.ask("a") == ["start a"]
    assert [story.ask(name) for name in "bab"] == [[], [], []]
    assert story.started("a") == ["grant 1"]
    assert story.release(1) == ["grant 3"]
    assert story.release(3) == ["stop a"]
    assert story.stopped("a") == ["start b"]
    assert story.started("b") == ["grant 2"]
    assert story.release(2) == ["grant 4"]
    assert story.release(4) == []


def test_twenty_requests_to_a_cold_slot_are_one_start_and_grants_in_order_of_arrival() -> None:
    story = Script(slot("a", max_concurrent=4), limits=Limits())
    assert story.ask("a") == ["start a"]
    assert [story.ask("a") for _ in range(19)] == [[]] * 19
    assert story.started("a") == ["grant 1", "grant 2", "grant 3", "grant 4"]
    assert [story.release(n) for n in range(1, 17)] == [[f"grant {n + 4}"] for n in range(1, 17)]
    assert [story.release(n) for n in range(17, 21)] == [[]] * 4


def test_what_does_not_occupy_is_granted_beside_a_full_house() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.started("a")
    assert story.ask("a") == []
    assert story.ask("a", occupies=False) == ["grant 3"]
    assert story.release(3) == []
    assert story.release(1) == ["grant 2"]


def test_higher_priority_goes_first_and_equal_priority_in_order_of_arrival() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    for priority in (0, 5, 5):
        story.ask("a", priority=priority)
    assert story.started("a") == ["grant 3"]
    assert story.release(3) == ["grant 4"]
    assert story.release(4) == ["grant 1"]


def test_slots_that_fit_beside_each_other_start_at_once() -> None:
    story = Script(limits=Limits(memory=10), a=6, b=4)
    assert story.ask("a") == ["start a"]
    assert story.ask("b") == ["start b"]
    assert story.ask("c") == []


def test_memory_is_held_until_the_stop_is_done() -> None:
    story = Script(limits=Limits(memory=10), a=6, b=6)
    story.up("a")
    assert story.ask("b") == ["stop a"]
    assert story.phases() == {"a": "stopping", "b": "stopped"}
    assert story.stopped("a") == ["start b"]


def test_nothing_cold_overtakes_the_oldest_cold_waiter_even_if_it_would_fit() -> None:
    story = Script(limits=Limits(memory=10), a=6, b=6, c=2)
    story.ask("a")
    story.started("a")
    assert story.ask("b") == []
    assert story.ask("c") == []
    assert story.release(1) == ["stop a"]
    assert story.stopped("a") == ["start b", "start c"]


# -- eviction --


def test_the_least_recently_used_goes_though_it_arrived_last() -> None:
    story = Script(limits=TWO)
    story.up("a", "b")
    story.ask("a")
    story.release(3)
    assert story.ask("c") == ["stop b"]
    assert story.reasons["b"] == f"makes room for {story.id('c')}"


def test_use_lasts_until_the_end_of_the_answer() -> None:
    story = Script(limits=TWO)
    story.up("a")
    story.ask("a")
    story.up("b")
    story.now = 9.0
    story.release(2)
    assert story.ask("c") == ["stop b"]


def test_the_small_ones_stay_when_a_big_one_makes_all_the_room() -> None:
    story = Script(limits=Limits(memory=12), s=1, m=1, big=10, c=8)
    story.up("s", "m", "big")
    assert story.ask("c") == ["stop big"]


def test_idle_ones_go_before_busy_ones_drain() -> None:
    story = Script(limits=TWO)
    story.up("b")
    story.ask("b")
    story.now = 5.0
    story.up("a")
    assert story.ask("c") == ["stop a"]
    assert story.phases()["b"] == "ready"


def test_memory_that_comes_back_anyway_is_waited_for_rather_than_evicted() -> None:
    story = Script(limits=TWO)
    story.up("a", "b")
    assert story.unload("a") == ["stop a"]
    assert story.ask("c") == []
    assert story.stopped("a") == ["start c"]
    assert story.phases() == {"b": "ready", "c": "starting"}


def test_the_pinned_one_stays_though_it_is_used_least_recently() -> None:
    story = Script(slot("p", pinned=True), limits=TWO)
    story.up("p", "a")
    assert story.ask("c") == ["stop a"]


def test_a_preload_never_evicts() -> None:
    story = Script(limits=ONE)
    story.up("a")
    assert story.ask("b", may_evict=False) == ["refuse 2 NeverFits"]
    assert story.phases() == {"a": "ready"}


def test_a_preload_that_waits_gives_its_place_in_line_to_nobody() -> None:
    story = Script(limits=Limits(memory=10), a=6, b=4, c=8, d=4, e=4)
    story.up("b")
    assert story.ask("a") == ["start a"]
    story.ask("c")
    story.ask("d", may_evict=False)
    story.ask("e")
    story.ask("d")
    assert story.cancel(3) == ["refuse 4 NeverFits", "stop b"]
    assert story.reasons["b"] == f"makes room for {story.id('e')}"


def test_one_that_is_starting_is_never_evicted() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    assert story.ask("b") == []
    assert story.at(1000.0) == ["refuse 2 QueueTimeout"]
    assert story.phases() == {"a": "starting"}


def test_it_serves_whom_it_was_loaded_for_before_it_goes() -> None:
    story = Script(limits=Limits(max_loaded=1, turn=0.0))
    story.ask("a")
    story.ask("b")
    assert story.started("a") == ["grant 1"]
    assert story.release(1) == ["stop a"]


def test_one_whose_waiter_left_while_it_started_may_go_at_once() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.ask("b")
    story.cancel(1)
    assert story.started("a") == ["stop a"]


def test_it_serves_whom_it_was_loaded_for_though_the_load_took_longer_than_the_queue_allows() -> None:
    story = Script(limits=Limits(queue_timeout=10.0))
    story.ask("a")
    story.ask("a")
    assert story.at(60.0) == []
    assert story.started("a") == ["grant 1", "refuse 2 QueueTimeout"]


# -- draining --


def busy_and_wanted(turn: float = 0.0) -> Script:
    """`a` serves ticket 1, ticket 2 waits for it, ticket 3 for `b`; there is room for one."""
    story = Script(limits=Limits(max_loaded=1, turn=turn))
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.ask("b")
    return story


def test_a_busy_victim_finishes_and_admits_nobody_new() -> None:
    story = busy_and_wanted()
    assert story.phases()["a"] == "draining"
    assert story.ask("a") == []
    assert story.ask("a", occupies=False) == []
    assert story.release(1) == ["stop a"]
    assert story.stopped("a") == ["start b"]


def test_a_draining_victim_goes_back_to_work_when_the_one_who_waits_leaves() -> None:
    story = busy_and_wanted()
    assert story.cancel(3) == []
    assert story.phases() == {"a": "ready"}
    assert story.release(1) == ["grant 2"]


def test_a_draining_victim_goes_back_to_work_for_a_higher_priority() -> None:
    story = busy_and_wanted()
    assert story.ask("a", priority=1) == []
    assert story.phases()["a"] == "ready"
    assert story.release(1) == ["grant 4"]
    assert story.phases()["a"] == "draining"


def test_the_room_that_was_made_goes_to_whom_it_was_made_for_though_older_ones_wait_for_the_victim() -> None:
    story = busy_and_wanted()
    story.ask("c")
    story.cancel(3)
    assert story.release(1) == ["stop a"]
    assert story.stopped("a") == ["start c"]


def test_those_who_came_while_it_drained_get_its_next_load() -> None:
    story = busy_and_wanted()
    story.release(1)
    story.stopped("a")
    assert story.started("b") == ["grant 3"]
    assert story.release(3) == ["stop b"]
    assert story.stopped("b") == ["start a"]
    assert story.started("a") == ["grant 2"]


def test_a_slot_with_a_queue_keeps_its_turn_and_drains_after_it() -> None:
    story = busy_and_wanted(turn=30.0)
    assert story.scheduler.next_deadline() == pytest.approx(30.0)
    assert story.phases()["a"] == "ready"
    story.ask("a")
    story.at(29.0)
    assert story.release(1) == ["grant 2"]
    assert story.phases()["a"] == "ready"
    story.at(30.0)
    assert story.phases()["a"] == "draining"
    assert story.release(2) == ["stop a"]


def test_a_turn_lasts_from_the_later_of_load_and_arrival() -> None:
    story = Script(limits=Limits(max_loaded=1, turn=30.0))
    story.ask("a")
    story.ask("a")
    story.ask("b")
    story.now = 20.0
    story.started("a")
    assert story.scheduler.next_deadline() == pytest.approx(50.0)
    assert story.at(49.0) == []
    assert story.phases()["a"] == "ready"
    story.at(50.0)
    assert story.phases()["a"] == "draining"


def test_a_busy_slot_without_a_queue_drains_at_once() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.started("a")
    story.ask("b")
    assert story.phases()["a"] == "draining"


def test_an_idle_victim_admits_nobody_while_another_one_drains_for_the_same_room() -> None:
    story = Script(limits=Limits(memory=10), a=5, b=5, c=10)
    story.up("a")
    story.ask("b")
    story.started("b")
    story.ask("c")
    assert story.phases() == {"a": "draining", "b": "draining", "c": "stopped"}
    assert story.ask("a") == []
    assert story.release(2) == ["stop a", "stop b"]


def test_one_that_drains_keeps_draining_when_an_answer_of_it_ends() -> None:
    story = Script(slot("a", max_concurrent=2), slot("b", max_concurrent=2), limits=TWO)
    for name in "aabb":
        story.ask(name)
    story.started("a")
    story.now = 1.0
    story.started("b")
    story.ask("c")
    assert story.phases() == {"a": "draining", "b": "ready", "c": "stopped"}
    story.now = 2.0
    story.release(1)
    assert story.phases() == {"a": "draining", "b": "ready", "c": "stopped"}
    assert story.release(2) == ["stop a"]


def test_a_busy_pinned_slot_never_drains() -> None:
    story = Script(slot("p", pinned=True), limits=TWO)
    story.up("p", "a")
    story.ask("p")
    story.ask("a")
    story.ask("c")
    assert story.phases() == {"p": "ready", "a": "draining", "c": "stopped"}


def test_nobody_drains_where_even_that_would_not_make_room() -> None:
    story = Script(limits=Limits(memory=10), a=4, b=6, c=9)
    story.ask("a")
    story.started("a")
    story.ask("b")
    story.ask("c")
    assert story.phases() == {"a": "ready", "b": "starting", "c": "stopped"}

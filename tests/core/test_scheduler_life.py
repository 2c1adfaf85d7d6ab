"""How slots come to their end, and what the scheduler tells of itself."""

from dataclasses import replace

import pytest

from gateway.core.effects import TicketId
from gateway.core.errors import ShuttingDown
from gateway.core.occupancy import Limits
from gateway.core.scheduler import Scheduler
from gateway.core.slot import SlotSpec
from tests.core.scripted import Script, slot

GIB = 2**30
ONE = Limits(max_loaded=1)
NEVER = float("inf")


# -- ttl --


def test_ttl_counts_from_the_end_of_the_last_request() -> None:
    story = Script(slot("a", ttl=10.0), limits=Limits(queue_timeout=None))
    story.ask("a")
    story.started("a")
    assert story.at(50.0) == []
    assert story.scheduler.next_deadline() == NEVER
    story.release(1)
    assert story.scheduler.next_deadline() == pytest.approx(60.0)
    assert story.at(59.0) == []
    assert story.at(60.0) == ["stop a"]
    assert story.reasons["a"] == "idle for 10 s"


def test_ttl_zero_stops_it_when_its_last_answer_ends() -> None:
    story = Script(slot("a", ttl=0.0), limits=Limits())
    story.ask("a")
    story.ask("a")
    story.started("a")
    assert story.release(1) == ["grant 2"]
    assert story.release(2) == ["stop a"]


@pytest.mark.parametrize("spec", [slot("a", ttl=None), slot("a", ttl=1.0, pinned=True)], ids=["no ttl", "pinned"])
def test_without_a_ttl_or_pinned_it_stays_for_ever(spec: SlotSpec) -> None:
    story = Script(spec, limits=Limits())
    story.up("a")
    assert story.scheduler.next_deadline() == NEVER
    assert story.at(1e9) == []


def test_one_that_nobody_used_goes_when_its_ttl_after_the_load_is_over() -> None:
    story = Script(slot("a", ttl=10.0), limits=Limits())
    story.ask("a")
    story.cancel(1)
    story.now = 5.0
    assert story.started("a") == []
    assert story.scheduler.next_deadline() == pytest.approx(15.0)
    assert story.at(15.0) == ["stop a"]


# -- unload --


def test_unload_of_an_idle_slot_stops_it() -> None:
    story = Script(slot("a", pinned=True), limits=Limits())
    story.up("a")
    assert story.unload("a") == ["stop a"]
    assert story.reasons["a"] == "asked to unload"
    assert story.stopped("a") == []
    assert story.scheduler.view() == {}


def test_unload_of_a_busy_slot_serves_those_who_wait_and_nobody_who_comes_later() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.now = 1.0
    assert story.unload("a") == []
    story.now = 2.0
    assert story.ask("a") == []
    assert story.release(1) == ["grant 2"]
    assert story.release(2) == ["stop a"]
    assert story.stopped("a") == ["start a"]
    assert story.started("a") == ["grant 3"]


def test_unload_of_a_starting_slot_serves_its_waiters_first() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    assert story.unload("a") == []
    assert story.started("a") == ["grant 1"]
    assert story.release(1) == ["stop a"]


def test_unload_of_a_draining_slot_leaves_its_waiters_to_the_next_load() -> None:
    story = Script(limits=Limits(max_loaded=1, turn=0.0))
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.ask("b")
    story.unload("a")
    assert story.release(1) == ["stop a"]
    assert story.stopped("a") == ["start b"]


def test_a_request_in_the_same_instant_as_an_unload_is_not_left_waiting() -> None:
    story = Script(limits=Limits(queue_timeout=None))
    story.ask("a")
    story.started("a")
    story.unload("a")
    story.ask("a")
    assert story.release(1) == ["stop a"]
    assert story.stopped("a") == ["start a"]


def test_unload_of_what_stops_or_is_unknown_changes_nothing() -> None:
    story = Script(limits=Limits())
    story.up("a")
    story.unload("a")
    assert story.unload("a") == []
    assert story.unload("b") == []
    assert story.phases() == {"a": "stopping"}


# -- configuration --


def test_new_rules_of_life_apply_at_once() -> None:
    story = Script(limits=Limits())
    story.up("a")
    assert story.configure(slot("a", ttl=1.0)) == ["stop a"]


def test_what_is_no_longer_configured_goes_when_its_last_lease_ends() -> None:
    story = Script(slot("a", pinned=True), limits=Limits())
    story.ask("a")
    story.started("a")
    assert story.configure(slot("b")) == []
    assert story.release(1) == ["stop a"]
    assert story.reasons["a"] == "no longer configured"


def test_what_is_no_longer_configured_serves_who_waits_for_it_and_does_not_stay() -> None:
    story = Script(slot("a", pinned=True), limits=ONE)
    story.ask("b")
    story.ask("a")
    assert story.configure(slot("b")) == []
    story.started("b")
    story.release(1)
    story.stopped("b")
    story.started("a")
    assert story.release(2) == ["stop a"]


def test_what_is_no_longer_configured_is_no_longer_shown_as_failed() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.failed("a")
    story.configure(slot("b"))
    assert story.scheduler.view() == {}


def test_what_is_configured_again_before_its_last_lease_ends_goes_back_to_work() -> None:
    story = Script(slot("a", pinned=True), limits=Limits())
    story.ask("a")
    story.started("a")
    story.configure(slot("b"))
    story.now = 1.0
    assert story.ask("a") == []
    assert story.phases() == {"a": "draining"}
    assert story.configure(slot("a", pinned=True)) == []
    assert story.release(1) == ["grant 2"]
    assert story.release(2) == []
    assert story.phases() == {"a": "ready"}


def test_an_unload_is_not_taken_back_by_a_configuration() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.started("a")
    story.configure(slot("b"))
    story.unload("a")
    story.configure(slot("a"))
    assert story.release(1) == ["stop a"]
    assert story.reasons["a"] == "asked to unload"


def test_a_request_that_was_resolved_before_its_slot_was_removed_is_its_last_user() -> None:
    story = Script(slot("a", pinned=True), limits=Limits())
    story.configure(slot("b"))
    assert story.ask("a") == ["start a"]
    assert story.started("a") == ["grant 1"]
    assert story.release(1) == ["stop a"]


def test_a_request_that_was_resolved_before_a_change_of_rules_gets_the_new_ones() -> None:
    story = Script(limits=Limits())
    story.configure(slot("a", max_concurrent=2))
    story.specs["a"] = slot("a", max_concurrent=1)
    story.ask("a")
    story.ask("a")
    assert story.started("a") == ["grant 1", "grant 2"]


def test_a_larger_budget_starts_who_waits() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.ask("b")
    assert story.bound(replace(story.limits, max_loaded=2)) == ["start b"]


def test_a_smaller_budget_stops_nobody_until_room_is_needed() -> None:
    story = Script(limits=Limits(memory=10), a=3, b=3, c=3, d=3)
    story.up("a", "b", "c")
    assert story.bound(replace(story.limits, memory=6)) == []
    assert story.ask("d") == ["stop a", "stop b"]


# -- the end --


def test_closing_refuses_all_who_wait_and_stops_each_slot_with_its_last_lease() -> None:
    story = Script(limits=Limits())
    story.up("a")
    for name in "bcb":
        story.ask(name)
    story.started("b")
    assert story.close() == ["refuse 4 ShuttingDown", "refuse 3 ShuttingDown", "stop a"]
    assert isinstance(story.errors[4], ShuttingDown)
    assert story.ask("a") == ["refuse 5 ShuttingDown"]
    assert story.release(2) == ["stop b"]
    assert story.started("c") == ["stop c"]
    for name in "abc":
        assert story.stopped(name) == []
    assert story.scheduler.view() == {}


def test_closing_twice_is_closing_once() -> None:
    story = Script(limits=Limits())
    story.up("a")
    assert story.close() == ["stop a"]
    assert story.close() == []


# -- what it tells --


def test_nothing_is_due_where_nothing_is_loaded_or_wanted() -> None:
    scheduler = Scheduler(Limits())
    assert scheduler.next_deadline() == NEVER
    assert scheduler.tick(5.0) == []


def test_after_a_tick_at_the_deadline_the_next_one_is_later() -> None:
    story = Script(slot("a", ttl=3.0), limits=Limits(max_loaded=1, queue_timeout=20.0, turn=5.0))
    story.ask("a")
    story.started("a")
    for name in "ab":
        story.now += 1.0
        story.ask(name)
    deadlines = []
    while (due := story.scheduler.next_deadline()) < NEVER:
        story.at(due)
        deadlines.append(due)
    assert deadlines == pytest.approx([7.0, 21.0, 22.0])


def test_a_wrong_event_is_an_error_that_names_the_phase_and_what_was_expected() -> None:
    story = Script(limits=Limits())
    story.up("a")
    with pytest.raises(AssertionError, match="is READY, expected STARTING"):
        story.started("a")


def test_explain_says_what_a_ticket_waits_for() -> None:
    story = Script(slot("a", max_concurrent=1), limits=Limits(max_loaded=1, turn=10.0))
    story.ask("a")
    assert story.explain(1) == "the model is loading"
    story.started("a")
    assert story.explain(1) == ""
    assert story.explain(99) == ""
    story.ask("a")
    story.ask("a")
    assert story.explain(3) == "the model is busy, 1 requests are ahead"
    story.ask("b")
    assert story.explain(4) == f"waiting for memory: {story.id('a')} is ready with 1 running"
    story.at(10.0)
    assert story.explain(2) == "the model is being unloaded to make room, and will be loaded again"
    story.release(1)
    assert story.explain(4) == f"waiting for memory: {story.id('a')} is stopping"


def test_the_view_shows_who_is_loaded_and_who_wants_it() -> None:
    story = Script(limits=Limits(), a=7)
    story.ask("a")
    story.now = 3.0
    story.started("a")
    story.ask("a")
    view = story.view("a")
    assert (view.need, view.running, view.waiting, view.last_used, view.failures) == (7, 1, 1, 3.0, 0)
    assert view.spec == slot("a")


def test_a_cancelled_ticket_is_forgotten_with_its_slot() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.ask("b")
    assert story.cancel(2) == []
    assert story.phases() == {"a": "starting"}
    with pytest.raises(KeyError):
        story.scheduler.cancel(TicketId(2), 0.0)

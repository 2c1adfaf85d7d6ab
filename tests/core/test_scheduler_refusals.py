"""How waiting is bounded, what is refused at once, and what follows a failure."""

from dataclasses import replace

import pytest

from gateway.core.errors import CoolingDown, NeverFits, QueueFull, QueueTimeout
from gateway.core.occupancy import Limits
from tests.core.scripted import Script, slot

GIB = 2**30
ONE = Limits(max_loaded=1)


# -- waiting is bounded --


def test_a_full_queue_refuses_with_the_number_and_when_to_come_again() -> None:
    story = Script(limits=Limits(queue_length=2))
    story.ask("a")
    story.ask("b")
    assert story.ask("c") == ["refuse 3 QueueFull"]
    error = story.errors[3]
    assert isinstance(error, QueueFull)
    assert (error.status, error.retry_after) == (429, 2.0)
    assert error.message == "2 requests are waiting already, as many as `queue.length` allows."


def test_who_can_be_served_at_once_is_served_though_the_queue_is_full() -> None:
    story = Script(limits=Limits(queue_length=1))
    story.ask("a")
    story.started("a")
    story.ask("a")
    assert story.ask("a") == ["refuse 3 QueueFull"]
    assert story.ask("a", occupies=False) == ["grant 4"]


def test_who_waited_too_long_is_refused_with_the_time_and_the_slot() -> None:
    story = Script(limits=Limits(queue_timeout=10.0))
    story.ask("a")
    story.started("a")
    story.now = 2.0
    story.ask("a")
    assert story.scheduler.next_deadline() == pytest.approx(12.0)
    assert story.at(11.9) == []
    assert story.at(12.0) == ["refuse 2 QueueTimeout"]
    error = story.errors[2]
    assert isinstance(error, QueueTimeout)
    assert (error.status, error.retry_after) == (503, 5.0)
    assert error.message == f"The request waited 10 s for {story.id('a')}, as long as `queue.timeout` allows."


def test_who_waited_too_long_is_told_how_long_though_the_limit_was_lifted_since() -> None:
    story = Script(limits=Limits(queue_timeout=10.0))
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.bound(replace(story.limits, queue_timeout=None))
    assert story.at(10.0) == ["refuse 2 QueueTimeout"]
    assert "waited 10 s" in story.errors[2].message


def test_what_is_bigger_than_the_budget_is_refused_at_once_with_the_numbers() -> None:
    story = Script(limits=Limits(memory=8 * GIB), a=9 * GIB)
    assert story.ask("a") == ["refuse 1 NeverFits"]
    assert story.errors[1].message == f"{story.id('a')} needs 9.00 GiB, the memory budget is 8.00 GiB."
    assert story.scheduler.view() == {}


def test_what_does_not_fit_beside_the_pinned_is_refused_at_once_with_the_numbers() -> None:
    story = Script(slot("p", pinned=True), limits=Limits(memory=8 * GIB), p=GIB // 2, a=8 * GIB)
    story.up("p")
    assert story.ask("a") == ["refuse 2 NeverFits"]
    beside = "the memory budget is 8.00 GiB, and pinned models hold 512.0 MiB."
    assert story.errors[2].message == f"{story.id('a')} needs 8.00 GiB, {beside}"


def test_what_fits_beside_the_pinned_waits_for_the_others() -> None:
    story = Script(slot("p", pinned=True), limits=Limits(memory=10), p=2, a=8, b=8)
    story.up("p", "a")
    assert story.ask("b") == ["stop a"]


def test_with_every_place_pinned_others_are_refused_at_once() -> None:
    story = Script(slot("p", pinned=True), limits=ONE)
    story.up("p")
    assert story.ask("a") == ["refuse 2 NeverFits"]
    assert story.errors[2].message == "All 1 places of `memory.max_loaded` are held by pinned models."


def test_a_pinned_slot_that_leaves_keeps_nobody_out() -> None:
    story = Script(slot("p", pinned=True), limits=ONE)
    story.up("p")
    story.unload("p")
    assert story.ask("a") == []
    assert story.stopped("p") == ["start a"]


def test_who_waits_is_refused_when_a_smaller_budget_has_no_room_for_it_ever() -> None:
    story = Script(limits=Limits(memory=10, queue_timeout=None), a=6, b=6)
    story.ask("a")
    story.ask("b")
    assert story.bound(replace(story.limits, memory=5)) == ["refuse 2 NeverFits"]


def test_who_waits_is_refused_when_the_need_turns_out_to_be_more_than_there_is() -> None:
    story = Script(limits=Limits(memory=10, queue_timeout=None), a=6, b=6)
    story.ask("a")
    story.ask("b")
    assert story.ask("b", need=11) == ["refuse 3 NeverFits", "refuse 2 NeverFits"]


# -- failures --


def test_a_failed_start_gives_every_waiter_the_reason() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.ask("a")
    assert story.failed("a", "no such file") == ["refuse 1 StartFailed", "refuse 2 StartFailed"]
    assert story.errors[2].message == "no such file"


def test_a_failed_start_gives_the_room_to_the_next() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.ask("b")
    assert story.failed("a") == ["refuse 1 StartFailed", "start b"]


def test_the_cool_down_doubles_up_to_a_minute_however_often_it_fails() -> None:
    story = Script(limits=Limits())
    pauses = []
    for _ in range(2000):
        assert story.ask("a") == ["start a"]
        story.failed("a")
        assert story.ask("a") == [f"refuse {story.tickets} CoolingDown"]
        pause = story.errors[story.tickets].retry_after
        assert pause is not None
        pauses.append(pause)
        story.at(story.now + pause)
    assert pauses[:8] == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    assert pauses[-1] == pytest.approx(60)


def test_a_cool_down_says_why_and_how_long() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.failed("a", "no such file.")
    story.now = 0.25
    story.ask("a")
    error = story.errors[2]
    assert isinstance(error, CoolingDown)
    assert error.retry_after == pytest.approx(0.75)
    assert error.message == (
        f"{story.id('a')} failed 1 times in a row and is not started again for 0.8 s. The last failure: no such file."
    )


def test_service_ends_the_row_of_failures() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.failed("a")
    story.now = 1.0
    story.up("a")
    assert story.view("a").failures == 0


def test_after_a_crash_the_waiters_get_the_next_load_and_the_dead_leases_do_not_count() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.ask("a")
    assert story.exited("a") == ["start a"]
    assert story.started("a") == ["grant 2"]
    assert story.release(1) == []
    assert story.view("a").running == 1
    assert story.release(2) == ["grant 3"]


def test_a_crash_while_it_drains_gives_the_room_to_the_one_who_waited_for_it() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.started("a")
    story.ask("b")
    assert story.exited("a") == ["start b"]


def test_the_second_crash_in_a_row_tells_the_waiters_to_come_again() -> None:
    story = Script(limits=ONE)
    story.ask("a")
    story.started("a")
    story.ask("a")
    story.ask("b")
    story.exited("a")
    story.started("a")
    story.ask("a")
    assert story.exited("a") == ["refuse 4 CoolingDown", "start b"]
    assert story.errors[4].retry_after == pytest.approx(1.0)


def test_an_unload_ends_the_cool_down() -> None:
    story = Script(limits=Limits())
    story.ask("a")
    story.failed("a")
    assert story.unload("a") == []
    assert story.scheduler.view() == {}
    assert story.ask("a") == ["start a"]


def test_a_refusal_for_size_says_what_would_help() -> None:
    story = Script(limits=Limits(memory=1), a=2)
    story.ask("a")
    assert isinstance(story.errors[1], NeverFits)
    assert story.errors[1].hint.startswith("A smaller `ctx_size`")

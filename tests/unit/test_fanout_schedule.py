"""When groups are due."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bookrunner.fanout.schedule import PHASES_MAX, SlotCalendar

SLOT_NS = 5_000_000


def test_a_group_is_due_once_a_period_at_its_phase() -> None:
    calendar: SlotCalendar[str] = SlotCalendar(SLOT_NS, 0)
    calendar.add("a", 20, 7)
    due = [slot for slot in range(100) if calendar.take_due(slot * SLOT_NS)]
    assert due == [7, 27, 47, 67, 87]


def test_time_is_counted_from_the_origin() -> None:
    calendar: SlotCalendar[str] = SlotCalendar(SLOT_NS, 1_000)
    calendar.add("a", 10, 2)
    assert calendar.next_due_ns() == 1_000 + 2 * SLOT_NS
    assert calendar.take_due(999 + 2 * SLOT_NS) == []
    assert calendar.take_due(1_000 + 2 * SLOT_NS) == ["a"]
    assert calendar.next_due_ns() == 1_000 + 12 * SLOT_NS


def test_after_a_pause_a_group_is_due_once_and_keeps_its_phase() -> None:
    calendar: SlotCalendar[str] = SlotCalendar(SLOT_NS, 0)
    calendar.add("a", 10, 3)
    assert calendar.take_due(58 * SLOT_NS) == ["a"]
    assert calendar.take_due(62 * SLOT_NS) == []
    assert calendar.take_due(63 * SLOT_NS) == ["a"]


def test_clients_spread_over_all_phases() -> None:
    calendar: SlotCalendar[int] = SlotCalendar(SLOT_NS, 0)
    for group in range(60):
        calendar.add(group, 20, calendar.least_loaded(20))
        calendar.change_load(group, 1)
    due = Counter(slot for slot in range(20) for _ in calendar.take_due(slot * SLOT_NS))
    assert due == dict.fromkeys(range(20), 3)


def test_a_phase_that_clients_left_is_filled_first() -> None:
    calendar: SlotCalendar[int] = SlotCalendar(SLOT_NS, 0)
    phases = []
    for group in range(10):
        phases.append(calendar.least_loaded(10))
        calendar.add(group, 10, phases[-1])
        calendar.change_load(group, 1)
    calendar.change_load(4, -1)
    calendar.remove(4)
    assert calendar.least_loaded(10) == phases[4]


def test_a_removed_group_is_not_due_again_and_leaves_nothing_behind() -> None:
    calendar: SlotCalendar[str] = SlotCalendar(SLOT_NS, 0)
    calendar.add("a", 10, 0)
    calendar.remove("a")
    assert [calendar.take_due(slot * SLOT_NS) for slot in range(30)] == [[]] * 30
    assert calendar.next_due_ns() is None


def test_a_long_period_has_a_bounded_number_of_phases() -> None:
    calendar: SlotCalendar[int] = SlotCalendar(SLOT_NS, 0)
    period = 12_000
    for group in range(2 * PHASES_MAX):
        calendar.add(group, period, calendar.least_loaded(period))
        calendar.change_load(group, 1)
    due = Counter(slot for slot in range(period) for _ in calendar.take_due(slot * SLOT_NS))
    assert len(due) == PHASES_MAX
    assert set(due.values()) == {2}


@given(
    periods=st.lists(st.integers(10, 300), min_size=1, max_size=8),
    steps=st.lists(st.integers(0, 40), max_size=60),
)
def test_every_group_is_due_exactly_when_its_phase_has_come(periods: list[int], steps: list[int]) -> None:
    """Against the definition: due when a slot of its phase lies in the time since the last look."""
    calendar: SlotCalendar[int] = SlotCalendar(SLOT_NS, 0)
    phases = []
    for group, period in enumerate(periods):
        phases.append(calendar.least_loaded(period))
        calendar.add(group, period, phases[-1])
        calendar.change_load(group, 1)
    slot = looked = -1
    for step in steps:
        slot += step
        due = set(calendar.take_due(slot * SLOT_NS + 1)) if slot >= 0 else set()
        expected = {
            group
            for group, (period, phase) in enumerate(zip(periods, phases, strict=True))
            if any((passed - phase) % period == 0 for passed in range(looked + 1, slot + 1))
        }
        assert due == expected
        looked = max(looked, slot)

"""When each group of clients is due: time cut into slots, groups spread over them."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

GroupT = TypeVar("GroupT", bound=Hashable)

PHASES_MAX = 256
"""Slots of one period that groups are spread over; enough for the longest periods too."""


class SlotCalendar(Generic[GroupT]):
    """Groups that are due every ``period`` slots, each at its phase.

    A group of period ``n`` and phase ``k`` is due in every slot whose number is ``k`` modulo ``n``. A new
    group gets the least loaded phase of its period, so that clients are not all due at once.

    Args:
        slot_ns: length of a slot.
        now_ns: the monotonic time at which slot 0 begins.
    """

    def __init__(self, slot_ns: int, now_ns: int) -> None:
        self.slot_ns = slot_ns
        self._origin_ns = now_ns
        self._due: dict[int, list[GroupT]] = {}
        self._order: list[int] = []
        """The slots of ``_due`` as a heap."""
        self._loads: dict[int, list[int]] = {}
        self._placed: dict[GroupT, tuple[int, int]] = {}
        self._done_slot = -1

    def least_loaded(self, period: int) -> int:
        """Return the phase of ``period`` with the fewest clients."""
        loads = self._loads.get(period)
        if loads is None:
            # Periods start at different phases, so that not each one's first client is in slot 0.
            return _phase(len(self._loads) % min(period, PHASES_MAX), period)
        return _phase(loads.index(min(loads)), period)

    def add(self, group: GroupT, period: int, phase: int) -> None:
        """Schedule a group, first in the next slot of its phase."""
        self._placed[group] = (period, phase)
        self._loads.setdefault(period, [0] * min(period, PHASES_MAX))
        self._schedule(group, self._done_slot + 1, period, phase)

    def _schedule(self, group: GroupT, earliest: int, period: int, phase: int) -> None:
        slot = earliest + (phase - earliest) % period
        if slot not in self._due:
            heappush(self._order, slot)
        self._due.setdefault(slot, []).append(group)

    def change_load(self, group: GroupT, clients: int) -> None:
        """Count clients that joined (or, negative, left) a group."""
        period, phase = self._placed[group]
        self._loads[period][_index(phase, period)] += clients

    def remove(self, group: GroupT) -> None:
        """Forget a group without clients; it is not due again."""
        period, _ = self._placed.pop(group)
        if not any(self._loads[period]):
            del self._loads[period]

    def take_due(self, now_ns: int) -> list[GroupT]:
        """Return the groups due until now, each once, and schedule their next slots.

        After a pause in which a group missed several slots it is due once, not once for each.
        """
        current = (now_ns - self._origin_ns) // self.slot_ns
        self._done_slot = max(self._done_slot, current)
        taken: list[GroupT] = []
        while self._order and self._order[0] <= current:
            for group in self._due.pop(heappop(self._order)):
                if group in self._placed:
                    taken.append(group)
                    self._schedule(group, current + 1, *self._placed[group])
        return taken

    def next_due_ns(self) -> int | None:
        """Return the monotonic time at which the next group is due; ``None`` without groups."""
        return self._origin_ns + self._order[0] * self.slot_ns if self._order else None


def _phase(index: int, period: int) -> int:
    """Return the slot within a period that the ``index``-th phase is at."""
    return index * period // min(period, PHASES_MAX)


def _index(phase: int, period: int) -> int:
    """Return which phase is at a slot: the inverse of ``_phase``."""
    return -(-phase * min(period, PHASES_MAX) // period)

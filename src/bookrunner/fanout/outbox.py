"""What is to be sent, in lanes, a bounded number of frames a turn: a crowd of clients never blocks the loop.

Each lane keeps its order; lanes take turns, so that a message to every client does not hold up the frames
that are due. Order matters within a lane only: a book's states and frames share one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

from bookrunner.fanout.session import Session


class Lane(IntEnum):
    """Which messages keep their order among themselves."""

    BOOKS = 0
    """Book frames and changes of state."""
    EVENTS = 1
    """Trades."""
    BACKGROUND = 2
    """Metrics and heartbeats."""


class Left(IntEnum):
    """What a turn left to be sent."""

    NOTHING = 0
    BACKGROUND = 1
    """Only what may be spread over some milliseconds."""
    URGENT = 2


class Delivery(Protocol):
    """One message on its way to its clients."""

    def begin(self) -> Iterator[Session]:
        """Prepare the message when its turn comes; return the clients it goes to."""
        ...

    def send(self, session: Session) -> None:
        """Hand it to one client."""
        ...

    def done(self) -> None:
        """Note that every client was served."""
        ...

    def refused(self) -> None:
        """Note that there was no room for it."""
        ...


class Outbox:
    """Bounded lanes of deliveries.

    Args:
        sends_per_turn: frames of each lane in one turn.
        deliveries_max: deliveries waiting in one lane; another is refused.
    """

    def __init__(self, sends_per_turn: int, deliveries_max: int) -> None:
        self._sends_per_turn = sends_per_turn
        self._deliveries_max = deliveries_max
        self._lanes: list[deque[Delivery]] = [deque() for _ in Lane]
        self._under_way: list[tuple[Delivery, Iterator[Session]] | None] = [None] * len(Lane)

    def put(self, lane: Lane, delivery: Delivery) -> bool:
        """Queue a delivery; ``False`` when the lane is full and it was refused."""
        waiting = self._lanes[lane]
        if len(waiting) >= self._deliveries_max:
            delivery.refused()
            return False
        waiting.append(delivery)
        return True

    def turn(self) -> Left:
        """Send one turn's frames; return what is left."""
        urgent = self._serve(Lane.BOOKS) | self._serve(Lane.EVENTS)
        background = self._serve(Lane.BACKGROUND)
        return Left.URGENT if urgent else Left.BACKGROUND if background else Left.NOTHING

    def _serve(self, lane: Lane) -> bool:
        budget = self._sends_per_turn
        waiting = self._lanes[lane]
        while budget > 0:
            current = self._under_way[lane]
            if current is None:
                if not waiting:
                    return False
                delivery = waiting.popleft()
                current = self._under_way[lane] = (delivery, delivery.begin())
            delivery, sessions = current
            for session in sessions:
                delivery.send(session)
                budget -= 1
                if budget == 0:
                    return True
            self._under_way[lane] = None
            delivery.done()
        return bool(waiting)

    @property
    def waiting(self) -> int:
        """Deliveries not yet completed."""
        return sum(map(len, self._lanes)) + sum(current is not None for current in self._under_way)

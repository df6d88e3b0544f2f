"""Waiting for one's turn at a venue: the asyncio side of ``request_gate``."""

from __future__ import annotations

import asyncio

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.errors import BannedError, RateLimitedError
from bookrunner.engine.ports.transport import RateLimit
from bookrunner.venues.transport.request_gate import (
    MAX_IN_FLIGHT,
    MAX_WAITING,
    Block,
    RequestGate,
    Ticket,
)

SHORTEST_TIMER_S = 0.001
"""Event loops round timers to a millisecond; a shorter one would spin."""
SHORTEST_ADVICE_S = 1.0
"""What a request that is turned away is told to wait at least."""


class Admission:
    """One per venue and address, shared by every client that the same limit counts.

    Args:
        venue: name in errors.
        limit: what the venue allows.
        clock: monotonic time.
        max_in_flight, max_waiting: bounds; at the second the least urgent request is turned away.
    """

    def __init__(
        self,
        venue: str,
        limit: RateLimit,
        clock: Clock,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.venue = venue
        self.gate = RequestGate(
            limit, clock.monotonic_ns(), max_in_flight=max_in_flight, max_waiting=max_waiting
        )
        self._clock = clock
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, weight: int, priority: int) -> None:
        """Wait for a turn; ``leave`` must follow. Cancelling gives the place up.

        Raises:
            BannedError: the venue refuses everything for ``retry_after_s``.
            RateLimitedError: too many requests wait, and this is the least urgent.
        """
        if self.gate.banned(self._clock.monotonic_ns()):
            raise self._banned()
        ticket, turned_away = self.gate.join(weight, priority)
        turn = asyncio.get_running_loop().create_future()
        self._turns[ticket.number] = turn
        if turned_away is not None:
            self._turn_away(turned_away)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.gate.release()
            self.gate.leave(ticket)
            self._let_in()
            raise
        finally:
            del self._turns[ticket.number]

    def leave(self) -> None:
        """The request is no longer in flight."""
        self.gate.release()
        self._let_in()

    def succeeded(self) -> None:
        """The venue answered as it should."""
        self.gate.succeeded(self._clock.monotonic_ns())

    def refuse(self, block: Block, retry_after_s: float | None) -> float:
        """The venue refused: nobody enters for a while, and after a ban all who wait are told so.

        Returns:
            Seconds that the block lasts.
        """
        now_ns = self._clock.monotonic_ns()
        blocked_s = self.gate.refuse(block, retry_after_s, now_ns)
        if self.gate.banned(now_ns):
            for turn in self._turns.values():
                if not turn.done():
                    turn.set_exception(self._banned())
            self.gate.clear()
        return blocked_s

    def observe_remaining(self, remaining: int) -> None:
        """The venue says how much weight is left."""
        self.gate.bucket.observe_remaining(remaining, self._clock.monotonic_ns())

    def _banned(self) -> BannedError:
        blocked_s = self.gate.blocked_s(self._clock.monotonic_ns())
        return BannedError(
            "the venue refuses this address", venue=self.venue, retry_after_s=round(blocked_s, 3)
        )

    def _turn_away(self, ticket: Ticket) -> None:
        blocked_s = self.gate.blocked_s(self._clock.monotonic_ns())
        turn = self._turns[ticket.number]
        if not turn.done():
            turn.set_exception(
                RateLimitedError(
                    "too many requests wait for their turn",
                    venue=self.venue,
                    waiting=self.gate.waiting,
                    retry_after_s=max(SHORTEST_ADVICE_S, round(blocked_s, 3)),
                )
            )

    def _let_in(self) -> None:
        """Let in whoever may go, and come back when the next may."""
        now_ns = self._clock.monotonic_ns()
        while (ticket := self.gate.admit(now_ns)) is not None:
            turn = self._turns[ticket.number]
            if turn.done():  # cancelled this very moment
                self.gate.release()
            else:
                turn.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait_ns = self.gate.wait_ns(now_ns)
        if wait_ns is not None:
            delay_s = max(SHORTEST_TIMER_S, wait_ns / NANOSECONDS_PER_SECOND)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._let_in)

"""Who may send a request to a venue, and when: weight, blocks, order and bounds, without any I/O.

One gate serves every client behind the same limit: a venue counts by address, not by connection.
"""

from __future__ import annotations

import heapq
from enum import Enum

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND
from bookrunner.engine.ports.transport import RateLimit
from bookrunner.venues.transport.limit_headers import MAX_RETRY_AFTER_S
from bookrunner.venues.transport.token_bucket import TokenBucket

MAX_IN_FLIGHT = 4
MAX_WAITING = 1024
"""Requests that wait for their turn. At the bound the least urgent one is turned away."""


class Block(Enum):
    """Why the venue refuses everything at the moment."""

    RATE_LIMITED = "rate_limited"
    """429: requests wait for it to pass."""
    BANNED = "banned"
    """418: requests fail at once, for a ban can last days."""
    FORBIDDEN = "forbidden"
    """403: Bybit's answer to too many requests, or a firewall's; requests fail at once."""


FIRST_BLOCK_S = {Block.RATE_LIMITED: 5.0, Block.BANNED: 120.0, Block.FORBIDDEN: 600.0}
"""When the venue names no time; doubles with each refusal in a row. Binance bans from two minutes up to three
days, Bybit asks to wait ten minutes after a 403."""
MAX_DOUBLINGS = 32


class Ticket(msgspec.Struct, eq=False):
    """A request's place in the queue."""

    priority: int
    number: int
    weight: int


class RequestGate:
    """A priority queue in front of a token bucket, with a bound on what is in flight.

    Args:
        limit: what the venue allows this address.
        now_ns: monotonic time; every method that takes it expects the same clock.
    """

    def __init__(
        self,
        limit: RateLimit,
        now_ns: int,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.bucket = TokenBucket(limit, now_ns)
        self.in_flight = 0
        self.block: Block | None = None
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._blocked_until_ns = now_ns
        self._strikes = 0
        self._numbers = 0
        self._queue: list[tuple[int, int, Ticket]] = []

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def join(self, weight: int, priority: int) -> tuple[Ticket, Ticket | None]:
        """Queue a request; return its ticket, and the one turned away at the bound (it may be the same)."""
        self._numbers += 1
        ticket = Ticket(priority, self._numbers, weight)
        heapq.heappush(self._queue, (priority, ticket.number, ticket))
        if len(self._queue) <= self._max_waiting:
            return ticket, None
        turned_away = max(self._queue)
        self._queue.remove(turned_away)
        heapq.heapify(self._queue)
        return ticket, turned_away[2]

    def leave(self, ticket: Ticket) -> None:
        """Give up a place in the queue, if it is still there."""
        place = (ticket.priority, ticket.number, ticket)
        if place in self._queue:
            self._queue.remove(place)
            heapq.heapify(self._queue)

    def admit(self, now_ns: int) -> Ticket | None:
        """Let the next request through, spending its weight; ``None`` when none may go now.

        The first in the queue is never overtaken by a lighter one, so that none starves.
        """
        if self.wait_ns(now_ns) != 0:
            return None
        ticket = heapq.heappop(self._queue)[2]
        self.bucket.take(ticket.weight, now_ns)
        self.in_flight += 1
        return ticket

    def wait_ns(self, now_ns: int) -> int | None:
        """Return the wait before ``admit`` lets one through; ``None`` until a ``join`` or a ``release``."""
        if not self._queue or self.in_flight >= self._max_in_flight:
            return None
        blocked_ns = max(0, self._blocked_until_ns - now_ns)
        return max(blocked_ns, self.bucket.wait_ns(self._queue[0][2].weight, now_ns))

    def clear(self) -> None:
        """Forget everybody who waits."""
        self._queue.clear()

    def release(self) -> None:
        """One request is no longer in flight."""
        self.in_flight -= 1

    def succeeded(self, now_ns: int) -> None:
        """The venue answered as it should: the next block starts small again."""
        if now_ns >= self._blocked_until_ns:
            self._strikes = 0

    def refuse(self, block: Block, retry_after_s: float | None, now_ns: int) -> float:
        """The venue refused: stop everything for as long as it asks; return the seconds from now.

        Without a time a block is twice the last one, up to the longest documented ban. A block is never
        shortened, and requests that were in flight when it began do not make the next one longer.
        """
        if now_ns >= self._blocked_until_ns:
            self._strikes += 1
        grown_s = FIRST_BLOCK_S[block] * 2.0 ** min(self._strikes - 1, MAX_DOUBLINGS)
        wait_s = min(retry_after_s if retry_after_s is not None else grown_s, MAX_RETRY_AFTER_S)
        until_ns = now_ns + int(wait_s * NANOSECONDS_PER_SECOND)
        if until_ns >= self._blocked_until_ns:
            self._blocked_until_ns = until_ns
            self.block = block
        return self.blocked_s(now_ns)

    def blocked_s(self, now_ns: int) -> float:
        """Return how long the block still lasts; 0 when there is none."""
        return max(0, self._blocked_until_ns - now_ns) / NANOSECONDS_PER_SECOND

    def banned(self, now_ns: int) -> bool:
        """Whether requests should fail at once."""
        return self.block not in {None, Block.RATE_LIMITED} and now_ns < self._blocked_until_ns

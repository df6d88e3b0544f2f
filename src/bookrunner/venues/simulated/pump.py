"""Lets a source's events happen at their times, or as fast as the clients read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.venues.simulated.events import Event, Source

BURST = 64
"""Events published before the loop gets a turn."""


class Gate:
    """Open or shut; every pump waits while it is shut."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._event.set()

    @property
    def is_open(self) -> bool:
        """Whether events may happen."""
        return self._event.is_set()

    def open(self) -> None:
        """Let events happen."""
        self._event.set()

    def shut(self) -> None:
        """No event happens after this call returns."""
        self._event.clear()

    async def passed(self) -> None:
        """Wait until it is open."""
        await self._event.wait()


class Pump:
    """One source and its place in time."""

    def __init__(self, source: Source, publish: Callable[[Event], None], clock: Clock, gate: Gate) -> None:
        self._speed = source.speed
        self._events: Iterator[tuple[int, Event]] = source.events()
        self._publish = publish
        self._clock = clock
        self._gate = gate
        self._next: tuple[int, Event] | None = None

    @property
    def due_ns(self) -> int | None:
        """When the next event is due, since the source's start; ``None`` when there is none."""
        if self._next is None:
            self._next = next(self._events, None)
        return None if self._next is None else self._next[0]

    def step(self) -> bool:
        """Publish the next event, whatever its time; ``False`` when there is none."""
        if self.due_ns is None or self._next is None:
            return False
        event = self._next[1]
        self._next = None
        self._publish(event)
        return True

    def prime(self) -> None:
        """Publish everything that is due at the very start."""
        while self.due_ns == 0:
            self.step()

    async def run(self, readers_ready: Callable[[], asyncio.Future[None] | None]) -> None:
        """Publish for ever.

        Args:
            readers_ready: a future to wait for before more is sent, or ``None``; asked only at speed 0.
        """
        if self._speed:
            await self._run_on_time()
        else:
            await self._run_as_read(readers_ready)

    async def _run_on_time(self) -> None:
        overdue = 0
        origin_ns = self._clock.monotonic_ns() - int((self.due_ns or 0) / self._speed)
        while (due_ns := self.due_ns) is not None:
            if not self._gate.is_open:
                shut_ns = self._clock.monotonic_ns()
                await self._gate.passed()
                origin_ns += self._clock.monotonic_ns() - shut_ns
                continue  # a step may have been made by hand meanwhile
            wait_ns = origin_ns + int(due_ns / self._speed) - self._clock.monotonic_ns()
            if wait_ns <= 0 and overdue < BURST:
                overdue += 1
                self.step()
            else:
                overdue = 0
                await asyncio.sleep(max(0, wait_ns) / NANOSECONDS_PER_SECOND)

    async def _run_as_read(self, readers_ready: Callable[[], asyncio.Future[None] | None]) -> None:
        while self.due_ns is not None:
            await self._gate.passed()
            waiting = readers_ready()
            if waiting is not None:
                await waiting
                continue
            for _ in range(BURST):
                if not (self._gate.is_open and readers_ready() is None and self.step()):
                    break
            await asyncio.sleep(0)

"""From start to clean stop: a set of services, signals, and five seconds.

Services are started in the order given (sinks first, intake last) and stopped in the reverse order, so that
intake ends before what it feeds is drained, flushed and closed. A service that ends by itself stops them all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock, SystemClock
from bookrunner.core.errors import BookrunnerError

SHUTDOWN_S = 5.0
"""Time from the first signal to the exit, whatever services do."""
SHUTDOWN_RESERVE_S = 0.5
"""Part of it kept for cancelling what did not stop and for leaving the process."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CLEAN = 0
EXIT_FAILED = 1

log = structlog.get_logger(__name__)


class Service(Protocol):
    """A part of the process with a beginning and an end."""

    @property
    def name(self) -> str:
        """Short stable name for logs and health."""
        ...

    async def start(self) -> None:
        """Return when ready to serve; raise when that is impossible."""
        ...

    async def run(self) -> None:
        """Serve until ``stop`` is called, then end. Returning or raising before that stops the process."""
        ...

    async def stop(self) -> None:
        """Take nothing new, finish what was taken, close: here, or in ``run`` before it ends.

        Called once, and only after ``start`` returned; also when ``run`` has died.
        """
        ...


class ServiceGroup:
    """Runs services until told to stop, or until one of them dies."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        clock: Clock | None = None,
        shutdown_s: float = SHUTDOWN_S,
    ) -> None:
        self._services = services
        self._clock = clock or SystemClock()
        self._shutdown_s = shutdown_s
        self._stopping = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.failed = False
        """Whether a service died, did not start or did not stop in time."""
        self.failure = ""
        """What failed first, in a line."""
        self.on_stop: Callable[[], None] | None = None
        """Called once, when the stop begins."""

    def request_stop(self, reason: str) -> None:
        """Begin the orderly stop; further calls change nothing."""
        if not self._stopping.is_set():
            log.info("stopping", reason=reason)
            self._stopping.set()
            if self.on_stop is not None:
                self.on_stop()

    @property
    def stop_requested(self) -> bool:
        """Whether the stop has begun."""
        return self._stopping.is_set()

    async def run(
        self,
        *,
        duration_s: float | None = None,
        on_started: Callable[[], None] | None = None,
    ) -> int:
        """Start all, serve, stop all; return the exit code.

        Args:
            duration_s: stop by itself so long after the start; ``None``: never.
            on_started: called when every service is ready.
        """
        started: list[Service] = []
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(self._start_all(group, started, on_started))
            await self._wait_for_stop(duration_s)
            starting.cancel()
            await asyncio.wait([starting])
            await self._stop_all(started)
            for task in self._tasks.values():
                task.cancel()
        return EXIT_FAILED if self.failed else EXIT_CLEAN

    async def _start_all(
        self,
        group: asyncio.TaskGroup,
        started: list[Service],
        on_started: Callable[[], None] | None,
    ) -> None:
        for service in self._services:
            try:
                await service.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and stops the process
                self._fail("service_start_failed", service, error)
                return
            started.append(service)
            self._tasks[service.name] = group.create_task(self._watch(service), name=service.name)
        if on_started is not None:
            on_started()

    async def _watch(self, service: Service) -> None:
        try:
            await service.run()
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail("service_died", service, error)
        else:
            if not self.stop_requested:
                self._fail("service_died", service, None)

    def _fail(self, event: str, service: Service, error: Exception | None) -> None:
        self.failed = True
        code = error.code if isinstance(error, BookrunnerError) else "INTERNAL"
        expected = error is None or isinstance(error, BookrunnerError)
        reason = str(error) if error else "ended without being asked to"
        self.failure = self.failure or f"{service.name}: {reason}"
        log.error(
            event,
            service=service.name,
            code=code,
            error=reason,
            exc_info=None if expected else error,
        )
        self.request_stop(f"{service.name} failed")

    async def _wait_for_stop(self, duration_s: float | None) -> None:
        try:
            async with asyncio.timeout(duration_s):
                await self._stopping.wait()
        except TimeoutError:
            self.request_stop("duration over")

    async def _stop_all(self, started: list[Service]) -> None:
        deadline_ns = self._clock.monotonic_ns() + int(
            (self._shutdown_s - SHUTDOWN_RESERVE_S) * NANOSECONDS_PER_SECOND
        )
        for left, service in zip(range(len(started), 0, -1), reversed(started), strict=True):
            remaining_s = max(0, deadline_ns - self._clock.monotonic_ns()) / NANOSECONDS_PER_SECOND
            await self._stop_one(service, self._share_s(remaining_s, left))

    @staticmethod
    def _share_s(remaining_s: float, services_left: int) -> float:
        """A service may use half of what is left, so that those after it have time too; the last uses all."""
        return remaining_s if services_left == 1 else remaining_s / 2

    async def _stop_one(self, service: Service, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await service.stop()
                await asyncio.wait([self._tasks[service.name]])
        except TimeoutError:
            self.failed = True
            log.error(  # noqa: TRY400 - the traceback of a timeout says nothing
                "service_stop_timed_out", service=service.name, limit_s=round(limit_s, 3)
            )
        except Exception as error:  # noqa: BLE001 - the services after it must still be stopped
            self._fail("service_stop_failed", service, error)


@asynccontextmanager
async def signals_handled(
    group: ServiceGroup, exit_now: Callable[[int], object] = os._exit
) -> AsyncIterator[None]:
    """Stop the group at SIGINT and SIGTERM, and see that the process ends.

    A second signal leaves at once with 130 or 143 (128 + the signal). A stop, whatever its reason, that takes
    longer than ``SHUTDOWN_S`` leaves with ``EXIT_FAILED``, even where the loop itself is blocked.
    """
    loop = asyncio.get_running_loop()
    overdue = threading.Timer(SHUTDOWN_S, _leave_overdue, [exit_now])
    overdue.daemon = True
    group.on_stop = overdue.start

    def on_signal(number: signal.Signals) -> None:
        if group.stop_requested:
            exit_now(128 + number)
        group.request_stop(number.name)

    for number in SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        overdue.cancel()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _leave_overdue(exit_now: Callable[[int], object]) -> None:
    log.critical("shutdown_overdue", limit_s=SHUTDOWN_S)
    exit_now(EXIT_FAILED)

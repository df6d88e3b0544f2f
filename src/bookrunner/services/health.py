"""Health: what each component says of itself, gathered at one board."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from bookrunner.core.clock import NANOSECONDS_PER_SECOND, Clock
from bookrunner.core.enums import BookState
from bookrunner.market.live_book import LiveBook


class HealthState(StrEnum):
    """Of a component, or of the whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"


class ComponentHealth(msgspec.Struct, frozen=True):
    """One component's word, and why."""

    state: HealthState
    reason: str = ""


HEALTHY = ComponentHealth(HealthState.HEALTHY)


def degraded(reason: str) -> ComponentHealth:
    """Return a component that works badly or not at all."""
    return ComponentHealth(HealthState.DEGRADED, reason)


Check = Callable[[], ComponentHealth]


class HealthBoard:
    """Asks every component how it is; the whole is degraded when one is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checks: dict[str, tuple[Check, bool]] = {}

    def add(self, name: str, check: Check, *, needed: bool = True) -> None:
        """Register a component.

        Args:
            name: such as ``feed/binance_usdm`` or ``journal``.
            check: answers at once, without waiting.
            needed: whether the process is not ready while this component is degraded.
        """
        self._checks[name] = (check, needed)

    def components(self) -> dict[str, ComponentHealth]:
        """Ask every component."""
        return {name: check() for name, (check, _) in self._checks.items()}

    def report(self) -> dict[str, object]:
        """Return ``status``, ``timestamp`` (unix seconds) and ``components``, JSON-ready."""
        components = self.components()
        healthy = all(component.state is HealthState.HEALTHY for component in components.values())
        return {
            "status": str(HealthState.HEALTHY if healthy else HealthState.DEGRADED),
            "timestamp": self._clock.wall_ns() / NANOSECONDS_PER_SECOND,
            "components": {
                name: {"state": str(component.state), "reason": component.reason}
                for name, component in components.items()
            },
        }

    def not_ready(self) -> list[str]:
        """Return the needed components that are degraded; empty: ready."""
        return [
            name
            for name, (check, needed) in self._checks.items()
            if needed and check().state is HealthState.DEGRADED
        ]


def books_check(books: Iterable[LiveBook], venue: str) -> Check:
    """Return a check of one venue's feed: it has books, and all are live (closed ones are not missed)."""

    def check() -> ComponentHealth:
        states = {live.symbol: live.state for live in books if live.venue == venue}
        waiting = [
            f"{symbol} {state}"
            for symbol, state in states.items()
            if state not in {BookState.LIVE, BookState.CLOSED}
        ]
        if waiting:
            return degraded(", ".join(sorted(waiting)))
        return HEALTHY if states else degraded("no book yet")

    return check

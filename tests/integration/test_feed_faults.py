"""Every fault that the simulator knows: the book recovers to the simulator's own truth, and others go on."""

from __future__ import annotations

import pytest

from bookrunner.venues.simulated.faults import BYBIT_ONLY, Fault, FaultKind, Occasion
from feed_scene import following

VENUES = ("binance_usdm", "binance_spot", "bybit_linear", "bybit_spot")
SYMBOL, OTHER = "BTCUSDT", "ETHUSDT"

CONNECTION_WIDE = frozenset({
    FaultKind.ABRUPT_CLOSE, FaultKind.CLOSE_1008, FaultKind.DAILY_CUT, FaultKind.MUTE_SOCKET,
    FaultKind.NO_PONG, FaultKind.ACK_ONLY, FaultKind.SNAPSHOT_BEFORE_ACK, FaultKind.OVERSIZED,
})  # fmt: skip
"""Faults of a connection concern every book on it."""
OF_REST = frozenset(
    kind for kind in FaultKind if Fault(fault=kind).occasion in {Occasion.SNAPSHOT_REQUEST, Occasion.REQUEST}
)
HARMLESS = frozenset(
    {
        FaultKind.DUPLICATED,
        FaultKind.FRAGMENTED,
        FaultKind.UNSOLICITED_SNAPSHOT,
        FaultKind.OFF_TICK,
        FaultKind.DELAYED,
        FaultKind.MAINTENANCE,
    }
)
"""A book need not leave the live state for these: duplicates are dropped, an emptied book is a true one."""


def _cases() -> list[tuple[str, FaultKind]]:
    return [
        (venue, kind)
        for venue in VENUES
        for kind in FaultKind
        if (kind not in BYBIT_ONLY or venue.startswith("bybit"))
        and (kind not in OF_REST or venue.startswith("binance"))
    ]


@pytest.mark.parametrize(("venue", "kind"), _cases(), ids=str)
async def test_book_equals_the_truth_after(venue: str, kind: FaultKind) -> None:
    async with following(venue, SYMBOL, OTHER) as scene:
        simulator, witness = scene.simulator, scene.witness
        scene.witness.changes.clear()
        if kind in OF_REST:
            # Such a fault meets the next request: have one made.
            simulator.inject(
                Fault(
                    fault=kind,
                    venue=venue,
                    symbol="" if kind is FaultKind.RATE_LIMITED else SYMBOL,
                    seconds=0.3,
                )
            )
            simulator.inject(Fault(fault=FaultKind.DROPPED, venue=venue, symbol=SYMBOL))
        elif kind in {FaultKind.ACK_ONLY, FaultKind.SNAPSHOT_BEFORE_ACK}:
            simulator.inject(Fault(fault=kind, venue=venue, symbol=SYMBOL))
            simulator.cut_all()
        else:
            simulator.inject(Fault(fault=kind, venue=venue, symbol=SYMBOL, seconds=0.3))
        struck = 2 if kind in OF_REST else 1
        await witness.until(lambda: simulator.plan.struck_count >= struck)
        seen = dict(witness.updates)
        await witness.until(
            lambda: (
                scene.all_live()
                and (kind in HARMLESS or "stale" in witness.states(SYMBOL))
                and all(count >= seen.get(symbol, 0) + 20 for symbol, count in witness.updates.items())
            )
        )
        await scene.settle()
        scene.assert_books_true()
        assert scene.book(SYMBOL).crossed == 0
        if kind not in CONNECTION_WIDE:
            assert witness.states(OTHER) == []
            assert scene.book(OTHER).gaps == 0
        if kind not in HARMLESS:
            assert witness.states(SYMBOL)[-1] == "live"
            assert "stale" in witness.states(SYMBOL)

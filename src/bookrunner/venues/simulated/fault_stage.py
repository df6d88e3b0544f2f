"""Between the market and the sockets: faults that change which messages of a stream go out, and how."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bookrunner.venues.simulated import corruption
from bookrunner.venues.simulated.faults import Fault, FaultKind

FRAGMENTS = 3
"""WebSocket frames that a fragmented message is sent in."""

StreamKey = tuple[str, str, str]
"""``(venue, symbol, kind)``."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One message as it goes out."""

    payload: bytes
    fragments: int = 1


class _Held(msgspec.Struct):
    payload: bytes
    left: int
    """Messages of the stream still to pass before it is released."""


class FaultStage:
    """Passes each stream's messages on, spoilt as the striking faults say.

    At most one held message per strike is kept, and each leaves after a stated count of others.
    """

    def __init__(self) -> None:
        self._held: dict[StreamKey, list[_Held]] = {}

    def transform(
        self, key: StreamKey, payload: bytes, faults: Sequence[Fault], off_tick_price: str
    ) -> list[Outgoing]:
        """Return what goes out in this message's place."""
        out = self._spoilt(key, payload, faults, off_tick_price)
        held = self._held.get(key)
        if held and out:
            for entry in held:
                entry.left -= 1
            out += [Outgoing(entry.payload) for entry in held if entry.left <= 0]
            self._held[key] = [entry for entry in held if entry.left > 0]
        return out

    def forget(self, key: StreamKey) -> None:
        """Drop what is held for a stream: its book starts over."""
        self._held.pop(key, None)

    def _spoilt(
        self, key: StreamKey, payload: bytes, faults: Sequence[Fault], off_tick_price: str
    ) -> list[Outgoing]:
        copies, fragments = 1, 1
        for fault in faults:
            match fault.fault:
                case FaultKind.DROPPED:
                    return []
                case FaultKind.REORDERED | FaultKind.DELAYED:
                    left = 1 if fault.fault is FaultKind.REORDERED else fault.messages
                    self._held.setdefault(key, []).append(_Held(payload, left))
                    return []
                case FaultKind.DUPLICATED:
                    copies = 2
                case FaultKind.FRAGMENTED:
                    fragments = FRAGMENTS
                case FaultKind.OVERSIZED:
                    payload = corruption.oversized(payload, fault.bytes)
                case FaultKind.OFF_TICK:
                    payload = corruption.off_tick(payload, off_tick_price)
                case kind if kind in corruption.SPOILERS:
                    payload = corruption.SPOILERS[kind](payload)
        return [Outgoing(payload, fragments)] * copies

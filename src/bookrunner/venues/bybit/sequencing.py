"""How a Bybit v5 book is kept in step. The venue does not number its rules; these numbers are ours.

Source: BB ``websocket/public/orderbook``.

1. The stream begins with a snapshot; what comes before it is nothing to build on.
2. A snapshot replaces the book whenever it comes: after trouble at the venue, a new one may. ``orderbook.1``
   sends nothing but snapshots, and repeats one with the same ``u`` after 3 s without change.
3. ``u == 1`` is the snapshot that follows a restart: replace, even when it is typed otherwise.
4. In a delta, size 0 deletes; any other inserts or replaces. Deleting what is not there is normal.
5. A delta that repeats the last one is dropped. One that is older is, when strict (the default), a gap: on
   one connection nothing goes back, so the last id was wrong. Otherwise it is dropped.
6. A delta with ``u`` above the book's + 1: the documents promise steps of one for ``orderbook.full`` only,
   yet recordings of depth 200 show nothing else. When strict (the default) it is a gap: subscribe again.
   Otherwise it is applied.

``seq`` is comparable between depths and kept as evidence; it is not part of the chain.

The rules run compiled, in ``kernels.bybit``, and the typed road ends in the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bookrunner.kernels import bybit as kernels
from bookrunner.kernels.layout import RULE_BYBIT
from bookrunner.market.events import DepthUpdate
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import apply_update
from bookrunner.venues.bybit.protocol import decode_depth

if TYPE_CHECKING:
    from bookrunner.engine.ports.venue_feed import Words


class BybitDepthRule:
    """The rule of every Bybit v5 category."""

    rule = RULE_BYBIT
    snapshot_from_rest = False
    # Bound as they are: a Python call between the socket and the kernel would cost as much as a level.
    apply_frame = staticmethod(kernels.depth_frame)
    scan_frame = staticmethod(kernels.scan_depth)
    sequence_apply = staticmethod(kernels.sequence_apply)

    def decode(self, frame: bytes) -> DepthUpdate:
        """Read an order-book message; see ``protocol.decode_depth``."""
        return decode_depth(frame)

    def apply_update(self, update: DepthUpdate, grid: Grid, words: Words) -> int:
        """Put a decoded update through the rule; see ``market.levels.apply_update``."""
        return apply_update(update, grid, words, kernels.sequence, kernels.sequence_apply)

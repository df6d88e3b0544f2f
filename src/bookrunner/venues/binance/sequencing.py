"""How a Binance book is kept in step. The rules, numbered as the venue numbers them.

Futures, chained by ``pu`` (BND ``How-to-manage-a-local-order-book-correctly``):

1. Open the ``@depth`` stream and buffer its events.
2. Get a depth snapshot; its ``lastUpdateId`` is L.
3. Drop any event with ``u < L``.
4. The first event applied has ``U <= L <= u``. Ids are sparse, so L may fall between two events; then
   ``pu == L`` is the plain continuation and ``pu <= L <= u`` loses nothing. Both are accepted: our inference
   from the meaning of the ids, which other connectors share for ``pu == L``.
5. Every next event has ``pu`` equal to the previous event's ``u``, else go back to 2. Only an exact repeat of
   the last event is dropped: if the last id was wrong, the true events after it look old.
6. Quantities are absolute; 0 removes, and removing a level that is not there is normal.

Spot and Binance.US, chained by ``U`` (BNS ``web-socket-streams.md``), with the same numbers:

2. A snapshot with L below the first buffered ``U`` is too old: get another.
3. Drop events with ``u <= L``.
4. The first event applied spans L, or just follows it: ``U <= L + 1 <= u``.
5. Every next event has ``U`` equal to the book's id + 1, as the venue says is normal. The venue also lets
   older events be ignored; here only an exact repeat of the last one is, and all else is a gap, for the same
   reason.

One chain belongs to one connection: two sockets may cut the same changes into different events.

The rules run compiled, in ``kernels.binance``, and the typed road ends in the same functions. Buffering and
asking again are the live book's, in ``market.live_book``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bookrunner.kernels import binance as kernels
from bookrunner.kernels.layout import RULE_BINANCE_FUTURES
from bookrunner.market.events import DepthUpdate
from bookrunner.market.instrument import Grid
from bookrunner.market.levels import apply_update
from bookrunner.venues.binance.protocol import decode_depth

if TYPE_CHECKING:
    from bookrunner.engine.ports.venue_feed import Words


class BinanceDepthRule:
    """The rule of one Binance venue.

    Args:
        rule: ``RULE_BINANCE_FUTURES`` or ``RULE_BINANCE_SPOT``.
    """

    snapshot_from_rest = True
    # Bound as they are: a Python call between the socket and the kernel would cost as much as a level.
    apply_frame = staticmethod(kernels.depth_frame)
    scan_frame = staticmethod(kernels.scan_depth)
    sequence_apply = staticmethod(kernels.sequence_apply)

    def __init__(self, rule: int) -> None:
        self.rule = rule
        self._chained = rule == RULE_BINANCE_FUTURES

    def decode(self, frame: bytes) -> DepthUpdate:
        """Read a diff depth frame; see ``protocol.decode_depth``."""
        return decode_depth(frame, chained=self._chained)

    def apply_update(self, update: DepthUpdate, grid: Grid, words: Words) -> int:
        """Put a decoded update through the rule; see ``market.levels.apply_update``."""
        return apply_update(update, grid, words, kernels.sequence, kernels.sequence_apply)

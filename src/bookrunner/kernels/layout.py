"""The memory of one book: a flat int64 array, and what each word means.

    [ header | symbol | stream | grid tables | scratch | bid ring | ask ring | bid outliers | ask outliers ]

All state that the compiled road touches lives here, so that one call with ``(frame, words)`` scans, checks
the sequence and applies. Prices are ticks, quantities are lots, both int64; a quantity of 0 means no level.

The rings are dense ladders of ``WINDOW`` ticks, addressed by ``tick & (WINDOW - 1)``; the window covers
``[WINDOW_LOW, WINDOW_LOW + WINDOW)`` and moves with the market. Levels outside it are in the outlier arrays,
ascending by tick, one ``(tick, lots)`` pair of arrays a side. Room for ``MAX_OUTLIERS`` a side is laid out in
memory that stays untouched (and so costs nothing) until it is used; ``OUTLIER_CAPACITY`` bounds how much is.
"""

from __future__ import annotations

WINDOW = 65_536
"""Ticks covered by each dense ladder; a power of two."""
WINDOW_STEP = 4_096
"""The window moves by whole steps."""
MAX_OUTLIERS = 65_536
"""Outliers a side that the memory has room for."""
MAX_LEVELS = 8_192
"""Levels a side that one message may carry on the compiled road; more go through the typed decoder."""
SYMBOL_BYTES = 64
"""Longest venue symbol, in bytes."""

# --- header words -----------------------------------------------------------------------------------------
# The book.
BEST_BID = 0  # tick, or NO_BID
BEST_ASK = 1  # tick, or NO_ASK
BID_LEVELS = 2  # count of levels, window and outliers together
ASK_LEVELS = 3
WINDOW_LOW = 4  # first tick of the window, a multiple of WINDOW_STEP
BID_OUTLIERS = 5  # outliers in use
ASK_OUTLIERS = 6
OUTLIER_CAPACITY = 7  # a side, at most MAX_OUTLIERS
TRUSTED_LOW = 8  # lowest bid tick of the last snapshot: below it the book is known only where touched
TRUSTED_HIGH = 9  # highest ask tick of the last snapshot
# The sequence.
SYNC = 10  # one of SYNC_*
LAST_ID = 11  # id of the last update applied
SNAPSHOT_ID = 12  # id of the snapshot that the chain started from
LAST_FIRST_ID = 13  # FIRST_ID and PREVIOUS_ID of the last update applied: what a duplicate repeats
CROSSED_RUN = 14  # consecutive applied messages that left the book crossed
# The message last scanned.
FIRST_ID = 15  # Binance U; Bybit u
FINAL_ID = 16  # Binance u; Bybit u
PREVIOUS_ID = 17  # Binance pu; -1 where the venue sends none
TS_EVENT = 18  # venue send time as sent (see TIME_UNIT_NS), ns
TS_MATCH = 19  # venue matching-engine time, ns; 0 where the venue sends none
CROSS_SEQUENCE = 20  # Bybit seq; 0 elsewhere
MESSAGE_KIND = 21  # KIND_DELTA or KIND_SNAPSHOT
MESSAGE_BIDS = 22  # levels in scratch
MESSAGE_ASKS = 23
# The grid: tick = TICK_UNITS * 10**-PRICE_SCALE, lot = LOT_UNITS * 10**-QUANTITY_SCALE.
PRICE_SCALE = 24
TICK_UNITS = 25
QUANTITY_SCALE = 26
LOT_UNITS = 27
# Configuration of the rule.
RULE = 28  # one of RULE_*
STRICT = 29  # 1: an id that does not follow is a gap even where the venue's documents are silent
PRICE_TEXT_SCALE = (
    30  # decimals that prices carried last, by which the next are scanned; MIXED_SCALE if not one
)
QUANTITY_TEXT_SCALE = 31
# Counters of the stages, since the book was made.
COUNT_MESSAGES = 32  # frames given to the scanner
COUNT_BYTES = 33
COUNT_FALLBACK = 34  # frames that left the compiled road
COUNT_APPLIED = 35  # updates applied (deltas and stream snapshots)
COUNT_BUFFERED = 36
COUNT_OLD = 37  # dropped: at or before the snapshot, or a duplicate
COUNT_GAPS = 38
COUNT_LEVELS = 39  # levels written
COUNT_CROSSED = 40  # applied messages that left the book crossed
COUNT_OFF_GRID = 41
COUNT_SHIFTS = 42  # window moves
LAST_PREVIOUS_ID = 45
STREAM_LENGTH = 46
SYMBOL_LENGTH = 47
HEADER_WORDS = 48

SYMBOL_AT = HEADER_WORDS
SYMBOL_WORDS = SYMBOL_BYTES // 8
STREAM_AT = SYMBOL_AT + SYMBOL_WORDS  # the symbol as stream names spell it (Binance: lower case)
PRICE_TABLE_AT = (
    STREAM_AT + SYMBOL_WORDS
)  # by the decimals of the text: ticks = mantissa * numerator / denominator
QUANTITY_TABLE_AT = (
    PRICE_TABLE_AT + 19 * 3
)  # rows of numerator, denominator, bits of the double 1 / denominator
SCRATCH_AT = QUANTITY_TABLE_AT + 19 * 3
BID_TICKS_AT = SCRATCH_AT
BID_LOTS_AT = BID_TICKS_AT + MAX_LEVELS
ASK_TICKS_AT = BID_LOTS_AT + MAX_LEVELS
ASK_LOTS_AT = ASK_TICKS_AT + MAX_LEVELS
SIDE_STRIDE = 2 * MAX_LEVELS  # from the bids in scratch to the asks
BID_RING_AT = ASK_LOTS_AT + MAX_LEVELS
ASK_RING_AT = BID_RING_AT + WINDOW
BID_OUTLIER_TICKS_AT = ASK_RING_AT + WINDOW
BID_OUTLIER_LOTS_AT = BID_OUTLIER_TICKS_AT + MAX_OUTLIERS
ASK_OUTLIER_TICKS_AT = BID_OUTLIER_LOTS_AT + MAX_OUTLIERS
ASK_OUTLIER_LOTS_AT = ASK_OUTLIER_TICKS_AT + MAX_OUTLIERS
TOTAL_WORDS = ASK_OUTLIER_LOTS_AT + MAX_OUTLIERS

MAX_SCALE = 18
"""Decimals that a venue's text may carry."""
MIXED_SCALE = -1
"""TEXT_SCALE where the last message's texts did not agree."""
NO_BID = -(2**62)
"""BEST_BID of an empty side."""
NO_ASK = 2**62
"""BEST_ASK of an empty side."""

BID = 1
"""Side of the book, as in ``core.enums.Side``."""
ASK = -1

# --- SYNC -------------------------------------------------------------------------------------------------
SYNC_BUFFERING = 0  # no snapshot: every update is to be buffered by the caller
SYNC_BRIDGING = 1  # snapshot loaded: the first update must bridge it
SYNC_LIVE = 2

# --- RULE -------------------------------------------------------------------------------------------------
RULE_BINANCE_FUTURES = 1  # chained by pu
RULE_BINANCE_SPOT = 2  # chained by U == previous u + 1
RULE_BYBIT = 3  # chained by u + 1, snapshots in the stream

KIND_DELTA = 0
KIND_SNAPSHOT = 1

# --- verdicts ---------------------------------------------------------------------------------------------
APPLIED = 0  # the book changed (or was confirmed unchanged) and is live
APPLIED_SNAPSHOT = 1  # a stream snapshot replaced the book
BUFFER = 2  # no snapshot yet: keep the frame
OLD = 3  # at or before the snapshot, or a duplicate of the last update: dropped
GAP = 4  # an update is missing; the book was left untouched
UNEXPECTED = 5  # not the shape that the scanner knows; untouched: use the typed decoder
OFF_GRID = 6  # a price or quantity finer than the grid; untouched: refine the grid and apply again
FULL = 7  # more outliers than capacity; untouched: grow and apply again
CROSSED = 8  # applied, and the book is crossed for longer than tolerated

CROSSED_TOLERANCE = 3
"""Consecutive crossed messages before CROSSED is returned; single ones are real on some venues."""

# --- rows of the trade and quote scanners -----------------------------------------------------------------
TRADE_TS_EVENT = 0  # venue send time, ns
TRADE_TS_MATCH = 1  # venue matching time, ns
TRADE_ID_LOW = 2  # numeric id, or the low 64 bits of a UUID
TRADE_ID_HIGH = 3  # the high 64 bits of a UUID, else 0
TRADE_TICKS = 4
TRADE_LOTS = 5
TRADE_SIDE = 6  # taker's side: 1 buy, -1 sell
TRADE_FLAGS = 7  # TRADE_FLAG_*
TRADE_WIDTH = 8
MAX_TRADES = 1_024
"""Trades in one message (Bybit's documented maximum)."""
TRADE_FLAG_AGGREGATE = 1  # one row stands for several fills at one price
TRADE_FLAG_NOT_MARKET = 2  # insurance fund, ADL or block trade: not an ordinary match

QUOTE_TS_EVENT = 0
QUOTE_TS_MATCH = 1
QUOTE_ID = 2
QUOTE_BID_TICKS = 3
QUOTE_BID_LOTS = 4
QUOTE_ASK_TICKS = 5
QUOTE_ASK_LOTS = 6
QUOTE_WIDTH = 7

"""Binance frames: depthUpdate, trade, aggTrade and bookTicker of spot, USD-M and COIN-M, all dates.

Frames come raw or wrapped as ``{"stream":"…","data":{…}}``. Keys may come in any order, each at most
once; those that not every market or date sends are optional: ``T``, ``pu``, ``ps``, ``st``, ``nq``,
``M``, ``X``, and the order ids ``a`` and ``b`` of old spot trades. Anything else is UNEXPECTED and left
to the typed decoder.

Sequence rules: "How to manage a local order book correctly", USD-M and spot.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import address_of, load8, load16, load64
from bookrunner.kernels.jit import inlined, kernel
from bookrunner.kernels.layout import (
    APPLIED,
    ASK_LOTS_AT,
    ASK_TICKS_AT,
    BID_LOTS_AT,
    BID_TICKS_AT,
    CROSS_SEQUENCE,
    FINAL_ID,
    FIRST_ID,
    KIND_DELTA,
    LAST_ID,
    MESSAGE_ASKS,
    MESSAGE_BIDS,
    MESSAGE_KIND,
    OFF_GRID,
    PREVIOUS_ID,
    PRICE_TABLE_AT,
    QUANTITY_TABLE_AT,
    QUOTE_ASK_LOTS,
    QUOTE_ASK_TICKS,
    QUOTE_BID_LOTS,
    QUOTE_BID_TICKS,
    QUOTE_ID,
    QUOTE_TS_EVENT,
    QUOTE_TS_MATCH,
    RULE,
    RULE_BINANCE_FUTURES,
    STREAM_AT,
    STREAM_LENGTH,
    SYMBOL_LENGTH,
    SYNC,
    SYNC_BRIDGING,
    SYNC_BUFFERING,
    SYNC_LIVE,
    TRADE_FLAG_AGGREGATE,
    TRADE_FLAG_NOT_MARKET,
    TRADE_FLAGS,
    TRADE_ID_HIGH,
    TRADE_ID_LOW,
    TRADE_LOTS,
    TRADE_SIDE,
    TRADE_TICKS,
    TRADE_TS_EVENT,
    TRADE_TS_MATCH,
    TS_EVENT,
    TS_MATCH,
    UNEXPECTED,
)
from bookrunner.kernels.levels import scan_levels
from bookrunner.kernels.scan import (
    FAIL,
    SHORTEST,
    after_value,
    literal,
    load_word,
    matches,
    scan_flag,
    scan_integer,
    scan_quoted_decimal,
    scan_quoted_steps,
    scan_time,
    skip_plain,
    skip_symbol,
    skip_text,
    starts_with,
    to_grid,
)
from bookrunner.kernels.sequence import (
    apply_due,
    break_chain,
    count_frame,
    drop,
    drop_duplicate,
    hold_back,
    needed,
)

_WRAPPER_1 = literal(b'{"stream')
_WRAPPER_2 = literal(b'":"')
_WRAPPER_3 = literal(b',"data":')
_DEPTH_STREAM = literal(b"@depth")

_FOUR = (1 << 32) - 1
_FIVE = (1 << 40) - 1
_EVENT = literal(b'"e":')
_TIME = literal(b'"E":')
_MATCH = literal(b'"T":')
_SYMBOL = literal(b'"s":')
_FIRST = literal(b'"U":')
_FINAL = literal(b'"u":')
_PREVIOUS = literal(b'"pu":')
_PAIR = literal(b'"ps":')
_MARKET = literal(b'"st":')
_NORMAL = literal(b'"nq":')
_LOWER_B = literal(b'"b":')
_UPPER_B = literal(b'"B":')
_LOWER_A = literal(b'"a":')
_UPPER_A = literal(b'"A":')
_TRADE_ID = literal(b'"t":')
_PRICE = literal(b'"p":')
_QUANTITY = literal(b'"q":')
_MAKER = literal(b'"m":')
_UNUSED = literal(b'"M":')
_KIND = literal(b'"X":')
_FIRST_FILL = literal(b'"f":')
_LAST_FILL = literal(b'"l":')

_DEPTH_UPDATE_1 = literal(b'"depthUp')
_DEPTH_UPDATE_2 = literal(b'date"')
_TRADE = literal(b'"trade"')
_AGGREGATE_1 = literal(b'"aggTrad')
_AGGREGATE_2 = literal(b'e"')
_TICKER_1 = literal(b'"bookTic')
_TICKER_2 = literal(b'ker"')
_ORDINARY = literal(b'"MARKET"')

# Keys seen, one bit each.
_HAS_EVENT = 1
_HAS_TIME = 2
_HAS_MATCH = 4
_HAS_SYMBOL = 8
_HAS_FIRST = 16
_HAS_FINAL = 32
_HAS_PREVIOUS = 64
_HAS_BIDS = 128
_HAS_ASKS = 256
_HAS_PAIR = 512
_HAS_MARKET = 1024
_HAS_PRICE = 2048
_HAS_QUANTITY = 4096
_HAS_MAKER = 8192
_HAS_NORMAL = 1 << 14
_HAS_UNUSED = 1 << 15
_HAS_KIND = 1 << 16
_HAS_TRADE_ID = 1 << 17
_HAS_LOWER_A = 1 << 18
_HAS_LOWER_B = 1 << 19
_HAS_UPPER_A = 1 << 20
_HAS_UPPER_B = 1 << 21
_HAS_FIRST_FILL = 1 << 22
_HAS_LAST_FILL = 1 << 23
_IS_AGGREGATE = 1 << 24

_DEPTH_NEEDS = _HAS_EVENT | _HAS_TIME | _HAS_SYMBOL | _HAS_FIRST | _HAS_FINAL | _HAS_BIDS | _HAS_ASKS
_TRADE_NEEDS = _HAS_EVENT | _HAS_TIME | _HAS_SYMBOL | _HAS_PRICE | _HAS_QUANTITY | _HAS_MATCH | _HAS_MAKER
_QUOTE_NEEDS = _HAS_SYMBOL | _HAS_FINAL | _HAS_LOWER_A | _HAS_LOWER_B | _HAS_UPPER_A | _HAS_UPPER_B


@inlined
def _enter(base, size, words, depth):
    """Return (offset of the payload's first key, whether it is wrapped); the offset is FAIL if neither fits.

    A wrapper must name this book's symbol, and for depth a diff stream: partial books have the same payload.
    """
    at = 0
    wrapped = load64(base) == _WRAPPER_1
    if wrapped:
        length = words[STREAM_LENGTH]
        at = 11 + length
        if not starts_with(base, 8, size, _WRAPPER_2, 3) or not matches(
            base, 11, size, words, STREAM_AT, length
        ):
            return FAIL, wrapped
        if depth:
            if not starts_with(base, at, size, _DEPTH_STREAM, 6):
                return FAIL, wrapped
            at += 6
        end = at < size and load8(base + at) == 34
        if not (at < size and load8(base + at) == 64) and not (depth and end):
            return FAIL, wrapped
        at = skip_plain(base, at, size)
        if at < 0 or not starts_with(base, at, size, _WRAPPER_3, 8):
            return FAIL, wrapped
        at += 8
    if at + 2 > size or load16(base + at) != 0x227B:  # {"
        return FAIL, wrapped
    return at + 1, wrapped


@inlined
def _ends(base, at, size, wrapped):
    """Whether the frame ends after the payload's closing brace."""
    if wrapped:
        return at + 1 == size and load8(base + at) == 125
    return at == size


@inlined
def _skip_event(base, at, size, first, second, length):
    """Skip an event name of 8 + ``length`` characters with its quotes."""
    if starts_with(base, at, size, first, 8) and starts_with(base, at + 8, size, second, length):
        return at + 8 + length
    return FAIL


@kernel
def scan_depth(frame, words):
    """Scan a depthUpdate into the book's scratch and message words; the levels stay as they are.

    Returns:
        APPLIED (scanned, not yet applied), UNEXPECTED or OFF_GRID.
    """
    base = address_of(frame)
    size = len(frame)
    if size < SHORTEST:
        return UNEXPECTED
    at, wrapped = _enter(base, size, words, depth=True)
    if at < 0:
        return UNEXPECTED
    seen = 0
    off_grid = False
    first_id = 0
    final_id = 0
    previous_id = -1
    ts_event = 0
    ts_match = 0
    bids = 0
    asks = 0
    while True:
        key = load_word(base, at, size)
        short = key & _FOUR
        at += 4
        if short == _EVENT:
            has = _HAS_EVENT
            at = _skip_event(base, at, size, _DEPTH_UPDATE_1, _DEPTH_UPDATE_2, 5)
        elif short == _TIME:
            has = _HAS_TIME
            ts_event, at = scan_time(base, at, size)
        elif short == _MATCH:
            has = _HAS_MATCH
            ts_match, at = scan_time(base, at, size)
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words, words[SYMBOL_LENGTH])
        elif short == _FIRST:
            has = _HAS_FIRST
            first_id, at, _ = scan_integer(base, at, size)
        elif short == _FINAL:
            has = _HAS_FINAL
            final_id, at, _ = scan_integer(base, at, size)
        elif key & _FIVE == _PREVIOUS:
            has = _HAS_PREVIOUS
            previous_id, at, _ = scan_integer(base, at + 1, size)
        elif short == _LOWER_B:
            has = _HAS_BIDS
            at, bids, off = scan_levels(base, at, size, words, BID_TICKS_AT, BID_LOTS_AT)
            off_grid = off_grid or off
        elif short == _LOWER_A:
            has = _HAS_ASKS
            at, asks, off = scan_levels(base, at, size, words, ASK_TICKS_AT, ASK_LOTS_AT)
            off_grid = off_grid or off
        elif key & _FIVE == _PAIR:
            has = _HAS_PAIR
            at = skip_text(base, at + 1, size)
        elif key & _FIVE == _MARKET:
            has = _HAS_MARKET
            _, at, _ = scan_integer(base, at + 1, size)
        else:
            return UNEXPECTED
        if at < 0 or seen & has != 0:
            return UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
        if at < 0:
            return UNEXPECTED
        if done:
            break
    if seen & _DEPTH_NEEDS != _DEPTH_NEEDS or not _ends(base, at, size, wrapped):
        return UNEXPECTED
    if words[RULE] == RULE_BINANCE_FUTURES and seen & _HAS_PREVIOUS == 0:
        return UNEXPECTED
    words[FIRST_ID] = first_id
    words[FINAL_ID] = final_id
    words[PREVIOUS_ID] = previous_id
    words[TS_EVENT] = ts_event
    words[TS_MATCH] = ts_match
    words[CROSS_SEQUENCE] = 0
    words[MESSAGE_KIND] = KIND_DELTA
    words[MESSAGE_BIDS] = bids
    words[MESSAGE_ASKS] = asks
    return OFF_GRID if off_grid else APPLIED


@inlined
def _sequence_futures(words):
    """USD-M and COIN-M: each event names the last id of the one before it (``pu``)."""
    first = words[FIRST_ID]
    final = words[FINAL_ID]
    previous = words[PREVIOUS_ID]
    last = words[LAST_ID]
    if words[SYNC] == SYNC_BRIDGING:
        if final < last:  # rule 3: drop events with u < L
            return drop(words)
        # Rule 4: U <= L <= u. Ids are sparse, so that L may also lie between pu and U.
        if first <= last or 0 <= previous <= last:
            return APPLIED
        return break_chain(words)
    if previous == last and final > last:  # rule 5: pu == previous u
        return APPLIED
    return drop_duplicate(words)


@inlined
def _sequence_spot(words):
    """Spot: ids have no holes, and an event starts where the one before it ended."""
    following = words[LAST_ID] + 1
    if words[SYNC] == SYNC_BRIDGING:
        if words[FINAL_ID] < following:  # rule 3: drop events with u <= L
            return drop(words)
        return APPLIED if words[FIRST_ID] <= following else break_chain(words)
    if words[FIRST_ID] == following:  # rule 5: U == previous u + 1
        return APPLIED
    return drop_duplicate(words)


@kernel
def sequence(words):
    """Hold the message in scratch to the venue's rule.

    Returns:
        APPLIED (due: to be applied now), BUFFER, OLD or GAP; after GAP nothing is due until a snapshot.
    """
    if words[SYNC] == SYNC_BUFFERING:
        return hold_back(words)
    if words[FIRST_ID] > words[FINAL_ID] and (words[SYNC] == SYNC_LIVE or words[FINAL_ID] > words[LAST_ID]):
        return break_chain(words)
    return _sequence_futures(words) if words[RULE] == RULE_BINANCE_FUTURES else _sequence_spot(words)


@kernel
def sequence_apply(words):
    """Hold the message in scratch to the rule, and apply it if it is due.

    Returns:
        APPLIED, BUFFER, OLD, GAP, FULL (untouched) or CROSSED.
    """
    return apply_due(words, sequence(words))


@kernel
def depth_frame(frame, words):
    """Scan a frame, hold it to the rule, apply it: the whole compiled road, with its counters.

    Returns:
        APPLIED, BUFFER, OLD, GAP, UNEXPECTED, OFF_GRID, FULL or CROSSED; see ``layout``.
    """
    verdict = scan_depth(frame, words)
    if verdict == APPLIED:
        verdict = sequence_apply(words)
    elif verdict == OFF_GRID:
        verdict = needed(verdict, sequence(words))
    count_frame(words, len(frame), verdict)
    return verdict


@kernel
def scan_trades(frame, words, out):
    """Scan a trade or an aggTrade into ``out[0]``, a row of ``TRADE_WIDTH`` words.

    Returns:
        1, or -UNEXPECTED or -OFF_GRID.
    """
    base = address_of(frame)
    size = len(frame)
    if size < SHORTEST:
        return -UNEXPECTED
    at, wrapped = _enter(base, size, words, depth=False)
    if at < 0:
        return -UNEXPECTED
    seen = 0
    flags = 0
    trade_id = 0
    aggregate_id = 0
    ts_event = 0
    ts_match = 0
    maker = 0
    price = 0
    price_decimals = 0
    quantity = 0
    quantity_decimals = 0
    while True:
        key = load_word(base, at, size)
        short = key & _FOUR
        at += 4
        if short == _EVENT:
            has = _HAS_EVENT
            if starts_with(base, at, size, _TRADE, 7):
                at += 7
            else:
                flags |= TRADE_FLAG_AGGREGATE
                at = _skip_event(base, at, size, _AGGREGATE_1, _AGGREGATE_2, 2)
        elif short == _TIME:
            has = _HAS_TIME
            ts_event, at = scan_time(base, at, size)
        elif short == _MATCH:
            has = _HAS_MATCH
            ts_match, at = scan_time(base, at, size)
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words, words[SYMBOL_LENGTH])
        elif short == _TRADE_ID:
            has = _HAS_TRADE_ID
            trade_id, at, _ = scan_integer(base, at, size)
        elif short == _LOWER_A:
            has = _HAS_LOWER_A
            aggregate_id, at, _ = scan_integer(base, at, size)
        elif short == _LOWER_B:
            has = _HAS_LOWER_B
            _, at, _ = scan_integer(base, at, size)
        elif short == _PRICE:
            has = _HAS_PRICE
            price, price_decimals, at = scan_quoted_decimal(base, at, size)
        elif short == _QUANTITY:
            has = _HAS_QUANTITY
            quantity, quantity_decimals, at = scan_quoted_decimal(base, at, size)
        elif short == _MAKER:
            has = _HAS_MAKER
            maker, at = scan_flag(base, at, size)
        elif short == _UNUSED:
            has = _HAS_UNUSED
            _, at = scan_flag(base, at, size)
        elif short == _KIND:
            has = _HAS_KIND
            if not starts_with(base, at, size, _ORDINARY, 8):
                flags |= TRADE_FLAG_NOT_MARKET
            at = skip_text(base, at, size)
        elif short == _FIRST_FILL:
            has = _HAS_FIRST_FILL
            _, at, _ = scan_integer(base, at, size)
        elif short == _LAST_FILL:
            has = _HAS_LAST_FILL
            _, at, _ = scan_integer(base, at, size)
        elif key & _FIVE == _NORMAL:
            has = _HAS_NORMAL
            _, _, at = scan_quoted_decimal(base, at + 1, size)
        elif key & _FIVE == _PAIR:
            has = _HAS_PAIR
            at = skip_text(base, at + 1, size)
        elif key & _FIVE == _MARKET:
            has = _HAS_MARKET
            _, at, _ = scan_integer(base, at + 1, size)
        else:
            return -UNEXPECTED
        if at < 0 or seen & has != 0:
            return -UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
        if at < 0:
            return -UNEXPECTED
        if done:
            break
    id_key = _HAS_LOWER_A if flags & TRADE_FLAG_AGGREGATE != 0 else _HAS_TRADE_ID
    needs = _TRADE_NEEDS | id_key
    if seen & needs != needs or not _ends(base, at, size, wrapped) or price == 0 or quantity == 0:
        return -UNEXPECTED
    ticks, price_off = to_grid(words, PRICE_TABLE_AT, price, price_decimals)
    lots, quantity_off = to_grid(words, QUANTITY_TABLE_AT, quantity, quantity_decimals)
    if ticks < 0 or lots < 0:
        return -UNEXPECTED
    if price_off or quantity_off:
        return -OFF_GRID
    out[0, TRADE_TS_EVENT] = ts_event
    out[0, TRADE_TS_MATCH] = ts_match
    out[0, TRADE_ID_LOW] = aggregate_id if flags & TRADE_FLAG_AGGREGATE != 0 else trade_id
    out[0, TRADE_ID_HIGH] = 0
    out[0, TRADE_TICKS] = ticks
    out[0, TRADE_LOTS] = lots
    out[0, TRADE_SIDE] = -1 if maker != 0 else 1  # the buyer was the maker: the taker sold
    out[0, TRADE_FLAGS] = flags
    return 1


@kernel
def scan_quote(frame, words, out):
    """Scan a bookTicker into ``out``, ``QUOTE_WIDTH`` words; spot sends neither an event name nor times.

    Returns:
        1, or -UNEXPECTED or -OFF_GRID.
    """
    base = address_of(frame)
    size = len(frame)
    if size < SHORTEST:
        return -UNEXPECTED
    at, wrapped = _enter(base, size, words, depth=False)
    if at < 0:
        return -UNEXPECTED
    seen = 0
    off_grid = False
    update_id = 0
    ts_event = 0
    ts_match = 0
    bid = 0
    bid_lots = 0
    ask = 0
    ask_lots = 0
    while True:
        key = load_word(base, at, size)
        short = key & _FOUR
        at += 4
        if short == _FINAL:
            has = _HAS_FINAL
            update_id, at, _ = scan_integer(base, at, size)
        elif short == _EVENT:
            has = _HAS_EVENT
            at = _skip_event(base, at, size, _TICKER_1, _TICKER_2, 4)
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words, words[SYMBOL_LENGTH])
        elif short == _LOWER_B:
            has = _HAS_LOWER_B
            bid, off, at = scan_quoted_steps(base, at, size, words, PRICE_TABLE_AT)
            off_grid = off_grid or off
        elif short == _UPPER_B:
            has = _HAS_UPPER_B
            bid_lots, off, at = scan_quoted_steps(base, at, size, words, QUANTITY_TABLE_AT)
            off_grid = off_grid or off
        elif short == _LOWER_A:
            has = _HAS_LOWER_A
            ask, off, at = scan_quoted_steps(base, at, size, words, PRICE_TABLE_AT)
            off_grid = off_grid or off
        elif short == _UPPER_A:
            has = _HAS_UPPER_A
            ask_lots, off, at = scan_quoted_steps(base, at, size, words, QUANTITY_TABLE_AT)
            off_grid = off_grid or off
        elif short == _TIME:
            has = _HAS_TIME
            ts_event, at = scan_time(base, at, size)
        elif short == _MATCH:
            has = _HAS_MATCH
            ts_match, at = scan_time(base, at, size)
        elif key & _FIVE == _PAIR:
            has = _HAS_PAIR
            at = skip_text(base, at + 1, size)
        elif key & _FIVE == _MARKET:
            has = _HAS_MARKET
            _, at, _ = scan_integer(base, at + 1, size)
        else:
            return -UNEXPECTED
        if at < 0 or seen & has != 0:
            return -UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
        if at < 0:
            return -UNEXPECTED
        if done:
            break
    if seen & _QUOTE_NEEDS != _QUOTE_NEEDS or not _ends(base, at, size, wrapped):
        return -UNEXPECTED
    if off_grid:
        return -OFF_GRID
    if bid == 0 or ask == 0:
        return -UNEXPECTED
    out[QUOTE_TS_EVENT] = ts_event
    out[QUOTE_TS_MATCH] = ts_match
    out[QUOTE_ID] = update_id
    out[QUOTE_BID_TICKS] = bid
    out[QUOTE_BID_LOTS] = bid_lots
    out[QUOTE_ASK_TICKS] = ask
    out[QUOTE_ASK_LOTS] = ask_lots
    return 1

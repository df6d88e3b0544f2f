"""Binance frames: depthUpdate, trade, aggTrade and bookTicker of spot, USD-M and COIN-M, all dates.

Frames come raw or wrapped as ``{"stream":"…","data":{…}}``. Keys may come in any order, each at most
once; those that not every market or date sends are optional: ``T``, ``pu``, ``ps``, ``st``, ``nq``,
``M``, ``X``, and the order ids ``a`` and ``b`` of old spot trades. Anything else is UNEXPECTED and left
to the typed decoder.

Sequence rules: "How to manage a local order book correctly", USD-M and spot.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import address_of, load8, load64
from bookrunner.kernels.jit import inlined, kernel, spliced
from bookrunner.kernels.layout import (
    APPLIED,
    BID_LOTS_AT,
    BID_TICKS_AT,
    CROSS_SEQUENCE,
    FINAL_ID,
    FIRST_ID,
    KIND_DELTA,
    LAST_ID,
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
    SIDE_STRIDE,
    STREAM_AT,
    STREAM_LENGTH,
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
    nanoseconds,
    scan_flag,
    scan_integer,
    scan_quoted_decimal,
    scan_quoted_steps,
    skip_plain,
    skip_symbol,
    skip_text,
    starts_with,
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

_HAS_TIMES = _HAS_TIME | _HAS_MATCH
_DEPTH_NEEDS = _HAS_EVENT | _HAS_TIME | _HAS_SYMBOL | _HAS_FIRST | _HAS_FINAL | _HAS_BIDS | _HAS_ASKS
_TRADE_NEEDS = _HAS_EVENT | _HAS_TIME | _HAS_SYMBOL | _HAS_PRICE | _HAS_QUANTITY | _HAS_MATCH | _HAS_MAKER
_QUOTE_NEEDS = _HAS_SYMBOL | _HAS_FINAL | _HAS_LOWER_A | _HAS_LOWER_B | _HAS_UPPER_A | _HAS_UPPER_B


@inlined
def _enter(base, size, words, depth):
    """Return (offset of the payload's first key, whether it is wrapped); the offset is FAIL if neither fits.

    A wrapper must name this book's symbol, and for depth a diff stream: partial books have the same payload.
    """
    if size < SHORTEST:
        return FAIL, False
    at = 0
    wrapped = load64(base) == _WRAPPER_1
    if wrapped:
        at += 8
        if not starts_with(base, at, size, _WRAPPER_2, 3):
            return FAIL, wrapped
        at += 3
        length = words[STREAM_LENGTH]
        if not matches(base, at, size, words, STREAM_AT, length):
            return FAIL, wrapped
        at += length
        if depth:
            if not starts_with(base, at, size, _DEPTH_STREAM, 6):
                return FAIL, wrapped
            at += 6
        mark = load_word(base, at, size) & 0xFF
        at = skip_plain(base, at, size)
        if not (mark == 64 or (depth and mark == 34)) or at < 0:  # @ or "
            return FAIL, wrapped
        if not starts_with(base, at, size, _WRAPPER_3, 8):
            return FAIL, wrapped
        at += 8
    if load_word(base, at, size) & 0xFFFF != 0x227B:  # {"
        return FAIL, wrapped
    return at + 1, wrapped


@spliced
def _ends(base, at, size, wrapped):
    """Whether the frame ends after the payload's closing brace."""
    if wrapped:
        return at + 1 == size and load8(base + at) == 125
    return at == size


@spliced
def _skip_event(base, at, size, first, second, length):
    """Skip an event name of 8 + ``length`` characters with its quotes."""
    if starts_with(base, at, size, first, 8) and starts_with(base, at + 8, size, second, length):
        return at + 8 + length
    return FAIL


@inlined
def _depth_integer(key):
    """Return (bit of an integer's key or 0, word that takes the value, characters of the key beyond four)."""
    short = key & _FOUR
    if short == _TIME:
        return _HAS_TIME, TS_EVENT, 0
    if short == _MATCH:
        return _HAS_MATCH, TS_MATCH, 0
    if short == _FIRST:
        return _HAS_FIRST, FIRST_ID, 0
    if short == _FINAL:
        return _HAS_FINAL, FINAL_ID, 0
    if key & _FIVE == _PREVIOUS:
        return _HAS_PREVIOUS, PREVIOUS_ID, 1
    if key & _FIVE == _MARKET:
        return _HAS_MARKET, CROSS_SEQUENCE, 1  # a word that Binance does not use
    return 0, CROSS_SEQUENCE, 0


@kernel
def scan_depth(frame, words):
    """Scan a depthUpdate into the book's scratch and message words; the levels stay as they are.

    Returns:
        APPLIED (scanned, not yet applied), UNEXPECTED or OFF_GRID.
    """
    base = address_of(frame)
    size = len(frame)
    at, wrapped = _enter(base, size, words, depth=True)
    words[PREVIOUS_ID] = -1
    words[TS_MATCH] = 0
    words[MESSAGE_KIND] = KIND_DELTA
    seen = 0
    off_grid = False
    done = False
    while at >= 0 and not done:
        key = load_word(base, at, size)
        short = key & _FOUR
        at += 4
        if short in (_LOWER_B, _LOWER_A):
            side = 0 if short == _LOWER_B else 1
            has = _HAS_BIDS << side
            start = side * SIDE_STRIDE
            at, count, off = scan_levels(base, at, size, words, BID_TICKS_AT + start, BID_LOTS_AT + start)
            words[MESSAGE_BIDS + side] = count
            off_grid = off_grid or off
        elif short == _EVENT:
            has = _HAS_EVENT
            at = _skip_event(base, at, size, _DEPTH_UPDATE_1, _DEPTH_UPDATE_2, 5)
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words)
        elif key & _FIVE == _PAIR:
            has = _HAS_PAIR
            at = skip_text(base, at + 1, size)
        else:
            has, target, more = _depth_integer(key)
            value, at, digits = scan_integer(base, at + more, size)
            words[target] = nanoseconds(value, digits) if has & _HAS_TIMES != 0 else value
            at = FAIL if has == 0 or words[target] < 0 else at
        if at < 0 or seen & has != 0:
            return UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
    needs = _DEPTH_NEEDS | (_HAS_PREVIOUS if words[RULE] == RULE_BINANCE_FUTURES else 0)
    if at < 0 or seen & needs != needs or not _ends(base, at, size, wrapped):
        return UNEXPECTED
    words[CROSS_SEQUENCE] = 0
    return OFF_GRID if off_grid else APPLIED


@spliced
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


@spliced
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
        verdict = apply_due(words, sequence(words))
    elif verdict == OFF_GRID:
        verdict = needed(verdict, sequence(words))
    count_frame(words, len(frame), verdict)
    return verdict


@inlined
def _trade_integer(key):
    """Return (bit of an integer's key or 0, column that takes the value, characters of the key beyond four).

    What is not kept goes to the column of the flags, which are written last; ``a`` goes to that of the high
    id until it is known whether it is the id of an aggregate or of an order.
    """
    short = key & _FOUR
    if short == _TIME:
        return _HAS_TIME, TRADE_TS_EVENT, 0
    if short == _MATCH:
        return _HAS_MATCH, TRADE_TS_MATCH, 0
    if short == _TRADE_ID:
        return _HAS_TRADE_ID, TRADE_ID_LOW, 0
    if short == _LOWER_A:
        return _HAS_LOWER_A, TRADE_ID_HIGH, 0
    if short == _LOWER_B:
        return _HAS_LOWER_B, TRADE_FLAGS, 0
    if short == _FIRST_FILL:
        return _HAS_FIRST_FILL, TRADE_FLAGS, 0
    if short == _LAST_FILL:
        return _HAS_LAST_FILL, TRADE_FLAGS, 0
    if key & _FIVE == _MARKET:
        return _HAS_MARKET, TRADE_FLAGS, 1
    return 0, 0, 0


@inlined
def _trade_other(base, at, size, words, out, key):
    """Scan a value that is no integer; return (key's bit, next offset, whether it is off the grid, flags)."""
    short = key & _FOUR
    off_grid = False
    flags = 0
    has = 0
    if short == _PRICE:
        has = _HAS_PRICE
        out[0, TRADE_TICKS], off_grid, at = scan_quoted_steps(base, at, size, words, PRICE_TABLE_AT)
    elif short == _QUANTITY:
        has = _HAS_QUANTITY
        out[0, TRADE_LOTS], off_grid, at = scan_quoted_steps(base, at, size, words, QUANTITY_TABLE_AT)
    elif short == _EVENT:
        has = _HAS_EVENT
        if starts_with(base, at, size, _TRADE, 7):
            at += 7
        else:
            flags = TRADE_FLAG_AGGREGATE
            at = _skip_event(base, at, size, _AGGREGATE_1, _AGGREGATE_2, 2)
    elif short == _SYMBOL:
        has = _HAS_SYMBOL
        at = skip_symbol(base, at, size, words)
    elif short == _MAKER:
        has = _HAS_MAKER
        maker, at = scan_flag(base, at, size)
        out[0, TRADE_SIDE] = 1 - 2 * maker  # the buyer was the maker: the taker sold
    elif short == _UNUSED:
        has = _HAS_UNUSED
        _, at = scan_flag(base, at, size)
    elif short == _KIND:
        has = _HAS_KIND
        flags = 0 if starts_with(base, at, size, _ORDINARY, 8) else TRADE_FLAG_NOT_MARKET
        at = skip_text(base, at, size)
    elif key & _FIVE == _NORMAL:
        has = _HAS_NORMAL
        _, _, at = scan_quoted_decimal(base, at + 1, size)
    elif key & _FIVE == _PAIR:
        has = _HAS_PAIR
        at = skip_text(base, at + 1, size)
    return has, at, off_grid, flags


@kernel
def scan_trades(frame, words, out):
    """Scan a trade or an aggTrade into ``out[0]``, a row of ``TRADE_WIDTH`` words.

    Returns:
        1; or -UNEXPECTED or -OFF_GRID, after which the row holds nothing of meaning.
    """
    base = address_of(frame)
    size = len(frame)
    at, wrapped = _enter(base, size, words, depth=False)
    seen = 0
    flags = 0
    off_grid = False
    done = False
    while at >= 0 and not done:
        key = load_word(base, at, size)
        has, column, more = _trade_integer(key)
        if has != 0:
            value, at, digits = scan_integer(base, at + 4 + more, size)
            out[0, column] = nanoseconds(value, digits) if has & _HAS_TIMES != 0 else value
            at = FAIL if out[0, column] < 0 else at
        else:
            has, at, off, flag = _trade_other(base, at + 4, size, words, out, key)
            off_grid = off_grid or off
            flags |= flag
        if has == 0 or at < 0 or seen & has != 0:
            return -UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
    needs = _TRADE_NEEDS | (_HAS_LOWER_A if flags & TRADE_FLAG_AGGREGATE != 0 else _HAS_TRADE_ID)
    if at < 0 or seen & needs != needs or not _ends(base, at, size, wrapped):
        return -UNEXPECTED
    if off_grid:
        return -OFF_GRID
    if out[0, TRADE_TICKS] == 0 or out[0, TRADE_LOTS] == 0:
        return -UNEXPECTED
    if flags & TRADE_FLAG_AGGREGATE != 0:
        out[0, TRADE_ID_LOW] = out[0, TRADE_ID_HIGH]
    out[0, TRADE_ID_HIGH] = 0
    out[0, TRADE_FLAGS] = flags
    return 1


@inlined
def _quote_steps(key):
    """Return (bit of a decimal's key or 0, column that takes the steps, table of its grid)."""
    short = key & _FOUR
    if short == _LOWER_B:
        return _HAS_LOWER_B, QUOTE_BID_TICKS, PRICE_TABLE_AT
    if short == _UPPER_B:
        return _HAS_UPPER_B, QUOTE_BID_LOTS, QUANTITY_TABLE_AT
    if short == _LOWER_A:
        return _HAS_LOWER_A, QUOTE_ASK_TICKS, PRICE_TABLE_AT
    if short == _UPPER_A:
        return _HAS_UPPER_A, QUOTE_ASK_LOTS, QUANTITY_TABLE_AT
    return 0, 0, 0


@kernel
def scan_quote(frame, words, out):
    """Scan a bookTicker into ``out``, ``QUOTE_WIDTH`` words; spot sends neither an event name nor times.

    Returns:
        1; or -UNEXPECTED or -OFF_GRID, after which ``out`` holds nothing of meaning.
    """
    base = address_of(frame)
    size = len(frame)
    at, wrapped = _enter(base, size, words, depth=False)
    out[QUOTE_TS_EVENT] = 0
    out[QUOTE_TS_MATCH] = 0
    seen = 0
    off_grid = False
    done = False
    while at >= 0 and not done:
        key = load_word(base, at, size)
        short = key & _FOUR
        has, column, table_at = _quote_steps(key)
        at += 4
        if has != 0:
            out[column], off, at = scan_quoted_steps(base, at, size, words, table_at)
            off_grid = off_grid or off
        elif short == _EVENT:
            has = _HAS_EVENT
            at = _skip_event(base, at, size, _TICKER_1, _TICKER_2, 4)
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words)
        elif key & _FIVE == _PAIR:
            has = _HAS_PAIR
            at = skip_text(base, at + 1, size)
        else:
            more = 1 if key & _FIVE == _MARKET else 0
            value, at, digits = scan_integer(base, at + more, size)
            if short == _FINAL:
                has = _HAS_FINAL
                out[QUOTE_ID] = value
            elif short in (_TIME, _MATCH):
                has = _HAS_TIME if short == _TIME else _HAS_MATCH
                value = nanoseconds(value, digits)
                out[QUOTE_TS_EVENT if short == _TIME else QUOTE_TS_MATCH] = value
                at = FAIL if value < 0 else at
            else:
                has = _HAS_MARKET
                at = at if more == 1 else FAIL
        if at < 0 or seen & has != 0:
            return -UNEXPECTED
        seen |= has
        at, done = after_value(base, at, size)
    if at < 0 or seen & _QUOTE_NEEDS != _QUOTE_NEEDS or not _ends(base, at, size, wrapped):
        return -UNEXPECTED
    if off_grid:
        return -OFF_GRID
    return 1 if out[QUOTE_BID_TICKS] > 0 and out[QUOTE_ASK_TICKS] > 0 else -UNEXPECTED

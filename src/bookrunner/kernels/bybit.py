"""Bybit v5 frames: orderbook and publicTrade topics of linear, inverse and spot.

Keys may come in any order (it varies by product), each at most once; ``cts`` and, in trades, ``L``,
``BT``, ``RPI`` and ``seq`` are optional. Anything else, such as ``orderbook.rpi``, is UNEXPECTED and left
to the typed decoder.

Sequence rules: "Orderbook", websocket public.
"""

from __future__ import annotations

from bookrunner.kernels.intrinsics import address_of, load8, load16
from bookrunner.kernels.jit import inlined, kernel, step
from bookrunner.kernels.layout import (
    APPLIED,
    APPLIED_SNAPSHOT,
    BID_LOTS_AT,
    BID_TICKS_AT,
    CROSS_SEQUENCE,
    FINAL_ID,
    FIRST_ID,
    KIND_DELTA,
    KIND_SNAPSHOT,
    LAST_ID,
    MAX_TRADES,
    MESSAGE_BIDS,
    MESSAGE_KIND,
    OFF_GRID,
    PREVIOUS_ID,
    PRICE_TABLE_AT,
    QUANTITY_TABLE_AT,
    SIDE_STRIDE,
    STRICT,
    SYMBOL_AT,
    SYMBOL_LENGTH,
    SYNC,
    SYNC_LIVE,
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
    scan_quoted_steps,
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

_FOUR = (1 << 32) - 1
_FIVE = (1 << 40) - 1
_SIX = (1 << 48) - 1
_SEVEN = (1 << 56) - 1
_TOPIC = literal(b'"topic":')
_TYPE = literal(b'"type":')
_TIME = literal(b'"ts":')
_DATA = literal(b'"data":')
_MATCH = literal(b'"cts":')
_SYMBOL = literal(b'"s":')
_BIDS = literal(b'"b":')
_ASKS = literal(b'"a":')
_UPDATE = literal(b'"u":')
_SEQUENCE = literal(b'"seq":')
_TRADE_TIME = literal(b'"T":')
_SIDE = literal(b'"S":')
_QUANTITY = literal(b'"v":')
_PRICE = literal(b'"p":')
_DIRECTION = literal(b'"L":')
_TRADE_ID = literal(b'"i":')
_BLOCK_TRADE = literal(b'"BT":')
_IMPROVED = literal(b'"RPI":')

_BOOK_TOPIC_1 = literal(b'"orderbo')
_BOOK_TOPIC_2 = literal(b"ok.")
_TRADE_TOPIC_1 = literal(b'"publicT')
_TRADE_TOPIC_2 = literal(b"rade.")
_DELTA = literal(b'"delta"')
_SNAPSHOT_1 = literal(b'"snapsho')
_SNAPSHOT_2 = literal(b't"')
_BUY = literal(b'"Buy"')
_SELL = literal(b'"Sell"')

_HAS_TOPIC = 1
_HAS_TYPE = 2
_HAS_TIME = 4
_HAS_DATA = 8
_HAS_MATCH = 16
_HAS_SYMBOL = 32
_HAS_BIDS = 64
_HAS_ASKS = 128
_HAS_UPDATE = 256
_HAS_SEQUENCE = 512
_OUTER_NEEDS = _HAS_TOPIC | _HAS_TYPE | _HAS_TIME | _HAS_DATA
_BOOK_NEEDS = _HAS_SYMBOL | _HAS_BIDS | _HAS_ASKS | _HAS_UPDATE | _HAS_SEQUENCE

_HAS_SIDE = 64
_HAS_QUANTITY = 128
_HAS_PRICE = 256
_HAS_TRADE_ID = 1024
_HAS_DIRECTION = 2048
_HAS_BLOCK_TRADE = 4096
_HAS_IMPROVED = 8192
_TRADE_NEEDS = _HAS_MATCH | _HAS_SYMBOL | _HAS_SIDE | _HAS_QUANTITY | _HAS_PRICE | _HAS_TRADE_ID


@inlined
def _skip_quoted_symbol_end(base, at, size, words):
    """Skip ``SYMBOL"``, which ends a topic."""
    length = words[SYMBOL_LENGTH]
    if not matches(base, at, size, words, SYMBOL_AT, length):
        return FAIL
    at += length
    return at + 1 if at < size and load8(base + at) == 34 else FAIL


@inlined
def _skip_book_topic(base, at, size, words):
    """Skip ``"orderbook.DEPTH.SYMBOL"``."""
    if not (
        starts_with(base, at, size, _BOOK_TOPIC_1, 8) and starts_with(base, at + 8, size, _BOOK_TOPIC_2, 3)
    ):
        return FAIL
    _, at, _ = scan_integer(base, at + 11, size)
    if at < 0 or at >= size or load8(base + at) != 46:
        return FAIL
    return _skip_quoted_symbol_end(base, at + 1, size, words)


@inlined
def _skip_trade_topic(base, at, size, words):
    """Skip ``"publicTrade.SYMBOL"``."""
    if not (
        starts_with(base, at, size, _TRADE_TOPIC_1, 8) and starts_with(base, at + 8, size, _TRADE_TOPIC_2, 5)
    ):
        return FAIL
    return _skip_quoted_symbol_end(base, at + 13, size, words)


@inlined
def _scan_type(base, at, size):
    """Scan ``"snapshot"`` or ``"delta"``; return (kind, next offset)."""
    if starts_with(base, at, size, _DELTA, 7):
        return KIND_DELTA, at + 7
    if starts_with(base, at, size, _SNAPSHOT_1, 8) and starts_with(base, at + 8, size, _SNAPSHOT_2, 2):
        return KIND_SNAPSHOT, at + 10
    return KIND_DELTA, FAIL


@step
def _scan_book(base, at, size, words):
    """Scan the ``data`` of a book; return (next offset or FAIL, whether a value is off the grid)."""
    if at + 2 > size or load16(base + at) != 0x227B:  # {"
        return FAIL, False
    at += 1
    seen = 0
    off_grid = False
    done = False
    while not done:
        key = load_word(base, at, size)
        short = key & _FOUR
        at += 4
        if short in (_BIDS, _ASKS):
            side = 0 if short == _BIDS else 1
            has = _HAS_BIDS << side
            start = side * SIDE_STRIDE
            at, count, off = scan_levels(base, at, size, words, BID_TICKS_AT + start, BID_LOTS_AT + start)
            words[MESSAGE_BIDS + side] = count
            off_grid = off_grid or off
        elif short == _SYMBOL:
            has = _HAS_SYMBOL
            at = skip_symbol(base, at, size, words)
        elif short == _UPDATE:
            has = _HAS_UPDATE
            words[FINAL_ID], at, _ = scan_integer(base, at, size)
        elif key & _SIX == _SEQUENCE:
            has = _HAS_SEQUENCE
            words[CROSS_SEQUENCE], at, _ = scan_integer(base, at + 2, size)
        else:
            return FAIL, False
        if at < 0 or seen & has != 0:
            return FAIL, False
        seen |= has
        at, done = after_value(base, at, size)
        if at < 0:
            return FAIL, False
    return (at if seen == _BOOK_NEEDS else FAIL), off_grid


@inlined
def _envelope_key(key):
    """Return (bit of a key that books and trades share, its characters); bit 0 if it is none of them."""
    if key == _TOPIC:
        return _HAS_TOPIC, 8
    if key & _SEVEN == _TYPE:
        return _HAS_TYPE, 7
    if key & _FIVE == _TIME:
        return _HAS_TIME, 5
    if key & _SEVEN == _DATA:
        return _HAS_DATA, 7
    if key & _SIX == _MATCH:
        return _HAS_MATCH, 6
    return 0, 0


@kernel
def scan_depth(frame, words):
    """Scan an orderbook message into the book's scratch and message words; the levels stay as they are.

    Returns:
        APPLIED (scanned, not yet applied), UNEXPECTED or OFF_GRID.
    """
    base = address_of(frame)
    size = len(frame)
    if size < SHORTEST or load16(base) != 0x227B:
        return UNEXPECTED
    at = 1
    seen = 0
    kind = KIND_DELTA
    off_grid = False
    done = False
    words[TS_MATCH] = 0
    words[PREVIOUS_ID] = -1
    while not done:
        has, length = _envelope_key(load_word(base, at, size))
        if has == 0 or seen & has != 0:
            return UNEXPECTED
        seen |= has
        at += length
        if has == _HAS_TOPIC:
            at = _skip_book_topic(base, at, size, words)
        elif has == _HAS_TYPE:
            kind, at = _scan_type(base, at, size)
        elif has == _HAS_DATA:
            at, off_grid = _scan_book(base, at, size, words)
        else:
            value, at, digits = scan_integer(base, at, size)
            value = nanoseconds(value, digits)
            words[TS_EVENT if has == _HAS_TIME else TS_MATCH] = value
            at = FAIL if value < 0 else at
        if at < 0:
            return UNEXPECTED
        at, done = after_value(base, at, size)
        if at < 0:
            return UNEXPECTED
    if seen & _OUTER_NEEDS != _OUTER_NEEDS or at != size:
        return UNEXPECTED
    words[FIRST_ID] = words[FINAL_ID]
    # u = 1 follows a restart of the venue's service: it replaces the book, whatever its type says.
    words[MESSAGE_KIND] = KIND_SNAPSHOT if words[FINAL_ID] == 1 else kind
    return OFF_GRID if off_grid else APPLIED


@kernel
def sequence(words):
    """Hold the message in scratch to the venue's rule.

    Returns:
        APPLIED or APPLIED_SNAPSHOT (due: to be applied now), BUFFER, OLD or GAP; after GAP nothing is due
        until a snapshot.
    """
    if words[MESSAGE_KIND] == KIND_SNAPSHOT:
        return APPLIED_SNAPSHOT
    if words[SYNC] != SYNC_LIVE:
        return hold_back(words)
    following = words[LAST_ID] + 1
    if words[FINAL_ID] < following:
        return drop_duplicate(words) if words[STRICT] != 0 else drop(words)
    if words[FINAL_ID] > following and words[STRICT] != 0:
        return break_chain(words)
    return APPLIED


@kernel
def sequence_apply(words):
    """Hold the message in scratch to the rule, and apply it if it is due.

    Returns:
        APPLIED, APPLIED_SNAPSHOT, BUFFER, OLD, GAP, FULL (untouched) or CROSSED.
    """
    return apply_due(words, sequence(words))


@kernel
def depth_frame(frame, words):
    """Scan a frame, hold it to the rule, apply it: the whole compiled road, with its counters.

    Returns:
        APPLIED, APPLIED_SNAPSHOT, BUFFER, OLD, GAP, UNEXPECTED, OFF_GRID, FULL or CROSSED; see ``layout``.
    """
    verdict = scan_depth(frame, words)
    if verdict == APPLIED:
        verdict = apply_due(words, sequence(words))
    elif verdict == OFF_GRID:
        verdict = needed(verdict, sequence(words))
    count_frame(words, len(frame), verdict)
    return verdict


@step
def _hexadecimal(base, at, end):
    """Scan lower-case hexadecimal digits, at most 12; return their value or FAIL."""
    value = 0
    while at < end:
        byte = load8(base + at)
        if 48 <= byte <= 57:
            value = (value << 4) | (byte - 48)
        elif 97 <= byte <= 102:
            value = (value << 4) | (byte - 87)
        else:
            return FAIL
        at += 1
    return value


@step
def _scan_trade_id(base, at, size):
    """Scan a quoted UUID or number; return (high, low, next offset)."""
    if at + 2 > size or load8(base + at) != 34:
        return 0, 0, FAIL
    at += 1
    if at + 37 <= size and load8(base + at + 36) == 34:
        first = _hexadecimal(base, at, at + 8)
        second = _hexadecimal(base, at + 9, at + 13)
        third = _hexadecimal(base, at + 14, at + 18)
        fourth = _hexadecimal(base, at + 19, at + 23)
        fifth = _hexadecimal(base, at + 24, at + 36)
        dashes = load8(base + at + 8) & load8(base + at + 13) & load8(base + at + 18) & load8(base + at + 23)
        others = load8(base + at + 8) | load8(base + at + 13) | load8(base + at + 18) | load8(base + at + 23)
        if dashes != 45 or others != 45 or (first | second | third | fourth | fifth) < 0:
            return 0, 0, FAIL
        return (first << 32) | (second << 16) | third, (fourth << 48) | fifth, at + 37
    number, at, _ = scan_integer(base, at, size)
    if at < 0 or at >= size or load8(base + at) != 34:
        return 0, 0, FAIL
    return 0, number, at + 1


@inlined
def _scan_side(base, at, size):
    """Scan ``"Buy"`` or ``"Sell"``; return (1 or -1, next offset)."""
    if starts_with(base, at, size, _BUY, 5):
        return 1, at + 5
    if starts_with(base, at, size, _SELL, 6):
        return -1, at + 6
    return 0, FAIL


@inlined
def _trade_value(base, at, size, words, out, row, key):
    """Scan the value of a key of one trade; return (key's bit, next offset, whether it is off the grid)."""
    short = key & _FOUR
    off_grid = False
    has = 0
    if short == _PRICE:
        has = _HAS_PRICE
        out[row, TRADE_TICKS], off_grid, at = scan_quoted_steps(base, at, size, words, PRICE_TABLE_AT)
    elif short == _QUANTITY:
        has = _HAS_QUANTITY
        out[row, TRADE_LOTS], off_grid, at = scan_quoted_steps(base, at, size, words, QUANTITY_TABLE_AT)
    elif short == _SYMBOL:
        has = _HAS_SYMBOL
        at = skip_symbol(base, at, size, words)
    elif short == _SIDE:
        has = _HAS_SIDE
        out[row, TRADE_SIDE], at = _scan_side(base, at, size)
    elif short == _DIRECTION:
        has = _HAS_DIRECTION
        at = skip_text(base, at, size)
    elif short == _TRADE_ID:
        has = _HAS_TRADE_ID
        out[row, TRADE_ID_HIGH], out[row, TRADE_ID_LOW], at = _scan_trade_id(base, at, size)
    elif key & _FIVE == _BLOCK_TRADE:
        has = _HAS_BLOCK_TRADE
        flag, at = scan_flag(base, at + 1, size)
        out[row, TRADE_FLAGS] = TRADE_FLAG_NOT_MARKET if flag != 0 else 0
    elif key & _SIX == _IMPROVED:
        has = _HAS_IMPROVED
        _, at = scan_flag(base, at + 2, size)
    return has, at, off_grid


@step
def _scan_trade(base, at, size, words, out, row):
    """Scan one trade object; return (next offset or FAIL, whether a value is off the grid)."""
    if at + 2 > size or load16(base + at) != 0x227B:
        return FAIL, False
    at += 1
    seen = 0
    off_grid = False
    done = False
    out[row, TRADE_FLAGS] = 0
    while not done:
        key = load_word(base, at, size)
        is_time = key & _FOUR == _TRADE_TIME
        if is_time or key & _SIX == _SEQUENCE:
            has = _HAS_MATCH if is_time else _HAS_SEQUENCE
            value, at, digits = scan_integer(base, at + (4 if is_time else 6), size)
            if is_time:
                value = nanoseconds(value, digits)
                out[row, TRADE_TS_MATCH] = value
            at = FAIL if value < 0 else at
        else:
            has, at, off = _trade_value(base, at + 4, size, words, out, row, key)
            off_grid = off_grid or off
        if has == 0 or at < 0 or seen & has != 0:
            return FAIL, False
        seen |= has
        at, done = after_value(base, at, size)
        if at < 0:
            return FAIL, False
    if seen & _TRADE_NEEDS != _TRADE_NEEDS:
        return FAIL, False
    if not off_grid and (out[row, TRADE_TICKS] == 0 or out[row, TRADE_LOTS] == 0):
        return FAIL, False
    return at, off_grid


@inlined
def _scan_trade_list(base, at, size, words, out):
    """Scan the array of trades; return (next offset or FAIL, rows, whether a value is off the grid)."""
    if at >= size or load8(base + at) != 91:
        return FAIL, 0, False
    at += 1
    rows = 0
    off_grid = False
    limit = min(MAX_TRADES, len(out))
    while rows < limit:
        at, off = _scan_trade(base, at, size, words, out, rows)
        if at < 0 or at >= size:
            return FAIL, 0, False
        off_grid = off_grid or off
        rows += 1
        byte = load8(base + at)
        at += 1
        if byte == 93:
            return at, rows, off_grid
        if byte != 44:
            return FAIL, 0, False
    return FAIL, 0, False


@kernel
def scan_trades(frame, words, out):
    """Scan a publicTrade message into the first rows of ``out``, each of ``TRADE_WIDTH`` words.

    Returns:
        Rows; or -UNEXPECTED or -OFF_GRID, after which ``out`` holds nothing of meaning.
    """
    base = address_of(frame)
    size = len(frame)
    if size < SHORTEST or load16(base) != 0x227B:
        return -UNEXPECTED
    at = 1
    seen = 0
    rows = 0
    ts_event = 0
    off_grid = False
    done = False
    while not done:
        has, length = _envelope_key(load_word(base, at, size))
        if has == 0 or seen & has != 0:
            return -UNEXPECTED
        seen |= has
        at += length
        if has == _HAS_TOPIC:
            at = _skip_trade_topic(base, at, size, words)
        elif has == _HAS_TYPE:
            _, at = _scan_type(base, at, size)
        elif has == _HAS_DATA:
            at, rows, off_grid = _scan_trade_list(base, at, size, words, out)
        else:
            value, at, digits = scan_integer(base, at, size)
            ts_event = nanoseconds(value, digits)
            at = FAIL if ts_event < 0 else at
        if at < 0:
            return -UNEXPECTED
        at, done = after_value(base, at, size)
        if at < 0:
            return -UNEXPECTED
    if seen != _OUTER_NEEDS or at != size:
        return -UNEXPECTED
    if off_grid:
        return -OFF_GRID
    for row in range(rows):
        out[row, TRADE_TS_EVENT] = ts_event
    return rows

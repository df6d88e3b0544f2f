"""Scanners read nothing outside the frame: a frame at the end of a page, with an unreadable page after it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import ctypes, mmap, sys
import numba
from bookrunner.kernels import binance, bybit, layout
from bookrunner.market.book import OrderBook
from bookrunner.market.instrument import Grid

libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
page = mmap.PAGESIZE
memory = mmap.mmap(-1, 3 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert start % page == 0
for guard in (start, start + 2 * page):
    assert libc.mprotect(guard, page, 0) == 0

scan = numba.njit({"binance": binance.scan_depth, "bybit": bybit.scan_depth}["VENUE"].py_func)

rule = {"binance": layout.RULE_BINANCE_FUTURES, "bybit": layout.RULE_BYBIT}["VENUE"]
book = OrderBook("BTCUSDT", rule, Grid.of("0.01", "0.001"))

@numba.extending.intrinsic
def pointer(_typing, address):
    from numba.core import types
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(types.uint8)))
    return types.CPointer(types.uint8)(types.int64), generate

@numba.njit
def scan_memory(address, length, words):
    return scan(numba.carray(pointer(address), length), words)

verdicts = set()
for frame in FRAMES:
    for length in range(len(frame) + 1):
        for at in (2 * page - length, page):  # against the page after, against the page before
            ctypes.memmove(start + at, frame[:length], length)
            verdicts.add((length == len(frame), scan_memory(start + at, length, book.words)))
print(sorted(verdicts))
"""
BINANCE = (
    b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
    b'"U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["61000.05","1.200"],["60999.95","0.000"]],'
    b'"a":[["61001.10","0.007"],["161002.10","12345.007"]]}}'
)
RAW = b'{"b":[["1.05","1.200"],["60999.95","0.000"]],"a":[],' + BINANCE[38:141] + b',"pu":5123107831937}'
BYBIT = (
    b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT",'
    b'"b":[["30247.20","30.028"],["30245.40","0"]],"a":[["30248.7","0.5"]],"u":177400507,"seq":66544703342},'
    b'"cts":1687940967464}'
)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is asked for as Linux has it")
@pytest.mark.parametrize(("venue", "frames"), [("binance", [BINANCE, RAW]), ("bybit", [BYBIT])])
def test_nothing_outside_the_frame_is_read(venue: str, frames: list[bytes]) -> None:
    code = PROBE.replace("VENUE", venue).replace("FRAMES", repr(frames))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[(False, 5), (True, 0)]"

"""Have every kernel compiled before the first frame comes."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np

from bookrunner.kernels import binance, book, bybit, columns
from bookrunner.kernels.layout import (
    BID,
    MAX_TRADES,
    QUOTE_WIDTH,
    RULE_BINANCE_FUTURES,
    RULE_BYBIT,
    TRADE_WIDTH,
)


def names() -> list[str]:
    """Return every kernel as ``module.function``, those that a first book needs before the others."""
    return [_name(function) for function, _ in _calls()]


def missing() -> list[str]:
    """Return the kernels that are not in the disk cache and would have to be compiled."""
    return [_name(function) for function, _ in _calls() if not _is_cached(function)]


def warm_up(progress: Callable[[str], None], only: Container[str] | None = None) -> None:
    """Call kernels once on a book of their own, so that they do not compile or load later.

    Args:
        progress: told ``"compiling kernel binance.depth_frame"`` and the like before each that is not in the
            disk cache; the first run of a new version takes seconds, later ones milliseconds.
        only: names of the kernels; ``None``: all.
    """
    for function, arguments in _calls():
        name = _name(function)
        if only is not None and name not in only:
            continue
        if not _is_cached(function):
            progress(f"compiling kernel {name}")
        function(*arguments)


def _name(function: Any) -> str:
    return f"{function.py_func.__module__.rpartition('.')[2]}.{function.py_func.__name__}"


def _calls() -> list[tuple[Any, tuple[object, ...]]]:
    words = book.new_words(b"X", b"x", RULE_BINANCE_FUTURES, strict=True, outlier_capacity=1)
    book.set_grid(words, 0, 1, 0, 1)
    bybit_words = book.new_words(b"X", b"x", RULE_BYBIT, strict=True, outlier_capacity=1)
    nothing = np.zeros(0, np.int64)
    out = np.zeros(QUOTE_WIDTH, np.int64)
    trades = np.zeros((MAX_TRADES, TRADE_WIDTH), np.int64)
    frame = b""
    return [
        (binance.depth_frame, (frame, words)),
        (binance.scan_depth, (frame, words)),
        (binance.sequence, (words,)),
        (binance.sequence_apply, (words,)),
        (binance.scan_trades, (frame, words, trades)),
        (binance.scan_quote, (frame, words, out)),
        (bybit.depth_frame, (frame, bybit_words)),
        (bybit.scan_depth, (frame, bybit_words)),
        (bybit.sequence, (bybit_words,)),
        (bybit.sequence_apply, (bybit_words,)),
        (bybit.scan_trades, (frame, bybit_words, trades)),
        (book.load_levels, (words, nothing, nothing, nothing, nothing)),
        (book.top, (words, 1, out)),
        (book.collect, (words, BID, nothing, nothing)),
        (book.volume_to, (words, BID, 0, 1)),
        (book.trim, (words, 1, 2)),
        (book.clear, (words,)),
        (book.apply, (words,)),
        (columns.append_depth, (words, 0, 0, np.zeros((columns.DEPTH_WIDTH, 1), np.int64), 0)),
    ]


def _is_cached(function: Any) -> bool:
    """Whether the disk cache, whose folder belongs to this version of the sources, knows this kernel."""
    if function.overloads:
        return True
    folder = function.stats.cache_path
    name = function.py_func.__qualname__
    module = function.py_func.__module__.rpartition(".")[2]
    return folder is not None and any(Path(folder).glob(f"{module}.{name}-*.nbi"))

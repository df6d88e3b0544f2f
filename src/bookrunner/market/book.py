"""An order book over one flat array; see ``kernels.layout`` for the memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bookrunner.market.instrument import Grid

Ints = npt.NDArray[np.int64]


class OrderBook:
    """An L2 book in ticks and lots."""

    words: Ints
    view: memoryview
    grid: Grid

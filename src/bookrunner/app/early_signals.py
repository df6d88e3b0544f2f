"""Signals while a service process is still being loaded; nothing heavy may be imported here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Leave at once with 0 at SIGINT and SIGTERM: until services run, nothing is to be saved.

    ``lifecycle.signals_handled`` takes over when they do. An exception would not do: what is being imported
    or compiled may catch it.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        os._exit(0)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Garbage collection at quiet moments: no frame waits for a full collection."""

from __future__ import annotations

import asyncio
import gc

COLLECTION_INTERVAL_S = 1.0
YOUNG_GENERATION = 1
WARM_UP_COLLECTIONS = 10
"""Timer ticks after which what is alive counts as permanent and is frozen."""
FULL_COLLECTION_EVERY = 60
"""One in so many collections looks at everything made since the freeze."""


class GarbageCollection:
    """A service: freezes what start-up made, then collects on a timer instead of in the middle of a frame."""

    name = "garbage_collection"

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self.collections = 0

    async def start(self) -> None:
        """Take everything alive out of the collector's sight; costs nothing, unlike a collection."""
        gc.disable()
        gc.freeze()

    async def run(self) -> None:
        """Collect once an interval until stopped."""
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(COLLECTION_INTERVAL_S):
                    await self._stopping.wait()
            except TimeoutError:
                self.tick()

    def tick(self) -> None:
        """Collect: young objects mostly, all of them seldom; freeze once, after warm-up."""
        self.collections += 1
        if self.collections == WARM_UP_COLLECTIONS:
            gc.collect()
            gc.freeze()
        elif self.collections % FULL_COLLECTION_EVERY == 0:
            gc.collect()
        else:
            gc.collect(YOUNG_GENERATION)

    async def stop(self) -> None:
        """Give collection back to the interpreter."""
        self._stopping.set()
        gc.unfreeze()
        gc.enable()

"""Frames kept while a snapshot is awaited: bounded, the oldest go first."""

from __future__ import annotations

from collections import deque

MAX_FRAMES = 10_000
"""Updates kept (over 15 minutes at 100 ms)."""
MAX_BYTES = 32 * 1024 * 1024
"""Bytes kept."""


class FrameBuffer:
    """A bounded queue of ``(frame, ts_recv_ns)``."""

    def __init__(self) -> None:
        self.dropped = 0
        """Frames lost to the bounds since the last ``take``; a snapshot from before them does not bridge."""
        self._frames: deque[tuple[bytes, int]] = deque()
        self._bytes = 0

    def append(self, frame: bytes, ts_recv_ns: int) -> None:
        """Keep a frame, dropping the oldest beyond the bounds."""
        self._frames.append((frame, ts_recv_ns))
        self._bytes += len(frame)
        while len(self._frames) > MAX_FRAMES or self._bytes > MAX_BYTES:
            self._bytes -= len(self._frames.popleft()[0])
            self.dropped += 1

    def take(self) -> deque[tuple[bytes, int]]:
        """Return everything kept, oldest first, and begin anew."""
        frames, self._frames = self._frames, deque()
        self._bytes = self.dropped = 0
        return frames

    def __len__(self) -> int:
        return len(self._frames)

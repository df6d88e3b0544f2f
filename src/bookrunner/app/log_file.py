"""The log's file, where a terminal shows something else: bounded, the older half goes first."""

from __future__ import annotations

from pathlib import Path

LOG_FILE_BYTES = 10 * 1024 * 1024
"""Size at which the file is moved aside, replacing the one moved before: twice this is all there ever is."""


class LogFile:
    """A text stream onto ``path``, with the part before it in ``<path>.1``.

    Args:
        path: appended to; its folder is made when missing.
        limit_bytes: see ``LOG_FILE_BYTES``.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, limit_bytes: int = LOG_FILE_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._bytes = self._file.tell()

    def write(self, text: str) -> int:
        """Append, moving the file aside first when the text would pass the limit."""
        size_bytes = len(text.encode("utf-8", "replace"))
        if self._bytes and self._bytes + size_bytes > self._limit_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(self.path.name + ".1"))
            self._open()
        self._bytes += size_bytes
        return self._file.write(text)

    def flush(self) -> None:
        """Hand what is buffered to the kernel."""
        self._file.flush()

    def isatty(self) -> bool:
        """It is no terminal: no colours."""
        return False

"""Opening recordings: plain, gzip or zstd files as lines of bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from bookrunner.core.errors import StorageError
from bookrunner.wire.recording import MAX_LINE_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

PACKED_CHUNK_BYTES = 4_096
"""zstd bytes unpacked at a time; even a hostile file grows such a piece to 128 MiB at most (RFC 8878)."""

PROGRESS_EVERY_LINES = 512


@contextmanager
def open_recording(path: Path, on_progress: Callable[[int], None] | None = None) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a recording; ``.gz`` and ``.zst`` are unpacked on the way.

    A line longer than ``MAX_LINE_BYTES`` comes in pieces, which the parser reports as bad.

    Args:
        path: the file.
        on_progress: told now and then how many bytes of the file have been read.

    Raises:
        OSError: the file cannot be opened.
        StorageError: while iterating: the compressed file is damaged or cut short.
    """
    with path.open("rb") as file:
        lines = _lines(file, path)
        yield lines if on_progress is None else _observed(lines, file, on_progress)


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    suffix = path.suffix.lower()
    unpacked = file
    if suffix == ".gz":
        unpacked = cast("BinaryIO", gzip.GzipFile(fileobj=file))
    elif suffix == ".zst":
        unpacked = cast("BinaryIO", io.BufferedReader(_ZstdFile(file)))
    try:
        while line := unpacked.readline(MAX_LINE_BYTES + 1):
            yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise StorageError("recording is damaged", file=path.name, reason=str(error)) from error


def _observed(lines: Iterator[bytes], file: BinaryIO, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if number % PROGRESS_EVERY_LINES == 0:
            on_progress(file.tell())
        yield line
    on_progress(file.tell())


class _ZstdFile(io.RawIOBase):
    """Reads zstd frames one after the other; damage and a cut frame are an ``EOFError``, as with gzip."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._new_frame()
        self._inside = False
        self._file = file
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._unpacked:
            packed = (self._frame.unused_data if self._frame.eof else b"") or self._file.read(
                PACKED_CHUNK_BYTES
            )
            if not packed:
                if self._inside:
                    raise EOFError("zstd frame is cut short")
                return 0
            if self._frame.eof:
                self._frame = self._new_frame()
            try:
                self._unpacked = memoryview(self._frame.decompress(packed))
            except self._error as error:
                raise EOFError(str(error)) from error
            self._inside = not self._frame.eof
        target = memoryview(buffer)
        size = min(len(target), len(self._unpacked))
        target[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

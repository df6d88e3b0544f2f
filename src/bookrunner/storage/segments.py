"""A journal's files: names, listing, and the one file that is being written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from bookrunner.core.errors import StorageError

RAW_SUFFIX = ".brj"
COMPRESSED_SUFFIX = ".brj.zst"
TEMPORARY_SUFFIX = ".tmp"
_SEQUENCE_DIGITS = 20

sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Flushes a file's bytes and the size needed to read them back."""


class Segment(msgspec.Struct, frozen=True):
    """One segment file of a journal."""

    first_sequence: int
    path: Path
    compressed: bool

    def size_bytes(self) -> int:
        """Size on disk now; 0 when the file has gone."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


def segment_path(directory: Path, first_sequence: int) -> Path:
    """Return ``<first sequence, 20 digits>.brj``."""
    return directory / f"{first_sequence:0{_SEQUENCE_DIGITS}d}{RAW_SUFFIX}"


def list_segments(directory: Path) -> list[Segment]:
    """Return the segments in order; where a raw and a compressed file both exist, the raw one.

    Raises:
        StorageError: the directory cannot be read.
    """
    found: dict[int, Segment] = {}
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError as error:
        raise storage_error("list the journal", error) from error
    for name in names:
        digits, _, suffix = name.partition(".")
        if len(digits) != _SEQUENCE_DIGITS or not digits.isascii() or not digits.isdigit():
            continue
        compressed = f".{suffix}" == COMPRESSED_SUFFIX
        if not compressed and f".{suffix}" != RAW_SUFFIX:
            continue
        sequence = int(digits)
        if not compressed or sequence not in found:
            found[sequence] = Segment(sequence, directory / name, compressed)
    return [found[sequence] for sequence in sorted(found)]


def sync_directory(directory: Path) -> None:
    """Make names created, renamed or removed in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(action: str, error: OSError) -> StorageError:
    """Return the tree's error for an operating system's refusal."""
    return StorageError(f"cannot {action}", reason=error.strerror or str(error), errno=error.errno)


class SegmentFile:
    """The segment being written: append and sync, nothing else."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes) -> None:
        """Hand all of ``data`` to the operating system.

        Raises:
            OSError: disk full, I/O error; part of ``data`` may be in the file.
        """
        written = os.write(self._descriptor, data)
        if written != len(data):
            view = memoryview(data)
            while written < len(data):
                written += os.write(self._descriptor, view[written:])

    def sync(self) -> None:
        """Return when everything written is on stable storage."""
        sync_data(self._descriptor)

    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._descriptor)


SegmentOpener = Callable[[Path], SegmentFile]
"""Opens the file to write; a test hands in one that fails."""

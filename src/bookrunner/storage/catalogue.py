"""Where catalogue files go: a local folder or an object store by URL; and where they wait meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import CatalogueTarget
from bookrunner.storage.segments import sync_directory

TEMPORARY_PREFIX = ".writing-"
"""Readers' globs pass over it; leftovers of a crash are replaced or stay unread."""


class LocalCatalogue:
    """A folder; files appear whole or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, data: bytes) -> None:
        """Store a file durably; see ``CatalogueTarget``."""
        try:
            write_whole(self._root / path, data)
        except OSError as error:
            raise CatalogueError(
                "the catalogue's folder refuses a file", path=path, reason=error.strerror or str(error)
            ) from error


class ObjectCatalogue:
    """A prefix of an object store, or any file system that ``pyarrow.fs`` knows by URL.

    An object appears when its upload is complete, so no temporary name is needed.
    """

    def __init__(self, url: str) -> None:
        """Resolve the URL.

        Raises:
            CatalogueError: an unknown scheme, or a store that cannot be set up.
        """
        import pyarrow as pa
        from pyarrow import fs

        self._errors: tuple[type[Exception], ...] = (OSError, pa.ArrowException, ValueError)
        try:
            filesystem, prefix = fs.FileSystem.from_uri(url)
        except self._errors as error:
            raise CatalogueError("the catalogue's URL cannot be used", reason=str(error)) from error
        self._filesystem: Any = filesystem
        self._prefix = str(prefix).rstrip("/")

    def put(self, path: str, data: bytes) -> None:
        """Store an object; see ``CatalogueTarget``."""
        target = f"{self._prefix}/{path}"
        try:
            # Object stores have no folders; file systems do.
            self._filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            with self._filesystem.open_output_stream(target) as stream:
                stream.write(data)
        except self._errors as error:
            raise CatalogueError(
                "the catalogue's store refuses a file", path=path, reason=str(error)
            ) from error


def catalogue_at(location: str) -> CatalogueTarget:
    """Return the target for a folder, or for a URL such as ``s3://bucket/prefix``.

    Raises:
        CatalogueError: the URL cannot be used.
    """
    return ObjectCatalogue(location) if "://" in location else LocalCatalogue(Path(location))


class LocalSpool:
    """Files on the local disk, up to a total size; what an earlier process left is found again.

    Args:
        root: a folder of its own.
        limit_bytes: total size; a file that would exceed it is refused.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._limit_bytes = limit_bytes

    def put(self, path: str, data: bytes) -> None:
        """Keep a file; see ``CatalogueSpool``."""
        try:
            used_bytes = sum(file.stat().st_size for file in self._files())
            if used_bytes + len(data) > self._limit_bytes:
                raise CatalogueError(
                    "the spool is full", used_bytes=used_bytes, limit_bytes=self._limit_bytes, path=path
                )
            write_whole(self._root / quote(path, safe=""), data)
        except OSError as error:
            raise CatalogueError(
                "the spool's disk refuses a file", path=path, reason=error.strerror or str(error)
            ) from error

    def waiting(self) -> list[str]:
        """Return the paths kept, oldest first."""
        try:
            files = sorted((file.stat().st_mtime_ns, file.name) for file in self._files())
        except OSError as error:
            raise CatalogueError("the spool cannot be listed", reason=str(error)) from error
        return [unquote(name) for _, name in files]

    def read(self, path: str) -> bytes:
        """Return a kept file."""
        try:
            return (self._root / quote(path, safe="")).read_bytes()
        except OSError as error:
            raise CatalogueError("a spooled file cannot be read", path=path, reason=str(error)) from error

    def remove(self, path: str) -> None:
        """Forget a file."""
        try:
            (self._root / quote(path, safe="")).unlink(missing_ok=True)
        except OSError as error:
            raise CatalogueError("a spooled file cannot be removed", path=path, reason=str(error)) from error

    def _files(self) -> list[Path]:
        if not self._root.exists():
            return []
        return [file for file in self._root.iterdir() if file.name.endswith(".parquet") and file.is_file()]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, force it to disk, and give it its name.

    Raises:
        OSError: it is not there; an earlier file of that name is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)

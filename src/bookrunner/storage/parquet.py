"""Catalogue files: Parquet, and what each says about itself.

The Parquet metadata key ``bookrunner`` holds a ``FileMetadata`` as JSON. The content hash covers the columns'
values, not Parquet's bytes, so that it holds over re-compression: BLAKE2b-128 over, for each column in
order, its name, and its values as little-endian int64; of texts, the offsets (int32) and the bytes of an
Arrow string column.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import CatalogueFile, Column, ColumnBatch, Gap, Ints, TableKind
from bookrunner.market.instrument import Instrument

FORMAT = 1
METADATA_KEY = b"bookrunner"
COMPRESSION_LEVEL = 3
SMALL_COLUMNS = {"side": "int8", "flags": "int32", "closed": "int8"}
"""Integer columns stored narrower than int64."""
Table = dict[str, Ints | list[str]]
"""Columns of a file as read back."""
EVENT_DIGITS = 19
HASH_CHARACTERS_IN_NAME = 8


class FileMetadata(msgspec.Struct, frozen=True):
    """What a catalogue file says about itself."""

    format: int
    kind: TableKind
    instrument: Instrument
    """Its grid gives ticks and lots their meaning; its version says as of when."""
    date: str
    rows: int
    first_id: int
    last_id: int
    first_event: int
    last_event: int
    gaps: tuple[Gap, ...]
    content_hash: str


class ParquetEncoder:
    """Columns to Parquet, compressed with zstd."""

    def prepare(self) -> None:
        """Import Arrow."""
        import pyarrow.parquet  # noqa: F401 - only that it is loaded matters

    def encode(self, batch: ColumnBatch) -> CatalogueFile:
        """Return the file; see ``CatalogueEncoder``.

        Raises:
            CatalogueError: a value does not fit its column.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        digest = content_hash(batch.columns)
        numbers = batch.columns["event_number"]
        first_event, last_event = int(numbers[0][0]), int(numbers[-1][-1])
        metadata = FileMetadata(
            FORMAT,
            batch.kind,
            batch.instrument,
            batch.date,
            batch.rows,
            batch.first_id,
            batch.last_id,
            first_event,
            last_event,
            batch.gaps,
            digest,
        )
        texts = [name for name, column in batch.columns.items() if isinstance(column, list)]
        try:
            fields = [
                pa.field(name, pa.string() if name in texts else SMALL_COLUMNS.get(name, "int64"))
                for name in batch.columns
            ]
            schema = pa.schema(fields, metadata={METADATA_KEY: msgspec.json.encode(metadata)})
            arrays = [
                pa.array(column, pa.string())
                if isinstance(column, list)
                else pa.chunked_array([np.ascontiguousarray(piece) for piece in column]).cast(field.type)
                for column, field in zip(batch.columns.values(), fields, strict=True)
            ]
            out = io.BytesIO()
            pq.write_table(
                pa.Table.from_arrays(arrays, schema=schema),
                out,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=texts,
                column_encoding={
                    field.name: "DELTA_BINARY_PACKED"
                    for field in fields
                    if field.type in (pa.int64(), pa.int32())
                },
            )
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise CatalogueError("rows cannot be written as Parquet", reason=str(error)) from error
        name = (
            f"{batch.kind}-{first_event:0{EVENT_DIGITS}d}-{last_event:0{EVENT_DIGITS}d}"
            f"-{digest[:HASH_CHARACTERS_IN_NAME]}.parquet"
        )
        return CatalogueFile(f"{folder_of(batch.instrument, batch.date)}/{name}", out.getvalue(), batch.rows)


def folder_of(instrument: Instrument, date: str) -> str:
    """Return ``venue=…/symbol=…/date=…``; characters that mean something in paths are percent-encoded."""
    return f"venue={quote(instrument.venue, safe='')}/symbol={quote(instrument.symbol, safe='')}/date={date}"


def content_hash(columns: dict[str, Column]) -> str:
    """Return the hash of columns' names and values."""
    import pyarrow as pa

    digest = hashlib.blake2b(digest_size=16)
    for name, column in columns.items():
        digest.update(name.encode())
        if isinstance(column, list):
            for buffer in pa.array(column, pa.string()).buffers()[1:]:
                digest.update(memoryview(buffer or b""))
        else:
            for piece in column:
                digest.update(np.ascontiguousarray(piece, "<i8").data)
    return digest.hexdigest()


def read_file(path: Path) -> tuple[FileMetadata, Table]:
    """Read a catalogue file back and check its hash.

    Raises:
        CatalogueError: not a catalogue file, of another format, damaged, or its hash does not match.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        stored = (table.schema.metadata or {}).get(METADATA_KEY)
        if stored is None:
            raise CatalogueError("not a catalogue file", file=path.name)
        metadata = msgspec.json.decode(stored, type=FileMetadata)
        columns: Table = {name: _column(table.column(name)) for name in table.column_names}
    except (OSError, pa.ArrowException, msgspec.DecodeError) as error:
        raise CatalogueError("catalogue file cannot be read", file=path.name, reason=str(error)) from error
    if metadata.format != FORMAT:
        raise CatalogueError("catalogue file of another format", file=path.name, format=metadata.format)
    if table.num_rows != metadata.rows or _hash_of(columns) != metadata.content_hash:
        raise CatalogueError("catalogue file does not match its hash", file=path.name)
    return metadata, columns


def _hash_of(table: Table) -> str:
    return content_hash({name: c if isinstance(c, list) else (c,) for name, c in table.items()})


def _column(values: Any) -> Ints | list[str]:
    import pyarrow as pa

    if values.type == pa.string():
        texts: list[str] = values.to_pylist()
        return texts
    integers: Ints = values.to_numpy().astype(np.int64)
    return integers

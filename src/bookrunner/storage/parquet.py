"""Catalogue files: Parquet, and what each says about itself.

Columns become Arrow arrays over the memory they are in. Arrow's own conversions from Python and its casts are
not used: they import pandas, where it is installed, and Arrow's compute functions, 50 MB that nothing here
needs.

The Parquet metadata key ``bookrunner`` holds a ``FileMetadata`` as JSON. The content hash covers the columns'
values, not Parquet's bytes, so that it holds over re-compression: BLAKE2b-128 over, for each column in
order, its name, and its values as little-endian int64; of texts, the offsets (int32) and the bytes of an
Arrow string column.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np

from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import CatalogueFile, Column, ColumnBatch, Gap, Ints, TableKind
from bookrunner.market.instrument import Instrument

if TYPE_CHECKING:
    import pyarrow as pa

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

        try:
            digest = content_hash(batch.columns)
            arrays = {name: _arrow(name, column) for name, column in batch.columns.items()}
            fields = [pa.field(name, array.type) for name, array in arrays.items()]
            schema = pa.schema(fields, metadata={METADATA_KEY: msgspec.json.encode(_metadata(batch, digest))})
            out = io.BytesIO()
            pq.write_table(
                pa.Table.from_arrays(list(arrays.values()), schema=schema),
                out,
                compression="zstd",
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=[field.name for field in fields if field.type == pa.string()],
                column_encoding={
                    field.name: "DELTA_BINARY_PACKED"
                    for field in fields
                    if field.type in (pa.int64(), pa.int32())
                },
            )
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise CatalogueError("rows cannot be written as Parquet", reason=str(error)) from error
        first_event, last_event = _events(batch)
        name = (
            f"{batch.kind}-{first_event:0{EVENT_DIGITS}d}-{last_event:0{EVENT_DIGITS}d}"
            f"-{digest[:HASH_CHARACTERS_IN_NAME]}.parquet"
        )
        return CatalogueFile(f"{folder_of(batch.instrument, batch.date)}/{name}", out.getvalue(), batch.rows)


def folder_of(instrument: Instrument, date: str) -> str:
    """Return ``venue=…/symbol=…/date=…``; characters that mean something in paths are percent-encoded."""
    return f"venue={quote(instrument.venue, safe='')}/symbol={quote(instrument.symbol, safe='')}/date={date}"


def _metadata(batch: ColumnBatch, digest: str) -> FileMetadata:
    return FileMetadata(
        FORMAT,
        batch.kind,
        batch.instrument,
        batch.date,
        batch.rows,
        batch.first_id,
        batch.last_id,
        *_events(batch),
        batch.gaps,
        digest,
    )


def _events(batch: ColumnBatch) -> tuple[int, int]:
    """Return the numbers of the first and the last event."""
    numbers = batch.columns["event_number"]
    return int(numbers[0][0]), int(numbers[-1][-1])


def _arrow(name: str, column: Column) -> pa.ChunkedArray:
    """Return a column as Arrow arrays over its own memory, narrowed where ``SMALL_COLUMNS`` says so.

    Raises:
        OverflowError: a value does not fit the narrower type.
    """
    import pyarrow as pa

    if isinstance(column, list):
        buffers = [None, *map(pa.py_buffer, _text_buffers(column))]
        return pa.chunked_array([pa.Array.from_buffers(pa.string(), len(column), buffers)])
    narrow = SMALL_COLUMNS.get(name, "int64")
    kind = {"int8": pa.int8(), "int32": pa.int32(), "int64": pa.int64()}[narrow]
    pieces = []
    for piece in column:
        values = np.ascontiguousarray(piece, narrow)
        if narrow != "int64" and not np.array_equal(values, piece):
            raise OverflowError(f"a value of {name} does not fit {narrow}")
        pieces.append(pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)]))
    return pa.chunked_array(pieces, kind)


def _text_buffers(column: list[str]) -> tuple[bytes, bytes]:
    """Return the offsets and the bytes of an Arrow string column.

    Raises:
        OverflowError: more than 2 GiB of text.
    """
    encoded = [text.encode() for text in column]
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError("too much text for one column")
    return offsets.astype("<i4").tobytes(), b"".join(encoded)


def content_hash(columns: dict[str, Column]) -> str:
    """Return the hash of columns' names and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, column in columns.items():
        digest.update(name.encode())
        if isinstance(column, list):
            for buffer in _text_buffers(column):
                digest.update(buffer)
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

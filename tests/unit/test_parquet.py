"""Catalogue files: what fits is kept exactly, the rest refused, and nothing is loaded without need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookrunner.core.enums import InstrumentKind
from bookrunner.core.errors import CatalogueError
from bookrunner.engine.ports.catalogue import Column, ColumnBatch, TableKind
from bookrunner.market.instrument import Grid, Instrument
from bookrunner.storage.parquet import ParquetEncoder, read_file

INSTRUMENT = Instrument(
    venue="x", symbol="X", base="X", quote="Y", kind=InstrumentKind.SPOT, grid=Grid(0, 1, 0, 1)
)


def batch_of(columns: dict[str, Column], rows: int) -> ColumnBatch:
    return ColumnBatch(TableKind.TRADES, INSTRUMENT, "2024-08-08", rows, columns, 0, 0)


def ints(*values: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
    return (np.array(values, np.int64),)


@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-128, 127), st.text(max_size=8)), min_size=1
    ),
    st.integers(0, 40),
)
def test_every_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, str]], cut: int
) -> None:
    numbers, sides, texts = (list(column) for column in zip(*rows, strict=True))
    pieces = tuple(np.array(part, np.int64) for part in (numbers[:cut], numbers[cut:]) if part)
    columns: dict[str, Column] = {"event_number": pieces, "side": ints(*sides), "trade_id": texts}
    file = ParquetEncoder().encode(batch_of(columns, len(rows)))
    path = tmp_path_factory.mktemp("files") / "x.parquet"
    path.write_bytes(file.data)

    metadata, table = read_file(path)

    assert metadata.rows == len(rows)
    assert [list(table["event_number"]), list(table["side"]), table["trade_id"]] == [numbers, sides, texts]


def test_columns_are_as_narrow_as_they_may_be() -> None:
    columns: dict[str, Column] = {"event_number": ints(1), "side": ints(-1), "flags": ints(2**31 - 1)}
    file = ParquetEncoder().encode(batch_of(columns, 1))
    schema = pq.read_schema(pa.BufferReader(file.data))
    assert [str(field.type) for field in schema] == ["int64", "int8", "int32"]


@pytest.mark.parametrize(
    ("name", "column"),
    [("side", ints(128)), ("flags", ints(-(2**31) - 1)), ("closed", ints(256)), ("trade_id", ["\ud800"])],
)
def test_a_value_that_does_not_fit_is_refused_not_wrapped(name: str, column: Column) -> None:
    with pytest.raises(CatalogueError):
        ParquetEncoder().encode(batch_of({"event_number": ints(1), name: column}, 1))


def test_encoding_loads_neither_pandas_nor_arrows_compute_functions(tmp_path: Path) -> None:
    """Fifty megabytes in the process that keeps the books, and an import that would hold its loop up."""
    (tmp_path / "pandas.py").write_text("raise SystemExit('pandas was imported')\n")
    script = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parent)!r}]
from test_parquet import ParquetEncoder, batch_of, ints
for name in ("test_parquet", "pyarrow", "numpy"):
    assert name in sys.modules
encoder = ParquetEncoder()
encoder.prepare()
encoder.encode(batch_of({{"event_number": ints(1), "side": ints(1), "trade_id": ["x"]}}, 1))
assert "pyarrow.compute" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

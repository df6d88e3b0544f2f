"""How kernels are compiled, cached and warmed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from bookrunner.kernels import binance, book, bybit, columns, jit, warmup

PROBE = """
from numba import config
config.CACHE_DIR = {folder!r}
from bookrunner.kernels import jit, book
told = []
from bookrunner.kernels import warmup
warmup.warm_up(told.append, only={only!r})
print(jit.CACHE_FOLDER, *told, sep="|")
"""


def probe(folder: Path, only: list[str]) -> list[str]:
    """Warm kernels up in another process; return its cache folder and what it told."""
    code = PROBE.format(folder=str(folder), only=only)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().split("|")


def test_the_second_start_compiles_nothing(tmp_path: Path) -> None:
    only = ["book.clear"]
    folder, *told = probe(tmp_path, only)
    assert Path(folder).parent == tmp_path
    assert told == ["compiling kernel book.clear"]
    assert probe(tmp_path, only) == [folder]


def test_no_writable_place_means_no_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    folder, *told = probe(blocked / "below", ["book.clear"])
    assert folder == "None"
    assert told == ["compiling kernel book.clear"]


def test_the_folder_changes_with_any_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "kernels"
    sources.mkdir()
    for source in Path(jit.__file__).parent.glob("*.py"):
        (sources / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(jit, "_SOURCES", sources)
    first = jit._cache_folder()
    with (sources / "layout.py").open("a") as layout:
        layout.write("# changed\n")
    assert first is not None
    assert jit._cache_folder() not in (None, first)


def test_every_kernel_that_python_calls_has_one_signature() -> None:
    """Processes number the cached variants of a function each in its own order; see ``jit.kernel``."""
    warmup.warm_up(lambda _told: None)
    signatures = {
        f"{module.__name__}.{name}": len(function.signatures)
        for module in (binance, book, bybit, columns)
        for name, function in vars(module).items()
        if hasattr(function, "signatures") and function.stats.cache_path is not None
    }
    assert set(signatures.values()) <= {0, 1}, signatures

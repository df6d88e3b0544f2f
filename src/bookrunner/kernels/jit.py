"""How every kernel is compiled, and where the compiled code is kept.

numba's disk cache notices a change in a kernel's own file, but not in a module that it imports constants or
functions from. So the cache lives in a folder named by a hash of all kernel sources: any change, new folder.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
from numba import config

_SOURCES = Path(__file__).parent


def _cache_folder() -> str | None:
    """Return a writable folder for this version of the kernels, or None where there is none."""
    digest = hashlib.blake2b(digest_size=8)
    for source in sorted(_SOURCES.glob("*.py")):
        digest.update(source.read_bytes())
    try:
        root = Path(config.CACHE_DIR) if config.CACHE_DIR else Path.home() / ".cache" / "bookrunner"
        folder = root / f"kernels-{digest.hexdigest()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a read-only or missing home; RuntimeError: no home at all
        return None
    return str(folder) if os.access(folder, os.W_OK | os.X_OK) else None


CACHE_FOLDER = _cache_folder()
"""Where compiled kernels are kept; None where no place is writable, and each process compiles its own."""


def _compile(function: Any, *, cache: bool = False, **flags: Any) -> Any:
    shared_folder = config.CACHE_DIR
    config.CACHE_DIR = CACHE_FOLDER or shared_folder
    try:
        return numba.njit(
            cache=cache,
            # Indices are made in range by masks and counts; a check would cost in every inner loop.
            boundscheck=False,
            # Kernels run on the event loop's thread for microseconds: handing the GIL over costs more.
            nogil=False,
            # Integer division needs no branch for zero, and a float one gives inf instead of an exception.
            error_model="numpy",
            # Exactness matters more than reassociation.
            fastmath=False,
            **flags,
        )(function)
    finally:
        config.CACHE_DIR = shared_folder  # other users of numba in this process keep their own place


def kernel(function: Any) -> Any:
    """Compile a function that Python calls, always with the same types, and keep the code on disk.

    Importing a cached function raises where no place is writable, so there it is compiled by each process.
    Only such functions are cached: processes that compile at once number the variants of a function each in
    its own order, so that one with several signatures could be loaded as another.
    """
    return _compile(function, cache=CACHE_FOLDER is not None)


def step(function: Any) -> Any:
    """Compile a part of a kernel that is called, not copied."""
    return _compile(function)


def inlined(function: Any) -> Any:
    """Compile a part of a kernel that LLVM copies into its callers, so that constants fold."""
    return _compile(function, forceinline=True)


def spliced(function: Any) -> Any:
    """Compile a part of a line or two as if it stood in its callers: nothing to compile on its own."""
    return _compile(function, inline="always")

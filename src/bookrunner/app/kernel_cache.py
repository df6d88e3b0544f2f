"""Compiled kernels at hand before the first frame, without paying for the compiler in this process.

Compiling takes seconds and leaves a quarter of a gigabyte behind, so what the disk cache lacks is compiled
by child processes, two at a time; this process only loads the results. What the first book needs is loaded
before it connects, the rest in small steps once a book is live; then the compiler's pages are given back.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable

import structlog

from bookrunner.app.compiler_pages import give_back_compiler
from bookrunner.core.errors import BookrunnerError

PROCESSES = 2
FIRST = frozenset({"binance.depth_frame", "bybit.depth_frame", "book.load_levels", "columns.append_depth"})
"""What a first book needs; a venue that is not followed needs not its own."""
STEP_PAUSE_S = 0.05
"""Between two kernels loaded beside live books: each costs the loop some milliseconds, once."""
COMPILER = "bookrunner.app.commands.compile_kernels"

log = structlog.get_logger(__name__)


class KernelCompilationError(BookrunnerError):
    """A child process could not compile the kernels; field ``exit_code``."""

    code = "KERNEL_COMPILATION_FAILED"


async def compile_missing(progress: Callable[[str], None]) -> None:
    """Compile what the disk cache lacks, in child processes; nothing to do where there is no cache.

    Args:
        progress: told a line for each kernel that is compiled.

    Raises:
        KernelCompilationError: a child failed.
    """
    from bookrunner.kernels.jit import CACHE_FOLDER
    from bookrunner.kernels.warmup import missing

    names = missing()
    if CACHE_FOLDER is None or not names:
        return
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for share in _shares(names):
                group.create_task(_compile(share, progress))
    except* KernelCompilationError as failures:
        failure = failures.exceptions[0]
    if failure is not None:
        raise failure


def _shares(names: list[str]) -> list[list[str]]:
    """Part the kernels between the processes: the two venues' scanners are the long ones, and share least."""
    binance = [name for name in names if name.startswith("binance.")]
    others = [name for name in names if not name.startswith("binance.")]
    return [share for share in (binance, others) if share]


async def _compile(names: Iterable[str], progress: Callable[[str], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", COMPILER, *names, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked to be a pipe
        async for line in process.stdout:
            progress(line.decode().rstrip())
        exit_code = await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise
    if exit_code:
        raise KernelCompilationError("the kernels could not be compiled", exit_code=exit_code)


def load_first(venues: Iterable[str]) -> None:
    """Load what the first books of these venues need."""
    from bookrunner.kernels.warmup import warm_up

    families = {venue.partition("_")[0] for venue in venues} | {"book", "columns"}
    warm_up(_say, only={name for name in FIRST if name.partition(".")[0] in families})


class KernelLoading:
    """A service: loads the other kernels one by one after the first book is live.

    Args:
        after: set when the first book is live.
    """

    name = "kernel_loading"

    def __init__(self, after: asyncio.Event) -> None:
        self._after = after
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Do nothing."""

    async def run(self) -> None:
        """Load, then wait for the end."""
        waiting = asyncio.create_task(self._after.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        from bookrunner.kernels.warmup import names, warm_up

        for name in names():
            if self._stopping.is_set():
                break
            warm_up(_say, only={name})
            await asyncio.sleep(STEP_PAUSE_S)
        await asyncio.to_thread(give_back_compiler)
        await stopping

    async def stop(self) -> None:
        """End."""
        self._stopping.set()


def _say(line: str) -> None:
    log.info("start_up", doing=line)

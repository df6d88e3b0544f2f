"""Runs the simulator as a process of its own: start, wait until it is ready, stop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from bookrunner.core.errors import VenueStartError

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 3.0
COMMAND = (sys.executable, "-m", "bookrunner.app.commands.venue")


class Ready(msgspec.Struct, frozen=True):
    """The one line that the process prints on standard output."""

    ready: bool
    ws: str
    rest: str


class VenueProcess:
    """A running simulator."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self._process = process
        self.websocket_url = ready.ws
        self.rest_url = ready.rest

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Return its exit code when it ends."""
        return await self._process.wait()

    async def stop(self) -> int:
        """End it (it exits 0 on SIGTERM), by force when it does not, and return its exit code."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


async def launch_venue(
    arguments: Sequence[str] = (),
    *,
    command: Sequence[str] = COMMAND,
    timeout_s: float = READY_TIMEOUT_S,
) -> VenueProcess:
    """Start ``bookrunner venue`` with ``arguments`` and wait until it answers on both ports.

    Its logs go to our standard error. It ends with us, however we end: it watches its standard input.

    Raises:
        VenueStartError: it ended, or was not ready in time.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        "--exit-with-parent",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked to be a pipe
        line = await asyncio.wait_for(process.stdout.readline(), timeout_s)
        ready = msgspec.json.decode(line, type=Ready)
    except (TimeoutError, msgspec.DecodeError) as error:
        if process.returncode is None:
            process.kill()
        exit_code = await process.wait()
        raise VenueStartError("the venue simulator did not start", exit_code=exit_code) from error
    except BaseException:
        process.kill()
        raise
    return VenueProcess(process, ready)

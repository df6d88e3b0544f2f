"""The simulator as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import httpx
import msgspec
import pytest

from bookrunner.core.errors import VenueStartError
from bookrunner.venues.simulated.launch import COMMAND, Ready, launch_venue

FREE_PORTS = ("--port=0", "--rest-port=0")
SMALL = (*FREE_PORTS, "--synthetic=bybit_linear:BTCUSDT")


async def refused(arguments: Sequence[str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, problem = await asyncio.wait_for(process.communicate(), 20)
    assert out == b""
    return process.returncode, problem.decode()


async def test_it_says_where_it_is_serves_and_leaves_with_0() -> None:
    venue = await launch_venue([*FREE_PORTS, "--recording=sample", "--synthetic=bybit_linear:BTCUSDT"])
    async with httpx.AsyncClient(base_url=venue.rest_url) as client:
        books = (await client.get("/simulator/status")).json()["books"]
        body = (await client.get("/fapi/v1/depth?symbol=ETHUSDT&limit=5")).json()
    assert sorted(map(tuple, books)) == [
        ("binance_usdm", "BTCUSDT"),
        ("binance_usdm", "ETHUSDT"),
        ("bybit_linear", "BTCUSDT"),
    ]
    assert len(body["bids"]) == 5
    assert venue.websocket_url.startswith("ws://127.0.0.1:")
    assert await venue.stop() == 0
    assert await venue.stop() == 0


async def test_sigint_ends_it_too() -> None:
    venue = await launch_venue(SMALL)
    os.kill(venue.pid, signal.SIGINT)
    assert await asyncio.wait_for(venue.wait(), 10) == 0


async def test_it_ends_when_its_parent_is_gone() -> None:
    script = (
        "import asyncio, os\n"
        "from bookrunner.venues.simulated.launch import launch_venue\n"
        "async def main():\n"
        f"    venue = await launch_venue({SMALL!r})\n"
        "    print(venue.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    # The simulator inherits standard error: that pipe closes only when both processes are gone.
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(parent.communicate(), 30)
    assert int(out) > 0
    assert parent.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fault", "nosuch"],
        ["--recording", "/no/such/file.ndlog"],
        ["--synthetic", "nowhere:BTCUSDT"],
        ["--fault-file", "/no/such/file.json"],
    ],
)
async def test_what_is_wrong_is_said_without_a_trace(arguments: list[str]) -> None:
    code, problem = await refused([*FREE_PORTS, *arguments])
    assert code == 2
    assert "rule=" in problem
    assert "Traceback" not in problem


async def test_a_taken_port_is_said_to_the_one_who_launched() -> None:
    first = await launch_venue(SMALL)
    port = first.websocket_url.rpartition(":")[2]
    try:
        with pytest.raises(VenueStartError) as caught:
            await launch_venue([*SMALL[1:], f"--port={port}"])
        assert caught.value.fields["exit_code"] == 2
    finally:
        await first.stop()


async def test_faults_can_be_drawn_by_a_seed_at_the_start() -> None:
    venue = await launch_venue([*SMALL, "--fault-seed=7"])
    try:
        async with httpx.AsyncClient(base_url=venue.rest_url) as client:
            assert len((await client.get("/simulator/status")).json()["armed"]) > 100
    finally:
        await venue.stop()


def test_the_ready_line_is_stable() -> None:
    line = msgspec.json.encode(Ready(ready=True, ws="ws://x", rest="http://y"))
    assert line == b'{"ready":true,"ws":"ws://x","rest":"http://y"}'

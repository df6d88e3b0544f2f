import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from bookrunner.app.garbage_collection import WARM_UP_COLLECTIONS, GarbageCollection
from bookrunner.app.lifecycle import ServiceGroup, signals_handled
from bookrunner.core.errors import ConnectionLostError


class FakeService:
    """Notes what happens to it in a diary shared with others."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary
        self.stopped = asyncio.Event()
        self.die: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        self.diary.append(f"start {self.name}")

    async def run(self) -> None:
        stopping = asyncio.create_task(self.stopped.wait())
        self.die.add_done_callback(lambda _: stopping.cancel())
        try:
            await stopping
        except asyncio.CancelledError:
            self.die.result()
            return
        self.diary.append(f"end {self.name}")

    async def stop(self) -> None:
        self.diary.append(f"stop {self.name}")
        self.stopped.set()


class StuckService(FakeService):
    async def stop(self) -> None:
        self.diary.append(f"stuck {self.name}")
        await asyncio.Event().wait()


class UnstartableService(FakeService):
    async def start(self) -> None:
        raise ConnectionLostError("port taken", port=8080)


@pytest.fixture
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def diary() -> list[str]:
    return []


async def test_services_stop_in_the_reverse_order_each_ending_before_the_next(diary: list[str]) -> None:
    group = ServiceGroup([FakeService(name, diary) for name in ("journal", "fanout", "feed")])
    code = await group.run(on_started=lambda: group.request_stop("test"))
    assert code == 0
    assert diary == [
        "start journal", "start fanout", "start feed",
        "stop feed", "end feed", "stop fanout", "end fanout", "stop journal", "end journal",
    ]  # fmt: skip


async def test_the_duration_ends_it(diary: list[str]) -> None:
    assert await ServiceGroup([FakeService("feed", diary)]).run(duration_s=0.001) == 0
    assert diary[-1] == "end feed"


async def test_a_service_that_raises_stops_all_with_exit_code_1(
    diary: list[str], logs: list[structlog.typing.EventDict]
) -> None:
    journal, feed = FakeService("journal", diary), FakeService("feed", diary)
    group = ServiceGroup([journal, feed])
    code = await group.run(on_started=lambda: feed.die.set_exception(ConnectionLostError("gone", host="x")))
    assert code == 1
    assert diary[-2:] == ["stop journal", "end journal"]
    died = next(entry for entry in logs if entry["event"] == "service_died")
    assert (died["service"], died["code"], died["log_level"]) == ("feed", "CONNECTION_LOST", "error")


async def test_a_service_that_ends_by_itself_stops_all_with_exit_code_1(diary: list[str]) -> None:
    feed = FakeService("feed", diary)
    assert await ServiceGroup([feed]).run(on_started=lambda: feed.die.set_result(None)) == 1


async def test_a_bug_is_logged_with_its_traceback(
    diary: list[str], logs: list[structlog.typing.EventDict]
) -> None:
    feed = FakeService("feed", diary)
    await ServiceGroup([feed]).run(on_started=lambda: feed.die.set_exception(KeyError("bug")))
    died = next(entry for entry in logs if entry["event"] == "service_died")
    assert died["code"] == "INTERNAL"
    assert isinstance(died["exc_info"], KeyError)


async def test_what_started_is_stopped_when_a_later_service_cannot_start(diary: list[str]) -> None:
    services = [FakeService("journal", diary), UnstartableService("api", diary), FakeService("feed", diary)]
    assert await ServiceGroup(services).run() == 1
    assert diary == ["start journal", "stop journal", "end journal"]


async def test_a_stuck_service_does_not_keep_the_others_from_stopping(diary: list[str]) -> None:
    services = [FakeService("journal", diary), StuckService("feed", diary)]
    group = ServiceGroup(services, shutdown_s=0.52)
    assert await group.run(on_started=lambda: group.request_stop("test")) == 1
    assert diary[2:] == ["stuck feed", "stop journal", "end journal"]


async def test_a_stop_during_start_waits_for_nothing(diary: list[str]) -> None:
    class SlowToStart(FakeService):
        async def start(self) -> None:
            group.request_stop("signal")
            await asyncio.Event().wait()

    group = ServiceGroup([FakeService("journal", diary), SlowToStart("feed", diary)])
    assert await group.run() == 0
    assert diary == ["start journal", "stop journal", "end journal"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_stops_and_the_second_leaves_at_once(
    number: signal.Signals, diary: list[str]
) -> None:
    exits: list[int] = []
    feed = FakeService("feed", diary)
    group = ServiceGroup([feed])

    def on_exit(code: int) -> None:
        exits.append(code)
        feed.stopped.set()

    async def stop() -> None:
        os.kill(os.getpid(), number)
        await feed.stopped.wait()

    feed.stop = stop  # type: ignore[method-assign]
    async with signals_handled(group, on_exit):
        code = await group.run(on_started=lambda: os.kill(os.getpid(), number))
    assert code == 0
    assert exits == [128 + number]


PROCESS = """
import asyncio, sys, time
from bookrunner.app import lifecycle

lifecycle.SHUTDOWN_S = {limit_s}

class Service:
    name = "only"
    async def start(self): self.stopping = asyncio.Event()
    async def run(self): await self.stopping.wait()
    async def stop(self): {stop}

async def main():
    group = lifecycle.ServiceGroup([Service()])
    async with lifecycle.signals_handled(group):
        return await group.run(on_started=lambda: print("ready", flush=True))

sys.exit(asyncio.run(main()))
"""


@pytest.mark.parametrize(
    ("stop", "limit_s", "signals", "code"),
    [
        ("self.stopping.set()", 60, 1, 0),
        ("print('stopping', flush=True); await asyncio.Event().wait()", 60, 2, 143),
        ("time.sleep(60)", 0.1, 1, 1),
    ],
    ids=["stops", "leaves at the second signal", "leaves a blocked loop when its time is up"],
)
def test_a_process_ends_when_told_to(stop: str, limit_s: float, signals: int, code: int) -> None:
    program = PROCESS.format(stop=stop, limit_s=limit_s)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(signals):
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == code


async def test_garbage_is_collected_on_a_timer_and_given_back_afterwards() -> None:
    service = GarbageCollection()
    await service.start()
    try:
        assert not gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > 0
        held = [[] for _ in range(1_000)]  # type: ignore[var-annotated]
        for _ in range(WARM_UP_COLLECTIONS):
            service.tick()
        assert gc.get_freeze_count() > frozen
        assert len(held) == 1_000
    finally:
        await service.stop()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    await service.run()

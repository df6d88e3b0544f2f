"""The feed's shell, on fake sockets, answers, journal and time: every way to start, to limp and to end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise

import pytest

from book_frames import ASK, BID, bybit_frame, instrument, snapshot_body, usdm_frame
from bookrunner.core.enums import BookState, Channel, InstrumentStatus
from bookrunner.core.errors import (
    ConfigurationError,
    ConnectionLostError,
    DiskLowError,
    JournalFullError,
    ProtocolError,
    RateLimitedError,
    RequestTimeoutError,
    StorageError,
    VenueRejectError,
)
from bookrunner.engine.ports.raw_journal import RecordKind
from bookrunner.services import feeds, snapshots
from bookrunner.services.feeds import HOUSEKEEPING_S, INSTRUMENTS_EVERY_S
from bookrunner.services.retry_waits import CEILING_CAP_S
from bookrunner.services.snapshots import RESUBSCRIBE_AFTER_S, RESUBSCRIBE_ATTEMPTS
from feed_fakes import FakeScene, running, settle

USDM, BYBIT = "binance_usdm", "bybit_linear"
ETH = "ETHUSDT"


def usdm() -> FakeScene:
    return FakeScene(USDM)


def two_symbols(venue: str = USDM) -> FakeScene:
    return FakeScene(venue, ("BTCUSDT", ETH))


async def make_live(scene: FakeScene) -> None:
    scene.client.deliver(usdm_frame(5, 10, 4))
    await settle()
    assert scene.book().state is BookState.LIVE


# --- starting -----------------------------------------------------------------------------------------------


async def test_follows_what_the_venue_lists_and_journals_everything_first() -> None:
    scene = two_symbols()
    scene.listed = [instrument(USDM), instrument(USDM, symbol="SOLUSDT")]
    async with running(scene) as task:
        assert [live.symbol for live in scene.books] == ["BTCUSDT"]
        assert json.loads(scene.client.sent[0])["params"] == ["btcusdt@depth@100ms"]
        frame = usdm_frame(5, 10, 4)
        scene.client.deliver(frame)
        await settle()
        assert scene.book().state is BookState.LIVE
        assert scene.rest.requests == [("instruments", 1), ("snapshot", 0)]
        assert scene.latencies == []  # it had waited for the snapshot
        kinds = [kind for kind, _, _ in scene.journal.records]
        assert kinds == [
            RecordKind.REST_RESPONSE, RecordKind.CONNECTED, RecordKind.SENT, RecordKind.FRAME,
            RecordKind.REST_RESPONSE,
        ]  # fmt: skip
        assert scene.journal.payloads(RecordKind.FRAME) == [frame]
        head, _, body = scene.journal.payloads(RecordKind.REST_RESPONSE)[1].partition(b"\n")
        assert head.startswith(b"/fapi/v1/depth?symbol=BTCUSDT")
        assert body == snapshot_body(7)
        scene.client.deliver(usdm_frame(11, 12, 10), ts_recv_ns=scene.time.clock.wall_ns() - 5)
        assert scene.latencies == [5]
        assert not task.done()


async def test_a_delisted_symbol_is_as_good_as_unknown() -> None:
    scene = two_symbols()
    scene.listed = [instrument(USDM), instrument(USDM, symbol=ETH, status=InstrumentStatus.CLOSED)]
    async with running(scene):
        assert [live.symbol for live in scene.books] == ["BTCUSDT"]


async def test_no_known_symbol_is_a_wrong_setting_and_said_as_one() -> None:
    scene = usdm()
    scene.listed = []
    async with running(scene, connected=False) as task:
        await settle()
        with pytest.raises(ConfigurationError, match="none of the symbols") as caught:
            await task
        assert caught.value.fields["field"] == "venues.binance_usdm.symbols"
        assert scene.rest.closes == 1


async def test_the_instrument_list_is_asked_for_until_it_comes() -> None:
    scene = usdm()
    failures = [
        RequestTimeoutError("slow"),
        VenueRejectError("no", status=403),
        ProtocolError("html"),
        RateLimitedError("wait", retry_after_s=77.0),
        RateLimitedError("wait"),
    ]
    scene.rest.instruments = [*failures, b"instruments"]
    async with running(scene, connected=False):
        for number, most in enumerate((0.5, 1.0, 2.0)):
            assert scene.rest.asked("instruments") == number + 1
            assert scene.time.waits == [most]
            await scene.time.pass_by(most)
        assert scene.time.waits[-1] == 77.0
        await scene.time.pass_by(76.9)
        assert scene.rest.asked("instruments") == 4
        await scene.time.pass_by(0.2)
        assert scene.time.waits[-1] == CEILING_CAP_S
        await scene.time.pass_by(CEILING_CAP_S)
        assert len(scene.books) == 1


async def test_waits_stay_finite_however_often_it_fails() -> None:
    scene = usdm()
    scene.rest.instruments = [RequestTimeoutError("slow")]
    async with running(scene, connected=False) as task:
        await scene.time.pass_by(CEILING_CAP_S * 1_500)
        assert scene.rest.asked("instruments") > 1_100
        assert not task.done()


async def test_an_instrument_list_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_INSTRUMENT_PAGES", 3)
    scene = usdm()
    scene.protocol.next_instruments_request = lambda _body: scene.protocol.instruments_request()
    async with running(scene, connected=False):
        assert scene.rest.asked("instruments") == 3
        assert len(scene.books) == 0


# --- stopping -----------------------------------------------------------------------------------------------


async def _nothing(scene: FakeScene) -> None:
    del scene


async def _instruments_fail(scene: FakeScene) -> None:
    scene.rest.instruments = [RequestTimeoutError("slow")]


async def _rest_hangs(scene: FakeScene) -> None:
    scene.rest.gate = asyncio.Event()


@pytest.mark.parametrize("trouble", [_nothing, _instruments_fail, _rest_hangs])
async def test_stops_while_starting(trouble: Callable[[FakeScene], object]) -> None:
    scene = usdm()
    await trouble(scene)  # type: ignore[misc]
    task = asyncio.create_task(scene.service.run())
    await settle()
    await scene.service.stop()
    await settle()
    assert task.done()
    assert task.exception() is None
    assert [client.closes for client in scene.clients] == ([1] if trouble is _nothing else [])
    assert scene.rest.closes == 1


async def test_stops_before_it_has_run() -> None:
    scene = usdm()
    await scene.service.stop()
    await scene.service.run()
    assert scene.clients == []


@pytest.mark.parametrize("phase", ["request", "wait"])
async def test_stops_in_the_middle_of_a_snapshot(phase: str) -> None:
    scene = usdm()
    async with running(scene) as task:
        if phase == "request":
            scene.rest.gate = asyncio.Event()
        else:
            scene.rest.snapshots = [RequestTimeoutError("slow")]
        scene.client.deliver(usdm_frame(5, 10, 4))
        await settle()
        await scene.service.stop()
        await settle()
        assert task.done()
        assert (scene.client.closes, scene.client.running) == (1, False)
    assert task.exception() is None


async def test_nothing_is_begun_while_it_stops() -> None:
    scene = two_symbols()
    async with running(scene):
        blocked = scene.client.close_blocks = asyncio.Event()
        await scene.service.stop()
        await settle()
        scene.client.deliver(usdm_frame(5, 10, 4))  # asks for a snapshot
        await settle()
        assert scene.rest.asked() == 0
        blocked.set()


@pytest.mark.parametrize(
    "failure", [ConnectionLostError("gave up", retries=3), StorageError("disk"), ValueError("a bug")]
)
async def test_a_connection_that_ends_for_good_fails_the_service_with_its_own_error(
    failure: Exception,
) -> None:
    scene = FakeScene(USDM, channels=(Channel.DEPTH, Channel.TRADES))
    async with running(scene) as task:
        assert len(scene.clients) == 2
        scene.client.fail(failure)
        await settle()
        with pytest.raises(type(failure)) as caught:
            await task
        assert caught.value is failure
        assert not any(client.running for client in scene.clients)
        assert scene.rest.closes == 1
        scene.clients[1].deliver(usdm_frame(5, 10, 4))  # late: nothing is begun, nothing raises


async def test_cancelling_leaves_nothing_running() -> None:
    scene = usdm()
    async with running(scene) as task:
        task.cancel()
        await asyncio.wait([task])
        assert not scene.client.running
        assert scene.rest.closes == 1


# --- snapshots over REST ------------------------------------------------------------------------------------


async def test_snapshot_failures_are_counted_and_waited_out() -> None:
    scene = usdm()
    scene.rest.snapshots = [
        RequestTimeoutError("slow"),
        RateLimitedError("wait", retry_after_s=42.0),
        b"not a snapshot",
        snapshot_body(7, [("102", "1")], [("101", "1")]),
        snapshot_body(7),
    ]
    async with running(scene):
        scene.client.deliver(usdm_frame(5, 10, 4))
        await settle()
        assert scene.rest.asked() == 1
        await scene.time.pass_by(0.5)
        assert scene.rest.asked() == 2
        await scene.time.pass_by(41.0)
        assert scene.rest.asked() == 2
        await scene.time.pass_by(1.0)
        assert scene.rest.asked() == 3
        await scene.time.pass_by(2.0)
        assert scene.rest.asked() == 4
        await scene.time.pass_by(4.1)
        assert scene.book().state is BookState.LIVE
        assert scene.service.snapshot_failures == 4


async def test_a_book_that_asks_again_soon_waits_and_one_that_held_does_not() -> None:
    scene = usdm()
    scene.rest.snapshots = [snapshot_body(7), snapshot_body(22), snapshot_body(42)]
    async with running(scene):
        await make_live(scene)
        scene.client.deliver(usdm_frame(20, 25, 19))  # a gap
        await settle()
        assert scene.rest.asked() == 1
        await scene.time.pass_by(0.5)
        assert (scene.rest.asked(), scene.book().state) == (2, BookState.LIVE)
        await scene.time.pass_by(2 * HOUSEKEEPING_S)
        scene.client.deliver(usdm_frame(40, 45, 39))
        await settle()
        assert (scene.rest.asked(), scene.book().state) == (3, BookState.LIVE)


async def test_one_request_at_a_time_for_a_book_however_often_it_asks() -> None:
    scene = usdm()
    async with running(scene):
        scene.rest.gate = asyncio.Event()
        for number in range(5):
            scene.client.deliver(usdm_frame(5 + 100 * number, 10 + 100 * number, 4 + 100 * number))
            await settle()
            scene.client.lose()
            scene.client.connect()
        assert scene.rest.asked() == 1
        assert len(scene.time.waits) == 2  # housekeeping and the instruments: no other is on its way
        scene.client.deliver(usdm_frame(1_000, 1_010, 999))
        scene.rest.gate.set()
        await settle()
        assert scene.rest.asked() == 1  # answered: too old for what is buffered, so it asks again, later
        scene.rest.snapshots = [snapshot_body(1_005)]
        await scene.time.pass_by(0.5)
        assert (scene.rest.asked(), scene.book().state) == (2, BookState.LIVE)


async def test_a_book_that_no_longer_waits_is_not_fetched_for() -> None:
    scene = usdm()
    scene.rest.snapshots = [RequestTimeoutError("slow"), snapshot_body(7)]
    async with running(scene):
        scene.client.deliver(usdm_frame(5, 10, 4))
        await settle()
        scene.client.lose()
        await scene.time.pass_by(1.0)
        assert scene.rest.asked() == 1


async def test_an_outgrown_book_is_refreshed_and_stays_live() -> None:
    scene = usdm()
    scene.rest.snapshots = [
        snapshot_body(7, [("100.0", "1"), ("90.0", "1")], [("101.0", "1"), ("111.0", "1")])
    ]
    async with running(scene):
        await make_live(scene)
        scene.client.deliver(usdm_frame(11, 12, 10, [("100.0", "0"), ("90.5", "1")]))
        scene.rest.snapshots = [snapshot_body(12, [("90.5", "1"), ("50.0", "1")], [("101.0", "1")])]
        await scene.time.pass_by(HOUSEKEEPING_S)
        assert scene.rest.asked() == 2
        scene.client.deliver(usdm_frame(13, 14, 12))
        assert scene.states.said == ["BTCUSDT live snapshot", "BTCUSDT live refreshed"]
        assert scene.book().book.best_bid() == 905
        # Not at once again, whatever the market does.
        scene.client.deliver(usdm_frame(15, 15, 14, [("90.5", "0"), ("51.0", "1")]))
        await scene.time.pass_by(10 * HOUSEKEEPING_S)
        assert scene.rest.asked() == 2


async def test_a_failing_refresh_of_a_live_book_backs_off_too() -> None:
    scene = usdm()
    async with running(scene):
        await make_live(scene)
        await scene.time.pass_by(HOUSEKEEPING_S)
        scene.rest.snapshots = [RateLimitedError("wait", retry_after_s=300.0)]
        scene.rest.gate = asyncio.Event()
        scene.book().refresh()
        await scene.time.pass_by(2 * HOUSEKEEPING_S)  # on its way for long
        scene.rest.gate.set()
        for _ in range(5):  # the depth stream goes on
            await scene.time.pass_by(5.0)
            last = scene.book().last_update_id
            scene.client.deliver(usdm_frame(last + 1, last + 2, last))
        assert scene.rest.asked() == 2
        assert scene.book().state is BookState.LIVE


# --- snapshots in the stream --------------------------------------------------------------------------------


def subscriptions(scene: FakeScene) -> list[str]:
    return [json.loads(message)["op"] for message in scene.client.sent]


async def test_bybit_resubscribes_at_once_then_now_and_then_then_reconnects() -> None:
    scene = FakeScene(BYBIT)
    async with running(scene):
        scene.client.deliver(bybit_frame("snapshot", 10, [BID], [ASK]))
        scene.client.deliver(bybit_frame("delta", 13))
        await settle()
        assert scene.book().state is BookState.STALE
        assert subscriptions(scene) == ["subscribe", "unsubscribe", "subscribe"]
        for attempt in range(1, RESUBSCRIBE_ATTEMPTS):
            await scene.time.pass_by(RESUBSCRIBE_AFTER_S)
            assert len(scene.client.sent) == 3 + 2 * attempt
            assert scene.client.cut == []
            scene.client.deliver(bybit_frame("delta", 14 + attempt))
        await scene.time.pass_by(RESUBSCRIBE_AFTER_S)
        assert scene.client.cut == ["no_snapshot"]
        scene.client.lose("no_snapshot")
        scene.client.connect()
        scene.client.deliver(bybit_frame("snapshot", 30, [BID], [ASK]))
        assert scene.book().state is BookState.LIVE
        assert len(scene.journal.payloads(RecordKind.SENT)) == len(scene.client.sent)


async def test_bybit_gives_the_first_snapshot_time_to_come() -> None:
    scene = FakeScene(BYBIT)
    async with running(scene):
        scene.client.deliver(bybit_frame("delta", 13))
        await settle()
        assert subscriptions(scene) == ["subscribe"]
        scene.client.deliver(bybit_frame("snapshot", 14, [BID], [ASK]))
        await scene.time.pass_by(2 * RESUBSCRIBE_AFTER_S)
        assert subscriptions(scene) == ["subscribe"]


async def test_bybit_stops_asking_when_the_connection_is_lost() -> None:
    scene = FakeScene(BYBIT)
    async with running(scene):
        scene.client.deliver(bybit_frame("snapshot", 10, [BID], [ASK]), bybit_frame("delta", 13))
        await settle()
        scene.client.lose()
        await scene.time.pass_by(5 * RESUBSCRIBE_AFTER_S)
        assert subscriptions(scene) == ["subscribe", "unsubscribe", "subscribe"]
        assert scene.client.cut == []


# --- silence ------------------------------------------------------------------------------------------------


async def test_a_mute_connection_is_made_anew() -> None:
    scene = two_symbols()
    async with running(scene):
        await scene.time.pass_by(9.0)
        assert scene.client.cut == []
        await scene.time.pass_by(3.0)
        assert scene.client.cut == ["silence"]
        assert scene.service.silences == 1


async def test_no_alarm_without_a_connection() -> None:
    scene = usdm()
    async with running(scene, connected=False):
        await scene.time.pass_by(60.0)
        scene.client.connect()
        await scene.time.pass_by(5.0)
        scene.client.lose()
        await scene.time.pass_by(60.0)
        assert (scene.client.cut, scene.service.silences) == ([], 0)


async def test_one_silent_stream_is_suspected_and_subscribed_again_alone() -> None:
    scene = two_symbols()
    async with running(scene):
        await make_live(scene)
        scene.client.deliver(usdm_frame(5, 10, 4, symbol=ETH))
        await settle()
        last = 10
        for _ in range(12):
            await scene.time.pass_by(1.0)
            last += 1
            scene.client.deliver(usdm_frame(last, last, last - 1, symbol=ETH))
        assert scene.states.said[-1] == "BTCUSDT stale silence"
        assert scene.book(ETH).state is BookState.LIVE
        assert scene.client.cut == []
        again = [json.loads(message) for message in scene.client.sent[1:]]
        assert [message["method"] for message in again] == ["UNSUBSCRIBE", "SUBSCRIBE"]
        assert [message["params"] for message in again] == [["btcusdt@depth@100ms"]] * 2
        scene.client.deliver(usdm_frame(11, 12, 10))  # nothing was missed
        assert (scene.book().state, scene.rest.asked()) == (BookState.LIVE, 2)


async def test_a_stream_that_stays_silent_costs_the_others_ever_less() -> None:
    scene = two_symbols()
    async with running(scene):
        await make_live(scene)
        scene.client.deliver(usdm_frame(5, 10, 4, symbol=ETH))
        last = 10
        alarms: list[int] = []
        for second in range(200):
            await scene.time.pass_by(1.0)
            last += 1
            scene.client.deliver(usdm_frame(last, last, last - 1, symbol=ETH))
            if scene.service.silences > len(alarms):
                alarms.append(second)
        assert [later - sooner for sooner, later in pairwise(alarms)] == [21, 41, 81]
        assert scene.client.cut == ["silence"]  # with the fourth alarm


@pytest.mark.parametrize("reason", ["halted", "closed"])
async def test_a_stream_that_has_reason_to_be_silent_raises_no_alarm(reason: str) -> None:
    scene = usdm()
    async with running(scene):
        await make_live(scene)
        scene.service.take_instruments([instrument(USDM, status=InstrumentStatus(reason))])
        await scene.time.pass_by(60.0)
        assert scene.service.silences == 0


# --- the journal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [JournalFullError("full"), DiskLowError("low")])
async def test_without_room_in_the_journal_no_update_changes_a_book(refusal: Exception) -> None:
    scene = usdm()
    async with running(scene) as task:
        await make_live(scene)
        scene.journal.refuse = refusal
        scene.client.deliver(usdm_frame(11, 12, 10))
        assert scene.book().last_update_id == 10
        assert scene.client.cut == ["journal_full"]
        scene.client.lose("journal_full")
        assert scene.book().state is BookState.STALE
        scene.client.connect()  # still no room
        assert scene.client.cut[-1] == "journal_full"
        scene.journal.refuse = None
        scene.client.lose("journal_full")
        scene.client.connect()
        scene.rest.snapshots = [snapshot_body(40)]
        scene.client.deliver(usdm_frame(40, 45, 39))
        await scene.time.pass_by(0.5)
        assert scene.book().state is BookState.LIVE
        assert scene.service.journal_refusals == 4
        assert not task.done()


async def test_without_room_an_answer_is_asked_for_again_and_a_note_is_given_up() -> None:
    scene = usdm()
    async with running(scene) as task:
        await make_live(scene)
        await scene.time.pass_by(HOUSEKEEPING_S)  # it has held
        full = scene.journal.refuse = JournalFullError("full")
        scene.service.on_evidence(scene.book(), "gap", {"symbol": "y", "venue": "z"})
        scene.book().refresh()
        await settle()
        assert scene.service.snapshot_failures == 1
        scene.journal.refuse = None
        await scene.time.pass_by(1.0)
        assert (scene.rest.asked(), scene.service.journal_refusals) == (3, 2)
        scene.service.on_evidence(scene.book(), "gap", {"symbol": "y", "error": full})
        note = json.loads(scene.journal.payloads(RecordKind.NOTE)[-1])
        assert note == {"event": "gap", "error": "full", "venue": USDM, "symbol": "BTCUSDT"}
        assert not task.done()


async def test_a_full_journal_at_the_start_delays_it() -> None:
    scene = usdm()
    scene.journal.refuse = JournalFullError("full")
    async with running(scene, connected=False) as task:
        assert len(scene.books) == 0
        scene.journal.refuse = None
        await scene.time.pass_by(0.5)
        assert len(scene.books) == 1
        assert not task.done()


async def test_a_broken_journal_is_not_refused_but_raised() -> None:
    scene = usdm()
    async with running(scene):
        await make_live(scene)
        scene.journal.refuse = StorageError("the writer failed")
        with pytest.raises(StorageError, match="writer"):
            scene.client.deliver(usdm_frame(11, 12, 10))
        with pytest.raises(StorageError, match="writer"):
            scene.service.on_evidence(scene.book(), "gap", {})


async def test_an_answer_that_a_broken_journal_cannot_take_ends_the_service() -> None:
    scene = usdm()
    async with running(scene) as task:
        await make_live(scene)
        scene.journal.refuse = StorageError("the writer failed")
        scene.book().refresh()
        await scene.time.pass_by(1.0)
        with pytest.raises(StorageError, match="writer"):
            await task


# --- instruments that change --------------------------------------------------------------------------------


async def test_the_instrument_list_is_read_again_every_hour() -> None:
    scene = two_symbols()
    async with running(scene):
        await make_live(scene)
        scene.listed = [instrument(USDM, tick="0.01")]
        await scene.time.pass_by(INSTRUMENTS_EVERY_S)
        assert scene.book().instrument.grid.tick_size == "0.01"
        assert scene.book(ETH).state is BookState.CLOSED  # no longer listed, and never live
        scene.listed = [instrument(USDM), instrument(USDM, symbol=ETH)]
        await scene.time.pass_by(INSTRUMENTS_EVERY_S)
        assert scene.book(ETH).state is BookState.SYNCING


async def test_a_live_book_is_not_closed_because_a_list_lacks_it() -> None:
    scene = usdm()
    async with running(scene):
        await make_live(scene)
        scene.service.take_instruments([])
        assert scene.book().state is BookState.LIVE


async def test_control_messages_do_no_harm() -> None:
    scene = usdm()
    async with running(scene) as task:
        for message in (
            b'{"result":null,"id":1}',
            b'{"code":2,"msg":"Invalid request"}',
            b"junk",
            b'{"stream":"solusdt@depth@100ms","data":{}}',
        ):
            scene.client.deliver(message)
        counters = scene.service.session.counters
        assert (counters.bad_messages, counters.unknown_keys, scene.latencies) == (2, 1, [])
        assert not task.done()


def test_snapshot_retries_name_what_may_be_different_next_time() -> None:
    assert not issubclass(ConfigurationError, snapshots.RETRIED)
    assert all(issubclass(error, snapshots.RETRIED) for error in (JournalFullError, DiskLowError))

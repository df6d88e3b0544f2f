"""Whatever happens, a client that follows the rules ends with the source's books and with honest numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bookrunner.core.enums import BookState
from bookrunner.fanout.outbox import Left
from bookrunner.fanout.publisher import Publisher
from bookrunner.fanout.settings import FanoutSettings
from bookrunner.wire.client_message import Encoding, WireForm
from bookrunner.wire.client_request import Opening, Resume, SnapshotNow, Subscribe
from fanout_client import Client
from fanout_scene import BTC, BYBIT_BTC, ETH, three_books, tokens

NAMES = [BTC, ETH, BYBIT_BTC]
CLIENTS = 3
SMALL = FanoutSettings(
    metrics_s=0.7,
    heartbeat_s=1.1,
    queue_messages=6,
    resume_messages=4,
    sends_per_turn=2,
    deliveries_max=5,
    lag_after_s=0.3,
    stall_timeout_s=3_600,
    resume_s=3_600,
    clients_per_slot=2,
)
FORMS = [WireForm(encoding, compressed) for encoding in Encoding for compressed in (False, True)]
which = st.integers(0, CLIENTS - 1)


class FanoutMachine(RuleBasedStateMachine):
    """Three clients of any form and subscription, a market, and a network that breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.market = three_books()
        self.publisher = Publisher(self.market.books, dict, SMALL, self.market.clock, tokens())
        self.market.sink = self.publisher
        self.publisher.refresh_metrics()
        self.clients: list[Client] = []
        self.wanted: list[dict[str, Any]] = []
        self.trades: list[dict[tuple[str, str], list[str]]] = []
        """Trades since each client connected."""
        self.count = 0

    @initialize(
        forms=st.lists(st.sampled_from(FORMS), min_size=CLIENTS, max_size=CLIENTS),
        depths=st.lists(st.integers(1, 10), min_size=CLIENTS, max_size=CLIENTS),
        throttles=st.lists(st.sampled_from([50, 60, 100, 250]), min_size=CLIENTS, max_size=CLIENTS),
    )
    def connect(self, forms: list[WireForm], depths: list[int], throttles: list[int]) -> None:
        for form, depth, throttle_ms in zip(forms, depths, throttles, strict=True):
            asked = Subscribe(depth=depth, throttle_ms=throttle_ms)
            self.clients.append(Client(self.publisher, Opening(asked, None), form))
            self.wanted.append({"depth": depth})
            self.trades.append({})

    @rule(name=st.sampled_from(NAMES), offset=st.integers(-9, 9), lots=st.integers(0, 99))
    def update(self, name: tuple[str, str], offset: int, lots: int) -> None:
        best = max(self.market.by_name[name].book.bids)
        self.market.update(*name, best + offset, lots)

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from([BookState.LIVE, BookState.STALE]))
    def change_state(self, name: tuple[str, str], state: BookState) -> None:
        self.market.change_state(*name, state)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def trade(self, name: tuple[str, str], count: int) -> None:
        self.market.trade(*name, self.count, count)
        for trades in self.trades:
            trades.setdefault(name, []).extend(str(self.count + index) for index in range(count))
        self.count += count

    @rule(milliseconds=st.sampled_from([1, 5, 30, 100, 400]), turns=st.integers(0, 4))
    def advance(self, milliseconds: int, turns: int) -> None:
        """Let time pass, with too few turns to send everything."""
        self.market.clock.advance(milliseconds * 1_000_000)
        self.publisher.tick()
        for _ in range(turns):
            self.publisher.turn()

    def send_everything(self) -> None:
        while self.publisher.turn() is not Left.NOTHING:
            pass

    @rule()
    def sweep(self) -> None:
        self.publisher.sweep()

    @rule(client=which)
    def block(self, client: int) -> None:
        self.clients[client].link.block()

    @rule(client=which, room=st.none() | st.integers(1, 3))
    def unblock(self, client: int, room: int | None) -> None:
        self.clients[client].link.unblock(room)

    @rule(client=which, arrived=st.integers(0, 5))
    def break_and_resume(self, client: int, arrived: int) -> None:
        """Lose the connection and all but the first few frames that were under way."""
        chosen = self.clients[client]
        del chosen.link.frames[arrived:]
        chosen.read()
        chosen.disconnect()
        self.advance(30, 1)
        token = chosen.view.token
        if token:
            chosen.connect(Opening(None, Resume(session=token, sequence=chosen.view.sequence)))
        else:
            self.send_everything()  # a trade under way may reach whoever connects now
            self.trades[client].clear()
            again = Subscribe(depth=self.wanted[client]["depth"], throttle_ms=50)
            chosen.connect(Opening(again, None))

    @rule(client=which, depth=st.integers(1, 10), throttle_ms=st.sampled_from([50, 75, 200]))
    def resubscribe(self, client: int, depth: int, throttle_ms: int) -> None:
        self.clients[client].ask(Subscribe(depth=depth, throttle_ms=throttle_ms))
        self.wanted[client]["depth"] = depth

    @rule(client=which)
    def ask_snapshot(self, client: int) -> None:
        self.clients[client].ask(SnapshotNow())

    @rule(client=which)
    def read(self, client: int) -> None:
        """The view itself checks numbers, announced gaps and states."""
        self.clients[client].read()

    @invariant()
    def what_waits_is_bounded(self) -> None:
        for session in self.publisher.sessions.values():
            assert len(session._kept) <= SMALL.queue_messages + SMALL.resume_messages
            assert session._cost == sum(body.cost for body in session._kept)
            assert session.sent <= session.sequence
            assert 0 <= session.waiting_cost <= session._cost

    def teardown(self) -> None:
        """Let everything settle: every client ends with the source's books and with its trades in order."""
        for client in self.clients:
            client.link.unblock()
        for _ in range(120):
            self.market.clock.advance(5_000_000)
            self.publisher.tick()
            self.send_everything()
            self.publisher.sweep()
        for client, wanted, trades in zip(self.clients, self.wanted, self.trades, strict=True):
            client.read()
            assert client.view.tops == self.market.tops(wanted["depth"])
            assert {name for name, state in client.view.states.items() if state == "live"} == set(
                client.view.tops
            )
            if client.view.lagged:
                for name, seen in client.view.trades.items():
                    remaining = iter(trades[name])
                    assert all(trade in remaining for trade in seen), "in order, none twice"
            else:
                assert client.view.trades == trades


FanoutMachine.TestCase.settings = settings(stateful_step_count=40)
TestFanoutMachine = FanoutMachine.TestCase

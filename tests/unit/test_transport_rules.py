"""The pure pieces of the transport, over values."""

from __future__ import annotations

import math

import pytest

from bookrunner.core.errors import MalformedFrameError, MessageTooLargeError
from bookrunner.engine.ports.transport import RateLimit
from bookrunner.venues.transport.disconnect import DisconnectKind, closed_by_peer, refused
from bookrunner.venues.transport.fragments import FragmentJoiner
from bookrunner.venues.transport.lifetime import StaggeredLifetimes
from bookrunner.venues.transport.limit_headers import (
    MAX_RETRY_AFTER_S,
    banned_for_s,
    remaining_weight,
    retry_after_s,
)
from bookrunner.venues.transport.liveness import NEVER_NS, Liveness, PingStep
from bookrunner.venues.transport.request_gate import Block, RequestGate
from bookrunner.venues.transport.silence import Silence, SilenceWatch
from transport_rig import dice

SECOND = 1_000_000_000
NOW_NS = 1_723_075_200 * SECOND  # Thu, 08 Aug 2024 00:00:00 GMT


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("120", 120.0),
            (" 3 ", 3.0),
            ("0", 0.0),
            ("1.5", 1.5),
            ("999999999", MAX_RETRY_AFTER_S),
            ("Thu, 08 Aug 2024 00:01:00 GMT", 60.0),
            ("Thu, 08 Aug 2024 00:01:00 -0000", 60.0),
            ("Wed, 07 Aug 2024 00:00:00 GMT", 0.0),
            ("Thu, 08 Aug 2099 00:00:00 GMT", MAX_RETRY_AFTER_S),
        ],
    )
    def test_understood(self, text: str, seconds: float) -> None:
        assert retry_after_s({"retry-after": text}, NOW_NS) == seconds

    @pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "0x10", "١٢", "Thu, 99 Aug 2024 00:00:00 GMT"])
    def test_malformed(self, text: str) -> None:
        assert retry_after_s({"retry-after": text}, NOW_NS) is None

    def test_absent(self) -> None:
        assert retry_after_s({}, NOW_NS) is None


class TestBodiesAndCounts:
    def test_a_ban_is_read_from_the_body(self) -> None:
        body = b'{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until %d."}'
        assert banned_for_s(body % (NOW_NS // 1_000_000 + 90_000), NOW_NS) == 90.0
        assert banned_for_s(body % (NOW_NS // 1_000_000 - 90_000), NOW_NS) == 0.0
        assert banned_for_s(b'{"code":-1003,"msg":"Too many requests."}', NOW_NS) is None

    @pytest.mark.parametrize(
        ("headers", "remaining"),
        [
            ({"x-mbx-used-weight-1m": "160"}, 2000),
            ({"x-mbx-used-weight-1m": "2300"}, -140),
            ({"x-bapi-limit-status": "7"}, 7),
            ({"x-mbx-used-weight-1m": "many"}, None),
            ({}, None),
        ],
    )
    def test_remaining_weight(self, headers: dict[str, str], remaining: int | None) -> None:
        assert remaining_weight(headers, 2160) == remaining


class TestFragments:
    def test_a_whole_message_passes(self) -> None:
        assert FragmentJoiner(10).add(b"whole", continuation=False, final=True) == b"whole"

    def test_joined(self) -> None:
        joiner = FragmentJoiner(10)
        assert joiner.add(b"ab", continuation=False, final=False) is None
        assert joiner.joining
        assert joiner.add(b"", continuation=True, final=False) is None
        assert joiner.add(b"cd", continuation=True, final=True) == b"abcd"
        assert not joiner.joining

    def test_the_bound_is_inclusive_and_nothing_is_kept_beyond_it(self) -> None:
        joiner = FragmentJoiner(4)
        assert joiner.add(b"1234", continuation=False, final=True) == b"1234"
        joiner.add(b"123", continuation=False, final=False)
        with pytest.raises(MessageTooLargeError) as caught:
            joiner.add(b"45", continuation=True, final=False)
        assert caught.value.fields == {"limit_bytes": 4, "size_bytes": 5}
        assert not joiner.joining

    def test_out_of_order(self) -> None:
        joiner = FragmentJoiner(10)
        with pytest.raises(MalformedFrameError):
            joiner.add(b"x", continuation=True, final=True)
        joiner.add(b"x", continuation=False, final=False)
        with pytest.raises(MalformedFrameError):
            joiner.add(b"y", continuation=False, final=False)


class TestLiveness:
    def test_pings_on_time_and_waits_for_the_pong(self) -> None:
        liveness = Liveness(20, 10, 0)
        assert liveness.step(20 * SECOND - 1) is PingStep.WAIT
        assert liveness.due_ns == 20 * SECOND
        assert liveness.step(20 * SECOND) is PingStep.PING
        assert liveness.awaiting_pong
        assert liveness.due_ns == 30 * SECOND
        liveness.pong()
        assert liveness.due_ns == 40 * SECOND
        assert liveness.step(30 * SECOND) is PingStep.WAIT

    def test_no_pong_is_the_end_even_when_pings_go_out_faster(self) -> None:
        liveness = Liveness(2, 5, 0)
        assert [liveness.step(second * SECOND) for second in (2, 4, 6)] == [PingStep.PING] * 3
        assert liveness.step(7 * SECOND) is PingStep.DEAD

    @pytest.mark.parametrize("interval_s", [0.0, -1.0, math.inf])
    def test_no_pings(self, interval_s: float) -> None:
        liveness = Liveness(interval_s, 10, 0)
        assert liveness.due_ns == NEVER_NS
        assert liveness.step(10**18) is PingStep.WAIT


class TestSilence:
    def test_never_any_data_is_told_from_gone_silent(self) -> None:
        watch = SilenceWatch()
        watch.subscribed(b"never", 10, 0)
        watch.subscribed(b"stopped", 10, 0)
        watch.subscribed(b"lively", 10, 0)
        watch.subscribed(b"patient", 1000, 0)
        watch.on_data(b"stopped")
        watch.on_data(b"nobody asked for this")
        assert watch.overdue(5) == []
        watch.on_data(b"lively")
        assert watch.overdue(15) == [(b"never", Silence.NEVER_ANY_DATA)]
        assert watch.overdue(16) == [
            (b"never", Silence.NEVER_ANY_DATA),
            (b"stopped", Silence.WENT_SILENT),
        ]

    def test_the_acknowledgement_begins_anew_and_is_no_data(self) -> None:
        watch = SilenceWatch()
        watch.subscribed(b"a", 10, 0)
        watch.on_data(b"a")
        watch.subscribed(b"a", 10, 8)
        assert watch.overdue(18) == []
        assert watch.overdue(19) == [(b"a", Silence.NEVER_ANY_DATA)]

    def test_what_is_unsubscribed_or_gone_is_not_missed(self) -> None:
        watch = SilenceWatch()
        watch.subscribed(b"a", 10, 0)
        watch.subscribed(b"b", 10, 0)
        watch.unsubscribed(b"a")
        watch.unsubscribed(b"unknown")
        assert [key for key, _ in watch.overdue(100)] == [b"b"]
        watch.clear()
        assert watch.overdue(100) == []


class TestDisconnects:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (0, DisconnectKind.CLOSED),
            (1000, DisconnectKind.CLOSED),
            (1001, DisconnectKind.CLOSED),
            (1006, DisconnectKind.ABNORMAL),
            (1008, DisconnectKind.POLICY),
            (1009, DisconnectKind.TOO_LARGE),
            (1011, DisconnectKind.SERVER_ERROR),
            (1012, DisconnectKind.CLOSED),
            (1013, DisconnectKind.SERVER_ERROR),
            (4999, DisconnectKind.CLOSED),
        ],
    )
    def test_close_codes(self, code: int, kind: DisconnectKind) -> None:
        assert closed_by_peer(code, "why").kind is kind

    def test_text_for_the_journal(self) -> None:
        assert str(closed_by_peer(1008, "Too many requests")) == "policy 1008 Too many requests"
        assert str(closed_by_peer(0, "")) == "closed 1005"

    def test_the_longer_of_what_the_venue_asks_and_what_we_insist_on(self) -> None:
        assert refused(429, 0.0).minimum_wait_s == 10.0
        assert refused(429, 33.0).minimum_wait_s == 33.0
        assert refused(418, 1.0).minimum_wait_s == 120.0
        assert refused(502, 0.0).minimum_wait_s == 0.0


class TestLifetimes:
    def test_an_endless_lifetime_stays_endless(self) -> None:
        assert StaggeredLifetimes(dice()).next_age_s(math.inf) == math.inf


class TestRequestGate:
    def test_a_heavier_request_is_not_overtaken(self) -> None:
        gate = RequestGate(RateLimit(100, 60), 0)
        gate.join(gate.bucket.burst, 0)
        assert gate.admit(0) is not None
        heavy, _ = gate.join(40, 0)
        light, _ = gate.join(1, 0)
        assert gate.admit(0) is None
        later_ns = gate.wait_ns(0)
        assert later_ns is not None
        assert gate.admit(later_ns) is heavy
        wait_ns = gate.wait_ns(later_ns)
        assert wait_ns is not None
        assert gate.admit(later_ns + wait_ns) is light

    def test_what_was_in_flight_when_a_block_began_does_not_lengthen_it(self) -> None:
        gate = RequestGate(RateLimit(100, 60), 0)
        assert [gate.refuse(Block.RATE_LIMITED, None, now_ns) for now_ns in (0, 1, 2)] == pytest.approx(
            [5.0] * 3
        )
        assert gate.refuse(Block.RATE_LIMITED, None, 6 * SECOND) == 10.0
        gate.succeeded(7 * SECOND)  # an answer that was on its way all along
        assert gate.refuse(Block.RATE_LIMITED, None, 17 * SECOND) == 20.0
        gate.succeeded(40 * SECOND)
        assert gate.refuse(Block.RATE_LIMITED, None, 41 * SECOND) == 5.0

    def test_a_ban_is_not_shortened_by_a_milder_answer(self) -> None:
        gate = RequestGate(RateLimit(100, 60), 0)
        gate.refuse(Block.BANNED, 300.0, 0)
        assert gate.refuse(Block.RATE_LIMITED, 1.0, 0) == 300.0
        assert gate.banned(299 * SECOND)
        assert not gate.banned(300 * SECOND)

"""The pace of a number, and of each of its recipients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.pacing import LanePacer, PairPacer

SLACK = 1e-3


def send_all(pacer: LanePacer, now: float) -> int:
    """Let everything leave that may; returns how many did."""
    n = pacer.allowance(now)
    pacer.spend(now, n)
    return n


def send_until(pacer: LanePacer, start: float, end: float) -> list[float]:
    """A lane that always has something to send: every departure from ``start`` to ``end``."""
    departures = []
    now = start
    while (now := pacer.next_at(now)) <= end:
        pacer.spend(now)
        departures.append(now)
    return departures


def assert_paced(departures: list[float], rate: float, burst: float) -> None:
    """In no window of T seconds, ends included, more than ``rate * T + burst``.

    The last of all windows with too many would begin where (i - rate * t) is least, so one pass is enough.
    """
    least = inf
    for i, at in enumerate(departures):
        least = min(least, i - rate * at)
        assert (i + 1) - rate * at - least <= burst + SLACK


class TestLanePacer:
    @pytest.mark.parametrize(
        ("rate", "burst"),
        [(80.0, 10.0), (1000.0, 125.0), (20.0, 2.5), (8.0, 1.2), (1.0, 1.025), (0.5, 1.0125)],
    )
    def test_default_burst(self, rate: float, burst: float) -> None:
        pacer = LanePacer(rate)
        assert pacer.burst == burst
        assert pacer.allowance(5.0) == int(burst)

    def test_a_full_second_of_sending(self) -> None:
        pacer = LanePacer(80.0)
        departures = send_until(pacer, 100.0, 101.001)
        assert len(departures) == 90  # the burst of 10, and 80 in the second
        assert departures[:10] == [100.0] * 10

    def test_next_at_is_now_while_something_may_leave(self) -> None:
        pacer = LanePacer(10.0, burst=2.0)
        assert pacer.next_at(5.0) == 5.0
        pacer.spend(5.0, 2)
        assert pacer.allowance(5.0) == 0
        assert pacer.next_at(5.0) == pytest.approx(5.1, abs=1e-5)

    @given(st.floats(0.0, 1e9), st.floats(0.1, 1000.0), st.integers(1, 500))
    def test_at_next_at_something_may_leave(self, now: float, rate: float, spent: int) -> None:
        pacer = LanePacer(rate)
        pacer.spend(now, spent)
        assert pacer.allowance(pacer.next_at(now)) >= 1

    def test_spending_what_was_not_allowed_delays_what_follows(self) -> None:
        pacer = LanePacer(10.0, burst=1.0)
        pacer.spend(0.0, 11)
        assert pacer.next_at(0.0) == pytest.approx(1.1, abs=1e-5)

    def test_a_clock_that_goes_back_loses_nothing(self) -> None:
        pacer = LanePacer(10.0, burst=1.0)
        assert pacer.allowance(100.0) == 1
        assert pacer.allowance(50.0) == 1

    def test_a_clock_that_goes_back_gains_nothing(self) -> None:
        pacer = LanePacer(10.0, burst=1.0)
        pacer.spend(100.0)
        assert pacer.allowance(50.0) == 0
        assert pacer.allowance(100.05) == 0
        assert pacer.allowance(100.2) == 1

    def test_a_long_rest_collects_no_more_than_the_burst(self) -> None:
        pacer = LanePacer(80.0)
        send_all(pacer, 0.0)
        assert pacer.allowance(1e6) == 10


class TestInbound:
    def test_inbound_messages_use_the_same_limit(self) -> None:
        pacer = LanePacer(80.0)
        pacer.inbound(0.0, 4)
        assert pacer.allowance(0.0) == 6

    def test_a_flood_costs_at_most_a_second(self) -> None:
        pacer = LanePacer(80.0)
        pacer.inbound(0.0, 1_000_000)
        assert pacer.allowance(0.0) == 0
        assert 0.0 < pacer.next_at(0.0) <= 1.0

    def test_a_lasting_flood_leaves_a_quarter_for_sending(self) -> None:
        pacer = LanePacer(80.0)
        sent = 0
        for tick in range(1000):
            now = tick / 10
            pacer.inbound(now, 1_000)
            sent += send_all(pacer, now)
        assert sent == pytest.approx(0.25 * 80 * 100, rel=0.05)

    def test_together_in_and_out_keep_to_the_limit(self) -> None:
        pacer = LanePacer(80.0)
        sent = 0
        for tick in range(1000):
            now = tick / 10
            pacer.inbound(now, 3)
            sent += send_all(pacer, now)
        assert sent == pytest.approx((80 - 30) * 100, rel=0.02)


class TestThrottled:
    def test_halves_and_holds_for_a_second(self) -> None:
        pacer = LanePacer(80.0)
        pacer.throttled(10.0)
        assert pacer.rate == 40.0
        assert pacer.limit == 80.0
        assert pacer.allowance(10.999) == 0
        assert pacer.next_at(10.0) == 11.0
        assert pacer.allowance(11.0) >= 1

    def test_refusals_of_the_same_moment_cut_once(self) -> None:
        pacer = LanePacer(80.0)
        for i in range(50):
            pacer.throttled(10.0 + i / 60)
        assert pacer.rate == 40.0

    def test_refusals_that_go_on_cut_again_down_to_one_a_second(self) -> None:
        pacer = LanePacer(80.0)
        rates = []
        for i in range(20):
            pacer.throttled(10.0 + i)
            rates.append(pacer.rate)
        assert rates[:4] == pytest.approx([40.0, 32.0, 16.0, 8.0])
        assert rates[-1] == 1.0
        assert 10.0 + 19 < pacer.next_at(29.0) <= 10.0 + 19 + 1.0 + 1e-5

    def test_a_limit_below_one_a_second_is_the_floor(self) -> None:
        pacer = LanePacer(0.5)
        pacer.throttled(0.0)
        assert pacer.rate == 0.5

    def test_the_burst_shrinks_with_the_rate(self) -> None:
        pacer = LanePacer(80.0)
        for i in range(4):
            pacer.throttled(float(i))
        pacer.allowance(4.0)
        assert pacer.rate == 8.0
        assert pacer.allowance(5.0) == 1

    def test_what_was_saved_up_is_gone(self) -> None:
        pacer = LanePacer(80.0, burst=800.0)
        pacer.throttled(10.0)
        assert pacer.allowance(11.0) == 40

    def test_a_debt_is_worth_a_second_of_the_new_rate_at_most(self) -> None:
        pacer = LanePacer(1000.0)
        pacer.spend(0.0, 10_000)
        pacer.throttled(0.0)
        assert pacer.next_at(0.0) == pytest.approx((500 + 1) / 500, abs=1e-5)

    def test_what_collects_meanwhile_is_what_the_rate_has_room_for(self) -> None:
        """The held second at 40 a second, then from 40 to 76 within 4.5 seconds, in one step."""
        pacer = LanePacer(80.0, burst=10_000.0)
        pacer.throttled(0.0)
        assert pacer.allowance(5.501) == 40 + (40 + 76) / 2 * 4.5

    def test_it_is_the_same_however_often_one_asks(self) -> None:
        often, seldom = LanePacer(80.0), LanePacer(80.0)
        for pacer in (often, seldom):
            pacer.throttled(0.0)
        total = len(send_until(often, 1.0, 61.0))
        assert sum(send_all(seldom, 1.0 + tick / 10) for tick in range(601)) == pytest.approx(total, abs=12)


class TestHeadroom:
    def test_that_part_of_the_rate_is_left_unused(self) -> None:
        pacer = LanePacer(80.0, burst=1.0, headroom=0.05)
        assert pacer.rate == 80.0
        assert len(send_until(pacer, 0.001, 100.0)) == pytest.approx(7600, abs=2)


class TestShare:
    def test_others_have_the_rest(self) -> None:
        pacer = LanePacer(80.0, burst=1.0)
        pacer.share(0.25)
        assert pacer.rate == 20.0
        assert len(send_until(pacer, 0.001, 10.0)) == pytest.approx(200, abs=2)

    def test_all_of_it_again(self) -> None:
        pacer = LanePacer(80.0)
        pacer.share(0.25)
        pacer.share(1.0)
        assert pacer.rate == pacer.limit == 80.0


class TestSetLimit:
    def test_a_higher_level(self) -> None:
        pacer = LanePacer(80.0)
        pacer.set_limit(1000.0)
        assert (pacer.limit, pacer.rate, pacer.burst) == (1000.0, 1000.0, 125.0)

    def test_a_lower_level_takes_effect_at_once(self) -> None:
        pacer = LanePacer(1000.0)
        assert pacer.allowance(0.0) == 125
        pacer.set_limit(20.0)
        assert (pacer.limit, pacer.rate) == (20.0, 20.0)
        assert pacer.allowance(0.0) == 2

    def test_a_slowed_pacer_stays_slowed(self) -> None:
        pacer = LanePacer(80.0)
        pacer.throttled(0.0)
        pacer.set_limit(1000.0)
        assert pacer.rate == 40.0
        pacer.set_limit(20.0)
        assert pacer.rate == 20.0

    def test_a_burst_that_was_set_stays(self) -> None:
        pacer = LanePacer(80.0, burst=3.0)
        pacer.set_limit(1000.0)
        assert pacer.burst == 3.0


class TestPause:
    def test_nothing_leaves_before_the_end(self) -> None:
        pacer = LanePacer(80.0)
        pacer.pause(50.0)
        assert pacer.paused_until == 50.0
        assert pacer.allowance(49.9) == 0
        assert pacer.next_at(10.0) == 50.0
        assert pacer.allowance(50.0) == 10

    def test_a_longer_pause_is_not_cut_short(self) -> None:
        pacer = LanePacer(80.0)
        pacer.pause(50.0)
        pacer.pause(20.0)
        assert pacer.paused_until == 50.0

    def test_until_somebody_resumes(self) -> None:
        pacer = LanePacer(80.0)
        pacer.pause(50.0)
        pacer.resume()
        assert (pacer.paused_until, pacer.next_at(10.0)) == (0.0, 10.0)

    def test_parking_and_a_pause_end_each_by_itself(self) -> None:
        pacer = LanePacer(80.0)
        pacer.pause(50.0)
        pacer.park()
        assert (pacer.paused_until, pacer.next_at(10.0)) == (inf, inf)
        pacer.unpark()
        assert (pacer.paused_until, pacer.next_at(10.0)) == (50.0, 50.0)
        pacer.park()
        pacer.resume()
        assert pacer.next_at(10.0) == inf
        pacer.unpark()
        assert pacer.next_at(10.0) == 10.0

    def test_resuming_does_not_end_the_hold_after_a_refusal(self) -> None:
        pacer = LanePacer(80.0)
        pacer.throttled(10.0)
        pacer.pause(50.0)
        pacer.resume()
        assert pacer.next_at(10.5) == 11.0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send one", "wait", "throttled", "inbound", "pause", "resume"]),
        st.sampled_from([0.0, 0.001, 0.0125, 0.1, 0.9, 1.0, 7.0, 130.0]) | st.floats(0.0, 3.0),
    ),
    max_size=60,
)


class TestLaneGuarantee:
    @given(
        st.sampled_from([0.5, 1.0, 20.0, 80.0, 1000.0]) | st.floats(0.1, 1000.0),
        st.none() | st.floats(1.0, 100.0),
        st.sampled_from([0.0, 12_345.678, 1e7]),
        STEPS,
    )
    def test_no_window_has_more_than_its_share(
        self, rate: float, burst: float | None, start: float, steps: list[tuple[str, float]]
    ) -> None:
        pacer = LanePacer(rate, burst)
        departures: list[float] = []
        now = start
        for action, seconds in steps:
            now += seconds
            match action:
                case "send":
                    departures += [now] * send_all(pacer, now)
                case "send one":
                    due = pacer.next_at(now)
                    if due < now + 1000.0:
                        now = due
                        pacer.spend(now)
                        departures.append(now)
                case "throttled":
                    pacer.throttled(now)
                case "inbound":
                    pacer.inbound(now, int(seconds * 100))
                case "pause":
                    pacer.pause(now + seconds)
                case "resume":
                    pacer.resume()
            assert 0.0 < pacer.rate <= pacer.limit
        assert_paced(departures, rate, pacer.burst)

    @given(st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=10), st.floats(0.0, 2.0))
    def test_with_changing_limits_the_highest_binds(self, limits: list[float], seconds: float) -> None:
        pacer = LanePacer(limits[0])
        departures: list[float] = []
        for i, limit in enumerate(limits):
            pacer.set_limit(limit)
            departures += [i * seconds] * send_all(pacer, i * seconds)
        assert_paced(departures, max(limits), max(1.0, max(limits) / 8))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: LanePacer(0.0), "rate"),
        (lambda: LanePacer(-1.0), "rate"),
        (lambda: LanePacer(inf), "rate"),
        (lambda: LanePacer(80.0, burst=0.5), "burst"),
        (lambda: LanePacer(80.0).set_limit(0.0), "rate"),
        (lambda: LanePacer(80.0).spend(0.0, -1), "n must"),
        (lambda: LanePacer(80.0).inbound(0.0, -1), "n must"),
        (lambda: PairPacer(burst=0), "burst"),
        (lambda: PairPacer(interval_s=0.0), "interval_s"),
    ],
)
def test_nonsense_is_refused_by_name(build: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build()


class TestPairPacer:
    def test_what_of_the_credit_is_kept_back(self) -> None:
        pacer = PairPacer(burst=3, interval_s=6.0, slack_s=1.0)
        left = []
        now = 0.0
        for _ in range(6):
            now = pacer.ready_at("ana", now)
            pacer.spend("ana", now)
            left.append(now)
        assert left == [0.0, 0.0, 1.0, 7.0, 13.0, 19.0]

    def test_a_burst_and_then_one_in_six_seconds(self) -> None:
        pacer = PairPacer()
        for _ in range(45):
            assert pacer.ready_at("ana", 100.0) == 100.0
            pacer.spend("ana", 100.0)
        assert pacer.ready_at("ana", 100.0) == 106.0
        pacer.spend("ana", 106.0)
        assert pacer.ready_at("ana", 106.0) == 112.0

    def test_recipients_do_not_wait_for_each_other(self) -> None:
        pacer = PairPacer(burst=1)
        pacer.spend("ana", 0.0)
        assert pacer.ready_at("ana", 0.0) == 6.0
        assert pacer.ready_at("ben", 0.0) == 0.0

    def test_what_was_borrowed_is_paid_back_by_resting(self) -> None:
        pacer = PairPacer(burst=3)
        for _ in range(3):
            pacer.spend("ana", 0.0)
        assert pacer.ready_at("ana", 12.0) == 12.0
        pacer.spend("ana", 12.0)
        pacer.spend("ana", 12.0)
        assert pacer.ready_at("ana", 12.0) == 18.0

    def test_refusals_in_a_row_wait_four_to_the_n_seconds(self) -> None:
        pacer = PairPacer()
        now, waits = 0.0, []
        for _ in range(9):
            until = pacer.refused("ana", now)
            assert pacer.ready_at("ana", now) == until
            waits.append(until - now)
            now = until
        assert waits == [1, 4, 16, 64, 256, 1024, 4096, 4096, 4096]

    def test_an_accepted_message_ends_the_row(self) -> None:
        pacer = PairPacer()
        pacer.refused("ana", 0.0)
        assert pacer.refused("ana", 10.0) == 14.0
        pacer.accepted("ana")
        assert pacer.refused("ana", 20.0) == 21.0

    def test_accepting_does_not_end_the_wait_itself(self) -> None:
        pacer = PairPacer()
        pacer.refused("ana", 0.0)
        pacer.refused("ana", 1.0)
        pacer.accepted("ana")
        assert pacer.ready_at("ana", 1.0) == 5.0

    def test_a_refusal_ends_the_borrowing(self) -> None:
        pacer = PairPacer()
        at = pacer.refused("ana", 0.0)
        pacer.spend("ana", at)
        pacer.accepted("ana")
        assert pacer.ready_at("ana", at) == 6.0

    def test_refused_with_nothing_spent_is_known_all_the_same(self) -> None:
        pacer = PairPacer()
        pacer.accepted("nobody")
        assert len(pacer) == 0
        pacer.refused("ana", 0.0)
        assert len(pacer) == 1


class TestRebuild:
    @given(st.lists(st.floats(-1000.0, 0.0), max_size=60), st.randoms())
    def test_is_as_if_it_had_never_stopped(self, times: list[float], shuffle: Random) -> None:
        kept, rebuilt = PairPacer(burst=1), PairPacer(burst=1)
        for at in sorted(times):
            kept.spend("ana", at)
        shuffle.shuffle(times)
        rebuilt.rebuild("ana", times)
        assert rebuilt.ready_at("ana", 0.0) == kept.ready_at("ana", 0.0)
        assert len(rebuilt) == len(kept)

    def test_replaces_what_was_known(self) -> None:
        pacer = PairPacer(burst=1)
        pacer.spend("ana", 0.0)
        pacer.rebuild("ana", [-5.0])
        assert pacer.ready_at("ana", 0.0) == 1.0

    def test_keeps_a_wait_after_a_refusal(self) -> None:
        pacer = PairPacer()
        pacer.refused("ana", 0.0)
        pacer.rebuild("ana", [])
        assert pacer.ready_at("ana", 0.0) == 1.0


class TestForgetIdle:
    def test_drops_who_has_recovered(self) -> None:
        pacer = PairPacer()
        pacer.spend("ana", 0.0)
        pacer.spend("ben", 0.0)
        pacer.spend("ben", 0.0)
        assert pacer.forget_idle(5.9) == 0
        assert pacer.forget_idle(6.0) == 1
        assert len(pacer) == 1
        assert pacer.forget_idle(12.0) == 1
        assert len(pacer) == 0

    def test_keeps_a_row_of_refusals_past_its_wait(self) -> None:
        pacer = PairPacer()
        now = 0.0
        for _ in range(6):
            now = pacer.refused("ana", now)
        pacer.forget_idle(now)
        assert pacer.refused("ana", now) - now == 4096.0

    def test_drops_a_row_of_refusals_in_the_end(self) -> None:
        pacer = PairPacer()
        until = pacer.refused("ana", 0.0)
        assert pacer.forget_idle(until + 45 * 6.0) == 1

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 20.0)), max_size=40))
    def test_forgetting_changes_no_answer(self, steps: list[tuple[str, float]]) -> None:
        forgetful, plain = PairPacer(burst=3), PairPacer(burst=3)
        now = 0.0
        for contact, seconds in steps:
            now += seconds
            forgetful.forget_idle(now)
            assert forgetful.ready_at(contact, now) == plain.ready_at(contact, now)
            for pacer in (forgetful, plain):
                pacer.spend(contact, now)


class TestPairGuarantee:
    @given(
        st.integers(1, 45),
        st.sampled_from([0.5, 6.0]),
        st.lists(st.tuples(st.integers(1, 50), st.floats(0.0, 60.0)), max_size=15),
        st.sampled_from([0.0, 98_765.4321]),
        st.sets(st.integers(0, 20)),
    )
    def test_no_window_has_more_than_the_burst_and_one_an_interval(
        self,
        burst: int,
        interval_s: float,
        bursts: list[tuple[int, float]],
        start: float,
        refused: set[int],
    ) -> None:
        pacer = PairPacer(burst, interval_s)
        departures: list[float] = []
        now = start
        for wanted, pause_s in bursts:
            now += pause_s
            for _ in range(wanted):
                now = pacer.ready_at("ana", now)
                pacer.spend("ana", now)
                departures.append(now)
                if len(departures) in refused:
                    pacer.refused("ana", now)
                else:
                    pacer.accepted("ana")
            pacer.forget_idle(now)
        assert all(earlier <= later for earlier, later in pairwise(departures))
        assert_paced(departures, 1 / interval_s, burst)

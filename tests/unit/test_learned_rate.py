"""What a number learns of the rate that Meta lets it have, against a Meta that counts each second."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.learned_rate import HOLD_S, LearnedRate
from whatsapp.pacing import LanePacer
from whatsapp.sandbox_rules import Throughput

BURST_S = 1 / 40


class Run(NamedTuple):
    taken: list[float]
    refused: list[float]
    pacer: LanePacer

    def rate(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self.taken) / (end - start)

    def refusals(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in self.refused)


def run(configured: float, lets_pass: Callable[[float], float], seconds: float, answer_s: float) -> Run:
    """A lane that always has something to send, with answers that take from once to twice ``answer_s``."""
    pacer = LanePacer(configured, max(1.0, configured * BURST_S))
    meta, random = Throughput(), Random(1)
    taken: list[float] = []
    refused: list[float] = []
    answers: list[tuple[float, bool]] = []
    now = 0.0
    while (leaves_at := pacer.next_at(now)) < seconds:
        if answers and answers[0][0] <= leaves_at:
            now, took = heappop(answers)
            if not took:
                pacer.throttled(now)
            continue
        now = leaves_at
        pacer.spend(now)
        took = meta.admits(now, lets_pass(now))
        (taken if took else refused).append(now)
        heappush(answers, (now + answer_s * (1 + random.random()), took))
    return Run(taken, refused, pacer)


class TestAgainstALimit:
    @pytest.mark.parametrize("answer_s", [0.02, 0.4])
    def test_the_configured_rate_draws_no_refusal(self, answer_s: float) -> None:
        tried = run(80.0, lambda at: 80.0, 100.0, answer_s)
        assert not tried.refused
        assert tried.rate(0.0, 100.0) == pytest.approx(80.0, rel=0.01)

    @pytest.mark.parametrize("answer_s", [0.02, 0.4])
    @pytest.mark.parametrize(("configured", "limit"), [(80, 40), (80, 60), (80, 75), (80, 10), (1000, 80)])
    def test_a_limit_that_is_lower_in_secret_is_found_within_a_minute(
        self, configured: float, limit: float, answer_s: float
    ) -> None:
        tried = run(configured, lambda at: configured if at < 10.0 else limit, 250.0, answer_s)
        assert tried.rate(70.0, 250.0) >= 0.94 * limit
        assert tried.refusals(70.0, 250.0) <= 0.005 * len(tried.taken)

    @pytest.mark.parametrize("limit", [79.0, 79.8])
    def test_a_limit_just_below_the_configured_one_is_not_forgotten_at_it(self, limit: float) -> None:
        tried = run(80.0, lambda at: limit * 0.95, 900.0, 0.02)
        assert tried.refusals(300.0, 900.0) <= 6
        assert tried.rate(300.0, 900.0) >= 0.95 * 0.95 * limit

    def test_refusals_become_ever_fewer(self) -> None:
        tried = run(80.0, lambda at: 40.0, 900.0, 0.02)
        early, late = tried.refusals(0.0, 300.0), tried.refusals(600.0, 900.0)
        assert late < early / 2

    def test_a_limit_that_is_lifted_is_found_out(self) -> None:
        tried = run(80.0, lambda at: 40.0 if at < 120.0 else 80.0, 420.0, 0.02)
        assert tried.pacer.rate == 80.0
        assert tried.rate(360.0, 420.0) == pytest.approx(80.0, rel=0.01)


class TestRefused:
    def test_the_first_halves(self) -> None:
        learned = LearnedRate(80.0)
        assert learned.refused(10.0)
        assert (learned.now, learned.held_until) == (40.0, 10.0 + HOLD_S)

    def test_others_of_the_same_second_change_nothing(self) -> None:
        learned = LearnedRate(80.0)
        learned.refused(10.0)
        assert not learned.refused(10.9)
        assert learned.now == 40.0

    def test_one_soon_after_it_costs_a_fifth_and_each_further_one_half(self) -> None:
        learned = LearnedRate(80.0)
        seen = []
        for at in (0.0, 2.0, 4.0, 6.0):
            before = learned.now
            learned.advance(at)
            before = learned.now
            learned.refused(at)
            seen.append(learned.now / before)
        assert seen == pytest.approx([0.5, 0.8, 0.5, 0.5])

    def test_one_of_a_rate_that_held_costs_a_tenth(self) -> None:
        learned = LearnedRate(80.0)
        learned.refused(10.0)
        learned.advance(15.0)
        before = learned.now
        learned.refused(15.0)
        assert learned.now == pytest.approx(0.9 * before)

    def test_after_a_single_one_the_rate_is_whole_again_within_a_minute(self) -> None:
        learned = LearnedRate(80.0)
        learned.refused(0.0)
        learned.advance(60.0)
        assert learned.now == 80.0

    def test_after_many_in_a_row_it_comes_back_from_one_a_second(self) -> None:
        learned = LearnedRate(80.0)
        for at in range(10):
            learned.refused(float(at))
        assert learned.now == 1.0
        learned.advance(200.0)
        assert learned.now == 80.0


class TestSetLimit:
    def test_one_that_was_never_refused_has_it_at_once(self) -> None:
        learned = LearnedRate(80.0)
        learned.set_limit(1000.0)
        assert learned.now == 1000.0

    def test_one_that_was_refused_creeps_there(self) -> None:
        learned = LearnedRate(80.0)
        learned.refused(0.0)
        learned.set_limit(1000.0)
        assert learned.now == 40.0
        learned.advance(200.0)
        assert learned.now == 1000.0

    def test_a_lower_one_holds_at_once(self) -> None:
        learned = LearnedRate(1000.0)
        learned.set_limit(20.0)
        assert learned.now == 20.0


@given(
    st.floats(0.5, 1000.0),
    st.lists(st.tuples(st.sampled_from(["refused", "time", "limit"]), st.floats(0.0, 700.0)), max_size=60),
)
def test_it_stays_between_one_a_second_and_the_limit(limit: float, steps: list[tuple[str, float]]) -> None:
    learned, now = LearnedRate(limit), 0.0
    for step, value in steps:
        if step == "limit":
            limit = max(0.5, value)
            learned.set_limit(limit)
        else:
            now += value / 100 if step == "refused" else value
            before = learned.now
            gained = learned.advance(now)
            assert gained <= (value / 100 if step == "refused" else value) * max(before, learned.now) + 1e-6
            if step == "refused":
                learned.refused(now)
        assert min(1.0, limit) <= learned.now <= limit


@given(st.floats(1.0, 1000.0), st.lists(st.floats(0.0, 30.0), min_size=1, max_size=20))
def test_what_leaves_does_not_depend_on_how_often_one_asks(limit: float, steps: list[float]) -> None:
    often, once = LearnedRate(limit), LearnedRate(limit)
    for learned in (often, once):
        learned.advance(0.0)
        learned.refused(0.0)
    now, total = 0.0, 0.0
    for step in steps:
        now += step
        total += often.advance(now)
    assert total == pytest.approx(once.advance(now), rel=1e-6, abs=1e-6)
    assert often.now == pytest.approx(once.now)

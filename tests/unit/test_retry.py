"""Whether and when an attempt is repeated."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp.errors import GraphError, Verdict, classify
from whatsapp.retry import GiveUp, Retry, RetryPolicy, store_pause

POLICY = RetryPolicy(max_attempts=8, base_s=1.0, cap_s=100.0)

FRACTIONS = st.floats(0.0, 1.0, exclude_max=True)
SECONDS = st.floats(0.0, 100_000.0)
POLICIES = st.builds(
    lambda attempts, base_s, factor: RetryPolicy(attempts, base_s, base_s * factor),
    st.integers(1, 20),
    st.floats(0.001, 1000.0),
    st.floats(1.0, 1000.0),
)


def always(value: float) -> Callable[[], float]:
    return lambda: value


def verdict_of(code: int, http_status: int = 400) -> Verdict:
    return classify(GraphError(code=code, http_status=http_status, from_graph=True))


class TestSchedule:
    @pytest.mark.parametrize(
        ("failures", "seconds"),
        [(0, 0), (1, 1), (2, 2), (3, 4), (4, 8), (7, 64), (8, 100), (9, 100), (10**9, 100)],
    )
    def test_doubles_up_to_the_cap(self, failures: int, seconds: float) -> None:
        assert POLICY.schedule(failures) == seconds

    @given(POLICIES, st.integers(0, 10_000))
    def test_never_shrinks_and_never_passes_the_cap(self, policy: RetryPolicy, failures: int) -> None:
        assert policy.schedule(failures) <= policy.schedule(failures + 1) <= policy.cap_s


class TestDelay:
    @pytest.mark.parametrize(
        ("failures", "fraction", "retry_after_s", "first_delay_s", "seconds"),
        [
            (1, 0.0, 0.0, 0.0, 0.0),
            (3, 0.5, 0.0, 0.0, 2.0),
            (3, 0.0, 3.0, 0.0, 3.0),
            (3, 0.5, 2.0, 0.0, 3.0),
            (3, 0.5, 0.0, 2.0, 3.0),
            (3, 0.5, 2.0, 3.0, 3.5),
            (1, 0.9, 60.0, 0.0, 60.0),
            (9, 0.9, 0.0, 500.0, 500.0),
        ],
    )
    def test_between_floor_and_schedule(
        self, failures: int, fraction: float, retry_after_s: float, first_delay_s: float, seconds: float
    ) -> None:
        assert POLICY.delay(failures, always(fraction), retry_after_s, first_delay_s) == seconds

    @given(POLICIES, st.integers(0, 100), FRACTIONS, SECONDS, SECONDS)
    def test_floors_are_honoured_and_the_cap_unless_they_demand_more(
        self, policy: RetryPolicy, failures: int, fraction: float, retry_after_s: float, first_delay_s: float
    ) -> None:
        floor = max(retry_after_s, first_delay_s)
        delay_s = policy.delay(failures, always(fraction), retry_after_s, first_delay_s)
        assert floor <= delay_s <= max(floor, policy.schedule(failures))

    @given(POLICIES, st.integers(0, 100), FRACTIONS)
    def test_full_jitter_without_floors(self, policy: RetryPolicy, failures: int, fraction: float) -> None:
        expected = pytest.approx(fraction * policy.schedule(failures))
        assert policy.delay(failures, always(fraction)) == expected


class TestDecide:
    def test_a_refusal_for_good_gives_up_at_once(self) -> None:
        assert POLICY.decide(verdict_of(131026), 0, always(0.5)) == GiveUp(exhausted=False)

    @pytest.mark.parametrize(
        ("failures", "expected"),
        [
            (0, Retry(0.5)),
            (1, Retry(1.0)),
            (6, Retry(32.0)),
            (7, GiveUp(exhausted=True)),
            (8, GiveUp(exhausted=True)),
        ],
    )
    def test_attempts_are_bounded_by_the_policy(self, failures: int, expected: Retry | GiveUp) -> None:
        assert POLICY.decide(verdict_of(131016, 500), failures, always(0.5)) == expected

    def test_attempts_are_bounded_by_the_table(self) -> None:
        verdict = verdict_of(131000, 500)
        assert POLICY.decide(verdict, 1, always(0.5)) == Retry(1.0)
        assert POLICY.decide(verdict, 2, always(0.5)) == GiveUp(exhausted=True)

    def test_the_table_does_not_widen_the_bound_of_the_policy(self) -> None:
        strict = RetryPolicy(max_attempts=1, base_s=1.0, cap_s=1.0)
        assert strict.decide(verdict_of(131000, 500), 0, always(0.5)) == GiveUp(exhausted=True)

    @given(st.integers(0, 10_000), FRACTIONS)
    def test_a_brake_never_uses_a_message_up(self, failures: int, fraction: float) -> None:
        decision = POLICY.decide(verdict_of(130429), failures, always(fraction))
        assert isinstance(decision, Retry)
        assert 0.0 <= decision.delay_s <= 100.0

    def test_a_brake_backs_off_even_at_the_first_attempt(self) -> None:
        assert POLICY.decide(verdict_of(130429), 0, always(0.5)) == Retry(0.5)

    def test_a_delay_of_the_table_is_a_floor(self) -> None:
        assert POLICY.decide(verdict_of(131057, 500), 0, always(0.9)) == Retry(60.0)

    def test_retry_after_is_a_floor(self) -> None:
        error = GraphError(code=131016, http_status=503, from_graph=True, retry_after_s=17.0)
        assert POLICY.decide(classify(error), 0, always(0.9)) == Retry(17.0)

    def test_a_parked_message_goes_back_as_it_was(self) -> None:
        assert POLICY.decide(verdict_of(190, 401), 7, always(0.9)) == Retry(0.0)

    def test_a_parked_message_that_is_to_count_counts(self) -> None:
        """The probe succeeds and the same message is refused again: it must not go round for ever."""
        burning = msgspec.structs.replace(verdict_of(190, 401), burn=True)
        assert POLICY.decide(burning, 0, always(0.5)) == Retry(0.5)
        assert POLICY.decide(burning, 7, always(0.5)) == GiveUp(exhausted=True)

    def test_an_unknown_outcome_counts_once_its_grace_is_over(self) -> None:
        unknown = classify(GraphError(http_status=502))
        assert POLICY.decide(unknown, 0, always(0.5)) == Retry(0.5)
        assert POLICY.decide(unknown, 7, always(0.5)) == GiveUp(exhausted=True)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ((0, 1.0, 10.0), "max_attempts"),
        ((8, 0.0, 10.0), "base_s"),
        ((8, -1.0, 10.0), "base_s"),
        ((8, 11.0, 10.0), "cap_s"),
        ((8, 1.0, float("inf")), "finite"),
        ((8, float("nan"), 10.0), "base_s"),
    ],
)
def test_nonsense_is_refused_by_name(values: tuple[int, float, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        RetryPolicy(*values)


def test_a_store_that_is_away_is_asked_ever_less_often_and_not_by_all_at_once() -> None:
    longest = [store_pause(tries, lambda: 0.0) for tries in (1, 2, 3, 4, 5, 6, 10_000)]
    assert longest == [0.3, 0.6, 1.2, 2.4, 3.0, 3.0, 3.0]
    assert [store_pause(tries, lambda: 1.0) for tries in (1, 2, 5)] == [0.15, 0.3, 1.5]

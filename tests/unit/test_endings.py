"""Nothing is tried for ever: whatever Meta answers, however often, a message comes to its end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.records import Change, Row
from store.states import State, can_move
from tests.support.rows import make_row, make_view
from whatsapp.error_policy import Scope
from whatsapp.error_table import policy_of
from whatsapp.errors import GraphError, classify
from whatsapp.outcome import fell_back, lost, refused, resolve_unknown, shut_out, undone
from whatsapp.retry import RetryPolicy

NOW = 1_700_000_000_000
TERM = 1
HTTP = (0, 200, 400, 401, 403, 404, 408, 429, 500, 503)
CODES = [code for code in range(1, 3_000_000) if policy_of(code)] + [7_777, 2_999_999]
"""Every one of the table, and two that it does not know."""
REFUSALS = [
    GraphError(code=code, http_status=http, from_graph=True)
    for code in CODES
    for http in (400, 401, 429, 500)
]
FOREIGN = [GraphError(http_status=http) for http in HTTP]
LATE = [GraphError(code=code, from_graph=True, by_webhook=True) for code in CODES]
POLICIES = st.builds(
    lambda attempts, spared: RetryPolicy(attempts, 1.0, 60.0, spared), st.integers(1, 9), st.integers(0, 12)
)


def half() -> float:
    return 0.5


def moved(row: Row, change: Change) -> Row:
    """What a store makes of the row."""
    assert can_move(row.state, change.to), (row.state, change.to)
    burnt, spared = change.burn and not change.fresh, change.spared and not change.burn
    return msgspec.structs.replace(
        row,
        state=change.to,
        failures=0 if change.fresh else row.failures + burnt,
        spared=0 if change.fresh else row.spared + spared,
        retried=row.retried + change.sends_anew,
        fell_back=row.fell_back or change.fall_back,
        has_fallback=row.has_fallback and not change.fall_back,
        doubt=row.doubt or change.doubt,
    )


def answered(row: Row, error: GraphError, policy: RetryPolicy) -> Row:
    """The row after one more attempt, of which nothing but this is heard, at once or after it was taken."""
    row = msgspec.structs.replace(row, state=State.SENDING, attempt=row.attempt + 1)
    verdict = classify(error)
    if error.by_webhook:
        row = msgspec.structs.replace(row, state=State.SENT)
        failure = Change(row.id, State.FAILED, NOW, attempt=row.attempt, error=b'{"name":"x"}')
        if verdict.name == "window_closed" and row.has_fallback:
            return moved(moved(row, failure), fell_back(row, failure, NOW))
        return moved(row, undone(make_view(row), failure, verdict, policy, half, NOW) or failure)
    row = moved(row, refused(row, TERM, error, verdict, policy, half, NOW))
    if row.state is State.UNKNOWN:
        row = moved(row, resolve_unknown(row, True, policy, NOW))
    return row


def attempts_until_failed(row: Row, errors: Iterator[GraphError], policy: RetryPolicy, most: int) -> int:
    """How many; fails where there are more than ``most``."""
    while row.state is State.QUEUED:
        assert row.attempt < most, f"{row.attempt} attempts, and it goes on: {row}"
        row = answered(row, next(errors), policy)
    assert row.state is State.FAILED
    return row.attempt


def most_attempts(policy: RetryPolicy, *, fallback: bool = False) -> int:
    """A fallback begins anew where a status called for it."""
    return (policy.max_attempts + policy.max_spared) * (1 + fallback) + fallback


@pytest.mark.parametrize("http", [400, 401, 429, 500])
def test_each_code_that_comes_for_ever_ends_the_message(http: int) -> None:
    policy = RetryPolicy(max_attempts=5, max_spared=7)
    for code in CODES:
        error = GraphError(code=code, http_status=http, from_graph=True)
        attempts = attempts_until_failed(make_row(), itertools.repeat(error), policy, most_attempts(policy))
        verdict = classify(error)
        if verdict.outcome == "fail":
            assert attempts == 1
        elif verdict.burn:
            assert attempts == min(verdict.max_tries or 99, policy.max_attempts)
        else:
            # It costs nothing at first, and then as any other.
            assert attempts == policy.max_spared + min(verdict.max_tries or 99, policy.max_attempts)


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: f"HTTP {error.http_status}")
def test_each_answer_without_a_code_ends_the_message(error: GraphError) -> None:
    policy = RetryPolicy(max_attempts=5, max_spared=7)
    assert attempts_until_failed(make_row(), itertools.repeat(error), policy, most_attempts(policy))


def test_each_code_that_comes_by_a_status_for_ever_ends_the_message() -> None:
    policy = RetryPolicy(max_attempts=5, max_spared=7)
    for error in LATE:
        attempts_until_failed(make_row(), itertools.repeat(error), policy, most_attempts(policy))


@settings(max_examples=400)
@given(
    errors=st.lists(st.sampled_from(REFUSALS) | st.sampled_from(FOREIGN) | st.sampled_from(LATE), min_size=1),
    policy=POLICIES,
    has_fallback=st.booleans(),
)
def test_whatever_comes_in_whatever_order_the_message_ends(
    errors: Sequence[GraphError], policy: RetryPolicy, has_fallback: bool
) -> None:
    row = make_row(has_fallback=has_fallback)
    most = most_attempts(policy, fallback=has_fallback)
    attempts_until_failed(row, itertools.cycle(errors), policy, most)


@given(policy=POLICIES, has_fallback=st.booleans(), deaths=st.lists(st.booleans(), min_size=1))
def test_a_process_that_dies_in_each_call_ends_the_message(
    policy: RetryPolicy, has_fallback: bool, deaths: Sequence[bool]
) -> None:
    """Mixed with calls without an answer."""
    row = make_row(has_fallback=has_fallback)
    for dies in itertools.cycle(deaths):
        if row.state is not State.QUEUED:
            break
        assert row.attempt < policy.max_attempts
        if dies:
            row = msgspec.structs.replace(row, state=State.SENDING, attempt=row.attempt + 1)
            row = moved(
                moved(row, lost(row, "it died", TERM + 1, NOW)), resolve_unknown(row, True, policy, NOW)
            )
        else:
            row = answered(row, GraphError(), policy)
    assert row.state is State.FAILED


def test_a_window_that_is_closed_has_the_fallback_sent_once() -> None:
    row = make_row(has_fallback=True)
    for state in (State.QUEUED, State.FAILED):
        row = msgspec.structs.replace(row, state=State.SENDING, attempt=row.attempt + 1)
        row = moved(row, shut_out(row, TERM, NOW))
        assert row.state is state
    assert row.attempt == 2


@given(st.integers(0, 200))
def test_what_costs_no_attempt_is_tried_less_and_less_often(spared: int) -> None:
    policy = RetryPolicy()
    verdict = classify(GraphError(code=130429, http_status=429, from_graph=True))
    assert not verdict.burn and verdict.scope is Scope.LANE

    def wait_s(spared: int) -> float:
        decision = policy.decide(verdict, 0, half, spared)
        return getattr(decision, "delay_s", 0.0)

    if spared + 1 < policy.max_spared:
        assert wait_s(spared) <= wait_s(spared + 1) <= policy.cap_s
    assert sum(map(wait_s, range(policy.max_spared))) > 3 * 3600

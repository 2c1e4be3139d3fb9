"""What follows when an outside receiver does not take an event."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery import (
    NOWHERE,
    Again,
    Failure,
    Fault,
    Pause,
    Record,
    Rules,
    Skip,
    decide,
    failure_of,
    troubled,
)
from whatsapp.retry import RetryPolicy

NOW = 1_795_524_415_000
HOUR, DAY = 3_600_000, 86_400_000
RULES = Rules(RetryPolicy(base_s=1, cap_s=300), max_age_s=3600, pause_after_s=3 * 86_400)
AWAY = Failure(Fault.AWAY, "HTTP 503")
REFUSED = Failure(Fault.REFUSED, "HTTP 400")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_takes(status: int) -> None:
    assert failure_of(status, {}, NOW) is None


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        *((status, Fault.REFUSED) for status in (400, 413, 414, 415, 422)),
        (410, Fault.GONE),
        *(
            (status, Fault.AWAY)
            for status in (101, 199, 300, 302, 308, 401, 403, 404, 405, 408, 409, 425, 429)
        ),
        *((status, Fault.AWAY) for status in (451, 500, 501, 502, 503, 504, 599, 999)),
    ],
)
def test_what_a_status_says(status: int, fault: Fault) -> None:
    failure = failure_of(status, {}, NOW)
    assert failure is not None
    assert failure.fault is fault
    assert f"HTTP {status}" in failure.why
    assert ("redirects" in failure.why) == (300 <= status < 400)


def test_a_retry_after_is_read_in_seconds_or_as_a_date() -> None:
    for value, seconds in (("120", 120.0), ("Tue, 24 Nov 2026 12:47:55 GMT", 60.0), ("soon", 0.0), ("", 0.0)):
        failure = failure_of(503, {"Retry-After": value}, NOW)
        assert failure is not None and failure.retry_after_s == seconds


# -- what is remembered ------------------------------------------------------------------------------------


def test_the_first_failure_begins_all_clocks_and_later_ones_go_on() -> None:
    first = troubled(Record(), REFUSED, 7, NOW)
    assert (first.failing_since, first.failing_at, first.refused_since) == (NOW, 7, NOW)
    later = troubled(first, AWAY, 7, NOW + 5)
    assert (later.failing_since, later.refused_since, later.why) == (NOW, NOW, "HTTP 503")


def test_another_event_has_a_clock_of_its_own_and_the_receiver_has_not() -> None:
    record = troubled(troubled(Record(), REFUSED, 7, NOW), REFUSED, 8, NOW + 5)
    assert (record.failing_since, record.refused_since) == (NOW, NOW + 5)
    assert troubled(record, AWAY, 9, NOW + 9).refused_since == 0


@given(
    st.builds(
        Record,
        paused_at=st.integers(0, 2**45),
        reason=st.sampled_from([None, "person", "gone", "refused", "failing"]),
        go_to=st.integers(NOWHERE, 2**53 - 1),
        failing_since=st.integers(0, 2**45),
        failing_at=st.integers(NOWHERE, 2**53 - 1),
        refused_since=st.integers(0, 2**45),
        why=st.text(max_size=50),
    )
)
def test_a_record_outlives_its_memo(record: Record) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record


def test_a_memo_of_a_later_version_can_be_read() -> None:
    assert msgspec.json.decode(b'{"paused_at": 1, "new": [1]}', type=Record).paused_at == 1


# -- what follows ------------------------------------------------------------------------------------------


def after(
    failure: Failure, *, refused_ms: int = 0, failing_ms: int = 0, tries: int = 9, rules: Rules = RULES
) -> object:
    record = Record(failing_since=NOW - failing_ms, failing_at=7, refused_since=NOW - refused_ms)
    return decide(rules, record, failure, tries, NOW, lambda: 0.0)


def test_gone_pauses_at_once() -> None:
    assert after(Failure(Fault.GONE, "HTTP 410"), tries=1) == Pause("gone")


def test_what_is_refused_is_tried_for_as_long_as_is_said_then_skipped_or_pauses() -> None:
    assert isinstance(after(REFUSED, refused_ms=HOUR - 1), Again)
    assert after(REFUSED, refused_ms=HOUR) == Skip()
    pauses = msgspec.structs.replace(RULES, skips_refused=False)
    assert after(REFUSED, refused_ms=HOUR, rules=pauses) == Pause("refused")


def test_who_is_away_is_never_skipped_and_paused_only_after_long() -> None:
    assert isinstance(after(AWAY, refused_ms=DAY, failing_ms=3 * DAY - 1), Again)
    assert after(AWAY, failing_ms=3 * DAY) == Pause("failing")


def test_a_start_after_a_long_stop_tries_some_times_before_it_pauses() -> None:
    assert isinstance(after(AWAY, failing_ms=30 * DAY, tries=4), Again)
    assert after(AWAY, failing_ms=30 * DAY, tries=5) == Pause("failing")


def test_who_refuses_everything_is_skipped_for_a_while_and_then_paused() -> None:
    # Each for an hour: an hour before the end of three days one more is skipped, not at the end itself.
    assert isinstance(after(REFUSED, refused_ms=1, failing_ms=3 * DAY - 1), Again)
    assert after(REFUSED, refused_ms=1, failing_ms=3 * DAY) == Pause("failing")


def test_the_relay_is_tried_for_ever() -> None:
    rules = Rules(RetryPolicy(cap_s=60), pause_after_s=math.inf)
    assert isinstance(after(AWAY, failing_ms=3650 * DAY, tries=10**6, rules=rules), Again)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.floats(0, 10**9))
def test_waits_are_jittered_capped_and_no_shorter_than_asked_for(
    tries: int, chance: float, retry_after_s: float
) -> None:
    failure = Failure(Fault.AWAY, "HTTP 429", retry_after_s)
    step = decide(RULES, Record(failing_since=NOW), failure, tries, NOW, lambda: chance)
    assert isinstance(step, Again)
    asked_s = min(retry_after_s, 3600)
    assert asked_s <= step.delay_s <= max(asked_s, min(300, 2.0 ** min(tries - 1, 20)))

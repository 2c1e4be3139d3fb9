"""What callers are told of a task."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.states import OPEN, State
from tests.support.rows import TASK, make_task
from whatsapp.task_status import task_status, word_of

S = State
WORDS = ("PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED")


def error(code: int | None, title: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"code": code, "title": title, **fields})


# -- the word ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "counts", "more"),
    [
        pytest.param("PENDING", {S.QUEUED: 3}, {}, id="nothing has left"),
        pytest.param("PENDING", {S.QUEUED: 1, S.CANCELLED: 2}, {}, id="some cancelled before anything left"),
        pytest.param("PENDING", {S.QUEUED: 1, S.EXPIRED: 1}, {}, id="some expired before anything left"),
        pytest.param("STARTED", {S.SENDING: 1}, {}, id="one is being sent"),
        pytest.param("STARTED", {S.UNKNOWN: 1}, {}, id="one is in doubt"),
        pytest.param("STARTED", {S.QUEUED: 1, S.SENT: 1}, {"taken": 1}, id="some sent, others to go"),
        pytest.param("STARTED", {S.QUEUED: 1, S.FAILED: 1}, {}, id="some failed, others to go"),
        pytest.param("RETRY", {S.QUEUED: 1}, {"retrying": 1}, id="one waits for its retry"),
        pytest.param(
            "RETRY",
            {S.QUEUED: 2, S.SENDING: 1, S.READ: 1},
            {"retrying": 1, "taken": 1},
            id="one of many waits",
        ),
        pytest.param("SUCCESS", {S.SENT: 2}, {"taken": 2}, id="all sent"),
        pytest.param(
            "SUCCESS", {S.DELIVERED: 1, S.READ: 1, S.PLAYED: 1}, {"taken": 3}, id="all sent and more"
        ),
        pytest.param("SUCCESS", {S.SENT: 1, S.FAILED: 4}, {"taken": 1}, id="one sent"),
        pytest.param("SUCCESS", {S.FAILED: 1}, {"taken": 1}, id="a failure that Meta reported later"),
        pytest.param("SUCCESS", {S.EXPIRED: 1}, {"taken": 1}, id="sent, and never a word of its delivery"),
        pytest.param("FAILURE", {S.FAILED: 2}, {}, id="all failed"),
        pytest.param("FAILURE", {S.EXPIRED: 1}, {}, id="all expired"),
        pytest.param("FAILURE", {S.FAILED: 1, S.CANCELLED: 1}, {}, id="some cancelled, the rest failed"),
        pytest.param("REVOKED", {S.CANCELLED: 2}, {}, id="all cancelled"),
    ],
)
def test_word(word: str, counts: dict[State, int], more: dict[str, Any]) -> None:
    assert word_of(make_task(counts, **more)) == word
    assert task_status(make_task(counts, **more), 0)["status"] == word


COUNTS = st.dictionaries(st.sampled_from(State), st.integers(1, 50), min_size=1)


@given(COUNTS, st.integers(0, 100), st.integers(0, 100))
def test_every_task_has_a_word_and_it_tells_whether_to_go_on_asking(
    counts: dict[State, int], retrying: int, taken: int
) -> None:
    task = make_task(counts, retrying=min(retrying, counts.get(S.QUEUED, 0)), taken=taken)
    word = word_of(task)
    assert word in WORDS
    assert (word in ("PENDING", "STARTED", "RETRY")) == bool(OPEN & counts.keys())


# -- the numbers -------------------------------------------------------------------------------------------


def test_the_answer() -> None:
    counts = {S.QUEUED: 1, S.SENT: 3, S.READ: 1, S.FAILED: 1}
    task = make_task(counts, taken=4, created_at=1_700_000_000_000)
    assert task_status(task, 1_700_000_010_000) == {
        "task_id": TASK,
        "status": "STARTED",
        "result": {"total": 6, "sent": 4, "failed": 1},
        "created_at": "2023-11-14T22:13:20.000Z",
        "completed_at": None,
        "kind": "text",
        "source": "api",
        "counts": {
            "queued": 1,
            "sending": 0,
            "unknown": 0,
            "sent": 3,
            "delivered": 0,
            "read": 1,
            "played": 0,
            "failed": 1,
            "cancelled": 0,
            "expired": 0,
        },
        "progress": 0.8333,
        "eta_seconds": 2.0,
        "errors": [],
    }


def test_the_end_is_told() -> None:
    task = make_task({S.SENT: 1}, taken=1, created_at=1_700_000_000_000, completed_at=1_700_000_001_500)
    assert task_status(task, 1_800_000_000_000)["completed_at"] == "2023-11-14T22:13:21.500Z"


@pytest.mark.parametrize(
    ("counts", "elapsed_ms", "progress", "eta_seconds"),
    [
        ({S.QUEUED: 4}, 10_000, 0.0, None),
        ({S.QUEUED: 3, S.SENT: 1}, 10_000, 0.25, 30.0),
        ({S.QUEUED: 1, S.SENT: 2}, 1_000, 0.6667, 0.5),
        ({S.UNKNOWN: 1, S.FAILED: 1}, 0, 0.5, 0.0),
        ({S.QUEUED: 1, S.SENT: 1}, -5_000, 0.5, 0.0),  # created by a process whose clock is ahead
        ({S.SENT: 2}, 10_000, 1.0, 0.0),
        ({S.CANCELLED: 2}, 10_000, 1.0, 0.0),
        ({}, 10_000, 1.0, 0.0),
    ],
)
def test_progress_and_time_to_go(
    counts: dict[State, int], elapsed_ms: int, progress: float, eta_seconds: float | None
) -> None:
    status = task_status(make_task(counts), elapsed_ms)
    assert (status["progress"], status["eta_seconds"]) == (progress, eta_seconds)


@given(COUNTS, st.integers(0, 10**10))
def test_the_numbers_add_up(counts: dict[State, int], elapsed_ms: int) -> None:
    status = task_status(make_task(counts), elapsed_ms)
    assert sum(status["counts"].values()) == status["result"]["total"]
    assert 0 <= status["progress"] <= 1


# -- the errors --------------------------------------------------------------------------------------------


def test_errors_are_grouped_by_what_meta_said_the_most_frequent_first() -> None:
    errors = (
        error(131026, "Message undeliverable", fbtrace_id="A"),
        error(131047, "Re-engagement message", fbtrace_id="B"),
        error(131047, "Re-engagement message", fbtrace_id="C"),
        error(None, "no answer and no status within the grace"),
    )
    assert task_status(make_task({S.FAILED: 4}, errors=errors), 0)["errors"] == [
        {"code": 131047, "title": "Re-engagement message", "fbtrace_id": "B", "count": 2},
        {"code": 131026, "title": "Message undeliverable", "fbtrace_id": "A", "count": 1},
        {"code": None, "title": "no answer and no status within the grace", "count": 1},
    ]


def test_errors_without_a_code_are_told_apart_by_their_title() -> None:
    errors = (error(None, "HTTP 404"), error(None, "HTTP 503"), error(None, "HTTP 404"))
    groups = task_status(make_task({S.FAILED: 3}, errors=errors), 0)["errors"]
    assert [(group["title"], group["count"]) for group in groups] == [("HTTP 404", 2), ("HTTP 503", 1)]


def test_an_error_without_its_parts_is_told_too() -> None:
    assert task_status(make_task({S.FAILED: 1}, errors=(b"{}",)), 0)["errors"] == [{"count": 1}]


def test_recipients_that_were_skipped_count_in_the_result_alone() -> None:
    task = make_task({S.SENT: 3, S.FAILED: 1, S.QUEUED: 4}, taken=3)
    skipped = msgspec.structs.replace(task, task=msgspec.structs.replace(task.task, skipped=2))
    plain, told = task_status(task, 0), task_status(skipped, 0)
    assert told.pop("result") == {"total": 10, "sent": 3, "failed": 3}
    assert plain.pop("result") == {"total": 8, "sent": 3, "failed": 1}
    assert told == plain

"""What a row remembers of its attempts: a note for each end but plain success, and how all are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from store.records import Change, History, RowView
from store.states import State
from tests.support.rows import make_row, make_view
from whatsapp.attempt_history import attempts_of
from whatsapp.errors import GraphError, classify
from whatsapp.events import rfc3339
from whatsapp.outcome import (
    fell_back,
    held_too_long,
    lost,
    not_sent,
    refused,
    requeued,
    resolve_unknown,
    taken,
    unanswered,
)
from whatsapp.outcome_events import carried_again
from whatsapp.retry import RetryPolicy

NOW = 1_700_000_000_000
CLAIMED = NOW - 250
TERM = 7
POLICY = RetryPolicy(max_attempts=3, base_s=1.0, cap_s=100.0)
ROW = make_row(2, state=State.SENDING, attempt=2, claimed_at=CLAIMED)
VERDICT = classify(GraphError(code=132015, http_status=400, from_graph=True))
ANSWER = b'{"messages":[{"id":"wamid.A"}]}'


def read(*changes: Change, view: RowView | None = None, left_out: int = 0) -> list[dict[str, Any]]:
    notes = tuple(change.note for change in changes)
    return attempts_of(view or make_view(make_row(2, attempt=2)), History(notes, left_out))


def refusal(code: int, http_status: int = 400, **row: Any) -> Change:
    error = GraphError(
        code=code, http_status=http_status, from_graph=True, title="a title", fbtrace_id="A1b", subcode=33
    )
    attempted = msgspec.structs.replace(ROW, **row)
    return refused(attempted, TERM, error, classify(error), POLICY, lambda: 0.5, NOW)


def test_a_refusal_is_remembered_with_all_that_meta_said_of_it() -> None:
    (told,) = read(refusal(131000, 500))
    error = told.pop("error")
    assert (error["code"], error["subcode"], error["title"], error["fbtrace_id"]) == (
        131000,
        33,
        "a title",
        "A1b",
    )
    assert error["name"] and error["advice"]
    assert told == {
        "attempt": 2,
        "outcome": "retrying",
        "started_at": rfc3339(CLAIMED),
        "ended_at": rfc3339(NOW),
        "wamid": None,
        "burnt": True,
        "doubt": True,
        "retry_in_ms": 500,
    }


@pytest.mark.parametrize(
    ("change", "outcome", "burnt", "doubt", "retry_in_ms"),
    [
        pytest.param(refusal(130429, 429), "retrying", False, False, 500, id="a brake"),
        pytest.param(refusal(100), "failed", True, False, None, id="refused for good"),
        pytest.param(refusal(131000, 500, failures=2), "failed", True, True, None, id="the last attempt"),
        pytest.param(refusal(131047, has_fallback=True), "fallback", False, False, 0, id="its fallback"),
        pytest.param(
            refused(ROW, TERM, *unanswered(), POLICY, lambda: 0.5, NOW),
            "unknown",
            False,
            True,
            None,
            id="no answer",
        ),
        pytest.param(lost(ROW, "why", TERM, NOW), "unknown", False, True, None, id="the process died"),
        pytest.param(not_sent(ROW, TERM, "why", NOW, 2.5), "not_sent", False, False, 2500, id="not sent"),
        pytest.param(resolve_unknown(ROW, True, POLICY, NOW), "resent", True, False, 0, id="no word"),
        pytest.param(resolve_unknown(ROW, False, POLICY, NOW), "failed", True, False, None, id="given up"),
        pytest.param(
            fell_back(ROW, Change(ROW.id, State.FAILED, NOW, error=b"{}"), NOW),
            "fallback",
            False,
            False,
            0,
            id="its fallback by a status",
        ),
    ],
)
def test_each_end_of_an_attempt_is_remembered(
    change: Change, outcome: str, burnt: bool, doubt: bool, retry_in_ms: int | None
) -> None:
    (told,) = read(change)
    assert (told["attempt"], told["outcome"]) == (2, outcome)
    assert (told["started_at"], told["ended_at"]) == (rfc3339(CLAIMED), rfc3339(NOW))
    assert (told["burnt"], told["doubt"], told["retry_in_ms"]) == (burnt, doubt, retry_in_ms)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (not_sent(ROW, TERM, "cannot be reached", NOW, 1.0), "not_sent"),
        (lost(ROW, "the process died", TERM, NOW), "interrupted"),
        (resolve_unknown(ROW, True, POLICY, NOW), "no_word"),
        (resolve_unknown(ROW, False, POLICY, NOW), "no_word"),
    ],
)
def test_what_is_no_error_of_metas_is_remembered_by_its_name(change: Change, name: str) -> None:
    assert read(change)[0]["error"]["name"] == name


@pytest.mark.parametrize(
    ("change", "outcome", "retry_in_ms"),
    [
        pytest.param(requeued(ROW, NOW), "retried", 0, id="a person"),
        pytest.param(
            held_too_long(msgspec.structs.replace(ROW, state=State.QUEUED), VERDICT, NOW),
            "given_up",
            None,
            id="held for too long",
        ),
    ],
)
def test_what_happens_between_attempts_has_no_beginning(
    change: Change, outcome: str, retry_in_ms: int | None
) -> None:
    (told,) = read(change, view=make_view(make_row(2, attempt=2, claimed_at=CLAIMED)))
    assert (told["attempt"], told["outcome"], told["retry_in_ms"]) == (2, outcome, retry_in_ms)
    assert (told["started_at"], told["ended_at"], told["burnt"]) == (None, rfc3339(NOW), False)


@pytest.mark.parametrize("change", [requeued(ROW, NOW), refusal(131047, has_fallback=True)])
def test_a_move_that_is_read_from_its_event_is_remembered_too(change: Change) -> None:
    assert change.event is not None
    carried = carried_again(change.event.placed(1, 0), 2)
    assert carried is not None
    (told,), (again,) = read(change), read(carried)
    for name in ("attempt", "outcome", "ended_at", "burnt", "doubt", "retry_in_ms"):
        assert again[name] == told[name]


def test_a_message_that_is_taken_leaves_no_note() -> None:
    change, _ = taken(ROW, "wamid.A", ANSWER, NOW)
    assert change.note == b""


def seen(state: State, *wamids: str, attempt: int = 1, **times: int) -> RowView:
    row = make_row(2, state=state, attempt=attempt, claimed_at=CLAIMED)
    return msgspec.structs.replace(make_view(row, *wamids), **times)


@pytest.mark.parametrize(
    ("state", "times"),
    [
        (State.SENT, {"sent_at": NOW, "last_sent_at": NOW}),
        (State.DELIVERED, {"sent_at": NOW, "last_sent_at": NOW, "delivered_at": NOW + 5}),
        # A status overtook the answer.
        (State.DELIVERED, {"sent_at": NOW, "delivered_at": NOW}),
        (State.READ, {"sent_at": NOW - 9999, "read_at": NOW}),
    ],
)
def test_a_first_success_is_told_from_the_row(state: State, times: dict[str, int]) -> None:
    (told,) = read(view=seen(state, "wamid.A", **times))
    assert told == {
        "attempt": 1,
        "outcome": "sent",
        "started_at": rfc3339(CLAIMED),
        "ended_at": rfc3339(NOW),
        "error": None,
        "wamid": "wamid.A",
        "burnt": False,
        "doubt": False,
        "retry_in_ms": None,
    }


def test_a_success_after_refusals_is_told_after_them() -> None:
    view = seen(State.SENT, "wamid.A", attempt=3, sent_at=NOW)
    first = refusal(131000, 500, attempt=1, claimed_at=1)
    told = read(first, refusal(131000, 500), view=view)
    assert [(one["attempt"], one["outcome"]) for one in told] == [
        (1, "retrying"),
        (2, "retrying"),
        (3, "sent"),
    ]
    assert [one["started_at"] for one in told] == [rfc3339(1), rfc3339(CLAIMED), rfc3339(CLAIMED)]


def test_an_attempt_under_way_is_told_as_such() -> None:
    (told,) = read(view=seen(State.SENDING))
    assert (told["outcome"], told["started_at"], told["ended_at"]) == ("sending", rfc3339(CLAIMED), None)


@pytest.mark.parametrize("state", [State.QUEUED, State.CANCELLED, State.EXPIRED, State.FAILED])
def test_a_row_that_never_left_has_no_attempts(state: State) -> None:
    told: Sequence[dict[str, Any]] = read(view=seen(state, attempt=0))
    assert told == []


def test_a_beginning_that_a_note_does_not_know_is_told_from_the_row_of_its_last_attempt_alone() -> None:
    change = refusal(131047, has_fallback=True)
    assert change.event is not None
    carried = carried_again(change.event.placed(1, 0), 2)
    assert carried is not None
    last = make_view(make_row(2, attempt=2, claimed_at=CLAIMED))
    assert read(carried, view=last)[0]["started_at"] == rfc3339(CLAIMED)
    later = make_view(make_row(2, attempt=3, claimed_at=CLAIMED))
    assert read(carried, view=later)[0]["started_at"] is None

"""What becomes of a row after an attempt: moves with their guards, and the events that tell of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Change, NewEvent
from store.states import State
from tests.support.rows import LANE, TASK, make_row
from whatsapp.errors import GraphError, Verdict, classify
from whatsapp.outcome import (
    NO_WORD,
    WINDOW_CLOSED,
    Answer,
    Taken,
    cancelled,
    doubled,
    expired,
    fell_back,
    lost,
    not_sent,
    outcome_data,
    read_answer,
    refused,
    requeued,
    resolve_unknown,
    sent_key,
    shut_out,
    taken,
    unanswered,
)
from whatsapp.outcome_events import tells_fallback
from whatsapp.retry import RetryPolicy

NOW = 1_700_000_000_000
TERM = 7
POLICY = RetryPolicy(max_attempts=3, base_s=1.0, cap_s=100.0)
ROW = make_row(2, state=State.SENDING, attempt=2, failures=1, contact="16505551234", callback_data="order-7")
ABOUT_ROW = {
    "task_id": TASK,
    "message_id": f"{TASK}-2",
    "attempt": 2,
    "callback_data": "order-7",
}
ACCEPTED = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"+16505551234","wa_id":"16505551234"}],'
    b'"messages":[{"id":"wamid.A","message_status":"accepted"}]}'
)


def half() -> float:
    return 0.5


def graph_error(code: int, http_status: int = 400, **fields: Any) -> GraphError:
    return GraphError(code=code, http_status=http_status, from_graph=True, title="a title", **fields)


def refusal(
    error: GraphError, *, policy: RetryPolicy = POLICY, random: Callable[[], float] = half
) -> tuple[Change, Verdict]:
    verdict = classify(error)
    return refused(ROW, TERM, error, verdict, policy, random, NOW), verdict


def told(change: Change) -> NewEvent:
    """The event that a move is told by."""
    assert change.event is not None
    return change.event


def untold(change: Change) -> Change:
    return msgspec.structs.replace(change, event=None, note=b"")


def data_of(event: NewEvent) -> dict[str, Any]:
    """``data`` of an event, read as strictly as any subscriber may read it."""
    body = json.loads(event.body.decode())
    assert body["event"] == event.type
    assert (body["phone_number_id"], body["contact"]) == (event.phone_number_id, event.contact)
    data: dict[str, Any] = body["data"]
    return data


def assert_about_row(event: NewEvent) -> None:
    assert (event.phone_number_id, event.contact, event.message_id) == (LANE, "16505551234", f"{TASK}-2")
    assert event.at == NOW
    assert {name: data_of(event)[name] for name in ABOUT_ROW} == ABOUT_ROW


# -- reading an answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(ACCEPTED, id="as Meta's samples"),
        pytest.param(b'{"messages":[{"id":"wamid.A"}]}', id="the id alone"),
        pytest.param(b'{"messages":[{"id":"wamid.A"},{"id":"wamid.B"}]}', id="the first of several"),
        pytest.param(b'{"new":{"a":[1,null]},"messages":[{"id":"wamid.A","x":1}]}', id="unknown fields"),
        pytest.param(b'{"messages":[{"id":"wamid.A"}],"x":"\xff"}', id="a field that is not UTF-8"),
    ],
)
def test_an_accepted_message_has_its_id(body: bytes) -> None:
    result = read_answer(Answer(200, body, {}), NOW)
    assert isinstance(result, Taken)
    assert result.wamid == "wamid.A"


def test_an_answer_names_whom_meta_reached() -> None:
    result = read_answer(Answer(200, ACCEPTED, {}), NOW)
    assert isinstance(result, Taken)
    assert [(reached.wa_id, reached.user_id) for reached in result.contacts] == [("16505551234", "")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>ok</html>", id="a page"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(b'{"messages":[]}', id="no message"),
        pytest.param(b'{"messages":null}', id="messages missing"),
        pytest.param(b'{"messages":[{}]}', id="no id"),
        pytest.param(b'{"messages":[{"id":""}]}', id="an empty id"),
        pytest.param(b'{"messages":[{"id":7}]}', id="an id that is no text"),
        pytest.param(b'{"messages":[{"id":"wamid.A"}]', id="cut short"),
        pytest.param(b'{"messages":[{"id":"\xff"}]}', id="an id that is not UTF-8"),
        pytest.param(b'{"x":' + b"[" * 100_000, id="too deep"),
        pytest.param(b'{"messages":' + b"[" * 100_000, id="too deep where it matters"),
    ],
)
def test_without_a_message_id_nobody_knows_whether_it_was_taken(body: bytes) -> None:
    error = read_answer(Answer(200, body, {}), NOW)
    assert isinstance(error, GraphError)
    change = refused(ROW, TERM, error, classify(error), POLICY, half, NOW)
    assert change.to is State.UNKNOWN
    assert data_of(told(change))["error"]["name"] == "no_message_id"


@pytest.mark.parametrize("status", [201, 202, 204, 301, 400, 500])
def test_an_id_counts_only_in_an_answer_of_200(status: int) -> None:
    error = read_answer(Answer(status, ACCEPTED, {}), NOW)
    assert isinstance(error, GraphError)
    assert error.http_status == status


def test_a_refusal_is_read_with_its_headers() -> None:
    body = b'{"error":{"code":130429,"message":"(#130429) Rate limit hit"}}'
    error = read_answer(Answer(429, body, {"Retry-After": "17"}), NOW)
    assert isinstance(error, GraphError)
    assert (error.code, error.retry_after_s) == (130429, 17.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("wamid.A"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["messages", "id", "x"]), inner),
)
BODIES = st.binary() | JSON.map(json.dumps).map(str.encode)


@given(st.sampled_from([200, 200, 400, 500]), BODIES)
def test_any_bytes_are_an_answer_or_an_error(status: int, body: bytes) -> None:
    result = read_answer(Answer(status, body, {}), NOW)
    if isinstance(result, Taken):
        assert result.wamid
    else:
        refusal(result)


@given(st.binary(), st.binary())
def test_any_answer_that_was_read_can_be_told(before: bytes, after: bytes) -> None:
    body = b'{"x":"%b","messages":[{"id":"wamid.A"}],"y":"%b"}' % (before, after)
    if isinstance(read_answer(Answer(200, body, {}), NOW), Taken):
        assert data_of(taken(ROW, "wamid.A", body, NOW)[1])["answer"]["messages"] == [{"id": "wamid.A"}]


# -- taken -------------------------------------------------------------------------------------------------


def test_a_taken_row_is_sent_whatever_it_was() -> None:
    # No guard: an answer of Meta's with an id holds also where the lane has lost its lease, or given up.
    change, _ = taken(ROW, "wamid.A", ACCEPTED, NOW)
    assert untold(change) == Change(ROW.id, State.SENT, NOW, word_of=ROW.attempt, wamid="wamid.A")


def test_a_taken_row_is_told_with_metas_own_answer() -> None:
    _, event = taken(ROW, "wamid.A", ACCEPTED, NOW)
    assert (event.type, event.key) == ("message.sent", sent_key(ROW))
    assert_about_row(event)
    assert data_of(event) == {**ABOUT_ROW, "wamid": "wamid.A", "answer": json.loads(ACCEPTED)}


def test_a_row_is_told_as_sent_once_whichever_attempt_it_was() -> None:
    _, first = taken(make_row(2, attempt=1), "wamid.A", ACCEPTED, NOW)
    _, second = taken(make_row(2, attempt=2), "wamid.B", ACCEPTED, NOW + 1)
    assert first.key == second.key == f"row:{TASK}-2:sent"


# -- refused -----------------------------------------------------------------------------------------------

RATE_LIMIT, BAD_PARAMETER, BAD_TOKEN, INTERNAL = 130429, 100, 190, 131000


def test_a_failure_that_may_pass_goes_back_into_the_queue() -> None:
    change, verdict = refusal(graph_error(INTERNAL, 500))
    assert verdict.doubt
    assert (change.to, change.attempt, change.term) == (State.QUEUED, 2, TERM)
    assert (change.burn, change.doubt) == (True, True)
    assert change.due == NOW + 1000  # half of the two seconds after a second failure


def test_a_retry_tells_when() -> None:
    change, _ = refusal(graph_error(INTERNAL, 500))
    event = told(change)
    assert (event.type, event.key) == ("message.retrying", f"row:{TASK}-2:2:retrying")
    assert_about_row(event)
    assert data_of(event)["retry_in_ms"] == 1000
    assert data_of(event)["error"]["code"] == INTERNAL


def test_a_brake_burns_no_attempt() -> None:
    change, _ = refusal(graph_error(RATE_LIMIT, 429), policy=RetryPolicy(max_attempts=1))
    assert change.to is State.QUEUED
    assert not change.burn


def test_a_wait_that_meta_asks_for_is_kept() -> None:
    change, _ = refusal(graph_error(INTERNAL, 500, retry_after_s=40.0))
    assert change.due == NOW + 40_000


def test_a_final_refusal_fails_the_row() -> None:
    change, verdict = refusal(graph_error(BAD_PARAMETER))
    assert (change.to, change.attempt, change.term, change.burn) == (State.FAILED, 2, TERM, True)
    event = told(change)
    assert (event.type, event.key) == ("message.failed", f"row:{TASK}-2:2:failed")
    assert_about_row(event)
    assert data_of(event)["error"] == {
        "code": BAD_PARAMETER,
        "subcode": None,
        "title": "a title",
        "details": "",
        "fbtrace_id": "",
        "name": verdict.name,
        "advice": verdict.operator,
    }


def test_the_last_attempt_fails_the_row_and_keeps_the_doubt() -> None:
    change, _ = refusal(graph_error(INTERNAL, 500), policy=RetryPolicy(max_attempts=2))
    assert (change.to, change.doubt) == (State.FAILED, True)
    assert told(change).type == "message.failed"


def test_a_parked_row_goes_back_at_once_and_unburnt() -> None:
    change, _ = refusal(graph_error(BAD_TOKEN, 401))
    assert (change.to, change.due, change.burn) == (State.QUEUED, NOW, False)


def test_without_an_answer_the_outcome_is_unknown() -> None:
    error, verdict = unanswered()
    change = refused(ROW, TERM, error, verdict, POLICY, half, NOW)
    assert (change.to, change.attempt, change.term) == (State.UNKNOWN, 2, TERM)
    # It counts once it is clear that no word comes.
    assert (change.burn, change.doubt, change.due) == (False, True, 0)
    event = told(change)
    assert (event.type, event.key) == ("message.unknown", f"row:{TASK}-2:2:unknown")
    assert_about_row(event)
    assert data_of(event)["error"]["name"] == "no_answer"


@pytest.mark.parametrize("code", [INTERNAL, BAD_PARAMETER, BAD_TOKEN, RATE_LIMIT])
def test_the_refusal_is_kept_with_the_row_as_it_is_told(code: int) -> None:
    change, _ = refusal(graph_error(code, fbtrace_id="A1b", details="what is wrong"))
    assert msgspec.json.decode(change.error) == data_of(told(change))["error"]


@given(st.integers(1, 200_000), st.sampled_from([400, 401, 429, 500, 503]), st.floats(0, 1, exclude_max=True))
def test_every_refusal_is_guarded_by_its_attempt_and_term(code: int, status: int, fraction: float) -> None:
    change, _ = refusal(graph_error(code, status), random=lambda: fraction)
    assert (change.row_id, change.at, change.attempt, change.term) == (ROW.id, NOW, 2, TERM)
    assert change.only_from == (State.SENDING,)
    assert (change.due >= NOW) == (change.to is State.QUEUED)
    assert not change.wamid


# -- other ends --------------------------------------------------------------------------------------------


def test_a_refusal_for_a_closed_window_has_the_fallback_sent_once() -> None:
    row = msgspec.structs.replace(ROW, has_fallback=True)
    closed = graph_error(131047)
    change = refused(row, TERM, closed, classify(closed), POLICY, half, NOW)
    assert (change.to, change.fall_back, change.fresh, change.burn, change.due) == (
        State.QUEUED,
        True,
        False,
        False,
        NOW,
    )
    assert (change.attempt, change.term, change.only_from) == (2, TERM, (State.SENDING,))
    assert change.event is not None and change.event.type == "message.retrying"
    data = json.loads(change.event.body)["data"]
    assert (data["fallback"], data["retry_in_ms"], data["error"]["code"]) == (True, 0, 131047)
    assert refused(ROW, TERM, closed, classify(closed), POLICY, half, NOW).to is State.FAILED
    other = graph_error(100)
    assert refused(row, TERM, other, classify(other), POLICY, half, NOW).to is State.FAILED


def test_a_row_that_no_window_lets_through_falls_back_or_fails_and_no_attempt_counts() -> None:
    falls = shut_out(msgspec.structs.replace(ROW, has_fallback=True), TERM, NOW)
    assert untold(falls) == Change(
        ROW.id,
        State.QUEUED,
        NOW,
        attempt=2,
        term=TERM,
        only_from=(State.SENDING,),
        due=NOW,
        fall_back=True,
        error=falls.error,
        error_name=WINDOW_CLOSED,
    )
    assert told(falls).type == "message.retrying" and tells_fallback(told(falls).placed(1, 0))
    assert (data_of(told(falls))["fallback"], data_of(told(falls))["retry_in_ms"]) == (True, 0)
    fails = shut_out(ROW, TERM, NOW)
    assert untold(fails) == Change(
        ROW.id,
        State.FAILED,
        NOW,
        attempt=2,
        term=TERM,
        only_from=(State.SENDING,),
        error=fails.error,
        error_name=WINDOW_CLOSED,
    )
    assert told(fails).type == "message.failed"
    for change in (falls, fails):
        assert_about_row(told(change))
        error = msgspec.json.decode(change.error)
        assert error == data_of(told(change))["error"]
        assert error["name"] == WINDOW_CLOSED == classify(graph_error(131047)).name
        assert "24 hours" in error["title"] and "fallback template" in error["advice"]


def test_a_status_for_a_closed_window_has_the_fallback_sent_afresh() -> None:
    failure = Change(ROW.id, State.FAILED, NOW, attempt=2, wamid="wamid.A", error=b"{}")
    change = fell_back(ROW, failure, NOW)
    assert (change.to, change.fall_back, change.fresh, change.attempt, change.only_from) == (
        State.QUEUED,
        True,
        True,
        2,
        (State.FAILED,),
    )
    sent = msgspec.structs.replace(ROW, fell_back=True)
    assert outcome_data(sent)["fallback"] is True and "fallback" not in outcome_data(ROW)


@pytest.mark.parametrize(("asked", "resend", "again"), [("resend", False, True), ("fail", True, False)])
def test_a_row_says_what_becomes_of_it_in_doubt(asked: str, resend: bool, again: bool) -> None:
    row = msgspec.structs.replace(ROW, on_unknown=asked)
    change = resolve_unknown(row, resend, POLICY, NOW)
    assert change.to is (State.QUEUED if again else State.FAILED)


def test_what_never_left_goes_back_unburnt_and_without_doubt() -> None:
    change = not_sent(ROW, TERM, "the Graph API cannot be reached", NOW, 2.5)
    assert untold(change) == Change(
        ROW.id, State.QUEUED, NOW, attempt=2, term=TERM, only_from=(State.SENDING,), due=NOW + 2500
    )
    assert told(change).type == "message.retrying"
    assert_about_row(told(change))
    data = data_of(told(change))
    assert data["retry_in_ms"] == 2500
    assert data["error"] == {"name": "not_sent", "title": "the Graph API cannot be reached"}


def test_a_row_whose_sender_is_gone_is_unknown_unless_a_newer_owner_has_marked_it() -> None:
    change = lost(ROW, "why", TERM, NOW)
    assert untold(change) == Change(
        ROW.id, State.UNKNOWN, NOW, attempt=2, before_term=TERM, only_from=(State.SENDING,), doubt=True
    )
    event = told(change)
    assert (event.type, event.key) == ("message.unknown", f"row:{TASK}-2:2:unknown")
    assert_about_row(event)
    assert data_of(event)["error"] == {"name": "interrupted", "title": "why"}


@pytest.mark.parametrize("failures", [0, 1])
def test_without_a_word_a_row_is_sent_again_and_has_used_an_attempt(failures: int) -> None:
    row = msgspec.structs.replace(ROW, state=State.UNKNOWN, failures=failures)
    change = resolve_unknown(row, True, POLICY, NOW)
    assert untold(change) == Change(
        ROW.id, State.QUEUED, NOW, attempt=2, only_from=(State.UNKNOWN,), due=NOW, burn=True
    )
    assert (told(change).type, told(change).key) == ("message.retrying", f"row:{TASK}-2:2:resend")
    assert_about_row(told(change))
    assert data_of(told(change))["retry_in_ms"] == 0
    assert "sent again by itself" in data_of(told(change))["error"]["advice"]


@pytest.mark.parametrize(("resend", "failures"), [(False, 0), (True, 2), (True, 9)])
def test_without_a_word_and_without_attempts_a_row_fails(resend: bool, failures: int) -> None:
    row = msgspec.structs.replace(ROW, state=State.UNKNOWN, failures=failures)
    change = resolve_unknown(row, resend, POLICY, NOW)
    assert (change.to, change.attempt, change.only_from) == (State.FAILED, 2, (State.UNKNOWN,))
    assert change.burn
    assert (told(change).type, told(change).key) == ("message.failed", f"row:{TASK}-2:2:failed")
    assert msgspec.json.decode(change.error) == data_of(told(change))["error"]
    error = data_of(told(change))["error"]
    assert error["name"] == NO_WORD and "ask before" in error["advice"]


def test_a_row_that_was_late_expires_unless_it_has_left() -> None:
    row = make_row(2, callback_data="order-7")
    change = expired(row, NOW)
    assert untold(change) == Change(row.id, State.EXPIRED, NOW, only_from=(State.QUEUED,))
    assert (told(change).type, told(change).key) == ("message.expired", f"row:{TASK}-2:0:expired")
    assert data_of(told(change)) == {**ABOUT_ROW, "attempt": 0, "wamid": None, "reason": "expires_at"}


def test_a_double_is_told_once_for_each_further_id() -> None:
    twice = doubled(ROW, ("wamid.A", "wamid.B"), NOW)
    thrice = doubled(ROW, ("wamid.A", "wamid.B", "wamid.C"), NOW)
    assert (twice.type, twice.key) == ("message.doubled", f"row:{TASK}-2:doubled:2")
    assert thrice.key == f"row:{TASK}-2:doubled:3"
    assert_about_row(twice)
    assert data_of(twice)["wamid"] == "wamid.B"
    assert data_of(twice)["wamids"] == ["wamid.A", "wamid.B"]


def test_what_is_not_known_of_a_row_is_null() -> None:
    assert outcome_data(make_row(0), extra=1) == {
        "task_id": TASK,
        "message_id": f"{TASK}-0",
        "wamid": None,
        "attempt": 0,
        "callback_data": None,
        "extra": 1,
    }


def test_each_attempt_has_keys_of_its_own() -> None:
    error, verdict = unanswered()
    rows = [make_row(n, attempt=attempt) for n in (0, 1) for attempt in (1, 2)]
    keys = {refused(row, TERM, error, verdict, POLICY, half, NOW).event.key for row in rows}
    assert len(keys) == 4


# -- what a person does --------------------------------------------------------------------------------


def test_a_row_is_cancelled_from_the_queue_alone() -> None:
    row = make_row(2, attempt=1, callback_data="order-7")
    change = cancelled(row, NOW)
    assert (change.to, change.only_from, change.at) == (State.CANCELLED, (State.QUEUED,), NOW)
    assert change.event is not None and change.event.type == "message.cancelled"
    assert json.loads(change.event.body)["data"] == {**ABOUT_ROW, "wamid": None, "attempt": 1}


def test_a_row_that_failed_is_queued_afresh() -> None:
    row = make_row(2, state=State.FAILED, attempt=2, failures=2)
    change = requeued(row, NOW)
    assert (change.to, change.only_from, change.attempt) == (State.QUEUED, (State.FAILED,), 2)
    assert (change.due, change.fresh, change.burn) == (NOW, True, False)
    assert change.event is not None and change.event.type == "message.retrying"
    assert json.loads(change.event.body)["data"]["retry_in_ms"] == 0


def test_each_time_that_a_row_is_queued_afresh_has_events_of_its_own() -> None:
    again = [requeued(make_row(2, attempt=2, retried=n), NOW).event for n in range(3)]
    assert len({event.key for event in again if event}) == 3
    assert len({sent_key(make_row(2, retried=n)) for n in range(3)}) == 3
    assert sent_key(ROW) == f"row:{TASK}-2:sent"

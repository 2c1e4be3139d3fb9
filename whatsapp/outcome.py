"""What becomes of a row after an attempt: the one place where answers turn into moves of the outbox and
events.

Pure: an answer (or the lack of one), the row, the time and a random source go in; a change of the row, with
the event that tells it, comes out. What an error means is asked of ``errors.py``, when to try again of
``retry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from store.records import Change, NewEvent, Row, RowView
from store.states import State
from whatsapp.attempt_history import Ending, noted
from whatsapp.error_policy import Scope
from whatsapp.errors import (
    GraphError,
    Outcome,
    Verdict,
    classify,
    error_object,
    parse_error,
)
from whatsapp.events import EventType, build_event
from whatsapp.retry import GiveUp, RetryPolicy

__all__ = [
    "AGAIN",
    "FALLS_BACK",
    "HELD",
    "NO_WORD",
    "SUPPRESSED",
    "UNDONE",
    "WINDOW_CLOSED",
    "Answer",
    "Taken",
    "afresh",
    "cancelled",
    "died",
    "doubled",
    "expired",
    "fell_back",
    "given_up",
    "held_too_long",
    "is_doubled",
    "kept_error",
    "lost",
    "name_of",
    "not_sent",
    "outcome_data",
    "proved",
    "read_answer",
    "refused",
    "requeued",
    "resolve_unknown",
    "sent_key",
    "shut_out",
    "suppressed",
    "taken",
    "unanswered",
    "undone",
]


NO_WORD = "no_word"
"""Name of the error of a row of which Meta has said nothing within the grace."""
SUPPRESSED = "suppressed"
"""Name of the error of a row that was not sent since its recipient has opted out."""
WINDOW_CLOSED = "window_closed"
"""Name in the error table of Meta's refusal for want of an open 24-hour window (131047)."""
_CLOSED_CODE = 131047
_SENT_AGAIN = "it is sent again by itself, and message.doubled tells if Meta gives word of both."
_ASK_FIRST = "ask before it is sent anew."
FALLS_BACK = "fallback"
"""Ends the keys of events of rows that send their fallback from then on."""
HELD = "held:"
"""Marks the keys of events of rows that failed while they waited for their template."""
UNDONE = "undone"
"""Ends the keys of events of rows that Meta took, failed later, and that are sent again."""
_PATIENCE = 20
"""How often Meta may take a message and then refuse it for a limit, before its attempts count; the times that
a person has had it sent anew are among them. Not the rule of ``brakes.py``, which counts refused calls."""
AGAIN = "again:"
"""Marks the keys of events of rows that a person has had sent anew."""


class Answer(NamedTuple):
    """What Graph said to a call. The body is whatever came, JSON or not."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class _Id(msgspec.Struct):
    id: str


class _Reached(msgspec.Struct):
    wa_id: str = ""
    user_id: str = ""


class Taken(msgspec.Struct):
    """Meta's answer to an accepted message (CLOUD_API.md 1.2)."""

    messages: list[_Id]
    contacts: list[_Reached] = []

    @property
    def wamid(self) -> str:
        """The id that Meta gave the message."""
        return self.messages[0].id


def read_answer(answer: Answer, now: int) -> Taken | GraphError:
    """Whether Meta took the message; a 200 without a message id is an error of its own."""
    if answer.status == 200:
        try:
            accepted = msgspec.json.decode(answer.body, type=Taken)
            if accepted.messages and accepted.wamid:
                return accepted
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass
    return parse_error(answer.status, answer.body, answer.headers, now)


def taken(row: Row, wamid: str, answer: bytes, now: int) -> tuple[Change, NewEvent]:
    """Meta took it. ``answer`` is what :func:`read_answer` has read. The event is true whether or not the row
    moves: a status may have overtaken the answer."""
    # It goes to every subscriber as it stands: the reader has passed over text that is not UTF-8.
    whole = answer.decode("utf-8", "replace").encode()
    data = outcome_data(row, wamid=wamid, answer=msgspec.Raw(whole))
    event = _event(EventType.MESSAGE_SENT, sent_key(row), row, now, data)
    return Change(row.id, State.SENT, now, word_of=row.attempt, wamid=wamid), event


def refused(
    row: Row,
    term: int,
    error: GraphError,
    verdict: Verdict,
    policy: RetryPolicy,
    random: Callable[[], float],
    now: int,
) -> Change:
    """Meta did not take it, or nobody knows: retry, give up, or wait for word."""
    data = outcome_data(row, error=error_object(error, verdict))
    guards: dict[str, Any] = {**_guards(row, term), "at": now, **kept_error(data["error"])}
    if row.has_fallback and verdict.name == WINDOW_CLOSED:
        event = _fallback_event(row, now, data)
        change = Change(row.id, State.QUEUED, due=now, fall_back=True, event=event, **guards)
        return noted(change, row, Ending.FALLBACK)
    if verdict.outcome is Outcome.UNKNOWN:
        event = _event(EventType.MESSAGE_UNKNOWN, _key(row, "unknown"), row, now, data)
        change = Change(row.id, State.UNKNOWN, doubt=True, event=event, **guards)
        return noted(change, row, Ending.UNKNOWN)
    decision = policy.decide(verdict, row.failures, random, row.spared)
    if isinstance(decision, GiveUp):
        event = _event(EventType.MESSAGE_FAILED, _key(row, "failed"), row, now, data)
        change = Change(row.id, State.FAILED, burn=True, doubt=verdict.doubt, event=event, **guards)
        return noted(change, row, Ending.FAILED)
    due = now + int(1000 * decision.delay_s)
    event = _event(
        EventType.MESSAGE_RETRYING, _key(row, "retrying"), row, now, {**data, "retry_in_ms": due - now}
    )
    burn = policy.counts(verdict, row.spared)
    change = Change(
        row.id, State.QUEUED, due=due, burn=burn, spared=not burn, doubt=verdict.doubt, event=event, **guards
    )
    return noted(change, row, Ending.RETRYING)


def shut_out(row: Row, term: int, now: int) -> Change:
    """It was claimed, and before the call it turns out that the window is closed: its fallback is sent, or it
    fails. No attempt counts, since none was made."""
    advice = classify(GraphError(code=_CLOSED_CODE, http_status=400, from_graph=True)).operator
    title = "the recipient has not written for 24 hours, so only a template reaches them"
    error = {"name": WINDOW_CLOSED, "title": title, "advice": advice}
    data = outcome_data(row, error=error)
    guards: dict[str, Any] = {**_guards(row, term), "at": now, **kept_error(error)}
    if row.has_fallback:
        event = _fallback_event(row, now, data)
        change = Change(row.id, State.QUEUED, due=now, fall_back=True, event=event, **guards)
        return noted(change, row, Ending.FALLBACK)
    event = _event(EventType.MESSAGE_FAILED, _key(row, "failed"), row, now, data)
    return noted(Change(row.id, State.FAILED, event=event, **guards), row, Ending.FAILED)


def fell_back(row: Row, failure: Change, now: int) -> Change:
    """What follows on ``failure`` where it is a status's word that the window was closed for what Meta had
    taken: its fallback is sent, with its attempts counted anew."""
    data = outcome_data(row, wamid=failure.wamid, error=msgspec.Raw(failure.error))
    event = _fallback_event(row, now, data)
    change = msgspec.structs.replace(afresh(row.id, row.attempt, now), fall_back=True, event=event)
    return noted(change, row, Ending.FALLBACK)


def undone(
    view: RowView,
    failure: Change,
    verdict: Verdict,
    policy: RetryPolicy,
    random: Callable[[], float],
    now: int,
) -> Change | None:
    """What a status that fails what Meta had taken makes of its row, in place of ``failure``, where the table
    lets it be sent again; None where it stays failed.

    What a lane knows of the refusals before is not known here: a row that is refused again for what parked
    the number, or for limits without end, loses an attempt each time.
    """
    row = view.row
    verdict = _counted(view, verdict)
    decision = policy.decide(verdict, row.failures, random, row.spared)
    if isinstance(decision, GiveUp):
        return None
    due = now + int(1000 * decision.delay_s)
    held = {} if verdict.scope is Scope.ROW else {"holds": verdict.scope.value}
    data = outcome_data(
        row, wamid=failure.wamid, error=msgspec.Raw(failure.error), retry_in_ms=due - now, **held
    )
    burn = policy.counts(verdict, row.spared)
    change = msgspec.structs.replace(
        failure,
        to=State.QUEUED,
        attempt=row.attempt,
        due=due,
        burn=burn,
        spared=not burn,
        undone=True,
        event=_event(EventType.MESSAGE_RETRYING, _key(row, UNDONE), row, now, data),
    )
    return noted(change, row, Ending.RETRYING)


def _counted(view: RowView, verdict: Verdict) -> Verdict:
    """The verdict as it counts for a row that Meta fails after it took it."""
    if verdict.outcome is Outcome.PARK and name_of(view.error) == verdict.name:
        return msgspec.structs.replace(verdict, outcome=Outcome.RETRY, scope=Scope.ROW, burn=True)
    if view.row.retried >= _PATIENCE:
        return msgspec.structs.replace(verdict, burn=True)
    return verdict


class _Named(msgspec.Struct):
    name: str = ""


def name_of(error: bytes) -> str:
    """The name in the error table of what is kept on a row; empty where nothing is."""
    return msgspec.json.decode(error, type=_Named).name if error else ""


def held_too_long(row: Row, verdict: Verdict, now: int) -> Change:
    """Meta has stopped its template, and it has waited for it for as long as it may."""
    words = GraphError(code=verdict.code, from_graph=True, title="its template was stopped for too long")
    error = error_object(words, verdict)
    # It may have failed after the same attempt before, and been retried by a person.
    key = _key(row, f"{HELD}{row.retried}")
    event = _event(EventType.MESSAGE_FAILED, key, row, now, outcome_data(row, error=error))
    change = msgspec.structs.replace(given_up(row.id, row.attempt, now, error), event=event)
    return noted(change, row, Ending.GIVEN_UP)


def suppressed(row: Row, now: int) -> Change:
    """Its contact has opted out since it was accepted: it fails without a call."""
    error = {
        "name": SUPPRESSED,
        "title": "the recipient has opted out of messages that they did not ask for",
        "advice": "Leave them out of broadcasts until they come back: GET /api/suppressions says since when.",
    }
    key = _key(row, f"{HELD}{row.retried}")
    event = _event(EventType.MESSAGE_FAILED, key, row, now, outcome_data(row, error=error))
    change = msgspec.structs.replace(given_up(row.id, row.attempt, now, error), event=event)
    return noted(change, row, Ending.GIVEN_UP)


def given_up(row_id: str, attempt: int, at: int, error: Mapping[str, Any]) -> Change:
    """The end of a row that waits, without its event."""
    guards: dict[str, Any] = {"attempt": attempt, "only_from": (State.QUEUED,)}
    return Change(row_id, State.FAILED, at, **guards, **kept_error(error))


def not_sent(row: Row, term: int, why: str, now: int, delay_s: float) -> Change:
    """The request never left: back into the queue, no attempt burnt."""
    due = now + int(1000 * delay_s)
    error = {"name": "not_sent", "title": why}
    data = outcome_data(row, error=error, retry_in_ms=due - now)
    event = _event(EventType.MESSAGE_RETRYING, _key(row, "retrying"), row, now, data)
    change = Change(row.id, State.QUEUED, now, due=due, event=event, **_guards(row, term))
    return noted(change, row, Ending.NOT_SENT, msgspec.json.encode(error))


def lost(row: Row, why: str, before_term: int, now: int) -> Change:
    """It stands in ``sending`` and has no call: nobody knows what became of one. Stopped where a newer owner
    of the lane, with a term from ``before_term`` on, has marked it."""
    error = {"name": "interrupted", "title": why}
    event = _event(EventType.MESSAGE_UNKNOWN, _key(row, "unknown"), row, now, outcome_data(row, error=error))
    change = Change(
        row.id,
        State.UNKNOWN,
        now,
        attempt=row.attempt,
        before_term=before_term,
        only_from=(State.SENDING,),
        doubt=True,
        event=event,
    )
    return noted(change, row, Ending.UNKNOWN, msgspec.json.encode(error))


def resolve_unknown(row: Row, resend: bool, policy: RetryPolicy, now: int) -> Change:
    """The grace is over without a word: send it again, or give up, as the row asks or else as ``resend``
    says."""
    if row.on_unknown:
        resend = row.on_unknown == "resend"
    guards: dict[str, Any] = {"at": now, "attempt": row.attempt, "only_from": (State.UNKNOWN,), "burn": True}
    again = resend and row.failures + 1 < policy.max_attempts
    error = {
        "name": NO_WORD,
        "title": "no answer and no status within the grace",
        "advice": f"Nobody knows whether the recipient has it: {_SENT_AGAIN if again else _ASK_FIRST}",
    }
    data = outcome_data(row, error=error)
    if again:
        event = _event(EventType.MESSAGE_RETRYING, _key(row, "resend"), row, now, {**data, "retry_in_ms": 0})
        change = Change(row.id, State.QUEUED, due=now, event=event, **guards)
        return noted(change, row, Ending.RESENT, msgspec.json.encode(error))
    event = _event(EventType.MESSAGE_FAILED, _key(row, "failed"), row, now, data)
    change = Change(row.id, State.FAILED, **kept_error(error), event=event, **guards)
    return noted(change, row, Ending.FAILED)


def expired(row: Row, now: int) -> Change:
    """Its time passed before it left."""
    data = outcome_data(row, reason="expires_at")
    event = _event(EventType.MESSAGE_EXPIRED, _key(row, "expired"), row, now, data)
    return Change(row.id, State.EXPIRED, now, only_from=(State.QUEUED,), event=event)


def cancelled(row: Row, now: int) -> Change:
    """A person takes it back before it has left, or while it waits to be sent again."""
    event = _event(EventType.MESSAGE_CANCELLED, _key(row, "cancelled"), row, now, outcome_data(row))
    return Change(row.id, State.CANCELLED, now, only_from=(State.QUEUED,), event=event)


def requeued(row: Row, now: int) -> Change:
    """A person has a row that failed sent anew, at once, as if nothing had been tried yet."""
    key = _key(row, f"{AGAIN}{row.retried + 1}")
    event = _event(EventType.MESSAGE_RETRYING, key, row, now, outcome_data(row, retry_in_ms=0))
    change = msgspec.structs.replace(afresh(row.id, row.attempt, now), event=event)
    return noted(change, row, Ending.RETRIED)


def afresh(row_id: str, attempt: int, now: int) -> Change:
    """A row that failed is queued as if nothing had been tried yet, without its event."""
    return Change(row_id, State.QUEUED, now, attempt=attempt, only_from=(State.FAILED,), due=now, fresh=True)


def proved(row: Row, wamid: str, proof: State, now: int) -> NewEvent:
    """A status is the first to prove that Meta took the row."""
    data = outcome_data(row, wamid=wamid, proof=proof.value)
    return _event(EventType.MESSAGE_SENT, sent_key(row), row, now, data)


def is_doubled(row: Row, wamids: Collection[str]) -> bool:
    """Whether the recipient may have it twice: what was sent anew after it had failed has another id by
    right."""
    return len(wamids) > 1 + row.retried


def doubled(row: Row, wamids: Sequence[str], now: int) -> NewEvent:
    """Meta gave the row more than one id: the recipient may have the message as often."""
    data = outcome_data(row, wamid=wamids[-1], wamids=list(wamids))
    return _event(EventType.MESSAGE_DOUBLED, f"row:{row.id}:doubled:{len(wamids)}", row, now, data)


def died(view: RowView) -> NewEvent:
    """A row has come to rest in ``failed``: told once for each time, by whichever way it came there."""
    row = view.row
    data = outcome_data(
        row,
        wamid=view.wamids[-1] if view.wamids else "",
        error=msgspec.Raw(view.error or b"null"),
        attempts=row.attempt,
        retried=row.retried,
    )
    key = f"row:{row.id}:dead:{row.attempt}:{row.retried}"
    return _event(EventType.MESSAGE_DEAD, key, row, view.ended_at, data)


def _fallback_event(row: Row, now: int, data: dict[str, Any]) -> NewEvent:
    data = {**data, "retry_in_ms": 0, "fallback": True}
    return _event(EventType.MESSAGE_RETRYING, _key(row, FALLS_BACK), row, now, data)


def sent_key(row: Row) -> str:
    """Key of the event that a row was sent: one a row, whoever proves it first, and one more each time that a
    person has had it sent anew."""
    return f"row:{row.id}:sent" + (f":{row.retried}" if row.retried else "")


def outcome_data(row: Row, *, wamid: str = "", **more: object) -> dict[str, Any]:
    """``data`` of an event about a row of ours (contract.md, Events)."""
    return {
        "task_id": row.task_id,
        "message_id": row.id,
        "wamid": wamid or None,
        "attempt": row.attempt,
        "callback_data": row.callback_data or None,
        **({"fallback": True} if row.fell_back else {}),
        **more,
    }


def kept_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a :class:`~store.records.Change` that keep an error on its row."""
    return {
        "error": msgspec.json.encode(error),
        "error_name": error.get("name") or "",
        "error_code": error.get("code") or 0,
    }


def _guards(row: Row, term: int) -> dict[str, Any]:
    """Only while this attempt is under way: what another owner, or a status, made of the row since stands."""
    return {"attempt": row.attempt, "term": term, "only_from": (State.SENDING,)}


def _event(type: str, key: str, row: Row, now: int, data: dict[str, Any]) -> NewEvent:
    return build_event(type, key, now, data, phone_number_id=row.lane, contact=row.contact, message_id=row.id)


def _key(row: Row, outcome: str) -> str:
    return f"row:{row.id}:{row.attempt}:{outcome}"


def unanswered() -> tuple[GraphError, Verdict]:
    """A call that may have left and got no answer."""
    error = GraphError(title="no answer")
    return error, classify(error)

"""What the events of our rows say, for who reads them from the log: ``outcome.py`` the other way round.

Pure. Owns which event tells of which move of a row, and the move that it tells of. The keys and moves
themselves are those of ``outcome.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from store.records import Change, Event, RowView
from store.states import State
from whatsapp.attempt_history import Ending, noted_by_event
from whatsapp.error_policy import Scope
from whatsapp.errors import GraphError, Verdict, classify, parse_status_errors
from whatsapp.events import EventType
from whatsapp.outcome import AGAIN, FALLS_BACK, HELD, UNDONE, afresh, given_up

__all__ = [
    "carried_again",
    "carried_held",
    "holds_of",
    "tells_fallback",
    "tells_held",
    "tells_undone",
    "verdict_of",
]


class _Coded(msgspec.Struct):
    code: int | None = None


class _Undone(msgspec.Struct):
    error: _Coded
    holds: Scope = Scope.ROW


class _UndoneBody(msgspec.Struct):
    data: _Undone


def holds_of(event: Event) -> Verdict | None:
    """What a row that Meta failed after it took it calls for beyond itself, read from its event of
    :func:`~whatsapp.outcome.undone`; None where for nothing."""
    data = msgspec.json.decode(event.body, type=_UndoneBody).data
    if data.holds is Scope.ROW:
        return None
    code = data.error.code
    return classify(GraphError(code=code or 0, from_graph=code is not None, by_webhook=True))


class _Failed(msgspec.Struct):
    errors: object = None


class _FailedStatus(msgspec.Struct):
    status: _Failed


class _FailedBody(msgspec.Struct):
    data: _FailedStatus


def verdict_of(event: Event) -> Verdict:
    """What the error table says of a ``message.failed`` that is a status of Meta's."""
    try:
        errors = msgspec.json.decode(event.body, type=_FailedBody).data.status.errors
    except msgspec.MsgspecError:
        errors = None
    return classify(parse_status_errors(errors))


def tells_held(event: Event) -> bool:
    """Whether it says that a row failed while it waited for its template: the event of
    :func:`~whatsapp.outcome.held_too_long`."""
    return event.type == EventType.MESSAGE_FAILED and f":{HELD}" in event.key


def tells_fallback(event: Event) -> bool:
    """Whether it says that a row sends its fallback from then on."""
    return event.type == EventType.MESSAGE_RETRYING and event.key.endswith(f":{FALLS_BACK}")


def tells_undone(event: Event) -> bool:
    """Whether it says that a row that Meta failed after it took it is sent again."""
    return event.type == EventType.MESSAGE_RETRYING and event.key.endswith(f":{UNDONE}")


def carried_held(event: Event, view: RowView, error: Mapping[str, Any]) -> Change | None:
    """The move of :func:`~whatsapp.outcome.held_too_long`, read from its event; None where the row was sent
    anew since."""
    row = view.row
    if not event.key.endswith(f":{HELD}{row.retried}"):
        return None
    change = given_up(row.id, row.attempt, event.at, error)
    return noted_by_event(change, event, row.attempt, Ending.GIVEN_UP)


def carried_again(event: Event, attempt: int) -> Change | None:
    """The move of :func:`~whatsapp.outcome.requeued`, or of a row that :func:`~whatsapp.outcome.refused` has
    fall back, read from its event; None of another event's."""
    if tells_fallback(event):
        change = Change(
            event.message_id,
            State.QUEUED,
            event.at,
            attempt=attempt,
            only_from=(State.SENDING,),
            due=event.at,
            fall_back=True,
        )
        return noted_by_event(change, event, attempt, Ending.FALLBACK)
    if event.type != EventType.MESSAGE_RETRYING or f":{AGAIN}" not in event.key:
        return None
    again = afresh(event.message_id, attempt, event.at)
    return noted_by_event(again, event, attempt, Ending.RETRIED)

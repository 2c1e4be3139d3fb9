"""Messages that Meta took and never spoke of again: the move from ``sent`` to ``expired``, by our own clock.

Pure. Owns that move and its event; when it is due is said in ``time_to_live.py``, who looks for such rows in
``unheard_sweep.py``. A late ``delivered`` or ``read`` still moves the row on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.records import Change, Event, RowView
from store.states import State
from whatsapp.events import EventType, build_event
from whatsapp.outcome import kept_error, outcome_data

__all__ = ["carried_unheard", "tells_unheard", "unheard"]

_UNHEARD = "unheard"
"""Ends the keys of its events, to be told from those of messages that never left."""


def unheard(view: RowView, now: int) -> Change:
    """Its time to live is over, and Meta has not said that it arrived."""
    row = view.row
    error = {
        "name": "time_to_live",
        "title": "Meta has not told of its delivery within its time to live, and tries no longer",
        "advice": "The recipient was not reached in time: their phone may have been off, or they may have"
        " blocked the number. Send it anew if it is still of use.",
    }
    data = outcome_data(row, wamid=view.wamids[-1] if view.wamids else "", reason="time_to_live", error=error)
    event = build_event(
        EventType.MESSAGE_EXPIRED,
        f"row:{row.id}:{row.attempt}:{_UNHEARD}",
        now,
        data,
        phone_number_id=row.lane,
        contact=row.contact,
        message_id=row.id,
    )
    return _expired(row.id, row.attempt, now, error, event=event)


def tells_unheard(event: Event) -> bool:
    """Whether it is the event of :func:`unheard`."""
    return event.type == EventType.MESSAGE_EXPIRED and event.key.endswith(f":{_UNHEARD}")


def carried_unheard(event: Event, attempt: int, error: Mapping[str, Any] | None) -> Change:
    """The move of :func:`unheard`, read from its event."""
    return _expired(event.message_id, attempt, event.at, error or {})


def _expired(row_id: str, attempt: int, at: int, error: Mapping[str, Any], **more: Any) -> Change:
    return Change(
        row_id,
        State.EXPIRED,
        at,
        attempt=attempt,
        only_from=(State.SENT,),
        **(kept_error(error) if error else {}),
        **more,
    )

"""A message's whole life, by Meta's id of it or by ours: what it said, what was tried, what became of it.

Owns the looking up and the shape of the answer (contract.md, Messages). Events are found by their keys, which
name the row, or the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from store.base import Store
from store.records import Event, RowView
from store.states import State
from store.threads import Said
from whatsapp.attempt_history import attempts_of
from whatsapp.conversations import Conversations
from whatsapp.dead_letters import advice_on
from whatsapp.events import STATUS_KEY, rfc3339
from whatsapp.task_messages import message_of
from whatsapp.thread_events import keys_of_message, read_event

__all__ = ["MessageLives"]

_MOST_EVENTS = 500
_MOST_REPLIES = 50
_LOOKED_AT = 200
"""Messages after it, in its thread, among which replies to it are looked for."""


class _Status(msgspec.Struct):
    status: str = ""
    timestamp: object = None
    recipient_id: object = None
    recipient_user_id: object = None
    pricing: object = None
    conversation: object = None
    errors: object = None


class _StatusData(msgspec.Struct):
    status: _Status
    attempt: int | None = None
    wamid: str | None = None


class _StatusBody(msgspec.Struct):
    data: _StatusData


class MessageLives:
    """Finds them."""

    def __init__(self, store: Store, conversations: Conversations) -> None:
        self._store = store
        self._conversations = conversations

    async def of_row(self, message_id: str) -> dict[str, Any] | None:
        """One of ours, by our id; None where there is none. Raises StoreUnavailable."""
        view = (await self._store.find_rows([message_id])).get(message_id)
        return await self._sent(view) if view is not None else None

    async def of_wamid(self, wamid: str) -> dict[str, Any] | None:
        """Any, by Meta's id; None where nothing is known of it. Raises StoreUnavailable."""
        row_id = (await self._store.find_by_wamid([wamid])).get(wamid)
        if row_id is not None:
            return await self.of_row(row_id)
        statuses = await self._store.find_events([f"{STATUS_KEY}{wamid}:"], _MOST_EVENTS)
        events = [
            *await self._store.events_of(keys_of_message(wamid)),
            # What begins so may be about a message whose id goes on.
            *(one for one in statuses if (_status(one) or {}).get("wamid") == wamid),
        ]
        events.sort(key=lambda event: event.offset)
        return await self._other(wamid, events) if events else None

    async def _sent(self, view: RowView) -> dict[str, Any]:
        row = view.row
        beginnings = [f"row:{row.id}:", *(f"{STATUS_KEY}{wamid}:" for wamid in view.wamids)]
        events = await self._store.find_events(beginnings, _MOST_EVENTS)
        history = await self._store.find_history(row.id)
        return {
            "direction": "out",
            **{name: value for name, value in message_of(view).items() if name != "n"},
            "task_id": row.task_id,
            "phone_number_id": row.lane,
            "contact": row.contact,
            "retried": row.retried,
            "doubt": row.doubt,
            "message": msgspec.Raw(row.payload),
            "advice": advice_on(view) if row.state is State.FAILED else None,
            "attempts": attempts_of(view, history),
            "attempts_left_out": history.left_out,
            "statuses": [status for event in events if (status := _status(event)) is not None],
            "replies": await self._replies(row.contact, view.wamids, events),
            "events": [_told(event) for event in events],
        }

    async def _other(self, wamid: str, events: Sequence[Event]) -> dict[str, Any]:
        said = next((found for event in events if isinstance(found := read_event(event), Said)), None)
        told = (await self._conversations.told([said.offset])).get(said.offset) if said else None
        direction = "in" if said is not None and said.kind in ("in", "standby") else "out"
        contact = said.contact if said else events[0].contact
        return {
            "direction": direction,
            "wamid": wamid,
            "phone_number_id": events[0].phone_number_id,
            "contact": contact,
            "message": told,
            "statuses": [status for event in events if (status := _status(event)) is not None],
            "replies": await self._replies(contact, [wamid], events),
            "events": [_told(event) for event in events],
        }

    async def _replies(
        self, contact: str, wamids: Sequence[str], events: Sequence[Event]
    ) -> list[dict[str, Any]]:
        """What was said in answer to it, by either side, not long after it."""
        if not wamids or not events:
            return []
        said = await self._store.said_of(contact, _LOOKED_AT, after=events[0].offset)
        told = await self._conversations.tell(said)
        return [one for one in told if one["reply_to"] in wamids][:_MOST_REPLIES]


def _told(event: Event) -> dict[str, Any]:
    return {
        "offset": event.offset,
        "event": event.type,
        "at": rfc3339(event.at),
        "data": msgspec.json.decode(event.body, type=_Data).data,
    }


class _Data(msgspec.Struct):
    data: msgspec.Raw


def _status(event: Event) -> dict[str, Any] | None:
    if not event.key.startswith(STATUS_KEY):
        return None
    try:
        data = msgspec.json.decode(event.body, type=_StatusBody).data
    except msgspec.MsgspecError:
        return None
    status = data.status
    return {
        "status": status.status,
        "at": rfc3339(event.at),
        "timestamp": status.timestamp,
        "wamid": data.wamid,
        "attempt": data.attempt,
        "recipient": status.recipient_user_id or status.recipient_id,
        "pricing": status.pricing,
        "conversation": status.conversation,
        "errors": status.errors,
    }

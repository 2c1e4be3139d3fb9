"""What callers are told of a message in a thread (contract.md, Conversations).

Pure: from what the store keeps, and from the row of what is ours, to objects.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from store.records import RowView
from store.threads import Said
from whatsapp.events import rfc3339
from whatsapp.plain_text import plain_text
from whatsapp.task_messages import message_of
from whatsapp.thread_events import Told

__all__ = ["is_shown", "told_message"]

_FROM = {"in": "customer", "standby": "customer", "out": "gateway", "end": "gateway", "echo": "elsewhere"}
_DELIVERY = (
    "message_id",
    "state",
    "attempt",
    "wamids",
    "error",
    "created_at",
    "sent_at",
    "delivered_at",
    "read_at",
    "played_at",
    "ended_at",
    "callback_data",
    "fallback",
    "pricing",
)
_NOTHING = Told()


def is_shown(said: Said, view: RowView | None) -> bool:
    """Whether it is part of the thread: what ended unsent and was sent after all stands where it was sent,
    and of what is not kept any more there is nothing to tell."""
    if view is None:
        return not said.message_id
    return said.kind != "end" or not view.sent_at


def told_message(said: Said, view: RowView | None) -> dict[str, Any]:
    """One message. ``view``: its row, where it has one, and that is still kept."""
    told = _of_row(view) if view is not None else _read(said.body)
    now = _read(said.amended)
    newest = now if now.edited_at else told
    gone = bool(now.revoked_at)
    return {
        "position": said.offset,
        "at": rfc3339(said.at),
        "direction": "in" if _FROM[said.kind] == "customer" else "out",
        "from": _FROM[said.kind],
        "standby": said.kind == "standby",
        "phone_number_id": said.phone_number_id,
        "sender": told.sender or None,
        "wamid": said.wamid or (view.wamids[-1] if view is not None and view.wamids else None),
        "type": newest.type or told.type or None,
        "text": None if gone else newest.text or None,
        "message": None if gone or newest.message is UNSET else newest.message,
        "reply_to": told.reply_to or None,
        "edited_at": rfc3339(now.edited_at) if now.edited_at else None,
        "revoked_at": rfc3339(now.revoked_at) if now.revoked_at else None,
        "delivery": _delivery(view) if view is not None else None,
    }


def _read(body: bytes) -> Told:
    return msgspec.json.decode(body, type=Told) if body else _NOTHING


def _of_row(view: RowView) -> Told:
    try:
        message = msgspec.json.decode(view.row.payload, type=dict[str, Any])
    except msgspec.MsgspecError:
        return _NOTHING
    context = message.get("context")
    reply_to = context.get("message_id") if isinstance(context, dict) else None
    return Told(
        type=str(message.get("type", "text")),
        text=plain_text({"type": "text", **message}),
        message=msgspec.Raw(view.row.payload),
        reply_to=reply_to if isinstance(reply_to, str) else "",
    )


def _delivery(view: RowView) -> dict[str, Any]:
    known = message_of(view)
    return {"task_id": view.row.task_id, **{name: known[name] for name in _DELIVERY}}

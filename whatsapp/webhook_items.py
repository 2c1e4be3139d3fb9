"""One item of a webhook to one update: the event's name, its data, and its key.

Pure. Owns those three (docs/design.md, "In: a webhook's way"; CLOUD_API.md 4.4 to 4.7, CLOUD_API_2026.md 8 to
10). Which items a body holds is found in ``webhook.py``, who reads which in ``webhook_fields.py``, whom they
are about in ``people.py``. A key recognises a repeated delivery, so it holds nothing that may differ between
two: no position in a batch, no time of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from whatsapp.clock import metas_time
from whatsapp.errors import error_of_status
from whatsapp.events import (
    FROM_CUSTOMERS,
    INBOUND_KEY,
    STATUS_KEY,
    UPDATE_KEY,
    EventType,
    RowRef,
    task_of,
)
from whatsapp.identity import Address
from whatsapp.people import (
    Contacts,
    IdentityChange,
    identity_change,
    is_ours,
    recipient,
    recipient_key,
    sender,
    tells_identity,
    text_of,
    threaded,
)
from whatsapp.plain_text import plain_text

__all__ = [
    "ECHOES",
    "ECHO_FIELDS",
    "MESSAGES",
    "STANDBY",
    "Frame",
    "Unreadable",
    "Update",
    "ids_beside",
    "items_of",
    "read_call",
    "read_error",
    "read_item",
    "read_message",
    "read_other",
    "read_past",
    "read_progress",
    "read_status",
    "unparsed",
    "whole_change",
]

Json = dict[str, Any]

MESSAGES = "messages"
ECHOES = "message_echoes"
STANDBY = "standby"
ECHO_FIELDS = frozenset({ECHOES, "smb_message_echoes"})
_LISTS_WITH_IDS = (MESSAGES, ECHOES, "statuses", "calls")
_MESSAGE_STATUS_TYPES = frozenset({"", "message"})
_OTHER_STATUSES = {"call": EventType.CALL_STATUS, "payment": EventType.PAYMENT_STATUS}
"""Calls and payments have statuses too, and name them (CLOUD_API.md 4.6)."""
_CALLS = "calls"
_CALL_EVENTS = {"connect": EventType.CALL_CONNECTED, "terminate": EventType.CALL_TERMINATED}
_CALL_OF_OURS = "BUSINESS_INITIATED"
_MESSAGE_EVENTS = {"edit": EventType.MESSAGE_EDITED, "revoke": EventType.MESSAGE_REVOKED}
_STATUS_EVENTS = {
    "delivered": EventType.MESSAGE_DELIVERED,
    "read": EventType.MESSAGE_READ,
    "played": EventType.MESSAGE_PLAYED,
    "failed": EventType.MESSAGE_FAILED,
}
_NOBODY = Address()

Person = Callable[[Json, Contacts], tuple[Address, Json | None]]
"""Whom an item is about, and the entry of ``contacts`` about them."""
_MAX_KEY = 512
"""Characters. Ids are of unknown length (CLOUD_API.md 0.1), a store's unique index is not."""


class Update(msgspec.Struct, frozen=True, gc=False):
    """One thing that a webhook tells."""

    key: str
    """Equal for every delivery of the same update, and for no other update."""
    type: str
    """An :class:`EventType`."""
    data: Json
    """The event's ``data``, safe to encode as JSON; Meta's objects in it are as they came."""
    phone_number_id: str = ""
    """Our number; empty where the update names none, as those about accounts and templates."""
    address: Address = _NOBODY
    """The customer concerned. Of an identity change the old address if that is known, else the new one."""
    message_id: str = ""
    """The outbox row that a status is about, if ``biz_opaque_callback_data`` is ours."""
    attempt: int = 0
    """Which attempt at that row; 0 where there is none."""
    has_callback_data: bool = False
    """Whether that row has some, which is to be put into ``data``."""
    change: IdentityChange | None = None
    """What an identity change moves."""
    inbound: bool = False
    """A customer said something to us: it counts against the number's throughput and opens the window. True
    for nothing but messages of the field ``messages``; never for those of the system, of ``standby`` and of
    ``history``."""
    at: int = 0
    """When it happened by Meta's clock, in milliseconds; 0 where Meta does not tell."""
    former_key: str = ""
    """The key under which earlier versions told the change that this is a part of, as one event: where the
    log has that, this was told. Empty: nothing of the kind."""


class Unreadable(Exception):
    """A part that breaks the walk; the text says why."""


class Frame(NamedTuple):
    """What stands around an item."""

    entry_id: Any = None
    time: Any = None
    field: str = ""
    metadata: Json | None = None
    phone_number_id: str = ""
    contacts: Contacts = Contacts()
    beside: str = ""
    """:func:`ids_beside` of the value, where it holds errors."""


def read_message(frame: Frame, part: str, message: Any) -> Update:
    """A message of a customer's, an echo of ours, or a note of the system's. Raises :class:`Unreadable`."""
    if not isinstance(message, dict):
        raise Unreadable("a message must be an object")
    kind = _name_of(message, "type")
    is_echo = part == ECHOES or frame.field in ECHO_FIELDS
    address, contact = sender(message, frame.contacts, echo=is_echo)
    type = _message_event(frame, message, kind, is_echo)
    data = _message_data(frame, message, contact)
    change = None
    if type == EventType.CONTACT_CHANGED:
        change = identity_change(message)
        data["change"] = change.as_data() if change else None
        if change:
            address = change.old or change.new
    return Update(
        key=_message_key(frame.field, frame, part, message),
        type=type,
        data=data,
        phone_number_id=frame.phone_number_id,
        address=address,
        change=change,
        inbound=type in FROM_CUSTOMERS,
        at=metas_time(message.get("timestamp"), 0),
    )


def _message_event(frame: Frame, message: Json, kind: str, is_echo: bool) -> str:
    """A system message is written by nobody: it is never ``message.received``, whatever it says."""
    if kind == "system" and not is_echo:
        return EventType.CONTACT_CHANGED if tells_identity(message) else EventType.MESSAGE_SYSTEM
    if frame.field == STANDBY:
        return EventType.STANDBY_ECHO if is_echo else EventType.STANDBY_MESSAGE
    return EventType.MESSAGE_ECHO if is_echo else _MESSAGE_EVENTS.get(kind, EventType.MESSAGE_RECEIVED)


def read_past(frame: Frame, part: str, message: Any, thread: Json | None = None) -> Update:
    """A message of the history, from before the number was connected (CLOUD_API.md 4.7). Raises
    :class:`Unreadable`.

    ``thread``: what stands around it but for its messages; None for one that brings the file of a message
    that was told before, with that message's id.
    """
    if not isinstance(message, dict):
        raise Unreadable("a message must be an object")
    _name_of(message, "type")
    ours = is_ours(message, frame.metadata)
    if thread is None:
        address, contact = sender(message, frame.contacts, echo=ours)
    else:
        address, contact = threaded(thread, frame.contacts)
    name = frame.field if thread is not None else f"{frame.field}.file"
    return Update(
        key=_message_key(name, frame, part, message),
        type=EventType.HISTORY_MESSAGE,
        data=_message_data(frame, message, contact) | {"thread": thread, "ours": ours},
        phone_number_id=frame.phone_number_id,
        address=address,
        at=metas_time(message.get("timestamp"), 0),
    )


def read_status(frame: Frame, part: str, status: Any) -> Update:
    """What became of a message, or of something else that has statuses. Raises :class:`Unreadable`."""
    if not isinstance(status, dict):
        raise Unreadable("a status must be an object")
    kind = _name_of(status, "type") or ("call" if frame.field == _CALLS else "")
    name = _name_of(status, "status")
    address, contact = recipient(status, frame.contacts)
    wamid = text_of(status.get("id"))
    at = metas_time(status.get("timestamp"), 0)
    if kind not in _MESSAGE_STATUS_TYPES:
        return Update(
            key=_key("", frame, part, status),
            type=_OTHER_STATUSES.get(kind, EventType.WEBHOOK_OTHER),
            data=_item_data(frame, part, status, contact),
            phone_number_id=frame.phone_number_id,
            address=address,
            at=at,
        )
    row = RowRef.parse(status.get("biz_opaque_callback_data"))
    data = {
        "status": status,
        "contact": contact,
        "metadata": frame.metadata,
        "task_id": task_of(row.row_id) if row else None,
        "message_id": row.row_id if row else None,
        "wamid": wamid or None,
        "attempt": row.attempt if row else None,
        "callback_data": None,
    }
    if name == "failed":
        data["error"] = error_of_status(status.get("errors"))
    if frame.field != MESSAGES:
        data["field"] = frame.field
    own = f"{STATUS_KEY}{wamid}:{name}:{recipient_key(status)}" if wamid and name else ""
    return Update(
        key=_key(own, frame, part, status),
        type=_STATUS_EVENTS.get(name, EventType.MESSAGE_STATUS),
        data=data,
        phone_number_id=frame.phone_number_id,
        address=address,
        message_id=row.row_id if row else "",
        attempt=row.attempt if row else 0,
        has_callback_data=row.has_data if row else False,
        at=at,
    )


def read_error(frame: Frame, part: str, error: Any) -> Update:
    """An error that stands beside messages or alone. Raises :class:`Unreadable`.

    The key covers the ids beside it: the same error beside another message is another error. Alone, and in an
    entry without ``time``, nothing tells a second one from a repeated delivery.
    """
    if not isinstance(error, dict):
        raise Unreadable("an error must be an object")
    return Update(
        key=_key("", frame, part, [error, frame.beside]),
        type=EventType.WEBHOOK_ERROR,
        data={
            "error": error,
            "field": frame.field,
            "metadata": frame.metadata,
            "entry_id": frame.entry_id,
            "time": frame.time,
        },
        phone_number_id=frame.phone_number_id,
    )


def read_call(frame: Frame, part: str, call: Any) -> Update:
    """What happened to a call. Raises :class:`Unreadable`."""
    if not isinstance(call, dict):
        raise Unreadable("a call must be an object")
    event = _name_of(call, "event")
    person = partial(sender, echo=call.get("direction") == _CALL_OF_OURS)
    return read_item(frame, part, call, type=_CALL_EVENTS.get(event, EventType.CALL_UPDATE), person=person)


def read_item(frame: Frame, part: str, item: Any, *, type: str, person: Person | None = None) -> Update:
    """One item of a list, as an event of this type; ``person`` says whom it is about. Raises
    :class:`Unreadable`."""
    if not isinstance(item, dict):
        raise Unreadable("an item of this list must be an object")
    address, contact = person(item, frame.contacts) if person else (_NOBODY, None)
    return Update(
        key=_key("", frame, part, item),
        type=type,
        data=_item_data(frame, part, item, contact),
        phone_number_id=frame.phone_number_id,
        address=address,
        at=metas_time(item.get("timestamp"), 0),
    )


def read_progress(frame: Frame, part: Json, *, leave_out: str, threads: int, messages: int) -> Update:
    """That a part of the history has been told: what it says of itself, and how much was in it."""
    value = {name: item for name, item in part.items() if name != leave_out}
    counts = {"threads": threads, "messages": messages}
    return Update(
        key=_key("", frame, frame.field, part),
        type=EventType.HISTORY_PROGRESS,
        data=_item_data(frame, frame.field, value, None) | counts,
        phone_number_id=frame.phone_number_id,
    )


def read_other(frame: Frame, part: str, item: Any) -> Update:
    """Something in a field's value that has no reader of its own."""
    return Update(
        key=_key("", frame, part, item),
        type=EventType.WEBHOOK_OTHER,
        data=_item_data(frame, part, item, None),
        phone_number_id=frame.phone_number_id,
    )


def whole_change(frame: Frame, value: Any, type: str = EventType.WEBHOOK_OTHER) -> Update:
    """A change passed on as one: what it holds is for the reader of its field."""
    return Update(
        key=_key("", frame, "", value),
        type=type,
        data={"field": frame.field, "value": value, "entry_id": frame.entry_id, "time": frame.time},
        phone_number_id=frame.phone_number_id,
    )


def items_of(items: Any, where: str) -> Iterator[tuple[str, Any, str]]:
    """Path and item of each in a list, which may be missing; of what is no list, itself and the reason."""
    if isinstance(items, list):
        for i, item in enumerate(items):
            yield f"{where}[{i}]", item, ""
    elif items is not None:
        yield where, items, "this must be a list"


def ids_beside(value: Json) -> str:
    """A hash of the ids of all messages and statuses in a value."""
    lists = (value.get(name) for name in _LISTS_WITH_IDS)
    ids = [_id_of(item) for items in lists if isinstance(items, list) for item in items]
    return hashlib.sha256(msgspec.json.encode(ids)).hexdigest()


def unparsed(frame: Frame, raw: Any, where: str, why: str) -> Update:
    """A part that was not understood, kept as it came."""
    return Update(
        key=_key("", frame, "", raw),
        type=EventType.WEBHOOK_UNPARSED,
        data={"raw": raw, "where": where, "why": why},
        phone_number_id=frame.phone_number_id,
    )


def _message_data(frame: Frame, message: Json, contact: Json | None) -> Json:
    data: Json = {
        "message": message,
        "contact": contact,
        "metadata": frame.metadata,
        "text": plain_text(message),
    }
    if frame.field != MESSAGES:
        data["field"] = frame.field
    return data


def _item_data(frame: Frame, part: str, item: Any, contact: Json | None) -> Json:
    return {
        "field": frame.field,
        "part": part,
        "value": item,
        "entry_id": frame.entry_id,
        "time": frame.time,
        "contact": contact,
        "metadata": frame.metadata,
    }


def _name_of(item: Json, field: str) -> str:
    """The text that says what an item is; empty if it is missing."""
    name = item.get(field)
    if name is None:
        return ""
    if not isinstance(name, str):
        raise Unreadable(f'the field "{field}" must be text')
    return name


def _message_key(name: str, frame: Frame, part: str, message: Json) -> str:
    wamid = text_of(message.get("id"))
    return _key(f"{INBOUND_KEY}{name}:{wamid}" if wamid else "", frame, part, message)


def _key(own: str, frame: Frame, part: str, item: Any) -> str:
    """``own`` if there is one and it is of a sane length, else one made of the item's content.

    The latter takes in the number, as the same error or action may reach two of ours within one entry.
    """
    if own and len(own) <= _MAX_KEY:
        return own
    content = msgspec.json.encode([frame.phone_number_id, part[:_MAX_KEY], item], order="sorted")
    # Cut before they are put together too: this is done for each item of a list.
    names = [text_of(name)[:_MAX_KEY] for name in (frame.entry_id, frame.time, frame.field)]
    head = f"{UPDATE_KEY}{':'.join(names)}"
    return f"{head[: _MAX_KEY - 65]}:{hashlib.sha256(content).hexdigest()}"


def _id_of(item: Any) -> str:
    return text_of(item.get("id")) if isinstance(item, dict) else ""

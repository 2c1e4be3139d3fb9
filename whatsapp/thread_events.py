"""What the log says of conversations: from an event to a message in a thread, or to what becomes of one.

Pure. Owns which events are part of a conversation, and where. A message of a customer's, or one that the
business wrote elsewhere, is there once it came in, as it came; one of ours once Meta took it, or once it has
ended without (who it goes to, what it says and how it stands is the row's to tell); so that accepting a
hundred thousand costs nothing here. What was said within a group is the group's conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from store.records import Event
from store.threads import Moved, Said, Thread
from whatsapp.drafts import GROUP_KEY
from whatsapp.events import INBOUND_KEY, EventType
from whatsapp.plain_text import plain_text

__all__ = ["Change", "Told", "keys_of_message", "merge_of", "read_event"]

_FIELDS = ("messages", "smb_message_echoes", "message_echoes", "standby")
"""Of webhooks, in which messages come."""
_LARGEST = 16 * 1024
"""Bytes of a message object that are kept with a thread. The event has all of it."""
_LONGEST_NAME = 200
_LONGEST_ID = 512
_LONGEST_TEXT = 8192
"""Characters: twice what Meta takes (CLOUD_API.md 1.3)."""


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What callers are told of a message that has no row; of one that was amended, what is new."""

    type: str = ""
    text: str = ""
    message: msgspec.Raw | UnsetType = UNSET
    """Meta's object, where it is not too large."""
    reply_to: str = ""
    sender: str = ""
    """Within a group: the key of who wrote it."""
    edited_at: int = 0
    revoked_at: int = 0


class Change(NamedTuple):
    """A message is changed or taken back by who wrote it."""

    wamid: str
    """Of the message."""
    told: Told
    said: Said
    """The change itself, to stand in the thread where the message is not known."""


class _Message(msgspec.Struct):
    id: object = None
    type: object = None
    group_id: object = None
    context: object = None
    edit: object = None
    revoke: object = None


class _Data(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw(b"{}")
    text: object = None
    contact: object = None


class _Body(msgspec.Struct):
    data: _Data


class _Outcome(msgspec.Struct):
    wamid: str | None = None


class _OutcomeBody(msgspec.Struct):
    data: _Outcome


class _Mark(msgspec.Struct):
    position: int


class _MarkBody(msgspec.Struct):
    data: _Mark


class _Preference(msgspec.Struct):
    value: msgspec.Raw


class _PreferenceBody(msgspec.Struct):
    data: _Preference


class _Merge(msgspec.Struct):
    gone: str
    kept: str


class _MergeBody(msgspec.Struct):
    data: _Merge


_decode = msgspec.json.Decoder(_Body).decode
_decode_message = msgspec.json.Decoder(_Message).decode
"""Made once: they read every message."""

Found = Said | Change | Thread | Moved | None


def read_event(event: Event) -> Found:
    """The message that it tells of, the change of one, what is new of a thread, or that two are one; None
    where it is no part of a conversation."""
    reader = _READERS.get(event.type)
    if reader is None or not event.contact:
        return None
    try:
        return reader(event)
    except msgspec.MsgspecError:
        return None


def keys_of_message(wamid: str) -> list[str]:
    """The keys that the event of a message may have, which is not one of our rows."""
    return [f"{INBOUND_KEY}{field}:{wamid}" for field in _FIELDS]


def _said(event: Event, kind: Any) -> Said | Change:
    data = _decode(event.body).data
    message = _decode_message(data.message)
    group = _id(message.group_id)
    told = Told(
        type=_id(message.type),
        text=_text(data.text)[:_LONGEST_TEXT],
        message=data.message if len(data.message) <= _LARGEST else UNSET,
        reply_to=_id(_field(message.context, "id")),
        sender=event.contact if group else "",
    )
    said = Said(
        event.offset,
        GROUP_KEY + group if group else event.contact,
        event.phone_number_id,
        event.at,
        kind,
        wamid=_id(message.id),
        body=msgspec.json.encode(told),
        name="" if group or kind == "echo" else _name(data.contact),
    )
    if told.type == "revoke" and (wamid := _id(_field(message.revoke, "original_message_id"))):
        return Change(wamid, Told(revoked_at=event.at), said)
    if told.type == "edit" and (wamid := _id(_field(message.edit, "original_message_id"))):
        return Change(wamid, _edited(message.edit, event.at), said)
    return said


def _edited(edit: object, at: int) -> Told:
    inner = _field(edit, "message")
    message = inner if isinstance(inner, dict) else {}
    raw = msgspec.json.encode(message)
    return Told(
        type=_id(message.get("type")),
        text=plain_text(message)[:_LONGEST_TEXT],
        message=msgspec.Raw(raw) if len(raw) <= _LARGEST else UNSET,
        edited_at=at,
    )


def _received(event: Event) -> Found:
    return _said(event, "in")


def _echo(event: Event) -> Found:
    return _said(event, "echo")


def _standby(event: Event) -> Found:
    return _said(event, "standby")


def _sent(event: Event) -> Found:
    # Sent anew it stays where it stands.
    return _of_row(event, "out") if event.key == f"row:{event.message_id}:sent" else None


def _dead(event: Event) -> Found:
    """The first time, and only of what was never taken, which has its place already."""
    is_first = event.key.endswith(":0")
    taken = not is_first or msgspec.json.decode(event.body, type=_OutcomeBody).data.wamid
    return None if taken else _of_row(event, "end")


def _expired(event: Event) -> Found:
    taken = msgspec.json.decode(event.body, type=_OutcomeBody).data.wamid
    return None if taken else _of_row(event, "end")


def _of_row(event: Event, kind: Any) -> Said:
    return Said(event.offset, event.contact, event.phone_number_id, event.at, kind, event.message_id)


def _marked(event: Event) -> Found:
    position = msgspec.json.decode(event.body, type=_MarkBody).data.position
    return Thread(event.contact, event.phone_number_id, read_offset=position)


def _preferring(event: Event) -> Found:
    value = msgspec.json.decode(event.body, type=_PreferenceBody).data.value
    return Thread(event.contact, event.phone_number_id, preferences=bytes(value))


def merge_of(event: Event) -> Moved | None:
    """Which two contacts it tells to be one person; None where it tells nothing of the kind."""
    if event.type != EventType.CONTACT_MERGED:
        return None
    merge = msgspec.json.decode(event.body, type=_MergeBody).data
    return Moved(merge.gone, merge.kept) if merge.gone != merge.kept else None


_READERS: Mapping[str, Callable[[Event], Found]] = {
    EventType.MESSAGE_RECEIVED: _received,
    EventType.MESSAGE_EDITED: _received,
    EventType.MESSAGE_REVOKED: _received,
    EventType.MESSAGE_ECHO: _echo,
    EventType.STANDBY_MESSAGE: _standby,
    EventType.STANDBY_ECHO: _echo,
    EventType.MESSAGE_SENT: _sent,
    EventType.MESSAGE_DEAD: _dead,
    EventType.MESSAGE_EXPIRED: _expired,
    EventType.CONVERSATION_READ: _marked,
    EventType.CONTACT_PREFERENCES: _preferring,
    EventType.CONTACT_MERGED: merge_of,
}


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _id(value: object) -> str:
    text = _text(value)
    return text if len(text) <= _LONGEST_ID else ""


def _name(contact: object) -> str:
    return _text(_field(_field(contact, "profile"), "name"))[:_LONGEST_NAME]

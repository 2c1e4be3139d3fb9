"""Meta's webhooks: the bytes of one body to the updates in it.

Pure. Owns the walk over the envelope (CLOUD_API.md 4.3); what becomes of a single item is said in
``webhook_items.py``. Knows nothing of the log, of contacts' keys or of rows.

Meta adds fields, types and statuses without notice, so nothing is modelled: Meta's objects go into ``data``
as decoded, what is unknown is passed on, and only what breaks the walk is set aside as
``webhook.unparsed``. That is an item which is not of the kind that its place calls for (a message that is
no object, ``changes`` that is no list), or one whose naming field (``field`` of a change, ``type`` of a
message or status, ``status``) is missing where nothing else tells, or is not text. Any other field of a
wrong type inside a message or status is taken for missing, and the item for what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from whatsapp.envelope import BadPayload, decode_envelope
from whatsapp.events import EventType
from whatsapp.people import Contacts, IdentityChange, number_of
from whatsapp.webhook_fields import HISTORY, MESSAGE_FIELDS, PARTS, WHOLE
from whatsapp.webhook_history import read_history
from whatsapp.webhook_items import (
    Frame,
    Unreadable,
    Update,
    ids_beside,
    items_of,
    read_other,
    unparsed,
    whole_change,
)

__all__ = ["MAX_UPDATES", "BadPayload", "IdentityChange", "Update", "parse"]

Json = dict[str, Any]

MAX_UPDATES = 50_000
"""In one body. Meta sends a thousand at most (CLOUD_API_2026.md 7), and of a history what fits into 3 MB,
some ten thousand; what holds more is made to cost more than it weighs."""

_AROUND = frozenset({"messaging_product", "metadata", "contacts", "field"})
"""Parts of a value that only say something about its other parts."""
_MAX_NAME = 64
"""Characters of a list's name, in the path to what is broken in it."""


def parse(body: bytes) -> list[Update]:
    """Every update of a webhook, in Meta's order.

    An update may be in it twice, with one key. Raises :class:`BadPayload`, and nothing else, for a body
    that is no envelope of WhatsApp's, or holds more than :data:`MAX_UPDATES`. A broken part inside one
    becomes an update of its own.

    The data of an event has one of these shapes, Meta's objects in it unchanged:

    =====================  ============================================================================
    event                  data
    =====================  ============================================================================
    message.received,      message, contact or null, metadata, text; field, where it is not ``messages``
    .edited, .revoked,
    .echo, .system,
    standby.message, .echo
    contact.changed        the same, and change: old_phone, new_phone, old_user_id, new_user_id, or null
                           where only the security code is new
    history.message        the same as message.received, field, thread, ours
    history.progress       field, value (without its threads), threads, messages, metadata, entry_id, time
    message.<status>       status, contact, metadata, task_id, message_id, wamid, attempt, callback_data
                           (null if not ours); of ``standby`` also field
    webhook.error          error, field, metadata, entry_id, time
    a change as one        field, value, entry_id, time
    one item of a list     the same, and part (the list), contact and metadata
    webhook.unparsed       raw, where (entry[0].changes[2].value.messages[1]), why
    =====================  ============================================================================

    Which field becomes which event is in ``webhook_fields.py``; ``webhook.other`` is a change as one, or one
    item.
    """
    updates = list(islice(_read_entries(decode_envelope(body)), MAX_UPDATES + 1))
    if len(updates) > MAX_UPDATES:
        raise BadPayload(f"The body holds more than {MAX_UPDATES} updates.")
    return updates


def _read_entries(entries: list[Any]) -> Iterator[Update]:
    for i, entry in enumerate(entries):
        where = f"entry[{i}]"
        if not isinstance(entry, dict):
            yield unparsed(Frame(), entry, where, "an entry must be an object")
            continue
        changes = entry.get("changes")
        if not isinstance(changes, list):
            yield unparsed(_frame(entry), entry, where, "an entry must have a list of changes")
            continue
        for j, change in enumerate(changes):
            yield from _read_change(entry, change, f"{where}.changes[{j}]")


def _read_change(entry: Json, change: Any, where: str) -> Iterator[Update]:
    if not isinstance(change, dict):
        yield unparsed(_frame(entry), change, where, "a change must be an object")
        return
    value = change.get("value")
    field = _field_of(entry, change, value)
    if not field:
        yield unparsed(_frame(entry), change, where, "a change must name its field")
    elif not isinstance(value, dict):
        if field in PARTS or field in WHOLE:
            why = "the value of this field must be an object"
            yield unparsed(_frame(entry, field), change, where, why)
        else:
            yield whole_change(_frame(entry, field), value)
    elif field in MESSAGE_FIELDS:
        yield from _read_parts(entry, field, value, f"{where}.value")
    else:
        yield from _read_whole(entry, field, value, f"{where}.value")


def _read_whole(entry: Json, field: str, value: Json, where: str) -> Iterator[Update]:
    """A field that is told as one, or was by earlier versions, before its lists had names."""
    whole = whole_change(
        _frame(entry, field, value.get("metadata")), value, WHOLE.get(field, EventType.WEBHOOK_OTHER)
    )
    if field == HISTORY or any(part in value for part in PARTS.get(field, ())):
        for update in _read_parts(entry, field, value, where):
            yield msgspec.structs.replace(update, former_key=whole.key)
    else:
        yield whole


def _field_of(entry: Json, change: Json, value: Any) -> str:
    """The name of a change's field; some of Meta's samples have it a level off (CLOUD_API.md 4.7)."""
    field = change.get("field")
    if field is None and isinstance(value, dict):
        field = value.get("field")
    if field is None:
        field = entry.get("field")
    return field if isinstance(field, str) else ""


def _read_parts(entry: Json, field: str, value: Json, where: str) -> Iterator[Update]:
    """The items of a field whose value may hold several lists at once (CLOUD_API.md 4.3)."""
    people: list[Json] = []
    broken: list[tuple[str, Any, str]] = []
    for path, item, why in items_of(value.get("contacts"), f"{where}.contacts"):
        if isinstance(item, dict) and not why:
            people.append(item)
        elif len(broken) <= MAX_UPDATES:
            broken.append((path, item, why or "a contact must be an object"))
    metadata = value.get("metadata")
    if not isinstance(metadata, dict | None):
        broken.append((f"{where}.metadata", metadata, "metadata must be an object"))
    frame = _frame(entry, field, metadata, people, ids_beside(value) if "errors" in value else "")
    for path, item, why in broken:
        yield unparsed(frame, item, path, why)
    empty = True
    for part, items in value.items():
        if part not in _AROUND:
            for path, item, why in items_of(items, f"{where}.{part[:_MAX_NAME]}"):
                empty = False
                if part == field == HISTORY and not why:
                    yield from read_history(frame, item, path)
                else:
                    yield _read_item(frame, part, item, path, why)
    if empty:
        yield whole_change(frame, value)


def _read_item(frame: Frame, part: str, item: Any, where: str, why: str) -> Update:
    reader = PARTS[frame.field].get(part)
    if reader is None:
        return read_other(frame, part, item)
    if why:
        return unparsed(frame, item, where, why)
    try:
        return reader(frame, part, item)
    except Unreadable as error:
        return unparsed(frame, item, where, str(error))


def _frame(
    entry: Json, field: str = "", metadata: Any = None, people: Sequence[Json] = (), beside: str = ""
) -> Frame:
    if not isinstance(metadata, dict):
        metadata = None
    return Frame(
        entry_id=entry.get("id"),
        time=entry.get("time"),
        field=field,
        metadata=metadata,
        phone_number_id=number_of(metadata),
        contacts=Contacts(people),
        beside=beside,
    )

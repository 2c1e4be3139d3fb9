"""What events say of people who do not want to be written to unasked, or want to again.

Pure. Three say so: a customer's own message that is one of the words for it and nothing else; Meta's
``user_preferences`` (CLOUD_API.md 4.7, CLOUD_API_2026.md 9), by which customers stop and resume marketing
messages; and Meta's refusal of a marketing message to somebody who has stopped them (131050). What becomes
of it is decided by :func:`store.records.suppression_after`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from store.records import Event, NewEvent, Suppression
from whatsapp.clock import metas_time
from whatsapp.compose import is_marketing
from whatsapp.events import EventType, build_event, rfc3339
from whatsapp.identity import Address
from whatsapp.people import Contacts, objects_of, preferring
from whatsapp.plain_words import plain_words
from whatsapp.template_holds import Template as Name
from whatsapp.template_holds import named, template_of
from whatsapp.templates import Template

__all__ = [
    "BLOCKED",
    "OPTED_OUT",
    "PREFERENCE",
    "REFUSAL",
    "WORD",
    "OptOutWords",
    "Said",
    "event_of",
    "marketing_names",
    "promotes",
    "said",
    "told_suppression",
]

OPTED_OUT = "opted_out"
"""Reason: the person wants it so, until they say otherwise."""
BLOCKED = "blocked"
"""Reason: an operator wants it so, whatever the person says."""
WORD, PREFERENCE, REFUSAL = "word", "preference", "refusal"
"""Sources: the ways that the module's docstring names."""
STOPPED_MARKETING = 131050
_PREFERENCES = "user_preferences"
_MARK = b'"user_preferences"'
_CODE = b"131050"
_MARKETING = "marketing_messages"
_COMES_BACK = {"stop": False, "resume": True, "signup": True}
_WRITTEN = frozenset({EventType.MESSAGE_RECEIVED, EventType.STANDBY_MESSAGE})
"""Whoever answers the thread: a word to stop is meant for us."""
_LONGEST = 100
"""Characters of a message that may be one of the words."""


class OptOutWords:
    """The words by which people go and come back, compared as :func:`~whatsapp.plain_text.plain_words`."""

    def __init__(self, leave: Iterable[str], come_back: Iterable[str]) -> None:
        self._meanings = {plain_words(word): True for word in come_back}
        self._meanings |= {plain_words(word): False for word in leave}
        self._meanings.pop("", None)

    def meaning(self, text: str) -> bool | None:
        """Whether who says just this comes back (True) or leaves (False); None where it is neither."""
        return self._meanings.get(plain_words(text)) if 0 < len(text) <= _LONGEST else None


class Said(msgspec.Struct, frozen=True, gc=False):
    """That somebody leaves or comes back."""

    comes_back: bool
    at: int
    source: str
    note: str
    phone_number_id: str
    contact: str = ""
    """Key of who it is; empty where it is to be looked up by ``address``."""
    address: Address = Address()

    def by(self, contact: str) -> Suppression:
        """The word of this contact, to be kept."""
        if self.comes_back:
            return Suppression(contact, 0, self.at, OPTED_OUT, self.source, self.note)
        return Suppression(contact, self.at, 0, OPTED_OUT, self.source, self.note)


def said(event: Event, words: OptOutWords) -> Iterator[Said]:
    """What an event says of it, in its order; mostly nothing."""
    if event.type in _WRITTEN:
        yield from _in_message(event, words)
    elif event.type == EventType.MESSAGE_FAILED:
        if _CODE in event.body and event.contact and _fails_of(event) == STOPPED_MARKETING:
            yield Said(False, event.at, REFUSAL, str(STOPPED_MARKETING), event.phone_number_id, event.contact)
    elif event.type == EventType.CONTACT_PREFERENCES:
        yield from _in_preferences(event, lambda data: [data.get("value")])
    elif event.type == EventType.WEBHOOK_OTHER and _MARK in event.body:
        # As logs from before the name have it: the list in one.
        yield from _in_preferences(event, _old_list)


def event_of(after: Suppression, at: int, phone_number_id: str = "", source: str = "") -> NewEvent:
    """That a contact's suppression has begun, or ended, as ``after`` has it. ``source``: of what ended it."""
    type = EventType.CONTACT_SUPPRESSED if after.in_force else EventType.CONTACT_RESTORED
    word = "suppressed" if after.in_force else f"restored:{after.until}"
    data = {
        "reason": after.reason,
        "source": source or after.source,
        "note": after.note or None,
        "since": rfc3339(after.since),
        "until": rfc3339(after.until) if after.until else None,
    }
    return build_event(
        type,
        f"contact:{after.contact}:{after.since}:{word}",
        at,
        data,
        phone_number_id=phone_number_id,
        contact=after.contact,
    )


# -- marketing ---------------------------------------------------------------------------------------------


def marketing_names(templates: Sequence[Template] | None) -> frozenset[Name]:
    """Those that are for marketing; none where the list is not known (None)."""
    return frozenset(named(one.name, one.language) for one in templates or () if one.category == "MARKETING")


def promotes(message: bytes, marketing: frozenset[Name]) -> bool:
    """Whether a message object is known to be marketing: by its path, or as one of these templates."""
    return is_marketing(message) or (bool(marketing) and template_of(message) in marketing)


# -- readers -----------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    sender: object = msgspec.field(default="", name="from")
    group_id: object = ""
    timestamp: object = None


class _Received(msgspec.Struct):
    message: _Message
    text: object = ""


class _ReceivedBody(msgspec.Struct):
    data: _Received


_decode_received = msgspec.json.Decoder(_ReceivedBody).decode


def _in_message(event: Event, words: OptOutWords) -> Iterator[Said]:
    try:
        data = _decode_received(event.body).data
    except msgspec.MsgspecError:
        return
    text = data.text if isinstance(data.text, str) else ""
    comes_back = words.meaning(text)
    if comes_back is None or data.message.group_id or not event.contact:
        return
    at = min(event.at, metas_time(data.message.timestamp, event.at))
    yield Said(comes_back, at, WORD, text.strip(), event.phone_number_id, event.contact)


class _Error(msgspec.Struct):
    code: object = None


class _Failure(msgspec.Struct):
    error: _Error | None = None


class _FailureBody(msgspec.Struct):
    data: _Failure


def _fails_of(event: Event) -> object:
    try:
        error = msgspec.json.decode(event.body, type=_FailureBody).data.error
    except msgspec.MsgspecError:
        return None
    return error.code if error else None


def _in_preferences(event: Event, items: Callable[[dict[str, Any]], object]) -> Iterator[Said]:
    data = msgspec.json.decode(event.body, type=dict[str, Any]).get("data")
    if not isinstance(data, dict):
        return
    for one in objects_of(items(data)):
        if one.get("category", _MARKETING) != _MARKETING:
            continue
        comes_back = _COMES_BACK.get(str(one.get("value")).lower())
        address, _ = preferring(one, Contacts())
        if comes_back is None or not (event.contact or address):
            continue
        at = min(event.at, metas_time(one.get("timestamp"), event.at))
        note = str(one.get("detail") or "")[:200]
        yield Said(comes_back, at, PREFERENCE, note, event.phone_number_id, event.contact, address)


def _old_list(data: dict[str, Any]) -> object:
    value = data.get("value")
    told = data.get("field") == _PREFERENCES and isinstance(value, dict)
    return value.get(_PREFERENCES) if told and isinstance(value, dict) else None


def told_suppression(one: Suppression) -> dict[str, Any]:
    """As callers read it (contract.md, Suppressions)."""
    return {
        "contact": one.contact,
        "suppressed": one.in_force,
        "reason": one.reason,
        "source": one.source,
        "note": one.note or None,
        "since": rfc3339(one.since) if one.since else None,
        "until": rfc3339(one.until) if one.until else None,
    }

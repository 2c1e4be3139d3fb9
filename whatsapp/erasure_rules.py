"""What is left of an event once the person that it is about is erased, and how a subscriber knows them.

Pure. An event about them is emptied in its place: offset, ``prev``, time and number stay, its name becomes
``event.erased``. Its key is a hash of what it was where Meta may repeat it; such a key has a part that nobody
can guess, while all other keys, out of which a phone could be found by trying, are gone. In an event about
somebody else only their addresses are blotted out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from store.erasing import Mentions
from store.records import Event, NewEvent
from whatsapp.events import UPDATE_KEY, WEBHOOK_KEYS, EventType, build_event

__all__ = ["ANSWER", "digests", "erased_event", "hidden_key", "left_of"]

_HIDDEN = "gone:"
_BLOT = "[erased]"

ANSWER = msgspec.json.encode(
    {
        "success": True,
        "message": "this was done, and what it was answered is erased with the data of a contact",
    }
)
"""In the place of an answer that is kept for the repetition of a request: it must not be done again."""


def hidden_key(key: str) -> str:
    """A key that tells as much apart, and nothing else. Keys by content name nobody, and stay."""
    if key.startswith((_HIDDEN, UPDATE_KEY)):
        return key
    return _HIDDEN + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def left_of(event: Event, who: Mentions) -> Event | None:
    """The event once they are erased; None where it stays as it is."""
    if event.type in (EventType.EVENT_ERASED, EventType.CONTACT_ERASED):
        return None
    is_theirs = event.contact in who.contacts
    if not is_theirs and not who.among(event.body) and not who.among(event.key):
        return None
    if event.contact and not is_theirs:
        return _blotted(event, who)
    # Of what is about nobody in particular nobody can tell which part of it is theirs.
    return _emptied(event)


def erased_event(id: str, salt: str, names: Iterable[str], media: Iterable[str], now: int) -> NewEvent:
    """That all that was kept of somebody is gone. ``names``: their addresses and key; ``media``: ids of files
    that they had sent."""
    data = {"erasure": id, "salt": salt, "contacts": digests(salt, names), "media": sorted(set(media))}
    return build_event(EventType.CONTACT_ERASED, f"erasure:{id}", now, data)


def digests(salt: str, names: Iterable[str]) -> list[str]:
    """By which who has a name, such as a phone in digits, can tell that it is among these."""
    return sorted({hashlib.sha256(f"{salt}:{name}".encode()).hexdigest() for name in names})


def _key_left(event: Event) -> str:
    if event.key.startswith((_HIDDEN, *WEBHOOK_KEYS)):
        return hidden_key(event.key)
    return f"{_HIDDEN}{event.offset}"


def _emptied(event: Event) -> Event:
    left = build_event(
        EventType.EVENT_ERASED,
        _key_left(event),
        event.at,
        {"was": event.type},
        phone_number_id=event.phone_number_id,
    )
    return left.placed(event.offset, event.prev)


def _blotted(event: Event, who: Mentions) -> Event:
    try:
        body = _without(msgspec.json.decode(event.body), who)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _emptied(event)
    key = _key_left(event) if who.among(event.key) else event.key
    return msgspec.structs.replace(event, key=key, body=msgspec.json.encode(body))


def _without(value: Any, who: Mentions) -> Any:
    if isinstance(value, str):
        return who.without(value, _BLOT)
    if isinstance(value, dict):
        return {who.without(name, _BLOT): _without(item, who) for name, item in value.items()}
    if isinstance(value, list):
        return [_without(item, who) for item in value]
    if isinstance(value, int | float) and who.among(str(value)):
        return None
    return value

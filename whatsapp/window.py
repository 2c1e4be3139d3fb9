"""The 24-hour window: whether Meta still takes free-form messages to a contact (CLOUD_API.md 1.4).

Pure. Owns the verdict (:func:`judge`), what counts as hearing from a contact (:func:`read`), and which
messages need an open window (:func:`needs_window`).

The verdicts lean to one side: a window is called closed only where that is certain. A message that is sent in
vain costs one call, and Meta says so; one that is held back in error does not arrive. Hence whatever may open
a window counts: every message of a customer's, reactions too, every call, whoever made it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from store.records import Event
from whatsapp.clock import metas_time
from whatsapp.events import CALLS, FROM_CUSTOMERS, EventType
from whatsapp.identity import Address
from whatsapp.people import Contacts, objects_of, recipient, sender

__all__ = [
    "LATE_MS",
    "OPEN_MS",
    "Heard",
    "Reading",
    "WindowState",
    "is_fresh",
    "judge",
    "needs_window",
    "read",
]

OPEN_MS = (24 * 3600 + 60) * 1000
"""How long a window counts as open: 24 hours from the customer's last word, and a minute for the clocks."""
_FRESH_MS = 10_000
"""Meta's clock against ours, its whole seconds, and the way of a webhook."""
LATE_MS = 600 * 1000
"""What comes this long after it was said shows that webhooks were missed meanwhile, or that our clock is
wrong."""

_NOBODY = Address()
_TAKEN = "ACCEPTED"
"""The status of a call."""
_OURS = "BUSINESS_INITIATED"
"""The direction of a call that we have made. Once it is taken it opens the window like any other."""


class WindowState(Enum):
    """How a window is."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    """It may be either: Meta decides."""


def judge(inbound_at: int | None, unbroken_since: int | None, now: int) -> WindowState:
    """How the window of a contact is who was last heard from at ``inbound_at`` (None: never).

    ``unbroken_since``: since when nothing that the contact said can have been missed; None where that may be
    so now. All in milliseconds.
    """
    if inbound_at is None:
        return WindowState.UNKNOWN
    opened_after = now - OPEN_MS
    if inbound_at > opened_after:
        return WindowState.OPEN
    if unbroken_since is None or unbroken_since > opened_after:
        return WindowState.UNKNOWN
    return WindowState.CLOSED


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A word of a contact's that opens the window."""

    phone_number_id: str
    """Ours."""
    contact: str
    """Key of the contact; empty where it is to be looked up by ``address``."""
    address: Address
    whole: bool
    """Whether it names the contact's user id, as it should: only such a contact is known to be the same,
    whatever their next word names."""
    at: int
    """When it was said by Meta's clock, from which Meta counts; by ours where that is earlier, or where Meta
    does not tell."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What an event says of windows."""

    heard: tuple[Heard, ...] = ()
    missed: bool = False
    """Whether it shows that something was missed: it came late, or cannot be understood."""


def read(event: Event) -> Reading:
    """What an event says of windows. Statuses of our messages say nothing; nor do notes of the system's
    (CLOUD_API_2026.md 2.4), nor what the business itself wrote."""
    if event.type in FROM_CUSTOMERS or event.type == EventType.STANDBY_MESSAGE:
        return _read_received(event)
    if event.type in CALLS:
        return _read_call(event)
    if event.type == EventType.WEBHOOK_OTHER:
        return _read_former(event)
    return Reading(missed=event.type == EventType.WEBHOOK_UNPARSED)


def is_fresh(event: Event, now: int) -> bool:
    """Whether what a customer said was said just now: it counts against its number's throughput
    (CLOUD_API.md 3), which what Meta repeats after days does not."""
    return all(now - heard.at <= _FRESH_MS for heard in read(event).heard)


class _Kind(msgspec.Struct):
    type: object = None
    category: object = None


def needs_window(payload: bytes) -> bool:
    """Whether a message object is free-form. A template is none, nor is what Meta makes one of by the
    ``category`` that it names (CLOUD_API_2026.md, templates that Meta generates)."""
    kind = msgspec.json.decode(payload, type=_Kind)
    return kind.type != "template" and kind.category is None


class _Message(msgspec.Struct, gc=False):
    timestamp: object = None
    from_user_id: object = None


class _Person(msgspec.Struct, gc=False):
    user_id: object = None


class _Received(msgspec.Struct, gc=False):
    message: _Message
    contact: _Person | None = None


class _Body(msgspec.Struct, gc=False):
    data: _Received


_decode_received = msgspec.json.Decoder(_Body).decode
"""Made once: this is read of every message of a customer's."""


def _read_received(event: Event) -> Reading:
    try:
        data = _decode_received(event.body).data
    except msgspec.MsgspecError:
        return Reading(missed=True)
    whole = bool(data.message.from_user_id or (data.contact and data.contact.user_id))
    return _reading([_heard(event, data.message.timestamp, event.contact, whole=whole)], event)


class _Call(msgspec.Struct, gc=False):
    timestamp: object = None
    status: object = None
    direction: object = None
    from_user_id: object = None
    to_user_id: object = None
    recipient_user_id: object = None


class _Called(msgspec.Struct, gc=False):
    value: _Call
    contact: _Person | None = None


class _CallBody(msgspec.Struct, gc=False):
    data: _Called


def _read_call(event: Event) -> Reading:
    """A call is heard whoever made it; of its statuses only that it was taken (CLOUD_API.md 4.7)."""
    try:
        data = msgspec.json.decode(event.body, type=_CallBody).data
    except msgspec.MsgspecError:
        return Reading(missed=True)
    call = data.value
    if event.type == EventType.CALL_STATUS and call.status != _TAKEN:
        return Reading()
    user = call.recipient_user_id or (call.to_user_id if call.direction == _OURS else call.from_user_id)
    whole = bool(user or (data.contact and data.contact.user_id))
    return _reading([_heard(event, call.timestamp, event.contact, whole=whole)], event)


def _read_former(event: Event) -> Reading:
    """Calls and what customers wrote in ``standby``, as logs of earlier versions have them."""
    data = msgspec.json.decode(event.body, type=dict[str, Any]).get("data")
    if not isinstance(data, dict):
        return Reading()
    value = data.get("value")
    if not isinstance(value, dict):
        return Reading()
    if data.get("field") == "calls" and "part" not in data:
        return _reading(_calls(event, value), event)
    if data.get("field") == "standby" and data.get("part") == "messages" and value.get("type") != "system":
        whole = bool(value.get("from_user_id"))
        return _reading([_heard(event, value.get("timestamp"), event.contact, whole=whole)], event)
    return Reading()


def _calls(event: Event, value: dict[str, Any]) -> list[Heard]:
    """Of calls, and of statuses that tell that one was taken (CLOUD_API.md 4.7)."""
    contacts = Contacts(objects_of(value.get("contacts")))
    heard = []
    for call in objects_of(value.get("calls")):
        address, _ = sender(call, contacts, echo=call.get("direction") == _OURS)
        heard.append(_heard(event, call.get("timestamp"), address=address))
    for status in objects_of(value.get("statuses")):
        if status.get("status") == _TAKEN:
            address, _ = recipient(status, contacts)
            heard.append(_heard(event, status.get("timestamp"), address=address))
    return heard


def _heard(
    event: Event, timestamp: object, contact: str = "", *, address: Address = _NOBODY, whole: bool = False
) -> Heard:
    at = min(metas_time(timestamp, event.at), event.at)
    return Heard(event.phone_number_id, contact, address, whole or bool(address.user_id), at)


def _reading(heard: list[Heard], event: Event) -> Reading:
    known = tuple([one for one in heard if one.phone_number_id and (one.contact or one.address)])
    missed = len(known) < len(heard)
    for one in known:
        missed = missed or event.at - one.at > LATE_MS
    return Reading(known, missed)

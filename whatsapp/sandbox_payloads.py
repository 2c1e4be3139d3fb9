"""The shapes of what the sandbox tells by webhook, as Meta does since 2026.

Pure. Owns ids of people and messages, the statuses of a message, an inbound message, and how many updates
become the bytes of one POST (CLOUD_API.md 4.2-4.6; CLOUD_API_2026.md 2, 7-9). Decides nothing about when a
POST leaves.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from whatsapp.sandbox_rules import Refused, Send

__all__ = [
    "Update",
    "Wamids",
    "any_update",
    "ascii_json",
    "encode_post",
    "inbound_update",
    "status_updates",
    "user_id_of",
    "wa_id_of",
]


_WHOLE = "entry"


class Update(NamedTuple):
    """One happening on its way to the webhook, its parts encoded already."""

    number: str
    """The phone number id that it concerns."""
    kind: str
    """Updates of one number and kind share a change: ``messages``, or a status; of :func:`any_update` each is
    an entry of its own."""
    item: bytes
    """The message or status, or the entry."""
    contact: bytes
    """Its entry in ``contacts``; empty where it has none."""

    @property
    def size(self) -> int:
        """Bytes that it adds to a POST."""
        return len(self.item) + len(self.contact) + 2


class Wamids:
    """Message ids, each new. ``salt`` (8 bytes) keeps those of two runs apart."""

    def __init__(self, salt: bytes) -> None:
        self._head = b"\x1c\x18" + salt
        self._count = 0

    def next(self) -> str:
        """A fresh id: ``wamid.`` and base64, which may hold ``+``, ``/`` and ``=`` as Meta's do."""
        self._count += 1
        return "wamid." + base64.b64encode(self._head + self._count.to_bytes(6, "big")).decode()


def wa_id_of(phone: str) -> str:
    """The wa_id behind dialled digits. Meta rewrites some prefixes (CLOUD_API.md 0.1); the sandbox plays it
    for Mexico, where 52 and ten digits become 521 and the ten."""
    if len(phone) == 12 and phone.startswith("52"):
        return "521" + phone[2:]
    return phone


def user_id_of(wa_id: str) -> str:
    """The BSUID of the person behind a wa_id: made up, always the same."""
    return "US." + hashlib.sha256(wa_id.encode()).hexdigest()[:20]


def ascii_json(value: Any) -> bytes:
    r"""JSON as Meta writes it: non-ASCII as lower-case ``\uXXXX``, and ``/`` as ``\/`` (CLOUD_API.md 4.2)."""
    body = msgspec.json.encode(value)
    if not body.isascii():
        body = json.dumps(msgspec.json.decode(body), separators=(",", ":")).encode()
    return body.replace(b"/", rb"\/")


class _Contact(msgspec.Struct, omit_defaults=True):
    profile: dict[str, str] = {}
    wa_id: str = ""
    user_id: str = ""


class _Status(msgspec.Struct, omit_defaults=True):
    id: str
    status: str
    timestamp: str
    recipient_id: str = ""
    recipient_user_id: str = ""
    recipient_type: str = ""
    biz_opaque_callback_data: str | None = None
    pricing: dict[str, Any] | None = None
    errors: list[dict[str, Any]] | None = None


_SERVICE = {
    "billable": False,
    "pricing_model": "PMP",
    "type": "free_customer_service",
    "category": "service",
}
_TEMPLATE = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "utility"}
_PRICED = ("sent", "delivered")
"""``pricing`` comes on ``sent`` and on exactly one of the other two (CLOUD_API_2026.md 9)."""


def status_updates(
    send: Send,
    wamid: str,
    number: str,
    at: float,
    delays: tuple[float, float, float],
    *,
    name: str = "",
    failure: Refused | None = None,
    reverse: bool = False,
) -> list[tuple[float, Update]]:
    """The statuses after a send taken at ``at`` (seconds since 1970), with the seconds until each is told.

    Sent, delivered, read; only sent for a reaction (CLOUD_API.md 1.3) and, in the sandbox, for a group; only
    failed with ``failure``, at the second delay. ``reverse`` tells them in the opposite order, with their own
    times.
    """
    names: tuple[str, ...] = ("sent", "delivered", "read")
    happens: tuple[float, ...] = delays
    if failure is not None:
        names, happens = ("failed",), delays[1:2]
    elif send.type == "reaction" or send.group:
        names, happens = names[:1], delays[:1]
    told = happens[::-1] if reverse else happens
    wa_id = wa_id_of(send.phone)
    user_id = send.user_id or (user_id_of(wa_id) if wa_id else "")
    contact = b""
    if failure is None and not send.group:
        contact = ascii_json(_Contact({"name": name} if name else {}, wa_id, user_id))
    pricing = _TEMPLATE if send.type == "template" else _SERVICE
    errors = None if failure is None else [failure.in_status()]
    updates = []
    for status, after, delay in zip(names, happens, told, strict=True):
        item = _Status(
            id=wamid,
            status=status,
            timestamp=str(int(at + after)),
            recipient_id=send.group or wa_id,
            recipient_user_id=user_id,
            recipient_type="group" if send.group else "",
            biz_opaque_callback_data=send.callback,
            pricing=pricing if status in _PRICED else None,
            errors=errors,
        )
        updates.append((delay, Update(number, status, ascii_json(item), contact)))
    return updates


def inbound_update(
    message: Mapping[str, Any], number: str, *, wamid: str, at: float, wa_id: str, user_id: str, name: str
) -> Update:
    """A message from a customer. ``message`` is Meta's object; its ``id`` and ``timestamp`` win where given.

    Without a ``wa_id`` no phone field appears at all (CLOUD_API_2026.md 2.2). A ``system`` message has no
    contact (2.4).
    """
    item: dict[str, Any] = {"from": wa_id} if wa_id else {}
    item |= {"from_user_id": user_id, "id": wamid, "timestamp": str(int(at))}
    item |= {key: value for key, value in message.items() if key not in ("from", "from_user_id")}
    contact = b"" if message.get("type") == "system" else ascii_json(_Contact({"name": name}, wa_id, user_id))
    return Update(number, "messages", ascii_json(item), contact)


def any_update(waba_id: str, field: str, value: Mapping[str, Any], at: float) -> Update:
    """Whatever else Meta tells, as it is given (CLOUD_API.md 4.7), at ``at`` (seconds since 1970)."""
    entry = {"id": waba_id, "time": int(at), "changes": [{"field": field, "value": value}]}
    return Update("", _WHOLE, ascii_json(entry), b"")


def encode_post(waba_id: str, metadata: Mapping[str, bytes], updates: Sequence[Update]) -> bytes:
    """One POST's body. ``metadata``: encoded ``metadata`` of each phone number id.

    Updates of one number and kind stand in one change, so that those without contacts (``failed``) keep apart
    from those with.
    """
    changes: dict[tuple[str, str], list[Update]] = {}
    for update in updates:
        changes.setdefault((update.number, update.kind), []).append(update)
    entries = [update.item for update in changes.pop(("", _WHOLE), ())]
    parts = []
    for (number, kind), group in changes.items():
        contacts = dict.fromkeys(update.contact for update in group if update.contact)
        part = b'{"field":"messages","value":{"messaging_product":"whatsapp","metadata":' + metadata[number]
        if contacts:
            part += b',"contacts":[' + b",".join(contacts) + b"]"
        part += b',"messages":[' if kind == "messages" else b',"statuses":['
        parts.append(part + b",".join([update.item for update in group]) + b"]}}")
    if parts:
        entries.append(b'{"id":' + ascii_json(waba_id) + b',"changes":[' + b",".join(parts) + b"]}")
    return b'{"object":"whatsapp_business_account","entry":[' + b",".join(entries) + b"]}"

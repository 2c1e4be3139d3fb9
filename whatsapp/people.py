"""Who a message or a status is about, as Meta's own objects tell it.

Pure. Owns where phones and user ids sit in webhooks (CLOUD_API_2026.md 2.3), and what an identity change
says (2.4). Any field may be missing; an empty text counts as missing, a JSON number as its digits, and
anything else as missing too. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from whatsapp.identity import Address

__all__ = [
    "Contacts",
    "IdentityChange",
    "identity_change",
    "is_ours",
    "listed",
    "number_of",
    "objects_of",
    "preferring",
    "recipient",
    "recipient_key",
    "sender",
    "tells_identity",
    "text_of",
    "threaded",
]

Json = dict[str, Any]

_MAX_PHONE = 32
_MAX_USER_ID = 256
_MAX_NUMBER = 64
_CHANGES = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})
_NEW_SECURITY_CODE = "customer_identity_changed"
_PARTICIPANT_IDS = ("recipient_participant_id", "participant_recipient_id")
_PARTICIPANT_USER_IDS = ("recipient_participant_user_id", "participant_recipient_user_id")
_RECIPIENTS = (*_PARTICIPANT_IDS, *_PARTICIPANT_USER_IDS, "recipient_id", "recipient_user_id")


class IdentityChange(msgspec.Struct, frozen=True, gc=False):
    """A person who has another address now. What Meta did not tell is empty, a whole side even."""

    old: Address
    new: Address

    def as_data(self) -> dict[str, str | None]:
        """As subscribers see it."""
        return {
            "old_phone": self.old.phone or None,
            "new_phone": self.new.phone or None,
            "old_user_id": self.old.user_id or None,
            "new_user_id": self.new.user_id or None,
        }


class Contacts:
    """The ``contacts`` beside messages or statuses.

    They are found by address and never by position: the lists are separate (CLOUD_API.md 4.3).
    """

    __slots__ = ("_by_phone", "_by_user_id")

    def __init__(self, contacts: Iterable[Json] = ()) -> None:
        self._by_phone: dict[str, Json] = {}
        self._by_user_id: dict[str, Json] = {}
        for contact in contacts:
            if phone := _phone(contact.get("wa_id")):
                self._by_phone.setdefault(phone, contact)
            if user_id := _user_id(contact.get("user_id")):
                self._by_user_id.setdefault(user_id, contact)

    def find(self, address: Address) -> Json | None:
        """The entry of this person; None if there is none, or nothing is known to look for.

        A user id counts first. An entry found by phone that names another user id is another person's.
        """
        if address.user_id and (contact := self._by_user_id.get(address.user_id)) is not None:
            return contact
        contact = self._by_phone.get(address.phone) if address.phone else None
        if contact is None or not address.user_id:
            return contact
        return None if _user_id(contact.get("user_id")) else contact


def sender(message: Json, contacts: Contacts, *, echo: bool = False) -> tuple[Address, Json | None]:
    """The customer on the other end of a message, and the entry of ``contacts`` about them.

    That is the sender, also within a group; of an echo (a message of ours, typed elsewhere) the recipient.
    Where the message gives only one of phone and user id, the entry supplies the other.
    """
    if echo:
        address = Address(_phone(message.get("to")), _user_id(message.get("to_user_id")))
    else:
        address = Address(_phone(message.get("from")), _user_id(message.get("from_user_id")))
    return _completed(address, contacts)


def recipient(status: Json, contacts: Contacts) -> tuple[Address, Json | None]:
    """The person that a status is about, and the entry of ``contacts`` about them.

    In a group that is the participant: ``recipient_id`` is the group's own id there, which is nobody's phone.
    """
    address = Address(
        _phone(_first(status, _PARTICIPANT_IDS)), _user_id(_first(status, _PARTICIPANT_USER_IDS))
    )
    if not address and status.get("recipient_type") != "group":
        address = Address(_phone(status.get("recipient_id")), _user_id(status.get("recipient_user_id")))
    return _completed(address, contacts)


def preferring(preference: Json, contacts: Contacts) -> tuple[Address, Json | None]:
    """Whose preference it is, and the entry of ``contacts`` about them."""
    return _completed(Address(_phone(preference.get("wa_id")), _user_id(preference.get("user_id"))), contacts)


def listed(entry: Json, contacts: Contacts) -> tuple[Address, Json | None]:
    """Who stands in an entry of the Business app's address book."""
    person = entry.get("contact")
    if not isinstance(person, dict):
        return Address(), None
    return _completed(Address(_phone(person.get("phone_number")), _user_id(person.get("user_id"))), contacts)


def threaded(thread: Json, contacts: Contacts) -> tuple[Address, Json | None]:
    """Who is on the other end of a thread of the history (CLOUD_API_2026.md 2.3)."""
    context = thread.get("context")
    known = context if isinstance(context, dict) else {}
    phone = _phone(thread.get("id")) or _phone(known.get("wa_id"))
    return _completed(Address(phone, _user_id(known.get("user_id"))), contacts)


def is_ours(message: Json, metadata: Json | None) -> bool:
    """Whether the business wrote a message of the history: it comes from our number, or names whom it went
    to."""
    ours = _phone((metadata or {}).get("display_phone_number"))
    from_us = bool(ours) and _phone(message.get("from")) == ours
    return from_us or bool(_phone(message.get("to")) or _user_id(message.get("to_user_id")))


def number_of(metadata: Json | None) -> str:
    """The id of our number in the ``metadata`` of a value; empty where there is none of a sane length."""
    number = text_of(metadata.get("phone_number_id")) if metadata else ""
    return number if len(number) <= _MAX_NUMBER else ""


def recipient_key(status: Json) -> str:
    """What tells the statuses of one message's recipients apart: the most exact id, as Meta wrote it."""
    return _first(status, _RECIPIENTS)


def tells_identity(message: Json) -> bool:
    """Whether a ``system`` message is about who the customer is: another number, user id or security code."""
    kind = _system_kind(message)
    return kind in _CHANGES or kind == _NEW_SECURITY_CODE


def identity_change(message: Json) -> IdentityChange | None:
    """What a ``system`` message says of a changed number or user id; None if it says nothing of that.

    ``from`` is the old number, ``system.wa_id`` the new one (``customer`` and ``new_wa_id`` from old
    clients). A ``from_user_id`` other than the new one stands in for a missing ``previous_user_id``.
    """
    if _system_kind(message) not in _CHANGES:
        return None
    system = message["system"]
    new = Address(_phone(_first(system, ("wa_id", "new_wa_id"))), _user_id(system.get("user_id")))
    old_user_id = _user_id(system.get("previous_user_id")) or _user_id(message.get("from_user_id"))
    if old_user_id == new.user_id:
        old_user_id = ""
    old_phone = _phone(message.get("from")) or _phone(system.get("customer"))
    return IdentityChange(Address(old_phone, old_user_id), new)


def objects_of(items: object) -> list[dict[str, Any]]:
    """The objects of a list; what is none is passed over."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def text_of(value: object) -> str:
    """A text or a whole number as text; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def _system_kind(message: Json) -> str:
    system = message.get("system")
    return text_of(system.get("type")) if isinstance(system, dict) else ""


def _completed(address: Address, contacts: Contacts) -> tuple[Address, Json | None]:
    contact = contacts.find(address)
    if contact is not None and not (address.phone and address.user_id):
        address = Address(
            address.phone or _phone(contact.get("wa_id")), address.user_id or _user_id(contact.get("user_id"))
        )
    return address, contact


def _first(item: Json, names: tuple[str, ...]) -> str:
    for name in names:
        if text := text_of(item.get(name)):
            return text
    return ""


def _phone(value: object) -> str:
    """Digits; empty for what cannot be a phone, such as a group's id."""
    digits = text_of(value).removeprefix("+")
    return digits if len(digits) <= _MAX_PHONE and digits.isascii() and digits.isdigit() else ""


def _user_id(value: object) -> str:
    user_id = text_of(value)
    return user_id if len(user_id) <= _MAX_USER_ID else ""

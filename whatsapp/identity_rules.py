"""Who a contact is: one permanent key behind phones and user ids that come, go and change.

Pure. A contact's key is the first address it was met under; phone and user id (BSUID) are its aliases
(docs/design.md, Who a contact is; CLOUD_API_2026.md 2). What the rules rest on:

- A user id is one person's for good, and never given to another (CLOUD_API_2026.md 2.1).
- A phone passes from one person to another. A word that names it beside another user id than the one it was
  seen with, and no change was told, is another person's.
- Webhooks come late, twice and out of order. What is older than how a phone came to who has it now moves
  nothing: ``at``, Meta's time of the word in milliseconds, is compared; 0 is a time that is not known, and
  counts as now.
- Whoever has a phone after a person who has told that they left it is nobody else: ``<key>/<phone>``.
- Two contacts that turn out to be one person become one (:attr:`Told.merged`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from store.records import Alias
from whatsapp.identity import Address

__all__ = ["Told", "attach", "move", "place"]

_Known = Mapping[str, Alias]


class Told(NamedTuple):
    """What is to be made of an address."""

    contact: str
    """The key of whom it is about; empty where nobody is named."""
    aliases: list[Alias]
    """What is to be stored for it; nothing where all is known."""
    merged: str = ""
    """The key of a contact that turned out to be this one. Its addresses are among :attr:`aliases`, as far as
    they were given."""


def place(known: _Known, address: Address, at: int = 0) -> Told:
    """The contact at this address at that time."""
    phone, user_id = address.phone, address.user_id
    if not (phone and user_id):
        alias = phone or user_id
        found = known.get(alias)
        if found is None:
            return Told(alias, [Alias(alias, alias, "", at)])
        return Told(_left_by(found) if _is_late(found, at) else found.contact, [])
    by_phone, by_user = known.get(phone), known.get(user_id)
    if (
        by_phone
        and by_user
        and (by_phone.contact, by_phone.peer, by_user.peer)
        == (
            by_user.contact,
            user_id,
            phone,
        )
    ):
        # As almost always.
        return Told(by_user.contact, [])
    if by_phone is None:
        # Fresh both: the phone is what callers know.
        contact = by_user.contact if by_user else phone
        return _told(known, contact, [Alias(phone, contact, user_id, at), Alias(user_id, contact, phone, at)])
    late = _is_late(by_phone, at)
    # A phone that somebody moved to, or left, was another's before.
    was_anothers = by_phone.peer not in ("", user_id) or (late and by_phone.contact != phone)
    if by_user is None:
        contact = user_id if was_anothers else by_phone.contact
    else:
        contact = by_user.contact
    has_it = by_phone.contact == contact
    is_same = not (was_anothers or has_it or _left_by(by_phone) == contact)
    wanted = []
    if is_same or not late:
        wanted.append(Alias(phone, contact, user_id, max(at, by_phone.at) if late else at))
    if by_user is None or not late:
        wanted.append(Alias(user_id, contact, phone, at))
    return _told(known, contact, wanted, by_phone.contact if is_same else "")


def move(known: _Known, old: Address, new: Address, at: int = 0) -> Told:
    """The person whose phone or user id changed at that time (CLOUD_API_2026.md 2.4).

    Nothing is to be stored for a change that was made before, also where the person has changed again since.
    """
    person = _mover(known, old, new, at)
    arrived = _arrived(known, new, at)
    contact = person or arrived or _fresh(known, old, new)
    if not (contact and old and new) or (not at and _has_arrived(known, contact, new)):
        return Told(contact, [])
    merged = arrived if arrived != contact else ""
    mine = (contact, merged)
    wanted = []
    for part, other in ((new.phone, new.user_id), (new.user_id, new.phone)):
        found = known.get(part)
        if part and not (found and _is_late(found, at)):
            peer = other or (found.peer if found and found.contact in mine else "")
            wanted.append(Alias(part, contact, peer, at))
    if old.user_id and old.user_id not in known:
        wanted.append(Alias(old.user_id, contact, old.phone, at))
    left = known.get(old.phone)
    if old.phone not in ("", new.phone) and _leaves(left, mine, old, at):
        # Whoever writes from the old phone next is somebody else.
        wanted.append(Alias(old.phone, _successor(contact, old.phone), "", at))
    return _told(known, contact, wanted, merged)


def attach(known: _Known, contact: str, address: Address) -> Told:
    """The contact who is reached at this address too, as Meta answers a send; what leads elsewhere is left.

    A contact of whom nothing is known but one address, which was dialled, is whoever the answer names.
    """
    found = known.get(contact)
    if found is not None and _left_by(found) == found.contact:
        contact = found.contact
    own = known.get(contact)
    kept = contact
    if own is not None and own.contact == contact and not own.peer:
        others = (known.get(address.user_id), known.get(address.phone))
        kept = next((other.contact for other in others if other and _is_same(other, own, address)), contact)
    wanted = []
    for part, other in ((address.phone, address.user_id), (address.user_id, address.phone)):
        there = known.get(part)
        if part and (there is None or (there.contact in (contact, kept) and not there.peer)):
            wanted.append(Alias(part, kept, other, there.at if there else 0))
    return _told(known, kept, wanted, contact if kept != contact else "")


def _is_same(there: Alias, own: Alias, answered: Address) -> bool:
    """Whether who was dialled by ``own`` alone is the other contact that Meta's answer leads to.

    A user id that has a phone which was seen with another one has taken it over.
    """
    if there.contact == own.contact:
        return False
    by_phone = there.alias == answered.phone
    return not by_phone or own.alias.isdigit() or there.peer in ("", own.alias, answered.user_id)


def _mover(known: _Known, old: Address, new: Address, at: int) -> str:
    """Who made a change; empty where they are not known."""
    if old.user_id in known:
        return known[old.user_id].contact
    found = known.get(old.phone)
    if found is None or (old.user_id and found.peer not in ("", old.user_id)):
        # Nobody's, or passed on without a word since it was seen.
        return ""
    former = _left_by(found)
    if former != found.contact and (_has_arrived(known, former, new) or (at and at <= found.at)):
        # Left before, by this change or by a later one. Of a user id that is not known it was another's.
        return "" if old.user_id else former
    return "" if _is_late(found, at) else found.contact


def _has_arrived(known: _Known, contact: str, new: Address) -> bool:
    """Whether the new address leads to this contact, or to who came after them."""
    found = known.get(new.user_id or new.phone)
    return found is not None and (
        found.contact == contact or (not new.user_id and _left_by(found) == contact)
    )


def _leaves(left: Alias | None, mine: tuple[str, str], old: Address, at: int) -> bool:
    """Whether a phone is to be given up by who had it."""
    if left is None:
        return True
    if at and at <= left.at and _left_by(left) != left.contact:
        # By this change already, maybe under the key of who was merged since.
        return False
    # A user id beside it proves that it was theirs until then.
    return (bool(old.user_id) or left.contact in mine) and not _is_late(left, at)


def _arrived(known: _Known, new: Address, at: int) -> str:
    """The contact that the one who made a change was taken for before it was told; empty where none."""
    if new.user_id in known:
        return known[new.user_id].contact
    found = known.get(new.phone)
    if found is None or not _is_late(found, at):
        # Nobody's yet, or that of who had it before.
        return ""
    if new.user_id and (found.peer or _left_by(found) != found.contact):
        # Known, or left, by somebody with another user id.
        return ""
    return _left_by(found)


def _fresh(known: _Known, old: Address, new: Address) -> str:
    """A key for somebody not met before, which is nobody's."""
    parts = (old.phone, old.user_id, new.user_id, new.phone) if old else ()
    return next((part for part in parts if part and part not in known), "")


def _told(known: _Known, contact: str, wanted: list[Alias], merged: str = "") -> Told:
    """With the addresses of who is merged, without what is known."""
    if merged:
        named = {alias.alias for alias in wanted}
        # A key that is no address is found too.
        gone = [known.get(merged, Alias(merged, merged))] if "/" in merged else []
        theirs = [alias for alias in (*known.values(), *gone) if alias.contact == merged]
        wanted += [replace(alias, contact=contact) for alias in theirs if alias.alias not in named]
    return Told(contact, [alias for alias in wanted if not _is_known(known, alias)], merged)


def _is_known(known: _Known, alias: Alias) -> bool:
    found = known.get(alias.alias)
    return found is not None and (found.contact, found.peer) == (alias.contact, alias.peer)


def _is_late(found: Alias, at: int) -> bool:
    """Whether a word is older than how the address came to who has it."""
    return 0 < at < found.at


def _left_by(found: Alias) -> str:
    """Who has told that they left this phone; its contact where nobody has."""
    return found.contact.removesuffix(_successor("", found.alias))


def _successor(contact: str, phone: str) -> str:
    """The key of whoever has the phone after this contact, which is nobody else's."""
    return f"{contact}/{phone}"

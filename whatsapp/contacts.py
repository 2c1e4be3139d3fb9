"""Who a contact is: one permanent key behind phones and user ids that come, go and change.

Owns the rule (pure: :func:`place`, :func:`move`) and a cache of addresses in front of the store
(:class:`Contacts`). A contact's key is the first address it was met under; phone and user id (BSUID) are its
aliases (docs/design.md, Who a contact is; CLOUD_API_2026.md 2). A phone that turns up with another user id,
without a message that says so, belongs to a new person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from store.base import Store
from store.records import Alias, Event
from whatsapp.events import EventType
from whatsapp.identity import Address, parse_address

__all__ = ["Contacts", "move", "place"]


def place(known: Mapping[str, Alias], address: Address) -> tuple[str, list[Alias]]:
    """The key of the contact at this address, and what is to be stored for it; nothing where all is known."""
    phone, user_id = address
    if not (phone and user_id):
        alias = phone or user_id
        found = known.get(alias)
        return (found.contact, []) if found else (alias, [Alias(alias, alias)])
    by_phone, by_user = known.get(phone), known.get(user_id)
    if by_user:
        contact = by_user.contact
    elif by_phone and by_phone.peer in ("", user_id):
        contact = by_phone.contact
    else:
        # Fresh both: the phone is what callers know. Or the phone has passed to another person.
        contact = user_id if by_phone else phone
    wanted = (Alias(phone, contact, user_id), Alias(user_id, contact, phone))
    return contact, [alias for alias in wanted if known.get(alias.alias) != alias]


def move(known: Mapping[str, Alias], old: Address, new: Address) -> tuple[str, list[Alias]]:
    """The key of a person whose phone or user id changed, and what to store (CLOUD_API_2026.md 2.4).

    Nothing is to be stored for a change that was made before, also where the person has changed again since;
    the key is empty where nobody is named.
    """
    found = known.get(old.user_id) or known.get(old.phone)
    contact = found.contact if found else old.phone or old.user_id
    if not contact or not new:
        return contact, []
    if moved := _moved_before(known, contact, old, new):
        return moved, []
    wanted = []
    if new.phone:
        wanted.append(Alias(new.phone, contact, new.user_id))
    if new.user_id:
        wanted.append(Alias(new.user_id, contact, new.phone))
    if old.phone and old.phone != new.phone:
        # Whoever writes from the old phone next is somebody else.
        wanted.append(Alias(old.phone, _successor(contact, old.phone)))
    return contact, wanted


def _moved_before(known: Mapping[str, Alias], contact: str, old: Address, new: Address) -> str:
    """The key of who has made this change before: the new address leads to them, or to who came after them.

    ``contact`` was found at the old address; by the phone alone that is, by then, who has the phone next.
    """
    found = known.get(new.user_id or new.phone)
    arrived = found.contact if found else ""
    for mover in (contact, contact.removesuffix(_successor("", old.phone))):
        if arrived == mover or (not new.user_id and arrived == _successor(mover, new.phone)):
            return mover
    return ""


def _successor(contact: str, phone: str) -> str:
    """The key of whoever has the phone after this contact, which is nobody else's."""
    return f"{contact}/{phone}"


class Contacts:
    """Resolves addresses to keys; what is not known yet is stored before the answer. One per process."""

    def __init__(self, store: Store, *, cache_size: int = 100_000) -> None:
        self._store = store
        self._cache_size = cache_size
        self._cache: dict[str, Alias] = {}
        self._miss = asyncio.Lock()

    def cached(self, address: Address) -> str | None:
        """The key where it is in memory and nothing is to be stored; None means: ask :meth:`resolve`."""
        contact, unknown = place(self._cache, address)
        return None if unknown else contact

    async def resolve(self, addresses: Collection[Address]) -> dict[Address, str]:
        """The key of each. Raises StoreUnavailable."""
        keys: dict[Address, str] = {}
        missing = []
        for address in addresses:
            contact = self.cached(address)
            if contact is None:
                missing.append(address)
            else:
                keys[address] = contact
        if missing:
            keys.update(await self._resolve_missing(missing))
        return keys

    async def find_text(self, text: str) -> str:
        """The key of whom a caller names by phone, user id or key, without storing anything.

        What is not known is its own key: it is the one that the contact gets when it is first met.
        """
        address = parse_address(text)
        alias = (address.user_id or address.phone) if address else text
        found = (await self._load([alias])).get(alias)
        return found.contact if found else alias

    async def change(self, old: Address, new: Address) -> str:
        """A person's phone or user id changed; the person's key. Repeating it changes nothing.

        Raises StoreUnavailable.
        """
        async with self._miss:
            known = await self._load([part for part in (*old, *new) if part])
            contact, aliases = move(known, old, new)
            await self._put(aliases)
            return contact

    async def learn(self, contact: str, address: Address) -> None:
        """Meta knows this contact by these addresses too; those that lead elsewhere already are left. Raises
        StoreUnavailable."""
        parts = [part for part in address if part]
        if all(part in self._cache for part in parts):
            return
        async with self._miss:
            known = await self._load(parts)
            await self._put([Alias(part, contact) for part in parts if part not in known])

    def notice(self, batch: Sequence[Event]) -> None:
        """What the log says: an identity changed, maybe in another process; what is in memory may be old."""
        if any(event.type == EventType.CONTACT_CHANGED for event in batch):
            self._cache = {}

    async def _resolve_missing(self, addresses: Sequence[Address]) -> dict[Address, str]:
        # One at a time, so that two requests that meet a person first do not disagree about the key.
        async with self._miss:
            known = await self._load([part for address in addresses for part in address if part])
            keys: dict[Address, str] = {}
            fresh: dict[str, Alias] = {}
            # Who is known by both parts comes first: the others may be known by one of them.
            for address in sorted(addresses, key=lambda address: not all(address)):
                keys[address], unknown = place(known, address)
                fresh.update((alias.alias, alias) for alias in unknown)
                known.update((alias.alias, alias) for alias in unknown)
            await self._put(list(fresh.values()))
            return keys

    async def _load(self, aliases: Sequence[str]) -> dict[str, Alias]:
        """Those of these that are known. The cache may be emptied at any await: it is read once."""
        known = {alias: self._cache[alias] for alias in aliases if alias in self._cache}
        missing = {alias for alias in aliases if alias not in known}
        if missing:
            cache = self._cache
            found = await self._store.find_aliases(missing)
            known |= found
            if cache is self._cache:  # else what was found may be old already
                self._keep([alias for alias in found.values() if alias.alias not in cache])
        return known

    async def _put(self, aliases: Sequence[Alias]) -> None:
        if aliases:
            await self._store.put_aliases(aliases)
            self._keep(aliases)

    def _keep(self, aliases: Collection[Alias]) -> None:
        if len(self._cache) + len(aliases) > self._cache_size:
            self._cache.clear()
        self._cache.update((alias.alias, alias) for alias in aliases)

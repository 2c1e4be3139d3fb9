"""Who a contact is: one permanent key behind phones and user ids that come, go and change.

Owns the rule (pure: :func:`place`, :func:`move`, :func:`attach`) and a cache of addresses in front of the
store (:class:`Contacts`). A contact's key is the first address it was met under; phone and user id (BSUID)
are its aliases (docs/design.md, Who a contact is; CLOUD_API_2026.md 2). A phone that turns up with another
user id, without a message that says so, belongs to a new person.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Any, NamedTuple

from store.base import Store
from store.commit import GroupCommit
from store.records import Alias, Event
from whatsapp.events import EventType
from whatsapp.identity import Address, parse_address

__all__ = ["Contacts", "attach", "move", "place"]

_TOGETHER = 1000
"""Addresses that are looked up by one read; a request brings up to 500."""

_Rule = Callable[[Mapping[str, Alias]], tuple[str, list[Alias]]]
"""From what is known: whom it is about, and what is to be stored."""


def place(known: Mapping[str, Alias], address: Address) -> tuple[str, list[Alias]]:
    """The key of the contact at this address, and what is to be stored for it; nothing where all is known."""
    phone, user_id = address.phone, address.user_id
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


def attach(known: Mapping[str, Alias], contact: str, address: Address) -> tuple[str, list[Alias]]:
    """The contact, and what to store so that this address leads there too; parts that are known are left."""
    return contact, [Alias(part, contact) for part in address if part and part not in known]


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


class _Asked(NamedTuple):
    """What a caller waits for."""

    addresses: Collection[Address]
    """All that it depends on."""
    rule: _Rule | None = None
    """What to make of them; None: place each, and answer with the keys."""


def _answer(known: MutableMapping[str, Alias], batch: Sequence[_Asked]) -> list[Any]:
    """What each is told, in the order asked, and ``known`` with what came to be known by that."""
    answers: list[Any] = []
    # No two callers share a rule object: only those without one, where they stand in a row, are a group.
    for rule, row in groupby(batch, lambda asked: asked.rule):
        if rule is None:
            answers += _place_all(known, [asked.addresses for asked in row])
        else:
            answers.append(_follow(known, rule))
    return answers


def _place_all(
    known: MutableMapping[str, Alias], requests: Sequence[Collection[Address]]
) -> list[dict[Address, str]]:
    """The keys that each request asks for. Requests that meet a person first agree about the key."""
    keys = {}
    # Who is known by both parts comes first: the others may be known by one of them.
    for address in sorted(dict.fromkeys(chain(*requests)), key=lambda address: not all(address)):
        keys[address] = _follow(known, partial(place, address=address))
    return [{address: keys[address] for address in addresses} for addresses in requests]


def _follow(known: MutableMapping[str, Alias], rule: _Rule) -> str:
    contact, aliases = rule(known)
    known.update((alias.alias, alias) for alias in aliases)
    return contact


class Contacts:
    """Resolves addresses to keys; what is not known yet is stored before the answer. One per process.

    Callers that wait for the store at the same time share one read and one write of it, in the order of
    their calls. Each hears within two seconds; what it asked for may be stored all the same.
    """

    def __init__(self, store: Store, *, cache_size: int = 100_000) -> None:
        self._store = store
        self._cache_size = cache_size
        self._cache: dict[str, Alias] = {}
        self._group = GroupCommit[_Asked, Any](self._commit, max_weight=_TOGETHER)

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
            keys.update(await self._group.submit(_Asked(missing), len(missing)))
        return keys

    async def find(self, addresses: Collection[Address]) -> dict[Address, str]:
        """As :meth:`resolve`, without storing anything. Raises StoreUnavailable."""
        known = await self._load({part for address in addresses for part in address if part})
        return {address: place(known, address)[0] for address in addresses}

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
        contact: str = await self._group.submit(_Asked((old, new), partial(move, old=old, new=new)))
        return contact

    async def learn(self, contact: str, address: Address) -> None:
        """Meta knows this contact by these addresses too; those that lead elsewhere already are left. Raises
        StoreUnavailable."""
        if any(part and part not in self._cache for part in address):
            rule = partial(attach, contact=contact, address=address)
            await self._group.submit(_Asked((address,), rule))

    def notice(self, batch: Sequence[Event]) -> None:
        """What the log says: an identity changed, maybe in another process; what is in memory may be old."""
        if any(event.type == EventType.CONTACT_CHANGED for event in batch):
            self._cache = {}

    async def flush(self) -> None:
        """Return once everything that was asked for has been answered."""
        await self._group.flush()

    async def _commit(self, batch: Sequence[_Asked]) -> list[Any]:
        """What each is told, once all that came to be known by it is stored."""
        parts = {part for asked in batch for address in asked.addresses for part in address if part}
        known = ChainMap[str, Alias]({}, await self._load(parts))
        answers = _answer(known, batch)
        await self._put(list(known.maps[0].values()))
        return answers

    async def _load(self, aliases: Collection[str]) -> dict[str, Alias]:
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
            self._cache = {}  # a new one, so that a read under way sees it
        self._cache.update((alias.alias, alias) for alias in aliases)

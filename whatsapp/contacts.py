"""Resolves addresses to contacts: a cache in front of the store, and one look at it for many callers.

What an address leads to is decided in ``identity_rules.py``. Owns that what is not known yet is stored before
the answer, and that callers who ask at the same time agree.
"""

from __future__ import annotations

import asyncio
import time
from collections import ChainMap
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from store.base import Store
from store.commit import GroupCommit
from store.records import Alias, Event, NewEvent
from whatsapp.events import EventType, build_event
from whatsapp.identity import Address, parse_address
from whatsapp.identity_rules import Told, attach, move, place

__all__ = ["Contacts", "Merge", "merged"]

_TOGETHER = 1000
"""Addresses that are looked up by one read; a request brings up to 500."""
_STORED_S = 8.0
"""After which a merge that was told is stored: three calls of the store's, each of which ends within two."""
_CHANGES = frozenset({EventType.CONTACT_CHANGED, EventType.CONTACT_MERGED})

_Rule = Callable[[Mapping[str, Alias]], Told]
"""From what is known: whom it is about, and what is to be stored."""


_NO_TIMES: Mapping[Address, int] = {}


class Merge(NamedTuple):
    """Two contacts turned out to be one person."""

    gone: str
    """The key that nobody is found by any more."""
    kept: str


def merged(merge: Merge, now: int) -> NewEvent:
    """Tells it, once."""
    data = {"kept": merge.kept, "gone": merge.gone}
    key = f"merged:{merge.gone}:{merge.kept}"
    return build_event(EventType.CONTACT_MERGED, key, now, data, contact=merge.kept)


class _Asked(NamedTuple):
    """What a caller waits for."""

    addresses: Collection[Address]
    """All that it depends on."""
    rule: _Rule | None = None
    """What to make of them; None: place each, and answer with the keys."""
    times: Mapping[Address, int] = _NO_TIMES
    """When those that are to be placed were said, as far as that is known."""
    key: str = ""
    """A key that it depends on too."""


class _Book:
    """What is known, and what comes to be known by the answers."""

    def __init__(self, known: dict[str, Alias]) -> None:
        self.new: dict[str, Alias] = {}
        self.known: MutableMapping[str, Alias] = ChainMap(self.new, known)
        self.merges: list[Merge] = []

    def follow(self, rule: _Rule) -> str:
        told = rule(self.known)
        self.known.update((alias.alias, alias) for alias in told.aliases)
        if told.merged:
            self.merges.append(Merge(told.merged, told.contact))
        return told.contact

    def answer(self, batch: Sequence[_Asked]) -> list[Any]:
        """What each is told, in the order asked."""
        answers: list[Any] = []
        # No two callers share a rule object: only those without one, where they stand in a row, are a group.
        for rule, row in groupby(batch, lambda asked: asked.rule):
            if rule is None:
                answers += self._place_all(list(row))
            else:
                answers.append(self.follow(rule))
        return answers

    def _place_all(self, requests: Sequence[_Asked]) -> list[dict[Address, str]]:
        """The keys that each request asks for. Requests that meet a person first agree about the key."""
        keys = {}
        times: dict[Address, int] = {}
        for asked in requests:
            for address in asked.addresses:
                times[address] = max(times.get(address, 0), asked.times.get(address, 0))
        # Who is known by both parts comes first: the others may be known by one of them.
        for address in sorted(times, key=lambda address: not all(address)):
            keys[address] = self.follow(partial(place, address=address, at=times[address]))
        return [{address: keys[address] for address in asked.addresses} for asked in requests]


class Contacts:
    """One per process. What is not known yet is stored before the answer.

    Callers that wait for the store at the same time share one read and one write of it, in the order of
    their calls. Each hears within two seconds; what it asked for may be stored all the same.
    """

    def __init__(
        self,
        store: Store,
        *,
        cache_size: int = 100_000,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        returning: Callable[[Sequence[Alias]], Awaitable[None]] | None = None,
    ) -> None:
        """``returning``: is shown addresses that are met for the first time, before they are stored."""
        self._store = store
        self._returning = returning
        self._cache_size = cache_size
        self._cache: dict[str, Alias] = {}
        self._now_ms = now_ms
        self._group = GroupCommit[_Asked, Any](self._commit, max_weight=_TOGETHER)

    def cached(self, address: Address, at: int = 0) -> str | None:
        """The key where it is in memory and nothing is to be stored; None means: ask :meth:`resolve`."""
        contact, unknown, _ = place(self._cache, address, at)
        return None if unknown else contact

    async def resolve(
        self, addresses: Collection[Address], times: Mapping[Address, int] = _NO_TIMES
    ) -> dict[Address, str]:
        """The key of each. ``times``: when each was said, by Meta's clock in milliseconds, so that late words
        move nothing; now, where it is not given. Raises StoreUnavailable."""
        keys: dict[Address, str] = {}
        missing = []
        for address in addresses:
            contact = self.cached(address, times.get(address, 0))
            if contact is None:
                missing.append(address)
            else:
                keys[address] = contact
        if missing:
            keys.update(await self._group.submit(_Asked(missing, times=times), len(missing)))
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

    async def change(self, old: Address, new: Address, at: int = 0) -> str:
        """A person's phone or user id changed at this time; the person's key. Repeating it changes nothing.

        Raises StoreUnavailable.
        """
        rule = partial(move, old=old, new=new, at=at)
        contact: str = await self._group.submit(_Asked((old, new), rule))
        return contact

    async def learn(self, contact: str, address: Address) -> None:
        """Meta knows this contact by these addresses too; those that lead elsewhere already are left. Raises
        StoreUnavailable."""
        if any(part and not self._leads_to(part, contact) for part in address):
            rule = partial(attach, contact=contact, address=address)
            await self._group.submit(_Asked((address,), rule, key=contact))

    def _leads_to(self, part: str, contact: str) -> bool:
        found = self._cache.get(part)
        return found is not None and found.contact == contact

    def notice(self, batch: Sequence[Event]) -> None:
        """What the log says: an identity changed, maybe in another process; what is in memory may be old."""
        if any(event.type in _CHANGES for event in batch):
            self.forget()
        if any(event.type == EventType.CONTACT_MERGED for event in batch):
            # It is told before it is stored, and what is read again meanwhile may be old too.
            asyncio.get_running_loop().call_later(_STORED_S, self.forget)

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._cache = {}

    async def flush(self) -> None:
        """Return once everything that was asked for has been answered."""
        await self._group.flush()

    async def _commit(self, batch: Sequence[_Asked]) -> list[Any]:
        """What each is told, once all that came to be known by it is stored."""
        parts = {part for asked in batch for address in asked.addresses for part in address if part}
        parts |= {asked.key for asked in batch if asked.key}
        known = await self._load(parts)
        whole: set[str] = set()
        while True:
            book = _Book(known)
            answers = book.answer(batch)
            gone = {merge.gone for merge in book.merges} - whole
            if not gone:
                break
            # All addresses of who is merged move: they are read, and everything is answered anew.
            for key in gone:
                known = {alias.alias: alias for alias in await self._store.aliases_of(key)} | known
            whole |= gone
        if book.merges:
            # Before it is true: a crash in between has it done again, and it is not told twice.
            now = self._now_ms()
            await self._store.append_events([merged(merge, now) for merge in book.merges])
        for merge in book.merges:
            await self._carry(merge)
        fresh = [alias for alias in book.new.values() if alias.alias not in known]
        if fresh and self._returning is not None:
            await self._returning(fresh)
        await self._put(list(book.new.values()))
        return answers

    async def _carry(self, merge: Merge) -> None:
        """Who has asked for silence under the one key is not written to under the other."""
        found = (await self._store.find_suppressions([merge.gone])).get(merge.gone)
        if found is not None:
            word = msgspec.structs.replace(found, contact=merge.kept)
            await self._store.put_suppressions([word], by_operator=found.firm)

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

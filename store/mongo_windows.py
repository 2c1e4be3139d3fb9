"""When contacts were last heard from, and since when no webhook was missed, on MongoDB.

Owns the collections ``windows``, one document for each number and contact, and ``intake``, which has one.
Documents are made before they are updated and never by an upsert (see ``mongo_leases.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

from pymongo import UpdateOne

from store.errors import StoreUnavailable
from store.mongo_connection import Connection, Document, InOrder
from store.records import Window, intake_at

__all__ = ["WINDOWS", "Windows"]

WINDOWS = "windows"
_INTAKE = "intake"
_ONE = {"_id": "intake"}
_CHUNK = 100
"""Writes in one bulk, well inside the time of one answer where each takes some milliseconds."""
_TRIES = 5


class Windows:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, in_order: InOrder) -> None:
        self._db = db
        self._in_order = in_order

    async def note_inbound(self, windows: Sequence[Window]) -> None:
        """Insert, and raise the time of those that were there."""
        for start in range(0, len(windows), _CHUNK):
            await self._note(windows[start : start + _CHUNK])

    async def find_inbound(self, phone_number_id: str, contacts: Collection[str]) -> dict[str, int]:
        """Those that are known."""
        if not contacts:
            return {}
        keys = {_key(phone_number_id, contact): contact for contact in contacts}
        found = await self._db.find(WINDOWS, {"_id": {"$in": list(keys)}})
        return {keys[document["_id"]]: int(document["inbound_at"]) for document in found}

    async def sweep_inbound(self, before: int) -> int:
        """In portions."""
        removed = 0
        old: Document = {"inbound_at": {"$lt": before}}
        while found := await self._db.find(WINDOWS, old, {"_id": 1}, limit=_CHUNK):
            # With the age again: one may have written meanwhile.
            where = {"_id": {"$in": [document["_id"] for document in found]}, **old}
            done = await self._db.call(partial(self._db[WINDOWS].delete_many, where))
            removed += done.deleted_count
        return removed

    async def note_intake(self, now: int, gap_ms: int, broken: bool) -> int:
        """Compare and set, until nobody came between."""
        return await self._in_order.run(_INTAKE, lambda: self._note_intake(now, gap_ms, broken))

    async def _note(self, windows: Sequence[Window]) -> None:
        latest: dict[str, int] = {}
        for window in windows:
            latest[_id(window)] = max(window.inbound_at, latest.get(_id(window), 0))
        firsts = list({_id(window): None for window in windows if window.first})
        known = await self._db.insert_new(
            WINDOWS, [{"_id": key, "inbound_at": latest[key]} for key in firsts]
        )
        inserted = {key for place, key in enumerate(firsts) if place not in known}
        updates = [
            UpdateOne({"_id": key}, {"$max": {"inbound_at": at}})
            for key, at in latest.items()
            if key not in inserted
        ]
        if not updates:
            return
        done = await self._db.call(lambda: self._db[WINDOWS].bulk_write(updates, ordered=False))
        if done.matched_count < len(known):
            raise StoreUnavailable("a contact was forgotten while it was heard from")

    async def _note_intake(self, now: int, gap_ms: int, broken: bool) -> int:
        for turn in range(_TRIES):
            # What another has written a moment ago is seen only when a majority has it.
            await asyncio.sleep(0.01 * turn)
            seen = await self._db.find_one(_INTAKE, _ONE)
            found = (int(seen["since"]), int(seen["at"])) if seen else None
            since, at = intake_at(found, now, gap_ms, broken)
            values = {"since": since, "at": at}
            if seen is None:
                if not await self._db.insert_new(_INTAKE, [{**_ONE, **values}]):
                    return since
            elif await self._exchange(seen, values):
                return since
        raise StoreUnavailable("too many note the intake at once, try again later")

    async def _exchange(self, seen: Document, values: Document) -> bool:
        done = await self._db.call(lambda: self._db[_INTAKE].update_one(seen, {"$set": values}))
        return bool(done.matched_count)


def _id(window: Window) -> str:
    return _key(window.phone_number_id, window.contact)


def _key(phone_number_id: str, contact: str) -> str:
    return f"{phone_number_id}:{contact}"

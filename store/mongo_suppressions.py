"""Who is not to be written to unasked, on MongoDB: the collection ``suppressions``, one document a contact.

Documents are made before they are updated and never by an upsert (see ``mongo_leases.py``), and changed only
as they were seen, so that of two words said at once each counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import msgspec
from pymongo import UpdateOne

from store.errors import StoreUnavailable
from store.mongo_connection import Connection, Document, InOrder
from store.records import Suppression, suppression_after

__all__ = ["SUPPRESSIONS", "Suppressions"]

SUPPRESSIONS = "suppressions"
_CHUNK = 100
"""Writes in one bulk, well inside the time of one answer where each takes some milliseconds."""
_TRIES = 5
_IN_FORCE: Document = {"until": 0}


class Suppressions:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, in_order: InOrder) -> None:
        self._db = db
        self._in_order = in_order

    async def put_suppressions(self, wanted: Sequence[Suppression], by_operator: bool) -> list[Suppression]:
        """In portions, each compared and set until nobody came between."""
        stands: list[Suppression] = []
        for start in range(0, len(wanted), _CHUNK):
            work = partial(self._put, wanted[start : start + _CHUNK], by_operator)
            stands += await self._in_order.run(SUPPRESSIONS, work)
        return stands

    async def find_suppressions(self, contacts: Collection[str]) -> dict[str, Suppression]:
        """Those in force."""
        return await self._find({"_id": {"$in": list(contacts)}, **_IN_FORCE}) if contacts else {}

    async def list_suppressions(self, limit: int, after: str) -> list[Suppression]:
        """By contact."""
        where = {"_id": {"$gt": after}, **_IN_FORCE}
        found = await self._db.find(SUPPRESSIONS, where, sort=[("_id", 1)], limit=limit)
        return [_suppression(document) for document in found]

    async def _put(self, wanted: Sequence[Suppression], by_operator: bool) -> list[Suppression]:
        contacts = list({word.contact: None for word in wanted})
        for turn in range(_TRIES):
            # What another has written a moment ago is seen only when a majority has it.
            await asyncio.sleep(0.01 * turn)
            before = await self._find({"_id": {"$in": contacts}})
            after = dict(before)
            for word in wanted:
                after[word.contact] = suppression_after(after.get(word.contact), word, by_operator)
            if await self._store(before, after):
                return [after[word.contact] for word in wanted]
        raise StoreUnavailable("too many change the same suppressions at once, try again later")

    async def _store(self, before: Mapping[str, Suppression], after: Mapping[str, Suppression]) -> bool:
        """Whether nobody else has changed any of them since they were read."""
        fresh = [_document(one) for contact, one in after.items() if contact not in before]
        changed = [contact for contact, one in before.items() if after[contact] != one]
        met = await self._db.insert_new(SUPPRESSIONS, fresh)
        if not changed:
            return not met
        updates = [UpdateOne(_document(before[one]), {"$set": _document(after[one])}) for one in changed]
        done = await self._db.call(lambda: self._db[SUPPRESSIONS].bulk_write(updates, ordered=False))
        return not met and done.matched_count == len(updates)

    async def _find(self, where: Document) -> dict[str, Suppression]:
        found = await self._db.find(SUPPRESSIONS, where)
        return {document["_id"]: _suppression(document) for document in found}


def _document(suppression: Suppression) -> Document:
    values = msgspec.structs.asdict(suppression)
    return {"_id": values.pop("contact"), **values}


def _suppression(document: Document) -> Suppression:
    return Suppression(
        document["_id"],
        int(document["since"]),
        int(document["until"]),
        document["reason"],
        document["source"],
        document["note"],
        document["firm"],
        int(document.get("heard", 0)),
    )

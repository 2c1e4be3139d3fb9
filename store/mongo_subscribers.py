"""Named subscribers on MongoDB: the collection ``subscribers``, one document for each name.

A document is changed by single updates that are atomic with their filter. Of two gateways that give a name to
a connection at once, the later update has it; the other finds its session gone when it next saves or looks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from pymongo import ReturnDocument, UpdateOne

from store.errors import StoreUnavailable
from store.mongo_connection import Connection, Document, InOrder
from store.records import Progress, Subscriber

__all__ = ["Subscribers"]

_NAME = "subscribers"
_CHUNK = 100
"""Updates in one call: some compatible servers take a millisecond for each."""


class Subscribers:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, in_order: InOrder) -> None:
        self._db = db
        self._in_order = in_order

    async def take(
        self,
        name: str,
        session: str,
        holder: str,
        now: int,
        start: int,
        wanted: bytes | None,
        most: int,
    ) -> tuple[Subscriber, bool] | None:
        """For a new connection; None where there are too many."""
        values: Document = {"holder": holder, "session": session, "seen_at": now}
        if wanted is not None:
            values["wanted"] = wanted
        fresh = {"_id": name, "offset": start, "wanted": b"", "created_at": now, **values}
        return await self._in_order.run(f"subscriber:{name}", lambda: self._take(fresh, values, most))

    async def _take(self, fresh: Document, values: Document, most: int) -> tuple[Subscriber, bool] | None:
        async def change() -> Document | None:
            return await self._db[_NAME].find_one_and_update(
                {"_id": fresh["_id"]}, {"$set": values}, return_document=ReturnDocument.AFTER
            )

        for _ in range(2):
            found = await self._db.call(change)
            if found is not None:
                return _record(found), False
            if await self._db.call(lambda: self._db[_NAME].count_documents({})) >= most:
                return None
            if not await self._db.insert_new(_NAME, [fresh]):
                return _record(fresh), True
        raise StoreUnavailable("the name was made and removed meanwhile, try again")

    async def save_progress(self, progress: Sequence[Progress], now: int) -> set[str]:
        """Forward; sessions that are no longer the newest."""
        lost: set[str] = set()
        for n in range(0, len(progress), _CHUNK):
            lost |= await self._save(progress[n : n + _CHUNK], now)
        return lost

    async def _save(self, progress: Sequence[Progress], now: int) -> set[str]:
        updates = [_update(each, now) for each in progress]
        done = await self._db.call(partial(self._db[_NAME].bulk_write, updates, ordered=False))
        if done.matched_count == len(updates):
            return set()
        found = await self.find([each.name for each in progress])
        sessions = {subscriber.session for subscriber in found.values()}
        return {each.session for each in progress if each.session not in sessions}

    async def find(self, names: Collection[str]) -> dict[str, Subscriber]:
        """By their names."""
        found = await self._db.find(_NAME, {"_id": {"$in": list(names)}}) if names else []
        return {document["_id"]: _record(document) for document in found}

    async def page(self, limit: int, after: str) -> list[Subscriber]:
        """By name."""
        where = {"_id": {"$gt": after}}
        found = await self._db.find(_NAME, where, sort=[("_id", 1)], limit=limit)
        return [_record(document) for document in found]

    async def remove(self, name: str) -> bool:
        """Whether it was there."""
        done = await self._db.call(lambda: self._db[_NAME].delete_one({"_id": name}))
        return bool(done.deleted_count)


def _update(progress: Progress, now: int) -> UpdateOne:
    values: dict[str, Any] = {"seen_at": now}
    if progress.leaves:
        values["holder"] = ""
    where = {"_id": progress.name, "session": progress.session}
    return UpdateOne(where, {"$max": {"offset": progress.offset}, "$set": values})


def _record(document: Document) -> Subscriber:
    return Subscriber(
        document["_id"],
        int(document["offset"]),
        document["wanted"],
        int(document["created_at"]),
        int(document["seen_at"]),
        document["holder"],
        document["session"],
    )

"""What requests were answered that their callers may repeat, on MongoDB.

Owns the collection ``answers``. Each document has one key and is changed by single updates that are atomic
with their filter: a claim is compared and set, so that of two gateways one has it.
"""

from __future__ import annotations

import asyncio
from functools import partial

from store.errors import StoreUnavailable
from store.mongo_connection import Connection, Document
from store.records import AnswerRecord, claim_of

__all__ = ["ANSWERS", "Answers"]

ANSWERS = "answers"

_TRIES = 5
_CHUNK = 250


class Answers:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def claim(self, wanted: AnswerRecord, keep_ms: int) -> AnswerRecord:
        """Compare and set, until nobody came between."""
        for turn in range(_TRIES):
            # What another has written a moment ago is seen only when a majority has it.
            await asyncio.sleep(0.01 * turn)
            seen = await self._db.find_one(ANSWERS, {"_id": wanted.key})
            found = _record(seen) if seen else None
            claimed = claim_of(found, wanted, keep_ms)
            if claimed is None:
                assert found is not None
                return found
            if seen is None:
                done = not await self._db.insert_new(ANSWERS, [_document(claimed)])
            else:
                done = await self._exchange(seen, claimed)
            if done:
                return claimed
        raise StoreUnavailable("too many repeat this request at once, try again later")

    async def keep(self, key: str, status: int, body: bytes) -> None:
        """The first answer stays."""
        where = {"_id": key, "status": 0}
        update = {"$set": {"status": status, "body": body}}
        await self._db.call(lambda: self._db[ANSWERS].update_one(where, update))

    async def release(self, key: str, holder: str) -> None:
        """The holder's own claim."""
        where = {"_id": key, "status": 0, "holder": holder}
        await self._db.call(lambda: self._db[ANSWERS].update_one(where, {"$set": {"until": 0}}))

    async def sweep(self, claimed_before: int) -> int:
        """In portions."""
        removed = 0
        old: Document = {"at": {"$lt": claimed_before}}
        while found := await self._db.find(ANSWERS, old, {"_id": 1}, limit=_CHUNK):
            # With the age again: one may have been claimed anew.
            where = {"_id": {"$in": [document["_id"] for document in found]}, **old}
            done = await self._db.call(partial(self._db[ANSWERS].delete_many, where))
            removed += done.deleted_count
        return removed

    async def _exchange(self, seen: Document, record: AnswerRecord) -> bool:
        """Replace a document if nobody has changed it since."""
        where = {name: seen[name] for name in ("_id", "holder", "at", "until", "status")}
        done = await self._db.call(lambda: self._db[ANSWERS].replace_one(where, _document(record)))
        return bool(done.matched_count)


def _document(record: AnswerRecord) -> Document:
    return {
        "_id": record.key,
        "digest": record.digest,
        "holder": record.holder,
        "at": record.at,
        "until": record.until,
        "status": record.status,
        "body": record.body,
    }


def _record(document: Document) -> AnswerRecord:
    return AnswerRecord(
        document["_id"],
        document["digest"],
        document["holder"],
        int(document["at"]),
        int(document["until"]),
        int(document["status"]),
        document["body"],
    )

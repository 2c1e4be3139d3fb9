"""How a contact is erased on MongoDB, and the collection ``erasures``; events are ``mongo_log.py``'s.

Shelves are gone through in the order of ``_id``, so that no index is needed for what is rarely asked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from store.erasing import Erasure, Found, Mentions, Shelf
from store.mongo_connection import Connection, Document
from store.mongo_rows import ROWS
from store.states import OPEN

__all__ = ["Erasing"]

_NAME = "erasures"
_CHUNK = 100
"""Documents in one write: some compatible servers take a millisecond for each."""
_NOT_OPEN = {"$nin": sorted(state.value for state in OPEN)}
_FIELDS: dict[Shelf, Document] = {
    "rows": {"contact": 1},
    "said": {"contact": 1, "body": 1, "amended": 1},
    "claims": {"_id": 1},
    "answers": {"body": 1},
}


class Erasing:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    # -- requests --------------------------------------------------------------------------------------

    async def put_erasure(self, erasure: Erasure) -> None:
        """Insert; what is there is replaced as long as it is not done."""
        values = {"asked_at": erasure.asked_at, "body": erasure.body, "done_at": erasure.done_at}
        if await self._db.insert_new(_NAME, [{"_id": erasure.id, **values}]):
            where = {"_id": erasure.id, "done_at": 0}
            await self._db.call(lambda: self._db[_NAME].update_one(where, {"$set": values}))

    async def find_erasure(self, id: str) -> Erasure | None:
        """By its id."""
        found = await self._db.find_one(_NAME, {"_id": id})
        return _erasure(found) if found else None

    async def list_erasures(self, done_since: int) -> list[Erasure]:
        """There are few."""
        where = {"$or": [{"done_at": 0}, {"done_at": {"$gte": done_since}}]}
        found = await self._db.find(_NAME, where, sort=[("asked_at", 1), ("_id", 1)])
        return [_erasure(document) for document in found]

    async def remove_erasures(self, done_before: int) -> None:
        """Requests that were done."""
        where = {"done_at": {"$gt": 0, "$lt": done_before}}
        await self._db.call(lambda: self._db[_NAME].delete_many(where))

    # -- shelves ---------------------------------------------------------------------------------------

    async def search(self, shelf: Shelf, who: Mentions, after: str, limit: int) -> Found:
        """A page of ``_id``."""
        past: Any = int(after or -1) if shelf == "said" else after
        found = await self._db.find(
            shelf, {"_id": {"$gt": past}}, _FIELDS[shelf], sort=[("_id", 1)], limit=limit
        )
        ids = [str(document["_id"]) for document in found if _is_about(shelf, document, who)]
        return Found(ids, str(found[-1]["_id"]) if len(found) == limit else "")

    async def erase(self, shelf: Shelf, ids: Sequence[str], answer: bytes) -> int:
        """In portions; how many."""
        erased = 0
        for start in range(0, len(ids), _CHUNK):
            erased += await self._erase(shelf, ids[start : start + _CHUNK], answer)
        return erased

    async def _erase(self, shelf: Shelf, ids: Sequence[str], answer: bytes) -> int:
        if shelf == "rows":
            return await self._erase_rows(ids)
        collection = self._db[shelf]
        where: Document = {"_id": {"$in": [int(id) for id in ids] if shelf == "said" else list(ids)}}
        if shelf == "answers" and answer:
            kept = {**where, "status": {"$gt": 0}}
            done = await self._db.call(lambda: collection.update_many(kept, {"$set": {"body": answer}}))
            return int(done.modified_count)
        gone = await self._db.call(lambda: collection.delete_many(where))
        return int(gone.deleted_count)

    async def _erase_rows(self, ids: Sequence[str]) -> int:
        wanted: dict[str, list[str]] = {}
        for id in ids:
            wanted.setdefault(id.rpartition("-")[0], []).append(id)
        unready = await self._db.find("tasks", {"_id": {"$in": list(wanted)}, "ready": False}, {"_id": 1})
        erased = 0
        for task_id in wanted.keys() - {document["_id"] for document in unready}:
            erased += await self._erase_of(task_id, wanted[task_id])
        return erased

    async def _erase_of(self, task_id: str, ids: Sequence[str]) -> int:
        """First the task, counted by what will be left: what is broken off in between comes to the same when
        it is done again."""
        rows, tasks = self._db[ROWS], self._db["tasks"]
        going: Document = {"_id": {"$in": list(ids)}, "state": _NOT_OPEN}
        count = await self._db.call(lambda: rows.count_documents(going))
        left = await self._db.call(lambda: rows.count_documents({"task": task_id})) - count
        if count and left:
            await self._db.call(partial(tasks.update_one, {"_id": task_id}, {"$set": {"total": left}}))
        done = await self._db.call(lambda: rows.delete_many(going)) if count else None
        if not left:
            await self._db.call(lambda: tasks.delete_one({"_id": task_id}))
        return int(done.deleted_count) if done else 0

    async def forget_contacts(self, contacts: Collection[str]) -> None:
        """What hangs on keys."""
        keys = list(contacts)
        for name, field in (
            ("aliases", "contact"),
            ("threads", "contact"),
            ("moved_threads", "_id"),
            ("moved_threads", "kept"),
            ("suppressions", "_id"),
        ):
            await self._db.call(partial(self._db[name].delete_many, {field: {"$in": keys}}))
        number = ""
        # From number to number down the key, which begins with it.
        while found := await self._db.find(
            "windows", {"_id": {"$gt": number}}, {"_id": 1}, sort=[("_id", 1)], limit=1
        ):
            first = str(found[0]["_id"]).partition(":")[0]
            where = {"_id": {"$in": [f"{first}:{contact}" for contact in keys]}}
            await self._db.call(partial(self._db["windows"].delete_many, where))
            number = f"{first};"


def _is_about(shelf: Shelf, document: Document, who: Mentions) -> bool:
    if shelf in ("rows", "said") and document["contact"] in who.contacts:
        return True
    if shelf == "claims":
        return who.claims(document["_id"])
    if shelf == "answers" and who.among(document["_id"]):
        return True
    return any(who.among(document.get(name, b"")) for name in ("body", "amended"))


def _erasure(document: Document) -> Erasure:
    return Erasure(document["_id"], int(document["asked_at"]), document["body"], int(document["done_at"]))

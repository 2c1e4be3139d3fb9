"""What is removed by age on MongoDB; events are ``mongo_log.py``'s to remove.

A task that is to go is retired first (``ready`` is 2): nobody finds it any more, and its rows go a few at a
time, as long as they are not open. So a row that is queued again at that very moment is not lost, and its
task is shown again with what is left of it. A removal that breaks off goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from store.mongo_connection import Connection, Document
from store.mongo_rows import ROWS
from store.mongo_threads import SAID, THREADS
from store.records import TaskPlace
from store.states import OPEN

__all__ = ["RETIRED", "Removal"]

TASKS = "tasks"
RETIRED: Document = {"ready": 2}
_PAGE = 1000
"""Rows whose times are looked at together."""
_LOOKED_AT = 20_000
"""Rows in one call, and those of one task more."""
_CHUNK = 100
"""Documents in one removal: some compatible servers take a millisecond for each."""
_IS_OPEN = {"$in": sorted(state.value for state in OPEN)}
_NOT_OPEN = {"$nin": sorted(state.value for state in OPEN)}
_TIMES = (
    "created_at",
    "claimed_at",
    "sent_at",
    "last_sent_at",
    "delivered_at",
    "read_at",
    "played_at",
    "ended_at",
)


class Removal:
    """The methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    async def retire_tasks(self, before: int, after: TaskPlace, limit: int) -> TaskPlace | None:
        """Look, then hide; that a row is queued again in between is seen when rows are removed."""
        where: Document = {
            "ready": True,
            "created_at": {"$gte": after.created_at, "$lt": before},
            "$or": [
                {"created_at": {"$gt": after.created_at}},
                {"created_at": after.created_at, "_id": {"$gt": after.id}},
            ],
        }
        sort = [("created_at", 1), ("_id", 1)]
        found = await self._db.find(TASKS, where, {"created_at": 1, "total": 1}, sort=sort, limit=limit)
        place: TaskPlace | None = None
        rows = 0
        for task in found:
            place = TaskPlace(int(task["created_at"]), task["_id"])
            if await self._is_old(task["_id"], before):
                ready = {"_id": task["_id"], "ready": True}
                await self._db.call(partial(self._db[TASKS].update_one, ready, {"$set": RETIRED}))
            rows += int(task["total"])
            if rows >= _LOOKED_AT:
                break
        return place

    async def _is_old(self, task_id: str, before: int) -> bool:
        if await self._db.find_one(ROWS, {"task": task_id, "state": _IS_OPEN}, {"_id": 1}):
            return False
        after = -1
        wanted = dict.fromkeys(("n", *_TIMES), 1)
        while True:
            where = {"task": task_id, "n": {"$gt": after}}
            rows = await self._db.find(ROWS, where, wanted, sort=[("n", 1)], limit=_PAGE)
            if any(int(row.get(name, 0)) >= before for row in rows for name in _TIMES):
                return False
            if len(rows) < _PAGE:
                return True
            after = int(rows[-1]["n"])

    async def remove_retired(self, limit: int) -> int:
        """Rows, and tasks without any."""
        removed = 0
        while removed < limit and (task := await self._db.find_one(TASKS, RETIRED, {"_id": 1})):
            removed += await self._remove_part(task["_id"], min(_CHUNK, limit - removed))
        return removed

    async def _remove_part(self, task_id: str, limit: int) -> int:
        rows = self._db[ROWS]
        found = await self._db.find(ROWS, {"task": task_id, "state": _NOT_OPEN}, {"_id": 1}, limit=limit)
        if found:
            where = {"_id": {"$in": [row["_id"] for row in found]}, "state": _NOT_OPEN}
            await self._db.call(lambda: rows.delete_many(where))
        if len(found) == limit:
            return limit
        left = await self._db.call(lambda: rows.count_documents({"task": task_id}))
        retired = {"_id": task_id, **RETIRED}
        if left:
            again = {"$set": {"ready": True, "completed_at": 0, "total": left}}
            await self._db.call(lambda: self._db[TASKS].update_one(retired, again))
        else:
            await self._db.call(lambda: self._db[TASKS].delete_one(retired))
        return len(found) + 1

    async def remove_said(self, before: int, limit: int) -> int:
        """Of the oldest; threads first, so that a repetition after a crash finds what they are found by."""
        fields = {"at": 1, "contact": 1, "phone_number_id": 1}
        found = await self._db.find(SAID, {}, fields, sort=[("_id", 1)], limit=limit)
        old = [one for one in found if one["at"] < before]
        for start in range(0, len(old), _CHUNK):
            await self._remove_said(old[start : start + _CHUNK])
        return len(old)

    async def _remove_said(self, old: Sequence[Document]) -> None:
        # Of one thread only the last that goes can be the last that was said in it.
        last = {f"{one['phone_number_id']}:{one['contact']}": one["_id"] for one in old}
        found = await self._db.find(THREADS, {"_id": {"$in": list(last)}}, {"last_offset": 1})
        ended = [one for one in found if one["last_offset"] == last[one["_id"]]]
        for one in ended:
            where = {"_id": one["_id"], "last_offset": one["last_offset"]}
            await self._db.call(partial(self._db[THREADS].delete_one, where))
        gone = {"_id": {"$in": [one["_id"] for one in old]}}
        await self._db.call(lambda: self._db[SAID].delete_many(gone))

    async def remove_claims(self, before: int, limit: int) -> int:
        """Down the index of their times."""
        old: Document = {"at": {"$lt": before}}
        found = await self._db.find("claims", old, {"_id": 1}, limit=min(limit, _CHUNK))
        if not found:
            return 0
        # With the age again: one may have been claimed anew.
        where = {"_id": {"$in": [one["_id"] for one in found]}, **old}
        done = await self._db.call(lambda: self._db["claims"].delete_many(where))
        return int(done.deleted_count)

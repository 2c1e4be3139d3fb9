"""Tasks on MongoDB: how one comes to be with its rows and events without a transaction, and how it ends.

Owns the collections ``tasks`` and ``counters``. A task is stored in steps that each may be the last:

1. the task, not ready and not ``made``: it decides who stores this id, and hides the rows to come;
2. its rows (ids follow from the task's, so a repetition finds them) and its events (by key, likewise), side
   by side;
3. ``made``, and ready if so asked: from here on the task is known.

A crash before 3 leaves a task that no lane and no caller sees; whoever repeats the call goes on where it
broke off, and if nobody does, ``sweep_unready`` removes it with its rows. Its events stay in the log: they
may name a task that never was, and nobody was told of its success. ``mark_ready`` takes the same order,
events first.

Sweeping condemns a task before it removes the rows and removes the task last, so a sweep that breaks off is
taken up by the next, and a task that is made ready meanwhile is either ready or gone, never half.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from pymongo import ReturnDocument, UpdateOne

from store.commit import Portion
from store.errors import StoreError, StoreUnavailable
from store.mongo_connection import Connection, Document, InOrder, LongCommit
from store.mongo_log import MongoLog
from store.mongo_rows import ROWS, Rows, new_row
from store.records import NewEvent, NewRow, NewTask, TaskPlace, TaskView
from store.states import OPEN, TAKEN, State

__all__ = ["TASKS", "Tasks"]

TASKS = "tasks"

_CHUNK = 250
"""Rows in one insert, ids in one removal."""
_TOGETHER = 500
"""Tasks and rows in one commit."""
_FEW = 64
"""Up to how many rows a task is counted together with others."""
_ERRORS = 20


@dataclass(frozen=True, slots=True)
class _Creation:
    task: NewTask
    rows: Sequence[NewRow]
    events: Sequence[NewEvent]
    ready: bool


class Tasks:
    """Stores, counts and removes tasks; the methods are those of :class:`~store.base.Store`."""

    def __init__(
        self, db: Connection, log: MongoLog, rows: Rows, in_order: InOrder, clock: Callable[[], int]
    ) -> None:
        self._db = db
        self._log = log
        self._rows = rows
        self._in_order = in_order
        self._clock = clock
        self._last_due = 0
        self._portion = Portion(_CHUNK)
        self._group: LongCommit[_Creation, bool] = LongCommit(
            self._create, answer_s=db.answer_s, max_weight=_TOGETHER
        )

    async def flush(self) -> None:
        """Return once every creation that was asked for is done or refused."""
        await self._group.flush()

    # -- coming to be ----------------------------------------------------------------------------------

    async def create_task(
        self, task: NewTask, rows: Sequence[NewRow], events: Sequence[NewEvent], ready: bool
    ) -> bool:
        """Store a task; False where its id is known."""
        return await self._group.submit(_Creation(task, rows, events, ready), 1 + len(rows) + len(events))

    async def add_rows(self, task_id: str, rows: Sequence[NewRow]) -> None:
        """Add rows to a task that is not ready, none if it is. StoreError where there is no such task."""
        task = await self._find(task_id)
        if task["ready"]:
            return
        for start in range(0, len(rows), _CHUNK):
            await self._add_chunk(_head(task), rows[start : start + _CHUNK])

    async def mark_ready(
        self, task_id: str, events: Sequence[NewEvent], counts: tuple[int, int] | None
    ) -> None:
        """Append the events, then show the task. StoreError where there is no such task."""
        await self._in_order.run(f"task:{task_id}", lambda: self._show(task_id, events, counts))

    async def sweep_unready(self, created_before: int) -> int:
        """Remove tasks that never became ready, and what belongs to them; how many."""
        removed = 0
        where = {"ready": False, "created_at": {"$lt": created_before}}
        while found := await self._db.find(TASKS, where, {"_id": 1}, limit=_CHUNK):
            for task in found:
                removed += await self._remove(task["_id"])
        return removed

    async def _create(self, wanted: Sequence[_Creation]) -> list[bool]:
        # Of two with one id in a commit the first stores it, and the other finds it known.
        firsts = {creation.task.id: place for place, creation in reversed(list(enumerate(wanted)))}
        places = sorted(firsts.values())
        known = await self._insert_tasks([wanted[place] for place in places])
        self._group.gets_on()
        places = [place for place in places if wanted[place].task.id not in known]
        going = [wanted[place] for place in places]
        done = await asyncio.gather(
            self._insert_rows([(creation.task, creation.rows) for creation in going]),
            *(self._log.append(creation.events) for creation in going),
            # All are waited for, so that no row arrives after we have said that the storing failed.
            return_exceptions=True,
        )
        for error in done:
            if isinstance(error, BaseException):
                raise error
        results = [False] * len(wanted)
        for place, made in zip(places, await self._finish(going), strict=True):
            results[place] = made
        return results

    async def _insert_tasks(self, wanted: Sequence[_Creation]) -> set[str]:
        """First step; ids that are known already, those whose storing broke off not among them."""
        documents = [_new_task(creation.task) for creation in wanted]
        there = [documents[place]["_id"] for place in await self._db.insert_new(TASKS, documents)]
        if not there:
            return set()
        made = await self._db.find(TASKS, {"_id": {"$in": there}, "made": True}, {"_id": 1})
        return {document["_id"] for document in made}

    async def _insert_rows(self, groups: Sequence[tuple[NewTask, Sequence[NewRow]]]) -> None:
        """Second step; rows that are there are left as they are."""
        count = sum(len(rows) for _, rows in groups)
        if not count:
            return
        seq = await self._reserve(count)
        self._last_due = max(self._last_due, self._clock())
        documents = []
        for task, rows in groups:
            for row in rows:
                documents.append(new_row(task, row, seq, self._last_due))
                seq += 1
        while documents:
            portion, documents = documents[: self._portion.size], documents[self._portion.size :]
            try:
                await self._db.insert_new(ROWS, portion)
            except StoreUnavailable:
                self._portion.refused(len(portion))
                raise
            self._group.gets_on()
        # Not before all are stored, or the next portion would be too much again.
        self._portion.taken()

    async def _finish(self, wanted: Sequence[_Creation]) -> list[bool]:
        """Last step; whether each was made by us, and not by another who stored the same id meanwhile."""
        if not wanted:
            return []
        maker = secrets.token_hex(8)
        updates = [
            UpdateOne(
                {"_id": creation.task.id, "made": False, "condemned": False},
                # The counts of a try that broke off may have been others.
                {
                    "$set": {
                        "made": True,
                        "ready": creation.ready,
                        "maker": maker,
                        "total": creation.task.total,
                        "skipped": creation.task.skipped,
                    }
                },
            )
            for creation in wanted
        ]
        result = await self._db.call(lambda: self._db[TASKS].bulk_write(updates, ordered=False))
        if result.matched_count == len(wanted):
            return [True] * len(wanted)
        ids = [creation.task.id for creation in wanted]
        found = await self._db.find(TASKS, {"_id": {"$in": ids}, "made": True}, {"maker": 1})
        makers = {document["_id"]: document["maker"] for document in found}
        if len(makers) < len(wanted):
            raise StoreUnavailable("a task was swept away while it was stored, try again")
        return [makers[task_id] == maker for task_id in ids]

    async def _reserve(self, count: int) -> int:
        """The first of ``count`` numbers for rows."""
        found = await self._db.call(
            lambda: self._db["counters"].find_one_and_update(
                {"_id": "seq"}, {"$inc": {"value": count}}, return_document=ReturnDocument.AFTER
            )
        )
        if found is None:
            raise StoreUnavailable("the counter of rows is not there: the database was emptied")
        return int(found["value"]) - count + 1

    async def _add_chunk(self, task: NewTask, rows: Sequence[NewRow]) -> None:
        await self._in_order.run(f"task:{task.id}", lambda: self._insert_rows([(task, rows)]))

    async def _find(self, task_id: str) -> Document:
        found = await self._db.find_one(TASKS, {"_id": task_id, "condemned": False})
        if found is None:
            raise StoreError(f"the task {task_id} is not there, or was swept away before it was ready")
        return found

    async def _show(self, task_id: str, events: Sequence[NewEvent], counts: tuple[int, int] | None) -> None:
        task = await self._find(task_id)
        await self._log.append(events)
        values: Document = {"ready": True, "made": True}
        if counts is not None and not task["ready"]:
            values |= {"total": counts[0], "skipped": counts[1]}
        ready = {"$set": values}
        where = {"_id": task_id, "condemned": False}
        done = await self._db.call(lambda: self._db[TASKS].update_one(where, ready))
        if not done.matched_count:
            raise StoreError(f"the task {task_id} was swept away before it was ready")

    async def _remove(self, task_id: str) -> int:
        tasks, rows = self._db[TASKS], self._db[ROWS]
        unready = {"_id": task_id, "ready": False}
        done = await self._db.call(lambda: tasks.update_one(unready, {"$set": {"condemned": True}}))
        if not done.matched_count:
            return 0
        while found := await self._db.find(ROWS, {"task": task_id}, {"_id": 1}, limit=_CHUNK):
            where = {"_id": {"$in": [document["_id"] for document in found]}}
            await self._db.call(partial(rows.delete_many, where))
        gone = await self._db.call(lambda: tasks.delete_one({"_id": task_id, "condemned": True}))
        return int(gone.deleted_count)

    # -- how it stands, and its end --------------------------------------------------------------------

    async def find_task(self, task_id: str) -> TaskView | None:
        """A ready task; ``completed_at`` is 0 while a row is open."""
        task = await self._db.find_one(TASKS, {"_id": task_id, "ready": True})
        if task is None:
            return None
        # Before the counts: they may tell of an end of rows that were retried since, and not the reverse.
        retried = await self._count_retries(task_id)
        tried = {"$cond": [{"$gt": ["$attempt", 0]}, 1, 0]}
        taken = {"$cond": [{"$gt": ["$sent_at", 0]}, 1, 0]}
        counts: dict[State, int] = {}
        totals = {"tried": 0, "taken": 0}
        for group in await self._db.aggregate(
            ROWS,
            {"$match": {"task": task_id}},
            {
                "$group": {
                    "_id": "$state",
                    "number": {"$sum": 1},
                    "tried": {"$sum": tried},
                    "taken": {"$sum": taken},
                }
            },
        ):
            state = State(group["_id"])
            counts[state] = int(group["number"])
            totals["taken"] += int(group["taken"])
            if state is State.QUEUED:
                totals["tried"] = int(group["tried"])
        failed = await self._db.find(
            ROWS,
            {
                "task": task_id,
                "error": {"$exists": True},
                "state": {"$nin": sorted(state.value for state in TAKEN)},
            },
            {"error": 1},
            sort=[("n", 1)],
            limit=_ERRORS,
        )
        completed_at = 0 if OPEN & counts.keys() else int(task["completed_at"])
        errors = tuple(document["error"] for document in failed)
        return TaskView(_head(task), completed_at, counts, totals["tried"], totals["taken"], errors, retried)

    async def list_tasks(
        self, limit: int, before: TaskPlace | None, kind: str, source: str, complete: bool | None
    ) -> list[NewTask]:
        """Ready tasks, newest first."""
        # Bounds that hold for every task, so that the index of ready ones is known to do.
        where: Document = {"ready": True, "created_at": {"$gte": 0}}
        if before is not None:
            where["created_at"] = {"$lte": before.created_at}
            where["$or"] = [
                {"created_at": {"$lt": before.created_at}},
                {"created_at": before.created_at, "_id": {"$lt": before.id}},
            ]
        if kind:
            where["kind"] = kind
        if source:
            where["source"] = source
        if complete is not None:
            where["completed_at"] = {"$gt": 0} if complete else 0
        found = await self._db.find(TASKS, where, sort=[("created_at", -1), ("_id", -1)], limit=limit)
        return [_head(document) for document in found]

    async def finished_tasks(self, task_ids: Collection[str]) -> set[str]:
        """Those that have just come to their end: all rows there, none open, not marked complete."""
        if not task_ids:
            return set()
        where = {"_id": {"$in": list(task_ids)}, "ready": True, "completed_at": 0}
        totals = {
            document["_id"]: int(document["total"])
            for document in await self._db.find(TASKS, where, {"total": 1})
        }
        ended = totals.keys() - await self._with_open_rows(totals)
        counts = await self._count_rows({"task": {"$in": list(ended)}}) if ended else {}
        return {task_id for task_id in ended if counts.get(task_id, 0) >= totals[task_id]}

    async def complete_tasks(self, task_ids: Collection[str], at: int) -> None:
        """Mark complete those that are not."""
        if task_ids:
            await self._in_order.run("complete", lambda: self._complete(list(task_ids), at))

    async def _complete(self, task_ids: list[str], at: int) -> None:
        where = {"_id": {"$in": task_ids}, "completed_at": 0}
        await self._db.call(lambda: self._db[TASKS].update_many(where, {"$set": {"completed_at": at}}))
        # A row that was queued again before the update has seen nothing to reopen; one after it has.
        still_open = await self._count_rows(
            {"task": {"$in": task_ids}, "state": {"$in": [state.value for state in OPEN]}}
        )
        if still_open:
            where = {"_id": {"$in": list(still_open)}, "completed_at": at}
            await self._db.call(lambda: self._db[TASKS].update_many(where, {"$set": {"completed_at": 0}}))

    async def _count_retries(self, task_id: str) -> int:
        found = await self._db.aggregate(
            ROWS,
            {"$match": {"task": task_id, "retried": {"$gt": 0}}},
            {"$group": {"_id": None, "number": {"$sum": "$retried"}}},
        )
        return int(found[0]["number"]) if found else 0

    async def _with_open_rows(self, totals: dict[str, int]) -> set[str]:
        few = [task_id for task_id, total in totals.items() if total <= _FEW]
        where = {"task": {"$in": few}, "state": {"$in": [state.value for state in OPEN]}}
        found = set(await self._count_rows(where)) if few else set()
        # Counting a large task's open rows whenever one of them ends would cost too much; one look is enough.
        for task_id in totals.keys() - set(few):
            if await self._rows.has_open(task_id):
                found.add(task_id)
        return found

    async def _count_rows(self, where: Document) -> dict[str, int]:
        found = await self._db.aggregate(
            ROWS, {"$match": where}, {"$group": {"_id": "$task", "number": {"$sum": 1}}}
        )
        return {document["_id"]: int(document["number"]) for document in found}


def _new_task(task: NewTask) -> Document:
    """Its document; ``skipped`` is there only where it says something."""
    return {
        **({"skipped": task.skipped} if task.skipped else {}),
        "_id": task.id,
        "kind": task.kind,
        "source": task.source,
        "total": task.total,
        "created_at": task.created_at,
        "completed_at": 0,
        "ready": False,
        "made": False,
        "condemned": False,
    }


def _head(document: Document) -> NewTask:
    return NewTask(
        document["_id"],
        document["kind"],
        document["source"],
        int(document["total"]),
        int(document["created_at"]),
        int(document.get("skipped", 0)),
    )

"""Outbox rows on MongoDB: their shape, and every read of them. How they move is said in ``mongo_moves.py``.

Owns the collection ``rows`` together with that file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from store.mongo_connection import Connection, Document
from store.records import (
    NOTES_FIRST,
    NOTES_LAST,
    DeadCounts,
    DeadFilter,
    History,
    NewRow,
    NewTask,
    Place,
    Row,
    RowView,
)
from store.states import OPEN, State

__all__ = ["ROWS", "Rows", "new_row", "row_id"]

ROWS = "rows"


class Rows:
    """Reads of rows; the methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    # -- a lane's reads --------------------------------------------------------------------------------

    async def read_due(self, where: Mapping[str, Any], after: Place, now: int, limit: int) -> list[Row]:
        """Queued rows of ready tasks that are due, by (due, seq)."""

        async def page(after: Place, hidden: Document, limit: int) -> list[Row]:
            queued = {**where, "state": State.QUEUED.value, **hidden}
            rows: list[Row] = []
            lowest = "$gte"
            if after.seq > 0 and after.due <= now:
                rows = await self._read({**queued, "due": after.due, "seq": {"$gt": after.seq}}, "seq", limit)
                lowest = "$gt"
            if len(rows) < limit:
                due = {lowest: after.due, "$lte": now}
                rows += await self._read({**queued, "due": due}, "due", limit - len(rows))
            return rows

        return await self._of_ready_tasks(page, after, limit)

    async def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        """Rows of ready tasks in a state, by seq."""

        async def page(after: Place, hidden: Document, limit: int) -> list[Row]:
            where = {"lane": lane, "state": state.value, "seq": {"$gt": after.seq}, **hidden}
            return await self._read(where, "seq", limit)

        return await self._of_ready_tasks(page, Place(0, after_seq), limit)

    async def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        """In flight, unknown, or queued again, by seq."""
        past = {"lane": lane, "seq": {"$gt": after_seq}}
        again = {**past, "again": True, "attempt": {"$gt": 0}}
        # Three reads in the order in which rows move, so that none slips through between two of them.
        found = await self._read({**past, "state": State.SENDING.value}, "seq", limit)
        found += await self._read({**past, "state": State.UNKNOWN.value}, "seq", limit)
        found += await self._read(again, "seq", limit)
        rows = {row.id: row for row in found}
        return sorted(rows.values(), key=lambda row: row.seq)[:limit]

    async def undelivered(
        self, lane: str, after: Place, limit: int, before: int | None, ordered: bool
    ) -> list[RowView]:
        """Those in ``sent``, by (last_sent_at, seq)."""
        where: Document = {"lane": lane, "state": State.SENT.value, **({"ordered": True} if ordered else {})}
        found: list[Document] = []
        if before is None or after.due < before:
            at_once = {**where, "last_sent_at": after.due, "seq": {"$gt": after.seq}}
            found = await self._db.find(ROWS, at_once, sort=[("seq", 1)], limit=limit)
        if len(found) < limit:
            past = {"$gt": after.due, **({} if before is None else {"$lt": before})}
            later = {**where, "last_sent_at": past}
            sort = [("last_sent_at", 1), ("seq", 1)]
            found += await self._db.find(ROWS, later, sort=sort, limit=limit - len(found))
        return [_view(document) for document in found]

    async def _of_ready_tasks(
        self, page: Callable[[Place, Document, int], Awaitable[list[Row]]], after: Place, limit: int
    ) -> list[Row]:
        """Page on until ``limit`` rows of ready tasks are found, or no more rows are.

        Which tasks are not ready is asked after each page: a task is stored before its rows, so a row whose
        task is not among them belongs to one that became ready.
        """
        found: list[Row] = []
        hidden: Document = {}
        while len(found) < limit:
            wanted = limit - len(found)
            rows = await page(after, hidden, wanted)
            unready = await self.unready_tasks() if rows else []
            found += [row for row in rows if row.task_id not in unready]
            if len(rows) < wanted:
                break
            after = Place(rows[-1].due, rows[-1].seq)
            hidden = {"task": {"$nin": unready}} if unready else {}
        return found

    async def unready_tasks(self) -> list[str]:
        """Ids of the few tasks that are being stored, or never came to their end."""
        found = await self._db.find("tasks", {"ready": False, "created_at": {"$gte": 0}}, {"_id": 1})
        return [document["_id"] for document in found]

    async def _read(self, where: Document, first: str, limit: int) -> list[Row]:
        sort = [("due", 1), ("seq", 1)] if first == "due" else [("seq", 1)]
        return [_row(document) for document in await self._db.find(ROWS, where, sort=sort, limit=limit)]

    # -- other reads -----------------------------------------------------------------------------------

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        """Those that exist."""
        found = await self._db.find(ROWS, {"_id": {"$in": list(ids)}}) if ids else []
        return {document["_id"]: _view(document) for document in found}

    async def find_by_wamid(self, wamids: Collection[str]) -> dict[str, str]:
        """Row ids; of two rows with one id of Meta's, the older."""
        wanted = set(wamids)
        where = {"wamids": {"$in": list(wanted)}}
        found = await self._db.find(ROWS, where, {"wamids": 1, "seq": 1}) if wanted else []
        found.sort(key=lambda document: -int(document["seq"]))
        return {wamid: d["_id"] for d in found for wamid in d["wamids"] if wamid in wanted}

    async def task_rows(self, task_id: str, after_n: int, limit: int, state: State | None) -> list[RowView]:
        """Rows of a task by ``n``."""
        where: Document = {"task": task_id, "n": {"$gt": after_n}}
        if state is not None:
            where["state"] = state.value
        found = await self._db.find(ROWS, where, sort=[("n", 1)], limit=limit) if limit > 0 else []
        return [_view(document) for document in found]

    async def depth(self, lane: str) -> dict[State, int]:
        """Counts of open rows, those of tasks that are not ready left out."""
        where = {"lane": lane, "state": {"$in": [state.value for state in OPEN]}}
        counts = dict.fromkeys(OPEN, 0)
        for state, number in (await self._count(where)).items():
            counts[state] = number
        # Counted apart, so that the first count needs nothing but an index.
        if unready := await self.unready_tasks():
            for state, number in (await self._count({**where, "task": {"$in": unready}})).items():
                counts[state] = max(0, counts[state] - number)
        return counts

    async def _count(self, where: Document) -> dict[State, int]:
        found = await self._db.aggregate(
            ROWS, {"$match": where}, {"$group": {"_id": "$state", "number": {"$sum": 1}}}
        )
        return {State(document["_id"]): int(document["number"]) for document in found}

    # -- dead letters ----------------------------------------------------------------------------------

    async def dead_letters(self, limit: int, before: Place | None, only: DeadFilter) -> list[RowView]:
        """Rows that failed, the last first."""
        # Bounds that hold for every row that failed, so that their index is known to do.
        where: Document = {"state": State.FAILED.value, "ended_at": {"$gte": only.since}}
        if only.until:
            where["ended_at"]["$lt"] = only.until
        wanted = {
            "lane": only.lane,
            "task": only.task_id,
            "contact": only.contact,
            "error_name": only.error_name,
            "error_code": only.error_code,
        }
        where |= {field: value for field, value in wanted.items() if value}
        if before is not None:
            where["$or"] = [
                {"ended_at": {"$lt": before.due}},
                {"ended_at": before.due, "seq": {"$lt": before.seq}},
            ]
            where["ended_at"]["$lte"] = before.due
        sort = [("ended_at", -1), ("seq", -1)]
        found = await self._db.find(ROWS, where, sort=sort, limit=limit)
        return [_view(document) for document in found]

    async def count_dead(self, since: int, most: int) -> DeadCounts:
        """The last of them by name, and which of these are since then."""
        recent = {"$cond": [{"$gte": ["$ended_at", since]}, 1, 0]}
        found = await self._db.aggregate(
            ROWS,
            # With a bound that holds for every row that failed, so that their index is known to do.
            {"$match": {"state": State.FAILED.value, "ended_at": {"$gte": 0}}},
            {"$sort": {"ended_at": -1}},
            {"$limit": most},
            {"$group": {"_id": "$error_name", "number": {"$sum": 1}, "recent": {"$sum": recent}}},
        )
        by_name = {document["_id"] or "": int(document["recent"]) for document in found}
        return DeadCounts(
            sum(int(document["number"]) for document in found),
            {name: number for name, number in by_name.items() if number},
        )

    async def find_history(self, row_id: str) -> History:
        """The first and the last notes, those that are both once."""
        wanted = {"notes": 1, "notes_first": 1, "notes_last": 1}
        found = await self._db.find_one(ROWS, {"_id": row_id}, wanted)
        if found is None or "notes" not in found:
            return History((), 0)
        total = int(found["notes"])
        first, last = found["notes_first"], found["notes_last"]
        between = max(0, total - NOTES_FIRST - NOTES_LAST)
        both = max(0, len(first) + len(last) - total)
        return History((*first, *last[both:]), between)

    async def has_open(self, task_id: str) -> bool:
        """Whether a task has a row with which something is still to be done."""
        for state in OPEN:
            if await self._db.find_one(ROWS, {"task": task_id, "state": state.value}, {"_id": 1}):
                return True
        return False


def row_id(task_id: str, n: int) -> str:
    """The id of a task's row."""
    return f"{task_id}-{n}"


def new_row(task: NewTask, row: NewRow, seq: int, now: int) -> Document:
    """A row's document, due ``now`` where it asks for at once.

    Times of its fate, ``wamids``, ``error``, ``again``, ``retried``, ``marks``, ``ordered``,
    ``heeds_opt_out``, ``on_unknown``, ``fallback``, ``has_fallback``, ``fell_back``, ``over``,
    ``claimed_at``, ``spared``, ``pricing`` and ``notes`` are there only when they say something.
    """
    asked: Document = {"ordered": True} if row.ordered else {}
    if row.heeds_opt_out:
        asked["heeds_opt_out"] = True
    if row.on_unknown:
        asked["on_unknown"] = row.on_unknown
    if row.fallback:
        asked |= {"fallback": row.fallback, "has_fallback": True}
    return {
        **asked,
        "_id": row_id(task.id, row.n),
        "seq": seq,
        "task": task.id,
        "n": row.n,
        "lane": row.lane,
        "contact": row.contact,
        "priority": row.priority,
        "due": row.due or now,
        "payload": row.payload,
        "state": State.QUEUED.value,
        "attempt": 0,
        "failures": 0,
        "doubt": False,
        "term": 0,
        "expires_at": row.expires_at,
        "callback_data": row.callback_data,
        "created_at": task.created_at,
    }


def _row(document: Document) -> Row:
    # The driver reads large integers as a subclass that encoders do not know, hence every int().
    return Row(
        id=document["_id"],
        seq=int(document["seq"]),
        task_id=document["task"],
        lane=document["lane"],
        contact=document["contact"],
        priority=int(document["priority"]),
        due=int(document["due"]),
        payload=document["fallback"] if document.get("fell_back") else document["payload"],
        state=State(document["state"]),
        attempt=int(document["attempt"]),
        failures=int(document["failures"]),
        doubt=document["doubt"],
        expires_at=int(document["expires_at"]),
        callback_data=document["callback_data"],
        created_at=int(document["created_at"]),
        retried=int(document.get("retried", 0)),
        ordered=document.get("ordered", False),
        on_unknown=document.get("on_unknown", ""),
        has_fallback=document.get("has_fallback", False),
        fell_back=document.get("fell_back", False),
        claimed_at=int(document.get("claimed_at", 0)),
        spared=int(document.get("spared", 0)),
        heeds_opt_out=document.get("heeds_opt_out", False),
    )


def _view(document: Document) -> RowView:
    return RowView(
        row=_row(document),
        wamids=tuple(document.get("wamids", ())),
        error=document.get("error", b""),
        sent_at=int(document.get("sent_at", 0)),
        delivered_at=int(document.get("delivered_at", 0)),
        read_at=int(document.get("read_at", 0)),
        ended_at=int(document.get("ended_at", 0)),
        last_sent_at=int(document.get("last_sent_at", 0)),
        over=int(document.get("over", 0)),
        played_at=int(document.get("played_at", 0)),
        pricing=document.get("pricing", b""),
    )

"""Outbox rows on MongoDB: their shape, the reads of a lane, and every move.

Owns the collection ``rows``. The guards of a move are the filter of its update, so a row that does not fit
is not touched. The answer to a bulk of updates is only how many matched; where that is not all of them,
each row's ``marks`` tell which: every move leaves a number of its own there, of which the last few are
kept.

All moves of this process go through one group commit: one bulk for many callers, in the order of their calls.
A crash inside a commit leaves the log ahead of the rows and the rows ahead of the cursor, never behind; the
repetition finds its events known, moves what was not moved, and saves the cursor. A lease is looked up before
all that, and its cursor guarded once more; only a lease lost between the two is told after events and moves.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne

from store.errors import StoreError
from store.mongo_connection import Connection, Document, LongCommit
from store.mongo_leases import Coordination, lost
from store.mongo_log import MongoLog
from store.records import TIME_OF, Change, Cursor, Lease, NewEvent, NewRow, NewTask, Place, Row, RowView
from store.states import OPEN, TAKEN, State, sources_of

__all__ = ["ROWS", "Rows", "new_row", "row_id"]

ROWS = "rows"

_Standing = tuple[State, int, int, bool]
"""State, attempt, term, and whether there is a fallback that was not used."""

_CHUNK = 100
"""Moves in one bulk: well inside the time of one answer even where an update takes some milliseconds."""
_MARKS = 4


@dataclass(frozen=True, slots=True)
class _Move:
    """One guarded update. ``where`` is None where no row could ever pass the guards."""

    row_id: str
    where: Document | None
    update: Document
    change: Change | None = None
    """What asked for it; None for a claim."""

    @property
    def wamid(self) -> str:
        return self.change.wamid if self.change else ""


@dataclass(frozen=True, slots=True)
class _Work:
    """What one caller wants: moves, between events and a cursor. ``lease`` must have the newest term."""

    moves: Sequence[_Move]
    events: Sequence[NewEvent] = ()
    cursor: Cursor | None = None
    lease: Lease | None = None


class Rows:
    """Reads and moves of rows; the methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, log: MongoLog, coordination: Coordination) -> None:
        self._db = db
        self._log = log
        self._coordination = coordination
        self._group: LongCommit[_Work, list[bool]] = LongCommit(self._commit)

    async def flush(self) -> None:
        """Return once every move that was asked for has been made or refused."""
        await self._group.flush()

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

    async def undelivered(self, lane: str, sent_since: int, after_seq: int, limit: int) -> list[RowView]:
        """Those that others wait for, by seq."""
        where = {
            "lane": lane,
            "ordered": True,
            "state": State.SENT.value,
            "seq": {"$gt": after_seq},
            "sent_at": {"$gte": sent_since},
        }
        found = await self._db.find(ROWS, where, sort=[("seq", 1)], limit=limit)
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

    # -- moves -----------------------------------------------------------------------------------------

    async def mark_sending(self, lease: Lease, rows: Sequence[Row]) -> set[str]:
        """Move to ``sending`` under the lease; ids of those moved."""
        claims = [_mark(row, lease.term) for row in rows]
        moved = await self._group.submit(_Work(claims, lease=lease), len(claims))
        return {row.id for row, done in zip(rows, moved, strict=True) if done}

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent],
        cursor: Cursor | None,
        lease: Lease | None,
    ) -> list[bool]:
        """Append, move, save; which changes moved their rows."""
        moves = [_move(change) for change in changes]
        work = _Work(moves, events, cursor, lease if cursor else None)
        return await self._group.submit(work, 1 + len(moves) + len(events))

    async def _commit(self, works: Sequence[_Work]) -> list[list[bool] | Exception]:
        results: list[list[bool] | Exception | None] = [None] * len(works)
        terms = await self._coordination.terms(work.lease.name for work in works if work.lease)
        self._group.gets_on()
        for place, work in enumerate(works):
            if work.lease and terms.get(work.lease.name) != work.lease.term:
                results[place] = lost(work.lease)
        await self._tell(works, results)
        going = [place for place, result in enumerate(results) if result is None]
        moved = await self._move_all([move for place in going for move in works[place].moves])
        for place in going:
            count = len(works[place].moves)
            results[place] = moved[:count]
            del moved[:count]
        await self._save_cursors(works, results)
        return [result if result is not None else [] for result in results]

    async def _tell(self, works: Sequence[_Work], results: list[list[bool] | Exception | None]) -> None:
        """Append each caller's events, all in one commit of the log; who fails gets no further.

        An event of a move is told only where the row fits the guards, as far as can be seen before the move.
        """
        rows = await self._standing(
            {move.row_id for work in works for move in work.moves if move.change and move.change.event}
        )
        self._group.gets_on()

        async def append(place: int, events: Sequence[NewEvent]) -> None:
            try:
                await self._log.append(events)
            except StoreError as error:
                results[place] = error
            else:
                self._group.gets_on()

        told = [[*work.events, *_events_of_moves(work.moves, rows)] for work in works]
        await asyncio.gather(
            *(append(n, events) for n, events in enumerate(told) if events and results[n] is None)
        )

    async def _standing(self, ids: Collection[str]) -> dict[str, _Standing]:
        """What guards ask of rows."""
        wanted = {"state": 1, "attempt": 1, "term": 1, "has_fallback": 1}
        found = await self._db.find(ROWS, {"_id": {"$in": list(ids)}}, wanted) if ids else []
        return {
            d["_id"]: (State(d["state"]), int(d["attempt"]), int(d["term"]), "has_fallback" in d)
            for d in found
        }

    async def _save_cursors(
        self, works: Sequence[_Work], results: list[list[bool] | Exception | None]
    ) -> None:
        for place, work in enumerate(works):
            if work.cursor is not None and not isinstance(results[place], Exception):
                try:
                    await self._coordination.save_cursor(work.cursor, work.lease)
                except StoreError as error:
                    results[place] = error
                else:
                    self._group.gets_on()

    async def _move_all(self, moves: Sequence[_Move]) -> list[bool]:
        moved: list[bool] = []
        for chunk in _chunks(moves):
            moved += await self._move_chunk(chunk)
            self._group.gets_on()
        queued = [move.row_id for move in moves if move.change and move.change.to is State.QUEUED]
        await self._reopen({row_id.rpartition("-")[0] for row_id in queued})
        return moved

    async def _move_chunk(self, moves: Sequence[_Move]) -> list[bool]:
        # Numbers that no other chunk has, below 2^63.
        first = secrets.randbits(48) << 14
        updates = [
            UpdateOne({"_id": move.row_id, **move.where}, _marked(move.update, first + place))
            for place, move in enumerate(moves)
            if move.where is not None
        ]
        matched = await self._write(updates)
        if matched == len(moves):
            return [True] * len(moves)
        marks = await self._marks({move.row_id for move in moves}) if matched else set()
        moved = [first + place in marks for place in range(len(moves))]
        stopped = [move for move, done in zip(moves, moved, strict=True) if not done]
        await self._write([update for move in stopped if (update := _kept(move)) is not None])
        return moved

    async def _write(self, updates: Sequence[UpdateOne]) -> int:
        """How many of the updates found their row."""
        if not updates:
            return 0
        result = await self._db.call(lambda: self._db[ROWS].bulk_write(updates, ordered=True))
        return result.matched_count

    async def _marks(self, ids: Collection[str]) -> set[int]:
        found = await self._db.find(ROWS, {"_id": {"$in": list(ids)}}, {"marks": 1})
        return {int(mark) for document in found for mark in document.get("marks", ())}

    async def _reopen(self, task_ids: Collection[str]) -> None:
        """Tasks that were complete and have an open row again are not complete.

        Looked at whether or not a row moved just now, so that a repetition makes good what a crash left out.
        """
        if not task_ids:
            return
        where = {"_id": {"$in": list(task_ids)}, "completed_at": {"$gt": 0}}
        for task in await self._db.find("tasks", where, {"completed_at": 1}):
            if await self.has_open(task["_id"]):
                await self._clear_completed(task)

    async def _clear_completed(self, task: Document) -> None:
        await self._db.call(lambda: self._db["tasks"].update_one(task, {"$set": {"completed_at": 0}}))

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

    Times of its fate, ``wamids``, ``error``, ``again``, ``retried``, ``marks``, ``ordered``, ``on_unknown``,
    ``fallback``, ``has_fallback`` and ``fell_back`` are there only when they say something.
    """
    asked: Document = {"ordered": True} if row.ordered else {}
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


def _mark(row: Row, term: int) -> _Move:
    return _Move(
        row.id,
        {"state": State.QUEUED.value, "attempt": row.attempt, "term": {"$lte": term}},
        {
            "$set": {"state": State.SENDING.value, "term": term},
            "$inc": {"attempt": 1},
            "$unset": {"again": ""},
        },
    )


def _move(change: Change) -> _Move:
    values: Document = {"state": change.to.value}
    update: Document = {"$set": values}
    if change.to is State.QUEUED:
        values |= {"due": change.due, "again": True}
    else:
        update["$unset"] = {"again": ""}
    if change.doubt:
        values["doubt"] = True
    if change.error:
        values["error"] = change.error
    if change.to in TIME_OF:
        values[TIME_OF[change.to]] = change.at
    if change.to in TAKEN:
        # Sets what is not there, and leaves the first time that is.
        update["$min"] = {"sent_at": change.at}
    if change.fresh:
        values["failures"] = 0
        update["$inc"] = {"retried": 1}
        update["$unset"] = {"ended_at": ""}
    elif change.burn:
        update["$inc"] = {"failures": 1}
    if change.fall_back:
        values["fell_back"] = True
        update.setdefault("$unset", {})["has_fallback"] = ""
    if change.wamid:
        update["$addToSet"] = {"wamids": change.wamid}
    return _Move(change.row_id, _guards(change), update, change)


def _kept(move: _Move) -> UpdateOne | None:
    """What a move that was stopped leaves on its row all the same."""
    change = move.change
    if change is None or not (change.wamid or change.to in TAKEN):
        return None
    missing: list[Document] = []
    update: Document = {}
    if change.wamid:
        missing.append({"wamids": {"$ne": change.wamid}})
        update["$addToSet"] = {"wamids": change.wamid}
    if change.to in TAKEN:
        missing.append({"sent_at": {"$exists": False}})
        update["$min"] = {"sent_at": change.at}
    return UpdateOne({"_id": move.row_id, "$or": missing}, update)


def _events_of_moves(moves: Sequence[_Move], rows: Mapping[str, _Standing]) -> Iterator[NewEvent]:
    for move in moves:
        change = move.change
        if change and change.event and move.row_id in rows and change.allowed(*rows[move.row_id]):
            yield change.event


def _guards(change: Change) -> Document | None:
    sources = sources_of(change.to)
    if change.only_from:
        sources &= set(change.only_from)
    if not sources:
        return None
    guards: Document = {"state": {"$in": sorted(state.value for state in sources)}}
    if change.attempt:
        guards["attempt"] = change.attempt
    if change.term:
        guards["term"] = change.term
    elif change.before_term:
        guards["term"] = {"$lt": change.before_term}
    if change.fall_back:
        guards["has_fallback"] = True
    return guards


def _marked(update: Document, mark: int) -> Document:
    return {**update, "$push": {"marks": {"$each": [mark], "$slice": -_MARKS}}}


def _chunks(moves: Sequence[_Move]) -> Iterator[list[_Move]]:
    """Cut moves into bulks: not too long, no more moves of one row than it keeps marks of.

    Nor with two ids of Meta's for one row, since those of moves that are refused are kept after the others.
    """
    chunk: list[_Move] = []
    counts: dict[str, int] = {}
    wamids: dict[str, str] = {}
    for move in moves:
        full = len(chunk) >= _CHUNK or counts.get(move.row_id, 0) >= _MARKS
        if full or (move.wamid and wamids.get(move.row_id, move.wamid) != move.wamid):
            yield chunk
            chunk, counts, wamids = [], {}, {}
        chunk.append(move)
        counts[move.row_id] = counts.get(move.row_id, 0) + 1
        if move.wamid:
            wamids[move.row_id] = move.wamid
    if chunk:
        yield chunk


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
    )

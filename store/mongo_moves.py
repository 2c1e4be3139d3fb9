"""Every move of outbox rows on MongoDB, guarded, in groups.

The guards of a move are the filter of its update, so a row that does not fit is not touched. The answer to a
bulk of updates is only how many matched; where that is not all of them, each row's ``marks`` tell which:
every move leaves a number of its own there, of which the last few are kept.

All moves of this process go through one group commit: one bulk for many callers, in the order of their calls.
A crash inside a commit leaves the log ahead of the rows and the rows ahead of the cursor, never behind; the
repetition finds its events known, moves what was not moved, and saves the cursor. A lease is looked up before
all that, and its cursor guarded once more; only a lease lost between the two is told after events and moves.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pymongo import UpdateOne

from store.commit import Portion
from store.errors import StoreError, StoreUnavailable
from store.mongo_connection import Connection, Document, LongCommit
from store.mongo_leases import Coordination, lost
from store.mongo_log import MongoLog
from store.mongo_rows import ROWS, Rows
from store.records import (
    NOTES_FIRST,
    NOTES_LAST,
    TIME_OF,
    TOLD,
    Change,
    Cursor,
    Lease,
    NewEvent,
    Row,
    Standing,
)
from store.states import TAKEN, State, sources_of

__all__ = ["Moves"]

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


class Moves:
    """Marks and changes of rows; the methods are those of :class:`~store.base.Store`."""

    def __init__(self, db: Connection, log: MongoLog, rows: Rows, coordination: Coordination) -> None:
        self._db = db
        self._log = log
        self._rows = rows
        self._coordination = coordination
        self._portion = Portion(_CHUNK)
        self._group: LongCommit[_Work, list[bool]] = LongCommit(self._commit, answer_s=db.answer_s)

    async def flush(self) -> None:
        """Return once every move that was asked for has been made or refused."""
        await self._group.flush()

    async def mark_sending(self, lease: Lease, rows: Sequence[Row], at: int) -> set[str]:
        """Move to ``sending`` under the lease; ids of those moved."""
        claims = [_mark(row, lease.term, at) for row in rows]
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

    async def _standing(self, ids: Collection[str]) -> dict[str, Standing]:
        """What guards ask of rows."""
        wanted = {"state": 1, "attempt": 1, "term": 1, "has_fallback": 1, "over": 1}
        found = await self._db.find(ROWS, {"_id": {"$in": list(ids)}}, wanted) if ids else []
        return {d["_id"]: _standing(d) for d in found}

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
        while len(moved) < len(moves):
            chunk = _chunk(moves[len(moved) : len(moved) + _CHUNK], self._portion.size)
            try:
                moved += await self._move_chunk(chunk)
            except StoreUnavailable:
                # All of them come again, perhaps together: a server too slow for so many would never be done.
                self._portion.refused(len(chunk))
                raise
            self._group.gets_on()
        if moves:
            # Not before all are done, or the next bulk would be too much again.
            self._portion.taken()
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
            if await self._rows.has_open(task["_id"]):
                await self._clear_completed(task)

    async def _clear_completed(self, task: Document) -> None:
        await self._db.call(lambda: self._db["tasks"].update_one(task, {"$set": {"completed_at": 0}}))


def _mark(row: Row, term: int, at: int) -> _Move:
    return _Move(
        row.id,
        {"state": State.QUEUED.value, "attempt": row.attempt, "term": {"$lte": term}},
        {
            "$set": {"state": State.SENDING.value, "term": term, "claimed_at": at},
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
        values |= {"error": change.error, "error_name": change.error_name, "error_code": change.error_code}
    if change.to in TIME_OF:
        values[TIME_OF[change.to]] = change.time
    if change.pricing:
        values["pricing"] = change.pricing
    if change.to in TAKEN:
        # Sets what is not there, and leaves the first time that is.
        update["$min"] = {"sent_at": change.at}
    if change.fresh:
        values["failures"] = 0
        update["$unset"] = {"ended_at": "", "spared": ""}
    elif change.burn:
        update["$inc"] = {"failures": 1}
    elif change.spared:
        update["$inc"] = {"spared": 1}
    if change.sends_anew:
        update.setdefault("$inc", {})["retried"] = 1
    if change.fall_back:
        values["fell_back"] = True
        update.setdefault("$unset", {})["has_fallback"] = ""
    if change.ends_attempts:
        values["over"] = change.attempt
    if change.to is State.SENT:
        values["last_sent_at"] = change.at
    if change.wamid:
        update["$addToSet"] = {"wamids": change.wamid}
    if change.note:
        # A list that keeps its first, one that keeps its last, and how many there were.
        update["$push"] = {
            "notes_first": {"$each": [change.note], "$slice": NOTES_FIRST},
            "notes_last": {"$each": [change.note], "$slice": -NOTES_LAST},
        }
        update.setdefault("$inc", {})["notes"] = 1
    return _Move(change.row_id, _guards(change), update, change)


def _kept(move: _Move) -> UpdateOne | None:
    """What a move that was stopped leaves on its row all the same."""
    change = move.change
    if change is None or not (change.wamid or change.pricing or change.to in TAKEN):
        return None
    missing: list[Document] = []
    update: Document = {}
    if change.wamid:
        missing.append({"wamids": {"$ne": change.wamid}})
        update["$addToSet"] = {"wamids": change.wamid}
    if change.to in TAKEN:
        missing.append({"sent_at": {"$exists": False}})
        update["$min"] = {"sent_at": change.at}
    if change.to in TOLD:
        column = TIME_OF[change.to]
        missing += [{column: {"$exists": False}}, {column: {"$gt": change.time}}]
        update["$min"][column] = change.time
    if change.pricing:
        missing.append({"pricing": {"$ne": change.pricing}})
        update["$set"] = {"pricing": change.pricing}
    return UpdateOne({"_id": move.row_id, "$or": missing}, update)


def _standing(document: Document) -> Standing:
    return Standing(
        State(document["state"]),
        int(document["attempt"]),
        int(document["term"]),
        "has_fallback" in document,
        int(document.get("over", 0)),
    )


def _events_of_moves(moves: Sequence[_Move], rows: Mapping[str, Standing]) -> Iterator[NewEvent]:
    """Of those that will be made, each judged by what the ones before it make of its row."""
    rows = dict(rows)
    for move in moves:
        change = move.change
        if change is None or move.row_id not in rows or not change.allowed(rows[move.row_id]):
            continue
        row = rows[move.row_id]
        rows[move.row_id] = row._replace(
            state=change.to,
            has_fallback=row.has_fallback and not change.fall_back,
            over=change.attempt if change.ends_attempts else row.over,
        )
        if change.event:
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
    if change.to is State.SENT:
        # None where no attempt is over yet.
        guards["over"] = {"$not": {"$gte": max(change.word_of, 1)}}
    return guards


def _marked(update: Document, mark: int) -> Document:
    return {**update, "$push": {**update.get("$push", {}), "marks": {"$each": [mark], "$slice": -_MARKS}}}


def _chunk(moves: Sequence[_Move], most: int) -> Sequence[_Move]:
    """The first bulk of these: so many at most, no more moves of one row than it keeps marks of.

    Nor with two ids of Meta's for one row, since those of moves that are refused are kept after the others.
    """
    counts: dict[str, int] = {}
    wamids: dict[str, str] = {}
    for place, move in enumerate(moves):
        full = place >= most or counts.get(move.row_id, 0) >= _MARKS
        if full or (move.wamid and wamids.get(move.row_id, move.wamid) != move.wamid):
            return moves[:place]
        counts[move.row_id] = counts.get(move.row_id, 0) + 1
        if move.wamid:
            wamids[move.row_id] = move.wamid
    return moves

"""The event log on MongoDB: documents of batches, numbered without gaps. No other file reads or writes them.

A document is ``{_id: n, prev, at, size, total, events: [{k, t, at, b, p?, c?, m?}]}``, n = 1, 2, 3 ...; the
offset of an event is ``n * 4096 + its place``, and ``total`` counts the events up to the document's last one
(where an earlier version left none, the offset stands for it, which is more). What this rests on:

- A unique index on ``events.k`` drops duplicates across all processes; it is blind inside one document, so
  those are dropped before.
- Document n + 1 is inserted only by a process that has seen n as durable. So no number is left out, and
  whoever sees n + 1 sees n: a reader that takes only the next number misses nothing.
- Each process appends through one group commit, for appenders of one process would only race each other.
- After a network error nobody knows whether the insert took place: the remembered tail is forgotten,
  callers are told that the store is unavailable, and the repetition meets the unique key.
- The newest document is never removed, nor are numbers used again: an emptied log would begin at 1 once more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from pymongo import DeleteOne, UpdateOne
from pymongo.errors import DuplicateKeyError

from store.commit import GroupCommit
from store.errors import StoreUnavailable
from store.mongo_ahead import Ahead
from store.mongo_connection import Connection, Document
from store.records import Event, LogBounds, NewEvent

__all__ = ["EVENTS", "MongoLog"]

_log = logging.getLogger(__name__)

EVENTS = "events"

_LAST = "\U0010ffff"
"""After all that a key goes on with."""
_PLACES = 4096
_MAX_EVENTS = 2000
_MAX_BYTES = 6 * 1024 * 1024
"""Of bodies in one document; MongoDB's own limit is 16 MB. A call with more is kept in several documents,
so a crash amid it may keep its first part alone; the repetition completes it."""
_WINDOW = 64
_POLL_S = 0.2
_TRUST_S = 60.0
"""How long a remembered tail may be built upon: far less than any age at which documents are removed."""
_CONTEND_S = 1.4
_REWRITTEN_TOGETHER = 50
"""Events, each with an update of its own."""
_REMOVED_TOGETHER = 32
"""Documents, each with a delete of its own."""
_TOGETHER = 100
"""Keys that are looked up at once: each may be in a document of its own."""
_TAIL_FIELDS = {"size": 1, "total": 1}


class _Tail(NamedTuple):
    number: int
    offset: int
    """Of its last event."""
    total: int
    """How many events there were up to that one."""
    read_at: float


class _Batch:
    """Events for one document, and how many of the waiting calls are complete with it."""

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.size = 0
        self.calls_done = 0

    def fits(self, events: Sequence[NewEvent]) -> bool:
        size = sum(len(event.body) for event in events)
        return len(self.events) + len(events) <= _MAX_EVENTS and self.size + size <= _MAX_BYTES

    def add(self, event: NewEvent) -> None:
        self.events.append(event)
        self.size += len(event.body)


class MongoLog:
    """Appends, reads and follows the log. ``callbacks`` get every batch from :meth:`start` on, in order."""

    def __init__(
        self,
        db: Connection,
        callbacks: Sequence[Callable[[Sequence[Event]], None]],
        clock: Callable[[], int],
    ) -> None:
        self._db = db
        self._callbacks = callbacks
        self._clock = clock
        self._group: GroupCommit[Sequence[NewEvent], list[Event]] = GroupCommit(
            self._commit, timeout_s=db.answer_s
        )
        self._tail: _Tail | None = None
        self._oldest = 0
        self._seen = 0
        self._advanced = asyncio.Event()
        self._wake = asyncio.Event()
        self._ahead = Ahead()
        self._stopping = False
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn where the log ends, and follow it from there."""
        self._seen = (await self._find_tail()).number
        self._follower = asyncio.Task(self._follow(), name="mongo-log-follower")

    async def stop(self) -> None:
        """Commit what waits, then end the follower and wait for it."""
        await self._group.flush()
        self._stopping = True
        self._wake.set()
        if self._follower is not None:
            await asyncio.wait({self._follower})

    async def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Append those whose key is new; the callbacks have seen them when this returns."""
        return await self._group.submit(events, len(events)) if events else []

    async def find_events(self, beginnings: Collection[str], limit: int) -> list[Event]:
        """Down the index of keys."""
        found: dict[int, Event] = {}
        for beginning in beginnings:
            key = {"$gte": beginning, "$lt": beginning + _LAST}
            found |= await self._look_up(key, limit)
        return [found[offset] for offset in sorted(found)[:limit]]

    async def events_of(self, keys: Collection[str]) -> list[Event]:
        """By the index of keys."""
        wanted = sorted(set(keys))
        found: dict[int, Event] = {}
        for start in range(0, len(wanted), _TOGETHER):
            key = {"$in": wanted[start : start + _TOGETHER]}
            found |= await self._look_up(key, _TOGETHER)
        return [found[offset] for offset in sorted(found)]

    async def _look_up(self, key: Document, limit: int) -> dict[int, Event]:
        """Of each document only the events asked for leave the server."""
        found: dict[int, Event] = {}
        for document in await self._db.aggregate(
            EVENTS,
            {"$match": {"events": {"$elemMatch": {"k": key}}}},
            {"$limit": limit},
            {"$unwind": {"path": "$events", "includeArrayIndex": "place"}},
            {"$match": {"events.k": key}},
            {"$limit": limit},
        ):
            place, first = int(document["place"]), int(document["_id"]) * _PLACES
            prev = first + place - 1 if place else int(document["prev"])
            found[first + place] = _event(document["events"], first + place, prev)
        return found

    async def known_keys(self, keys: Collection[str]) -> set[str]:
        """Those of these keys that are in the log."""
        return await self._known(set(keys))

    # -- reading ---------------------------------------------------------------------------------------

    async def events_after(self, offset: int, limit: int) -> list[Event]:
        """The oldest events past ``offset``."""
        now = asyncio.get_running_loop().time()
        ahead = self._ahead
        found = ahead.take(offset, now) or await self._read_past(offset, limit)
        if limit > 1 and len(found) > limit:
            ahead.keep(found[limit - 1].offset, found[limit:], now)
        return list(found[:limit])

    async def _read_past(self, offset: int, limit: int) -> list[Event]:
        """As many, and what else their documents hold."""
        found: list[Event] = []
        size = 0
        # The document of the offset itself may hold more events behind it.
        number = max(offset // _PLACES, 1)
        more = True
        while more and len(found) < limit and size < _MAX_BYTES:
            # No document is empty, so these are enough.
            documents, more = await self._next(number, min(_WINDOW, limit + 1))
            if not documents and not found:
                oldest = await self._edge(1)
                more = oldest is not None and oldest.number > number
                number = oldest.number if oldest is not None else number
            for document in documents:
                fresh = [event for event in _events(document) if event.offset > offset]
                size += sum(len(event.body) for event in fresh)
                found += fresh
            number += len(documents)
        return found

    async def bounds(self) -> LogBounds:
        """What the log holds."""
        floor = await self._floor()
        tail = await self._forward(await self._newest())
        return LogBounds(tail.offset if floor is None else floor, tail.offset)

    async def count_past(self, offsets: Collection[int]) -> dict[int, int]:
        """By what documents say of how many came before."""
        tail = await self._forward(await self._newest())
        oldest = await self._edge(1)
        if oldest is None:
            return dict.fromkeys(offsets, 0)
        removed = oldest.total - (oldest.offset % _PLACES + 1)
        numbers = list({offset // _PLACES for offset in offsets})
        found = await self._db.find(EVENTS, {"_id": {"$in": numbers}}, _TAIL_FIELDS)
        documents = {int(document["_id"]): document for document in found}

        def past(offset: int) -> int:
            document = documents.get(offset // _PLACES)
            if document is None:
                return 0 if offset > tail.offset else tail.total - removed
            last = _last_of(document)
            return max(0, tail.total - int(document.get("total", last)) + max(0, last - offset))

        return {offset: past(offset) for offset in offsets}

    async def _next(self, number: int, most: int = _WINDOW) -> tuple[list[Document], bool]:
        """Documents from ``number`` on without a gap, not too many at once; and whether there may be more."""
        numbers = list(range(number, number + most))

        async def read() -> tuple[list[Document], bool]:
            found: list[Document] = []
            size = 0
            # By name of each number, since a range is a scan on servers that only speak MongoDB's protocol.
            cursor = self._db[EVENTS].find({"_id": {"$in": numbers}}).sort("_id", 1).batch_size(16)
            try:
                async for document in cursor:
                    if document["_id"] != number + len(found):
                        break
                    found.append(document)
                    size += sum(len(event["b"]) for event in document["events"])
                    if size >= _MAX_BYTES:
                        return found, True
            finally:
                await cursor.close()
            return found, len(found) == most

        return await self._db.call(read)

    async def _edge(self, direction: int) -> _Tail | None:
        """The oldest document (1), or the newest (-1)."""
        found = await self._db.find(EVENTS, {}, _TAIL_FIELDS, sort=[("_id", direction)], limit=1)
        return self._tail_of(found[0]) if found else None

    async def _floor(self) -> int | None:
        """Offset before the oldest event; None where the log is empty."""
        # The oldest stays the oldest until it is removed, and asking for it by number is cheap everywhere.
        known = await self._db.find_one(EVENTS, {"_id": self._oldest}, {"prev": 1}) if self._oldest else None
        if known is None:
            found = await self._db.find(EVENTS, {}, {"prev": 1}, sort=[("_id", 1)], limit=1)
            if not found:
                return None
            known = found[0]
            self._oldest = int(known["_id"])
        return int(known["prev"])

    # -- appending -------------------------------------------------------------------------------------

    async def _commit(self, calls: Sequence[Sequence[NewEvent]]) -> list[list[Event] | Exception]:
        batches, owner = _batches(calls)
        results: list[list[Event] | Exception] = []
        added: list[list[Event]] = [[] for _ in calls]
        for batch in batches:
            try:
                for event in await self._append(batch.events):
                    added[owner[event.key]].append(event)
            except StoreUnavailable as error:
                # Later calls may hold repetitions of what was refused here, so they are refused too.
                return results + [error] * (len(calls) - len(results))
            results.extend(added[len(results) : batch.calls_done])
        return results

    async def _append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Insert one document with those that are new."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONTEND_S
        tail = await self._newest() if events else None
        while events and tail is not None:
            number = tail.number + 1
            batch = _numbered(number, tail.offset, events)
            clash = await self._insert(number, batch, tail.total + len(batch))
            if clash is None:
                self._remember(_Tail(number, batch[-1].offset, tail.total + len(batch), loop.time()))
                await self._hand_over(number, batch)
                return batch
            before = (len(events), tail.number)
            if clash != "_id":
                known = await self._known({event.key for event in events})
                events = [event for event in events if event.key not in known]
            if clash != "key":
                tail = await self._forward(tail)
            if before == (len(events), tail.number):
                # What we clashed with is not durable yet, and counts only when it is.
                await asyncio.sleep(0.005)
            if loop.time() > deadline:
                raise StoreUnavailable("the log is written by too many at once, try again later")
        return []

    async def _insert(self, number: int, batch: Sequence[Event], total: int) -> str | None:
        """Insert a document; what it clashed with: ``_id``, ``key``, or ``both`` if the server is silent."""
        document = {
            "_id": number,
            "prev": batch[0].prev,
            "at": self._clock(),
            "size": len(batch),
            "total": total,
            "events": [_pack(event) for event in batch],
        }

        async def insert() -> str | None:
            try:
                await self._db[EVENTS].insert_one(document)
            except DuplicateKeyError as error:
                pattern = (error.details or {}).get("keyPattern")
                return "_id" if pattern == {"_id": 1} else "key" if pattern == {"events.k": 1} else "both"
            return None

        try:
            return await self._db.call(insert)
        except StoreUnavailable:
            self._tail = None
            raise

    async def _known(self, keys: set[str]) -> set[str]:
        """Those of these keys that are in the log."""
        found = await self._db.find(EVENTS, {"events.k": {"$in": list(keys)}}, {"events.k": 1})
        return {event["k"] for document in found for event in document["events"]} & keys

    async def _newest(self) -> _Tail:
        """The remembered tail, or where there is none to be trusted, the true one."""
        tail = self._tail
        if tail is None or asyncio.get_running_loop().time() - tail.read_at > _TRUST_S:
            tail = await self._find_tail()
        return tail

    async def _find_tail(self) -> _Tail:
        tail = await self._edge(-1) or _Tail(0, 0, 0, asyncio.get_running_loop().time())
        self._remember(tail)
        return tail

    async def _forward(self, tail: _Tail) -> _Tail:
        """The tail as it is by now, from one that was."""
        while True:
            numbers = list(range(tail.number + 1, tail.number + 1 + _WINDOW))
            found = await self._db.find(EVENTS, {"_id": {"$in": numbers}}, _TAIL_FIELDS, sort=[("_id", 1)])
            before = tail.number
            for document in found:
                if document["_id"] == tail.number + 1:
                    tail = self._tail_of(document)
            if tail.number < before + _WINDOW:
                self._remember(tail)
                return tail

    def _remember(self, tail: _Tail) -> None:
        if self._tail is None or self._tail.number <= tail.number:
            self._tail = tail

    @staticmethod
    def _tail_of(document: Document) -> _Tail:
        last = _last_of(document)
        total = int(document.get("total", last))
        return _Tail(int(document["_id"]), last, total, asyncio.get_running_loop().time())

    # -- removing --------------------------------------------------------------------------------------

    async def remove(self, upto: int, before: int, limit: int) -> int:
        """Whole documents, one after the other from the oldest on, so that no number is left out."""
        oldest, newest = await self._edge(1), await self._edge(-1)
        if oldest is None or newest is None:
            return 0
        numbers = range(oldest.number, min(oldest.number + _REMOVED_TOGETHER, newest.number))
        found = await self._db.find(
            EVENTS, {"_id": {"$in": list(numbers)}}, {"at": 1, "size": 1}, sort=[("_id", 1)]
        )
        removed = 0
        deletions = []
        for document in found:
            if removed >= limit or document["at"] >= before or _last_of(document) > upto:
                break
            removed += int(document["size"])
            deletions.append(DeleteOne({"_id": document["_id"]}))
        if deletions:
            await self._db.call(lambda: self._db[EVENTS].bulk_write(deletions, ordered=True))
        return removed

    async def rewrite(self, events: Sequence[Event]) -> None:
        """Each by a set of its own places within its document."""
        updates = []
        for event in events:
            number, place = divmod(event.offset, _PLACES)
            fresh = _pack(event)
            values = {f"events.{place}.{name}": fresh[name] for name in ("k", "t", "b")}
            named = {f"events.{place}.{name}": fresh.get(name) for name in ("c", "m")}
            values |= {name: value for name, value in named.items() if value}
            gone = {name: "" for name, value in named.items() if not value}
            update = {"$set": values, **({"$unset": gone} if gone else {})}
            updates.append(UpdateOne({"_id": number, f"events.{place}.t": {"$exists": True}}, update))
        for start in range(0, len(updates), _REWRITTEN_TOGETHER):
            chunk = updates[start : start + _REWRITTEN_TOGETHER]
            await self._db.call(partial(self._db[EVENTS].bulk_write, chunk, ordered=True))
        # Also what a read that is under way will keep of before.
        self._ahead = Ahead()

    # -- following -------------------------------------------------------------------------------------

    async def _hand_over(self, number: int, batch: Sequence[Event]) -> None:
        """Have the callbacks see our own batch: from memory if it is their next, else by the follower."""
        if number == self._seen + 1:
            self._deliver(number, batch)
            return
        self._wake.set()
        try:
            async with asyncio.timeout(_CONTEND_S):
                while self._seen < number:
                    await self._advanced.wait()
        except TimeoutError as error:
            raise StoreUnavailable("the log could not be read up to what was appended") from error

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        look_for_gap_at = loop.time() + _TRUST_S
        while not self._stopping:
            self._wake.clear()
            try:
                if await self._catch_up():
                    continue
                if loop.time() >= look_for_gap_at:
                    look_for_gap_at = loop.time() + _TRUST_S
                    await self._skip_removed()
            except StoreUnavailable as error:
                _log.info("the log is not followed for now: %s", error.message)
            except Exception:  # noqa: BLE001 - the follower must not die in silence
                _log.exception("following the log failed, it is tried again")
            await self._nap()

    async def _catch_up(self) -> bool:
        """Hand on what came; whether there was anything."""
        start = self._seen + 1
        documents, _ = await self._next(start)
        for document in documents:
            number = int(document["_id"])
            # Meanwhile an append of our own may have handed on some of these.
            if number == self._seen + 1:
                self._remember(self._tail_of(document))
                self._deliver(number, _events(document))
        return self._seen >= start

    async def _skip_removed(self) -> None:
        """Go on behind what was removed before we read it: only after days asleep. ``prev`` shows the gap."""
        oldest = await self._edge(1)
        if oldest is not None and oldest.number > self._seen + 1:
            _log.error("events were removed from the log before this process had read them")
            self._seen = oldest.number - 1

    def _deliver(self, number: int, events: Sequence[Event]) -> None:
        self._seen = number
        for callback in self._callbacks:
            try:
                callback(events)
            except Exception:  # noqa: BLE001 - one listener's fault is not another's
                _log.exception("a listener of the log failed")
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def _nap(self) -> None:
        try:
            async with asyncio.timeout(_POLL_S):
                await self._wake.wait()
        except TimeoutError:
            pass


def _batches(calls: Sequence[Sequence[NewEvent]]) -> tuple[list[_Batch], dict[str, int]]:
    """Spread calls over documents, each call in one if it fits; and which call each key belongs to."""
    owner: dict[str, int] = {}
    batches = [_Batch()]
    for place, call in enumerate(calls):
        fresh = []
        for event in call:
            if event.key not in owner:
                owner[event.key] = place
                fresh.append(event)
        if not batches[-1].fits(fresh):
            batches.append(_Batch())
        for event in fresh:
            if not batches[-1].fits([event]):
                batches.append(_Batch())
            batches[-1].add(event)
        batches[-1].calls_done = place + 1
    return batches, owner


def _last_of(document: Document) -> int:
    """Offset of a document's last event."""
    return int(document["_id"]) * _PLACES + int(document["size"]) - 1


def _numbered(number: int, prev: int, events: Iterable[NewEvent]) -> list[Event]:
    numbered = []
    for place, event in enumerate(events):
        offset = number * _PLACES + place
        numbered.append(event.placed(offset, prev))
        prev = offset
    return numbered


def _pack(event: Event) -> Document:
    packed: dict[str, Any] = {"k": event.key, "t": event.type, "at": event.at, "b": event.body}
    if event.phone_number_id:
        packed["p"] = event.phone_number_id
    if event.contact:
        packed["c"] = event.contact
    if event.message_id:
        packed["m"] = event.message_id
    return packed


def _events(document: Document) -> list[Event]:
    prev = int(document["prev"])
    first = int(document["_id"]) * _PLACES
    events = []
    for place, packed in enumerate(document["events"]):
        events.append(_event(packed, first + place, prev))
        prev = first + place
    return events


def _event(packed: Document, offset: int, prev: int) -> Event:
    # The driver reads large integers as a subclass that encoders do not know, hence int().
    return Event(
        offset,
        prev,
        packed["k"],
        packed["t"],
        int(packed["at"]),
        packed["b"],
        packed.get("p", ""),
        packed.get("c", ""),
        packed.get("m", ""),
    )

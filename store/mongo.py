"""The store on MongoDB: several gateways, one database. The parts are in the files beside this one.

========================= =============================================================================
``mongo_connection.py``   the client, the two-second rule, the order of small writes
``mongo_log.py``          collection ``events``: the log, its followers
``mongo_ahead.py``        what was read of it and not asked for yet
``mongo_leases.py``       ``leases``, ``cursors``, ``memos``, ``claims``, ``aliases``: what gateways agree on
``mongo_rows.py``         ``rows``: the outbox, its shape and reads
``mongo_moves.py``        the guarded moves of its rows
``mongo_media.py``        ``media``: ids of uploaded files
``mongo_tasks.py``        ``tasks``, ``counters``: how a task is stored in steps, and ends
``mongo_removal.py``      removal by age
``mongo_erasing.py``      ``erasures``: contacts of whom all is to be removed
``mongo_answers.py``      ``answers``: what a request was answered that its caller may repeat
``mongo_suppressions.py`` ``suppressions``: who is not to be written to unasked
``mongo_threads.py``      ``said``, ``threads``: conversations
``mongo_windows.py``      ``windows``, ``intake``: when contacts were heard from, and gaps in that
``mongo_subscribers.py``  ``subscribers``: the places of those with a name
========================= =============================================================================

Owns the schema: indexes, version, epoch. Only these files know motor and pymongo. Needs neither transactions
nor change streams, so a single server will do, and others that speak MongoDB's protocol if they have partial
indexes, unique indexes over fields of arrays, updates by pipeline, and updates that are atomic with their
filter. Writes ask for a majority and the journal, reads for what a majority has.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence

from pymongo import IndexModel

from store.deadline import CALL_S
from store.erasing import Erasure, Found, Mentions, Shelf
from store.errors import StoreError, StoreUnavailable
from store.mongo_answers import ANSWERS, Answers
from store.mongo_connection import Connection, InOrder
from store.mongo_erasing import Erasing
from store.mongo_leases import Coordination
from store.mongo_log import EVENTS, MongoLog
from store.mongo_media import MEDIA, MediaIds
from store.mongo_moves import Moves
from store.mongo_removal import RETIRED, Removal
from store.mongo_rows import ROWS, Rows
from store.mongo_subscribers import Subscribers
from store.mongo_suppressions import Suppressions
from store.mongo_tasks import TASKS, Tasks
from store.mongo_threads import SAID, THREADS, Threads
from store.mongo_windows import WINDOWS, Windows
from store.records import (
    ALL_DEAD,
    Alias,
    AnswerRecord,
    Change,
    Cursor,
    DeadCounts,
    DeadFilter,
    Event,
    History,
    KnownMedia,
    Lease,
    LogBounds,
    Memo,
    NewEvent,
    NewRow,
    NewTask,
    Place,
    Priority,
    Progress,
    Row,
    RowView,
    Subscriber,
    Suppression,
    TaskPlace,
    TaskView,
    Window,
)
from store.states import State
from store.threads import Said, Thread, ThreadNews

__all__ = ["MongoStore"]

_VERSION = 1
_QUEUED = {"state": State.QUEUED.value}

_KEYS = [IndexModel([("events.k", 1)], name="key", unique=True)]
_PROBES = "probes"
"""Has the index of the log, and holds two documents for a moment."""

# Before version 5.0 MongoDB has no two indexes of the same fields, also where they are of other documents.
_INDEXES: Mapping[str, Sequence[IndexModel]] = {
    EVENTS: _KEYS,
    _PROBES: _KEYS,
    MEDIA: [IndexModel([("until", 1)], name="until")],
    TASKS: [
        IndexModel([("created_at", 1)], name="unready", partialFilterExpression={"ready": False}),
        IndexModel([("created_at", -1), ("_id", -1)], name="listed", partialFilterExpression={"ready": True}),
        IndexModel([("ready", 1)], name="retired", partialFilterExpression=RETIRED),
    ],
    "claims": [IndexModel([("at", 1)], name="at")],
    ANSWERS: [IndexModel([("at", 1)], name="at")],
    WINDOWS: [IndexModel([("inbound_at", 1)], name="inbound")],
    SAID: [IndexModel([("contact", 1), ("_id", 1)], name="contact")],
    THREADS: [
        IndexModel([("contact", 1)], name="contact"),
        IndexModel([("phone_number_id", 1), ("last_offset", -1)], name="last"),
        IndexModel(
            [("unread", 1), ("phone_number_id", 1), ("last_offset", -1)],
            name="unread",
            partialFilterExpression={"unread": True},
        ),
    ],
    "aliases": [IndexModel([("contact", 1)], name="contact")],
    ROWS: [
        # With the task at the end, so that rows of a task that is not ready are passed over unread.
        IndexModel(
            [("lane", 1), ("priority", 1), ("due", 1), ("seq", 1), ("task", 1)],
            name="due",
            partialFilterExpression=_QUEUED,
        ),
        IndexModel(
            [("lane", 1), ("contact", 1), ("priority", 1), ("due", 1), ("seq", 1)],
            name="contact",
            partialFilterExpression=_QUEUED,
        ),
        IndexModel([("lane", 1), ("seq", 1)], name="again", partialFilterExpression={"again": True}),
        IndexModel([("lane", 1), ("state", 1), ("seq", 1)], name="state"),
        IndexModel(
            [("lane", 1), ("ordered", 1), ("last_sent_at", 1), ("seq", 1)],
            name="waited_for",
            partialFilterExpression={"ordered": True, "state": State.SENT.value},
        ),
        IndexModel(
            [("lane", 1), ("last_sent_at", 1), ("seq", 1)],
            name="sent",
            partialFilterExpression={"state": State.SENT.value},
        ),
        IndexModel([("task", 1), ("n", 1)], name="task"),
        IndexModel([("task", 1), ("state", 1), ("attempt", 1), ("sent_at", 1)], name="counts"),
        IndexModel(
            [("task", 1), ("n", 1), ("error", 1)],
            name="errors",
            partialFilterExpression={"error": {"$exists": True}},
        ),
        IndexModel(
            [("task", 1), ("retried", 1)],
            name="retried",
            partialFilterExpression={"retried": {"$exists": True}},
        ),
        # With what dead letters are filtered by, so that rows that do not fit are passed over unread.
        IndexModel(
            [
                ("ended_at", -1),
                ("seq", -1),
                ("error_name", 1),
                ("error_code", 1),
                ("lane", 1),
                ("contact", 1),
                ("task", 1),
            ],
            name="dead",
            partialFilterExpression={"state": State.FAILED.value},
        ),
        # Not unique: a second row with an id of Meta's is odd, but must not make every later write fail.
        IndexModel([("wamids", 1)], name="wamids", sparse=True),
    ],
}


class MongoStore:
    """:class:`~store.base.Store` in a database that gateways share.

    ``url``: as MongoDB's drivers take it; the database that it names, else ``whatsapp_gateway``. ``clock``:
    milliseconds since 1970, for the age of log documents and for rows to be sent at once; leases go by the
    server's clock. ``answer_s``: how long a call may take.
    """

    atomic = False

    def __init__(
        self,
        url: str,
        *,
        answer_s: float = CALL_S,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._clock = clock
        self._epoch = ""
        self._closed = False
        self._callbacks: list[Callable[[Sequence[Event]], None]] = []
        self._db = Connection(url, answer_s)
        self._in_order = InOrder(answer_s)
        self._coordination = Coordination(self._db, self._in_order)
        self._media = MediaIds(self._db, self._in_order)
        self._log = MongoLog(self._db, self._callbacks, clock)
        self._rows = Rows(self._db)
        self._moves = Moves(self._db, self._log, self._rows, self._coordination)
        self._tasks = Tasks(self._db, self._log, self._rows, self._in_order, clock)
        self._removal = Removal(self._db)
        self._erasing = Erasing(self._db)
        self._answers = Answers(self._db)
        self._windows = Windows(self._db, self._in_order)
        self._threads = Threads(self._db)
        self._suppressions = Suppressions(self._db, self._in_order)
        self._subscribers = Subscribers(self._db, self._in_order)

    @property
    def epoch(self) -> str:
        return self._epoch

    # -- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        try:
            await self._db.open()
            await self._prepare()
            await self._log.start()
        except BaseException:
            await self._db.close()
            raise

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # In this order, since moves and creations wait for the log, and moves for cursors.
        await self._moves.flush()
        await self._tasks.flush()
        await self._in_order.flush()
        await self._log.stop()
        await self._db.close()

    async def ping(self) -> None:
        done = await self._db.call(
            lambda: self._db["meta"].update_one({"_id": "store"}, {"$set": {"pinged_at": self._clock()}})
        )
        if not done.matched_count:
            raise StoreUnavailable("the database was emptied while the gateway ran")

    async def _prepare(self) -> None:
        """Version and epoch first, so that nothing is built in a database that is not ours to change."""
        fresh = {"_id": "store", "version": _VERSION, "epoch": uuid.uuid4().hex[:12]}
        await self._db.insert_new("meta", [fresh])
        meta = await self._db.find_one("meta", {"_id": "store"})
        if meta is None:
            raise StoreUnavailable("the database does not show what was just written to it")
        if meta["version"] != _VERSION:
            raise StoreError(
                f"the database has schema version {meta['version']}, this version of the gateway knows "
                f"{_VERSION}: run the gateway that wrote it, or name another database in STORE_URL"
            )
        self._epoch = meta["epoch"]
        await self._db.insert_new("counters", [{"_id": "seq", "value": 0}])
        await asyncio.gather(*(self._build_indexes(name) for name in _INDEXES))
        await self._prove_unique_keys()

    async def _prove_unique_keys(self) -> None:
        """Some servers take a unique index over fields of arrays and do not keep it: the log would take every
        event of Meta's as often as it comes. Raises StoreError."""
        probe = uuid.uuid4().hex
        first = {"_id": f"{probe}-1", "events": [{"k": f"{probe}-a"}, {"k": f"{probe}-b"}]}
        second = {"_id": f"{probe}-2", "events": [{"k": f"{probe}-c"}, {"k": f"{probe}-b"}]}
        await self._db.insert_new(_PROBES, [first])
        refused = await self._db.insert_new(_PROBES, [second])
        where = {"_id": {"$in": [first["_id"], second["_id"]]}}
        await self._db.call(lambda: self._db[_PROBES].delete_many(where))
        if not refused:
            raise StoreError(
                "the database in STORE_URL does not keep unique indexes over fields of arrays, without which"
                " no event is known to be new: use MongoDB 4.4 or later"
            )

    async def _build_indexes(self, name: str) -> None:
        await self._db.build(lambda: self._db[name].create_indexes(list(_INDEXES[name])))

    # -- log -------------------------------------------------------------------------------------------

    async def append_events(self, events: Sequence[NewEvent]) -> list[Event]:
        return await self._log.append(events)

    async def known_keys(self, keys: Collection[str]) -> Collection[str]:
        return await self._log.known_keys(keys)

    async def events_after(self, offset: int, limit: int) -> list[Event]:
        return await self._log.events_after(offset, limit)

    async def find_events(self, beginnings: Collection[str], limit: int) -> list[Event]:
        return await self._log.find_events(beginnings, limit)

    async def events_of(self, keys: Collection[str]) -> list[Event]:
        return await self._log.events_of(keys)

    async def log_bounds(self) -> LogBounds:
        return await self._log.bounds()

    def on_events(self, callback: Callable[[Sequence[Event]], None]) -> None:
        self._callbacks.append(callback)

    async def load_cursor(self, name: str) -> int:
        return await self._coordination.load_cursor(name)

    async def save_cursor(self, cursor: Cursor, lease: Lease | None = None) -> None:
        await self._coordination.save_cursor(cursor, lease)

    async def count_past(self, offsets: Collection[int]) -> dict[int, int]:
        return await self._log.count_past(offsets)

    # -- memos -----------------------------------------------------------------------------------------

    async def find_memo(self, name: str) -> Memo | None:
        return await self._coordination.find_memo(name)

    async def put_memo(self, memo: Memo) -> bool:
        return await self._coordination.put_memo(memo)

    # -- named subscribers -----------------------------------------------------------------------------

    async def take_subscriber(
        self,
        name: str,
        session: str,
        holder: str,
        now: int,
        *,
        start: int,
        wanted: bytes | None,
        most: int,
    ) -> tuple[Subscriber, bool] | None:
        return await self._subscribers.take(name, session, holder, now, start, wanted, most)

    async def save_progress(self, progress: Sequence[Progress], now: int) -> set[str]:
        return await self._subscribers.save_progress(progress, now)

    async def find_subscribers(self, names: Collection[str]) -> dict[str, Subscriber]:
        return await self._subscribers.find(names)

    async def list_subscribers(self, limit: int, after: str = "") -> list[Subscriber]:
        return await self._subscribers.page(limit, after)

    async def remove_subscriber(self, name: str) -> bool:
        return await self._subscribers.remove(name)

    # -- contacts --------------------------------------------------------------------------------------

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        return await self._coordination.find_aliases(aliases)

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        await self._coordination.put_aliases(aliases)

    async def aliases_of(self, contact: str) -> list[Alias]:
        return await self._coordination.aliases_of(contact)

    # -- conversations ---------------------------------------------------------------------------------

    async def note_threads(self, news: ThreadNews, cursor: Cursor, lease: Lease) -> None:
        await self._threads.note(news)
        await self._coordination.save_cursor(cursor, lease)

    async def said_of(
        self,
        contact: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        phone_number_id: str = "",
    ) -> list[Said]:
        return await self._threads.page(contact, limit, before, after, phone_number_id)

    async def find_said(self, offsets: Collection[int]) -> dict[int, Said]:
        return await self._threads.find_said(offsets)

    async def threads_of(self, contact: str) -> list[Thread]:
        return await self._threads.find_threads(contact)

    async def list_threads(
        self, numbers: Sequence[str], limit: int, before: int | None = None, *, unread: bool = False
    ) -> list[Thread]:
        return await self._threads.page_of_threads(numbers, limit, before, unread)

    async def count_unread(self, threads: Sequence[Thread], most: int) -> list[int]:
        return await self._threads.count_unread(threads, most)

    # -- windows ---------------------------------------------------------------------------------------

    async def note_inbound(self, windows: Sequence[Window]) -> None:
        await self._windows.note_inbound(windows)

    async def find_inbound(self, phone_number_id: str, contacts: Collection[str]) -> dict[str, int]:
        return await self._windows.find_inbound(phone_number_id, contacts)

    async def sweep_inbound(self, before: int) -> int:
        return await self._windows.sweep_inbound(before)

    async def note_intake(self, now: int, gap_ms: int, *, broken: bool = False) -> int:
        return await self._windows.note_intake(now, gap_ms, broken)

    # -- who is not to be written to unasked -----------------------------------------------------------

    async def put_suppressions(
        self, wanted: Sequence[Suppression], *, by_operator: bool = False
    ) -> list[Suppression]:
        return await self._suppressions.put_suppressions(wanted, by_operator)

    async def find_suppressions(self, contacts: Collection[str]) -> dict[str, Suppression]:
        return await self._suppressions.find_suppressions(contacts)

    async def list_suppressions(self, limit: int, after: str = "") -> list[Suppression]:
        return await self._suppressions.list_suppressions(limit, after)

    # -- media -----------------------------------------------------------------------------------------

    async def remember_media(self, media: KnownMedia, now: int) -> None:
        await self._media.remember_media(media, now)

    async def find_media(self, phone_number_id: str, sha256: str, mime_type: str, now: int) -> str | None:
        return await self._media.find_media(phone_number_id, sha256, mime_type, now)

    # -- outbox ----------------------------------------------------------------------------------------

    async def create_task(
        self, task: NewTask, rows: Sequence[NewRow], events: Sequence[NewEvent] = (), *, ready: bool = True
    ) -> bool:
        return await self._tasks.create_task(task, rows, events, ready)

    async def add_rows(self, task_id: str, rows: Sequence[NewRow]) -> None:
        await self._tasks.add_rows(task_id, rows)

    async def mark_ready(
        self, task_id: str, events: Sequence[NewEvent] = (), counts: tuple[int, int] | None = None
    ) -> None:
        await self._tasks.mark_ready(task_id, events, counts)

    async def sweep_unready(self, created_before: int) -> int:
        return await self._tasks.sweep_unready(created_before)

    async def read_ahead(
        self, lane: str, priority: Priority, after: Place, now: int, limit: int
    ) -> list[Row]:
        return await self._rows.read_due({"lane": lane, "priority": priority}, after, now, limit)

    async def read_contact(
        self, lane: str, priority: Priority, contact: str, after: Place, now: int, limit: int
    ) -> list[Row]:
        where = {"lane": lane, "contact": contact, "priority": priority}
        return await self._rows.read_due(where, after, now, limit)

    async def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        return await self._rows.blocking_rows(lane, after_seq, limit)

    async def mark_sending(self, lease: Lease, rows: Sequence[Row], at: int = 0) -> set[str]:
        return await self._moves.mark_sending(lease, rows, at)

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        cursor: Cursor | None = None,
        lease: Lease | None = None,
    ) -> list[bool]:
        return await self._moves.apply(changes, events, cursor, lease)

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        return await self._rows.find_rows(ids)

    async def find_by_wamid(self, wamids: Collection[str]) -> dict[str, str]:
        return await self._rows.find_by_wamid(wamids)

    async def undelivered(
        self, lane: str, after: Place, limit: int, *, before: int | None = None, ordered: bool = True
    ) -> list[RowView]:
        return await self._rows.undelivered(lane, after, limit, before, ordered)

    async def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        return await self._rows.rows_in_state(lane, state, after_seq, limit)

    async def task_rows(
        self, task_id: str, after_n: int, limit: int, state: State | None = None
    ) -> list[RowView]:
        return await self._rows.task_rows(task_id, after_n, limit, state)

    async def list_tasks(
        self,
        limit: int,
        before: TaskPlace | None = None,
        *,
        kind: str = "",
        source: str = "",
        complete: bool | None = None,
    ) -> list[NewTask]:
        return await self._tasks.list_tasks(limit, before, kind, source, complete)

    async def find_task(self, task_id: str) -> TaskView | None:
        return await self._tasks.find_task(task_id)

    async def finished_tasks(self, task_ids: Collection[str]) -> set[str]:
        return await self._tasks.finished_tasks(task_ids)

    async def complete_tasks(self, task_ids: Collection[str], at: int) -> None:
        await self._tasks.complete_tasks(task_ids, at)

    async def depth(self, lane: str) -> Mapping[State, int]:
        return await self._rows.depth(lane)

    # -- dead letters ----------------------------------------------------------------------------------

    async def dead_letters(
        self, limit: int, before: Place | None = None, only: DeadFilter = ALL_DEAD
    ) -> list[RowView]:
        return await self._rows.dead_letters(limit, before, only)

    async def count_dead(self, since: int, most: int) -> DeadCounts:
        return await self._rows.count_dead(since, most)

    async def find_history(self, row_id: str) -> History:
        return await self._rows.find_history(row_id)

    # -- removal by age --------------------------------------------------------------------------------

    async def list_cursors(self) -> list[Cursor]:
        return await self._coordination.list_cursors()

    async def remove_events(self, upto: int, before: int, limit: int) -> int:
        return await self._log.remove(upto, before, limit)

    async def retire_tasks(self, before: int, after: TaskPlace, limit: int) -> TaskPlace | None:
        return await self._removal.retire_tasks(before, after, limit)

    async def remove_retired(self, limit: int) -> int:
        return await self._removal.remove_retired(limit)

    async def remove_said(self, before: int, limit: int) -> int:
        return await self._removal.remove_said(before, limit)

    async def remove_claims(self, before: int, limit: int) -> int:
        return await self._removal.remove_claims(before, limit)

    # -- erasing a contact -----------------------------------------------------------------------------

    async def put_erasure(self, erasure: Erasure) -> None:
        await self._erasing.put_erasure(erasure)

    async def find_erasure(self, id: str) -> Erasure | None:
        return await self._erasing.find_erasure(id)

    async def list_erasures(self, done_since: int) -> list[Erasure]:
        return await self._erasing.list_erasures(done_since)

    async def remove_erasures(self, done_before: int) -> None:
        await self._erasing.remove_erasures(done_before)

    async def rewrite_events(self, events: Sequence[Event]) -> None:
        await self._log.rewrite(events)

    async def search_shelf(self, shelf: Shelf, who: Mentions, after: str, limit: int) -> Found:
        return await self._erasing.search(shelf, who, after, limit)

    async def erase(self, shelf: Shelf, ids: Sequence[str], answer: bytes = b"") -> int:
        return await self._erasing.erase(shelf, ids, answer)

    async def forget_contacts(self, contacts: Collection[str]) -> None:
        await self._erasing.forget_contacts(contacts)

    async def purge(self) -> bool:
        return True

    # -- coordination ----------------------------------------------------------------------------------

    async def acquire_lease(self, name: str, owner: str, ttl_ms: int) -> Lease | None:
        return await self._coordination.acquire_lease(name, owner, ttl_ms)

    async def release_lease(self, lease: Lease) -> None:
        await self._coordination.release_lease(lease)

    async def held_leases(self) -> list[Lease]:
        return await self._coordination.held_leases()

    async def claim_once(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        return await self._coordination.claim_once(key, token, now, cooldown_ms)

    # -- answers that may be asked for again -----------------------------------------------------------

    async def claim_answer(
        self, key: str, digest: str, holder: str, now: int, *, hold_ms: int, keep_ms: int
    ) -> AnswerRecord:
        wanted = AnswerRecord(key, digest, holder, now, now + hold_ms)
        return await self._answers.claim(wanted, keep_ms)

    async def keep_answer(self, key: str, status: int, body: bytes) -> None:
        await self._answers.keep(key, status, body)

    async def release_answer(self, key: str, holder: str) -> None:
        await self._answers.release(key, holder)

    async def sweep_answers(self, claimed_before: int) -> int:
        return await self._answers.sweep(claimed_before)

"""The embedded store: one SQLite file, one process, one writer thread.

Owns the threads, the connections and the lock on the file; what happens inside a transaction is in
``sqlite_writes.py`` and ``sqlite_reads.py``. All writes go through one group commit: many callers, one
transaction, one fsync (WAL with ``synchronous=FULL``, so that what was answered survives a power cut). Reads
have connections of their own and never wait for the writer.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from store.commit import GroupCommit
from store.deadline import CALL_S
from store.erasing import Erasure, Found, Mentions, Shelf
from store.errors import GatewayError, StoreBusy, StoreError, StoreUnavailable
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
from store.sqlite_reads import Reads
from store.sqlite_schema import migrate
from store.sqlite_writes import Writes
from store.states import State
from store.threads import Said, Thread, ThreadNews

__all__ = ["SqliteStore"]

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[[Writes], Any]

_LOCKED_MS = 1400
"""How long a statement waits for a lock that some other program holds on the file."""
_READERS = 2
_WRITER_CACHE_KB = 16 * 1024
_READER_CACHE_KB = 8 * 1024
"""Pages of the file that a connection holds; it takes no more, and gives none back. What is not in there is
most often in the system's own cache, a copy away."""
_TOGETHER = 1000
"""Events and rows in one transaction: some ten milliseconds of the writer's time."""
_SWEEP = 500
"""Rows removed in one transaction: a few milliseconds of the writer's time."""


class SqliteStore:
    """:class:`~store.base.Store` in a file. ``lock_timeout_s``: how long :meth:`open` waits for another
    process; ``answer_s``: how long any other call may take."""

    atomic = True

    def __init__(
        self,
        path: str | Path,
        *,
        lock_timeout_s: float = 20.0,
        answer_s: float = CALL_S,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = Path(path)
        self._lock_timeout_s = lock_timeout_s
        self._answer_s = answer_s
        self._now_ms = now_ms
        self._epoch = ""
        self._callbacks: list[Callable[[Sequence[Event]], None]] = []
        self._group = GroupCommit[Operation, Any](self._commit, max_weight=_TOGETHER, timeout_s=answer_s)
        self._writer_thread = ThreadPoolExecutor(1, "sqlite-writer")
        self._reader_threads = ThreadPoolExecutor(_READERS, "sqlite-reader")
        self._reader = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writes: Writes | None = None
        self._lock_file: int | None = None

    @property
    def epoch(self) -> str:
        return self._epoch

    # -- life ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._take_lock()
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._open_writer)
        except sqlite3.Error as error:
            raise _translate(error) from error

    async def close(self) -> None:
        await self._group.flush()
        # No await in between: what came before is flushed, and what comes from here on is refused.
        for threads in (self._reader_threads, self._writer_thread):
            threads.shutdown(wait=False)
        await asyncio.to_thread(self._end)
        lock_file, self._lock_file = self._lock_file, None
        if lock_file is not None:
            os.close(lock_file)

    async def ping(self) -> None:
        await self._write(lambda writes: writes.ping())

    # -- log -------------------------------------------------------------------------------------------

    async def append_events(self, events: Sequence[NewEvent]) -> list[Event]:
        return await self._write(lambda writes: writes.append_events(events), len(events))

    async def known_keys(self, keys: Collection[str]) -> Collection[str]:
        return await self._read(Reads.known_keys, keys)

    async def events_after(self, offset: int, limit: int) -> list[Event]:
        return await self._read(Reads.events_after, offset, limit)

    async def find_events(self, beginnings: Collection[str], limit: int) -> list[Event]:
        return await self._read(Reads.find_events, beginnings, limit)

    async def log_bounds(self) -> LogBounds:
        return LogBounds(*await self._read(Reads.log_bounds))

    def on_events(self, callback: Callable[[Sequence[Event]], None]) -> None:
        self._callbacks.append(callback)

    async def load_cursor(self, name: str) -> int:
        return await self._read(Reads.load_cursor, name)

    async def save_cursor(self, cursor: Cursor, lease: Lease | None = None) -> None:
        await self._write(lambda writes: writes.save_cursor(cursor, lease))

    async def events_of(self, keys: Collection[str]) -> list[Event]:
        return await self._read(Reads.events_of, keys)

    async def count_past(self, offsets: Collection[int]) -> dict[int, int]:
        return await self._read(Reads.count_past, offsets)

    # -- memos -----------------------------------------------------------------------------------------

    async def find_memo(self, name: str) -> Memo | None:
        return await self._read(Reads.find_memo, name)

    async def put_memo(self, memo: Memo) -> bool:
        return await self._write(lambda writes: writes.put_memo(memo))

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
        return await self._write(
            lambda writes: writes.subscribers.take(name, session, holder, now, start, wanted, most)
        )

    async def save_progress(self, progress: Sequence[Progress], now: int) -> set[str]:
        return await self._write(
            lambda writes: writes.subscribers.save_progress(progress, now), len(progress)
        )

    async def find_subscribers(self, names: Collection[str]) -> dict[str, Subscriber]:
        return await self._read(lambda reads: reads.subscribers.find(names))

    async def list_subscribers(self, limit: int, after: str = "") -> list[Subscriber]:
        return await self._read(lambda reads: reads.subscribers.page(limit, after))

    async def remove_subscriber(self, name: str) -> bool:
        return await self._write(lambda writes: writes.subscribers.remove(name))

    # -- contacts --------------------------------------------------------------------------------------

    async def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        return await self._read(Reads.find_aliases, aliases)

    async def put_aliases(self, aliases: Sequence[Alias]) -> None:
        await self._write(lambda writes: writes.put_aliases(aliases), len(aliases))

    async def aliases_of(self, contact: str) -> list[Alias]:
        return await self._read(Reads.aliases_of, contact)

    # -- conversations ---------------------------------------------------------------------------------

    async def note_threads(self, news: ThreadNews, cursor: Cursor, lease: Lease) -> None:
        def work(writes: Writes) -> None:
            writes.threads.note(news)
            writes.save_cursor(cursor, lease)

        await self._write(work, 1 + 2 * len(news.said))

    async def said_of(
        self,
        contact: str,
        limit: int,
        *,
        before: int | None = None,
        after: int | None = None,
        phone_number_id: str = "",
    ) -> list[Said]:
        return await self._read(lambda r: r.threads.page(contact, limit, before, after, phone_number_id))

    async def find_said(self, offsets: Collection[int]) -> dict[int, Said]:
        return await self._read(lambda reads: reads.threads.find_said(offsets))

    async def threads_of(self, contact: str) -> list[Thread]:
        return await self._read(lambda reads: reads.threads.find_threads(contact))

    async def list_threads(
        self, numbers: Sequence[str], limit: int, before: int | None = None, *, unread: bool = False
    ) -> list[Thread]:
        return await self._read(lambda reads: reads.threads.page_of_threads(numbers, limit, before, unread))

    async def count_unread(self, threads: Sequence[Thread], most: int) -> list[int]:
        return await self._read(lambda reads: reads.threads.count_unread(threads, most))

    # -- windows ---------------------------------------------------------------------------------------

    async def note_inbound(self, windows: Sequence[Window]) -> None:
        await self._write(lambda writes: writes.note_inbound(windows), len(windows))

    async def find_inbound(self, phone_number_id: str, contacts: Collection[str]) -> dict[str, int]:
        return await self._read(Reads.find_inbound, phone_number_id, contacts)

    async def sweep_inbound(self, before: int) -> int:
        total = 0
        while removed := await self._write(lambda writes: writes.sweep_inbound(before, _SWEEP)):
            total += removed
        return total

    async def note_intake(self, now: int, gap_ms: int, *, broken: bool = False) -> int:
        return await self._write(lambda writes: writes.note_intake(now, gap_ms, broken))

    # -- who is not to be written to unasked -----------------------------------------------------------

    async def put_suppressions(
        self, wanted: Sequence[Suppression], *, by_operator: bool = False
    ) -> list[Suppression]:
        return await self._write(lambda writes: writes.put_suppressions(wanted, by_operator), len(wanted))

    async def find_suppressions(self, contacts: Collection[str]) -> dict[str, Suppression]:
        return await self._read(Reads.find_suppressions, contacts)

    async def list_suppressions(self, limit: int, after: str = "") -> list[Suppression]:
        return await self._read(Reads.list_suppressions, limit, after)

    # -- media -----------------------------------------------------------------------------------------

    async def remember_media(self, media: KnownMedia, now: int) -> None:
        await self._write(lambda writes: writes.remember_media(media, now))

    async def find_media(self, phone_number_id: str, sha256: str, mime_type: str, now: int) -> str | None:
        return await self._read(Reads.find_media, phone_number_id, sha256, mime_type, now)

    # -- outbox ----------------------------------------------------------------------------------------

    async def create_task(
        self, task: NewTask, rows: Sequence[NewRow], events: Sequence[NewEvent] = (), *, ready: bool = True
    ) -> bool:
        return await self._write(
            lambda writes: writes.create_task(task, rows, events, ready), 1 + len(rows) + len(events)
        )

    async def add_rows(self, task_id: str, rows: Sequence[NewRow]) -> None:
        await self._write(lambda writes: writes.add_rows(task_id, rows), len(rows))

    async def mark_ready(
        self, task_id: str, events: Sequence[NewEvent] = (), counts: tuple[int, int] | None = None
    ) -> None:
        await self._write(lambda writes: writes.mark_ready(task_id, events, counts))

    async def sweep_unready(self, created_before: int) -> int:
        # In portions, so that other writes get in between.
        while await self._write(lambda writes: writes.sweep_rows(created_before, _SWEEP)) == _SWEEP:
            pass
        return await self._write(lambda writes: writes.sweep_tasks(created_before))

    async def read_ahead(
        self, lane: str, priority: Priority, after: Place, now: int, limit: int
    ) -> list[Row]:
        return await self._read(Reads.read_ahead, lane, priority, after, now, limit)

    async def read_contact(
        self, lane: str, priority: Priority, contact: str, after: Place, now: int, limit: int
    ) -> list[Row]:
        return await self._read(Reads.read_contact, lane, priority, contact, after, now, limit)

    async def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        return await self._read(Reads.blocking_rows, lane, after_seq, limit)

    async def mark_sending(self, lease: Lease, rows: Sequence[Row], at: int = 0) -> set[str]:
        return await self._write(lambda writes: writes.mark_sending(lease, rows, at), len(rows))

    async def apply(
        self,
        changes: Sequence[Change],
        events: Sequence[NewEvent] = (),
        cursor: Cursor | None = None,
        lease: Lease | None = None,
    ) -> list[bool]:
        def work(writes: Writes) -> list[bool]:
            writes.append_events(events)
            moved = writes.apply(changes)
            if cursor is not None:
                writes.save_cursor(cursor, lease)
            return moved

        return await self._write(work, 1 + len(changes) + len(events))

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        return await self._read(Reads.find_rows, ids)

    async def find_by_wamid(self, wamids: Collection[str]) -> dict[str, str]:
        return await self._read(Reads.find_by_wamid, wamids)

    async def undelivered(
        self, lane: str, after: Place, limit: int, *, before: int | None = None, ordered: bool = True
    ) -> list[RowView]:
        return await self._read(Reads.undelivered, lane, after, limit, before, ordered)

    async def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        return await self._read(Reads.rows_in_state, lane, state, after_seq, limit)

    async def task_rows(
        self, task_id: str, after_n: int, limit: int, state: State | None = None
    ) -> list[RowView]:
        return await self._read(Reads.task_rows, task_id, after_n, limit, state)

    async def list_tasks(
        self,
        limit: int,
        before: TaskPlace | None = None,
        *,
        kind: str = "",
        source: str = "",
        complete: bool | None = None,
    ) -> list[NewTask]:
        return await self._read(Reads.list_tasks, limit, before, kind, source, complete)

    async def find_task(self, task_id: str) -> TaskView | None:
        return await self._read(Reads.find_task, task_id)

    async def finished_tasks(self, task_ids: Collection[str]) -> set[str]:
        return await self._read(Reads.finished_tasks, task_ids)

    async def complete_tasks(self, task_ids: Collection[str], at: int) -> None:
        await self._write(lambda writes: writes.complete_tasks(task_ids, at))

    async def depth(self, lane: str) -> dict[State, int]:
        return await self._read(Reads.depth, lane)

    # -- dead letters ----------------------------------------------------------------------------------

    async def dead_letters(
        self, limit: int, before: Place | None = None, only: DeadFilter = ALL_DEAD
    ) -> list[RowView]:
        return await self._read(Reads.dead_letters, limit, before, only)

    async def count_dead(self, since: int, most: int) -> DeadCounts:
        return await self._read(Reads.count_dead, since, most)

    async def find_history(self, row_id: str) -> History:
        return await self._read(Reads.find_history, row_id)

    # -- removal by age --------------------------------------------------------------------------------

    async def list_cursors(self) -> list[Cursor]:
        return await self._read(lambda reads: reads.removal.cursors())

    async def remove_events(self, upto: int, before: int, limit: int) -> int:
        return await self._write(lambda writes: writes.removal.remove_events(upto, before, limit), limit)

    async def retire_tasks(self, before: int, after: TaskPlace, limit: int) -> TaskPlace | None:
        place, old = await self._read(lambda reads: reads.removal.old_tasks(before, after, limit))
        if old:
            await self._write(lambda writes: writes.removal.retire(old), len(old))
        return place

    async def remove_retired(self, limit: int) -> int:
        return await self._write(lambda writes: writes.removal.remove_retired(limit), limit)

    async def remove_said(self, before: int, limit: int) -> int:
        return await self._write(lambda writes: writes.removal.remove_said(before, limit), limit)

    async def remove_claims(self, before: int, limit: int) -> int:
        return await self._write(lambda writes: writes.removal.remove_claims(before, limit), limit)

    # -- erasing a contact -----------------------------------------------------------------------------

    async def put_erasure(self, erasure: Erasure) -> None:
        await self._write(lambda writes: writes.erasing.put(erasure))

    async def find_erasure(self, id: str) -> Erasure | None:
        return await self._read(lambda reads: reads.erasing.find(id))

    async def list_erasures(self, done_since: int) -> list[Erasure]:
        return await self._read(lambda reads: reads.erasing.listed(done_since))

    async def remove_erasures(self, done_before: int) -> None:
        await self._write(lambda writes: writes.erasing.remove(done_before))

    async def rewrite_events(self, events: Sequence[Event]) -> None:
        await self._write(lambda writes: writes.erasing.rewrite_events(events), len(events))

    async def search_shelf(self, shelf: Shelf, who: Mentions, after: str, limit: int) -> Found:
        return await self._read(lambda reads: reads.erasing.search(shelf, who, after, limit))

    async def erase(self, shelf: Shelf, ids: Sequence[str], answer: bytes = b"") -> int:
        return await self._write(lambda writes: writes.erasing.erase(shelf, ids, answer), len(ids))

    async def forget_contacts(self, contacts: Collection[str]) -> None:
        await self._write(lambda writes: writes.erasing.forget(contacts))

    async def purge(self) -> bool:
        def work() -> bool:
            assert self._writes is not None, "the store is not open"
            return self._writes.erasing.purge()

        try:
            # Between two transactions, and not within one.
            return await asyncio.get_running_loop().run_in_executor(self._writer_thread, work)
        except sqlite3.Error as error:
            raise _translate(error) from error

    # -- coordination ----------------------------------------------------------------------------------

    async def acquire_lease(self, name: str, owner: str, ttl_ms: int) -> Lease | None:
        return await self._write(lambda writes: writes.acquire_lease(name, owner, self._now_ms(), ttl_ms))

    async def release_lease(self, lease: Lease) -> None:
        await self._write(lambda writes: writes.release_lease(lease))

    async def held_leases(self) -> list[Lease]:
        return await self._read(Reads.held_leases, self._now_ms())

    async def claim_once(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        return await self._write(lambda writes: writes.claim_once(key, token, now, cooldown_ms))

    # -- answers that may be asked for again -----------------------------------------------------------

    async def claim_answer(
        self, key: str, digest: str, holder: str, now: int, *, hold_ms: int, keep_ms: int
    ) -> AnswerRecord:
        return await self._write(
            lambda writes: writes.claim_answer(key, digest, holder, now, hold_ms, keep_ms)
        )

    async def keep_answer(self, key: str, status: int, body: bytes) -> None:
        await self._write(lambda writes: writes.keep_answer(key, status, body))

    async def release_answer(self, key: str, holder: str) -> None:
        await self._write(lambda writes: writes.release_answer(key, holder))

    async def sweep_answers(self, claimed_before: int) -> int:
        total = 0
        while removed := await self._write(lambda writes: writes.sweep_answers(claimed_before, _SWEEP)):
            total += removed
        return total

    # -- inside ----------------------------------------------------------------------------------------

    async def _write(self, operation: Callable[[Writes], T], weight: int = 1) -> T:
        result: T = await self._group.submit(operation, weight)
        return result

    async def _commit(self, operations: Sequence[Operation]) -> Sequence[Any]:
        """One transaction for all; its events reach the listeners before any caller goes on."""
        results, fresh = await asyncio.get_running_loop().run_in_executor(
            self._writer_thread, self._run_batch, operations
        )
        if fresh:
            for callback in self._callbacks:
                callback(fresh)
        return results

    def _run_batch(self, operations: Sequence[Operation]) -> tuple[list[Any], list[Event]]:
        writes = self._writes
        assert writes is not None, "the store is not open"
        try:
            return _run_together(writes, operations)
        except Exception as error:  # noqa: BLE001 - told apart below, and given to its caller
            failure = _translate(error)
            if len(operations) == 1 or isinstance(failure, StoreUnavailable):
                return [failure] * len(operations), []
        # One of them is at fault: each alone, so that only that one fails.
        results: list[Any] = []
        fresh: list[Event] = []
        for operation in operations:
            alone, events = self._run_batch([operation])
            results += alone
            fresh += events
        return results, fresh

    async def _read(self, query: Callable[Concatenate[Reads, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work() -> T:
            return query(self._reads(), *args, **kwargs)

        try:
            future = asyncio.get_running_loop().run_in_executor(self._reader_threads, work)
            # Never cancelled: the thread goes on either way.
            done, _ = await asyncio.wait({future}, timeout=self._answer_s)
            if not done:
                raise StoreUnavailable("the store did not answer in time")
            return future.result()
        except sqlite3.Error as error:
            raise _translate(error) from error

    def _reads(self) -> Reads:
        reads: Reads | None = getattr(self._reader, "reads", None)
        if reads is None:
            reads = self._reader.reads = Reads(self._connect(_READER_CACHE_KB))
        return reads

    def _open_writer(self) -> None:
        # Customers' messages are in it. SQLite gives the files beside it the same rights.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = self._connect(_WRITER_CACHE_KB)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # What is removed is gone from the file too, not only from sight.
        connection.execute("PRAGMA secure_delete = ON")
        migrate(connection)
        connection.execute(
            "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (key) DO NOTHING", (uuid.uuid4().hex[:12],)
        )
        (self._epoch,) = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self._writes = Writes(connection, self._now_ms)
        self._writes.free_all_leases()

    def _end(self) -> None:
        """Wait for what runs, which may hang on a lock, and close, which may copy the whole WAL."""
        for threads in (self._reader_threads, self._writer_thread):
            threads.shutdown(wait=True)
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def _connect(self, cache_kb: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=_LOCKED_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        connection.execute(f"PRAGMA cache_size = -{cache_kb}")
        self._connections.append(connection)
        return connection

    async def _take_lock(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_file = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._lock_timeout_s
        waits = False
        while True:
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits and self._lock_timeout_s > 0:
                    waits = True
                    _log.warning(
                        "another process works on %s: waiting up to %g s for it to stop",
                        self._path,
                        self._lock_timeout_s,
                    )
                if time.monotonic() >= deadline:
                    os.close(lock_file)
                    raise StoreBusy(
                        f"another process works on {self._path}: stop it, or name another file in STORE_URL"
                        " (SANDBOX_STORE_URL without credentials)"
                    ) from None
                await asyncio.sleep(0.1)
            else:
                self._lock_file = lock_file
                return


def _run_together(writes: Writes, operations: Sequence[Operation]) -> tuple[list[Any], list[Event]]:
    try:
        writes.begin()
        results = [operation(writes) for operation in operations]
        writes.commit()
        return results, writes.fresh
    except Exception:
        writes.rollback()
        raise


def _translate(error: Exception) -> Exception:
    """An error of SQLite's as one of the store's; others as they are."""
    if isinstance(error, GatewayError) or not isinstance(error, sqlite3.Error):
        return error
    kind = StoreUnavailable if isinstance(error, sqlite3.OperationalError) else StoreError
    translated = kind(f"the store refused: {error}")
    translated.__cause__ = error
    return translated

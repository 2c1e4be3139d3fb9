"""What the SQLite store writes: plain functions of a connection, no threads, no event loop.

Every write runs in the writer's transaction and must leave nothing behind in Python when it fails, since a
batch that fails is rolled back and its members are run again one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence

import msgspec

from store.errors import LeaseLost, StoreError
from store.records import (
    NOTES_FIRST,
    NOTES_LAST,
    TIME_OF,
    TOLD,
    Alias,
    AnswerRecord,
    Change,
    Cursor,
    Event,
    KnownMedia,
    Lease,
    Memo,
    NewEvent,
    NewRow,
    NewTask,
    Row,
    Standing,
    Suppression,
    Window,
    claim_of,
    intake_at,
    suppression_after,
)
from store.sqlite_erasing import Erasing
from store.sqlite_reads import as_suppression, row_key
from store.sqlite_removal import Removal
from store.sqlite_subscribers import Subscribers
from store.sqlite_threads import Threads
from store.states import OPEN, TAKEN, State

__all__ = ["Writes"]

_CONDEMNED = -1
"""``completed_at`` of a task that is being swept away: it may have lost rows, so it must not become ready."""
_MEDIA_SWEEP = 100
"""Ids that are over, removed with one that is kept."""


class Writes:
    """The writes of one transaction after another. ``fresh`` collects the events appended since
    :meth:`begin`."""

    def __init__(self, connection: sqlite3.Connection, now_ms: Callable[[], int]) -> None:
        self._db = connection
        self._now_ms = now_ms
        self._last_due = 0
        self._head: int | None = None
        self.fresh: list[Event] = []
        self.subscribers = Subscribers(connection)
        self.threads = Threads(connection)
        self.removal = Removal(connection)
        self.erasing = Erasing(connection, self.removal)

    def begin(self) -> None:
        """Open a transaction."""
        self.fresh = []
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo it, also what is remembered of it."""
        self.fresh = []
        self._head = None
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def ping(self) -> None:
        """Write something: a full disk still lets an empty transaction pass."""
        self._db.execute(
            "INSERT INTO meta VALUES ('pinged_at', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (str(self._now_ms()),),
        )

    def append_events(self, events: Sequence[NewEvent]) -> list[Event]:
        """Append those whose key is new."""
        added = []
        head = self._stored_head() if self._head is None else self._head
        for event in events:
            offset = head + 1
            done = self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                (
                    offset,
                    event.key,
                    event.type,
                    event.at,
                    event.phone_number_id,
                    event.contact,
                    event.message_id,
                    event.body,
                ),
            )
            if done.rowcount:
                added.append(event.placed(offset, head))
                head = offset
        self._head = head
        self.fresh.extend(added)
        return added

    def save_cursor(self, cursor: Cursor, lease: Lease | None) -> None:
        """Save a consumer's place, if the lease is still its own."""
        if lease is not None:
            self._check_term(lease)
        self._db.execute(
            "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET offset = excluded.offset",
            (cursor.name, cursor.offset),
        )

    def put_memo(self, memo: Memo) -> bool:
        """Compare and set."""
        if memo.version == 1:
            self._db.execute(
                "INSERT INTO memos VALUES (?, 1, ?) ON CONFLICT (name) DO NOTHING", (memo.name, memo.body)
            )
        else:
            self._db.execute(
                "UPDATE memos SET version = ?, body = ? WHERE name = ? AND version = ?",
                (memo.version, memo.body, memo.name, memo.version - 1),
            )
        found = self._db.execute("SELECT version, body FROM memos WHERE name = ?", (memo.name,)).fetchone()
        return bool(found == (memo.version, memo.body))

    def put_aliases(self, aliases: Sequence[Alias]) -> None:
        """Store each, in place of what the address was before."""
        self._db.executemany(
            "INSERT INTO aliases VALUES (?, ?, ?, ?) ON CONFLICT (alias)"
            " DO UPDATE SET contact = excluded.contact, peer = excluded.peer, at = excluded.at",
            [(alias.alias, alias.contact, alias.peer, alias.at) for alias in aliases],
        )

    def create_task(
        self, task: NewTask, rows: Sequence[NewRow], events: Sequence[NewEvent], ready: bool
    ) -> bool:
        """A task with its first rows; False where the id is known."""
        done = self._db.execute(
            "INSERT INTO tasks (id, kind, source, total, created_at, skipped, ready)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (task.id, task.kind, task.source, task.total, task.created_at, task.skipped, ready),
        )
        if not done.rowcount:
            return False
        self._insert_rows(task.id, task.created_at, rows)
        self.append_events(events)
        return True

    def add_rows(self, task_id: str, rows: Sequence[NewRow]) -> None:
        """More rows for a task that is not ready."""
        created_at, ready = self._head_of(task_id)
        if not ready:
            self._insert_rows(task_id, created_at, rows)

    def mark_ready(
        self, task_id: str, events: Sequence[NewEvent], counts: tuple[int, int] | None = None
    ) -> None:
        """Show a task to its lanes."""
        _, ready = self._head_of(task_id)
        if counts is not None and not ready:
            self._db.execute("UPDATE tasks SET total = ?, skipped = ? WHERE id = ?", (*counts, task_id))
        self._db.execute("UPDATE tasks SET ready = 1 WHERE id = ?", (task_id,))
        self.append_events(events)

    def sweep_rows(self, created_before: int, limit: int) -> int:
        """Condemn tasks that never became ready, then remove some of their rows; how many."""
        self._db.execute(
            f"UPDATE tasks SET completed_at = {_CONDEMNED} WHERE ready = 0 AND created_at < ?",
            (created_before,),
        )
        done = self._db.execute(
            "DELETE FROM rows WHERE seq IN (SELECT seq FROM tasks JOIN rows ON task_id = id"
            " WHERE ready = 0 AND tasks.created_at < ? LIMIT ?)",
            (created_before, limit),
        )
        return done.rowcount

    def sweep_tasks(self, created_before: int) -> int:
        """Remove these tasks, with the rows that they have left; how many."""
        unready = "SELECT id FROM tasks WHERE ready = 0 AND created_at < ?"
        self._db.execute(f"DELETE FROM rows WHERE task_id IN ({unready})", (created_before,))
        return self._db.execute(f"DELETE FROM tasks WHERE id IN ({unready})", (created_before,)).rowcount

    def mark_sending(self, lease: Lease, rows: Sequence[Row], at: int) -> set[str]:
        """Claim rows for one attempt each."""
        self._check_term(lease)
        moved = set()
        for row in rows:
            done = self._db.execute(
                "UPDATE rows SET state = 'sending', attempt = attempt + 1, term = ?, claimed_at = ?"
                " WHERE seq = ? AND state = 'queued' AND attempt = ? AND term <= ?",
                (lease.term, at, row.seq, row.attempt, lease.term),
            )
            if done.rowcount:
                moved.add(row.id)
        return moved

    def apply(self, changes: Sequence[Change]) -> list[bool]:
        """Move rows as far as their guards allow, and tell of those that moved."""
        moved = [self._apply_one(change) for change in changes]
        self.append_events([c.event for c, done in zip(changes, moved, strict=True) if done and c.event])
        return moved

    def complete_tasks(self, task_ids: Collection[str], at: int) -> None:
        """Mark complete, once."""
        self._db.executemany(
            "UPDATE tasks SET completed_at = ? WHERE id = ? AND completed_at = 0 AND open_rows = 0",
            [(at, task_id) for task_id in task_ids],
        )

    def acquire_lease(self, name: str, owner: str, now: int, ttl_ms: int) -> Lease | None:
        """Take or extend a lease."""
        found = self._db.execute("SELECT owner, term, until FROM leases WHERE name = ?", (name,)).fetchone()
        holder, term, until = found or ("", 0, 0)
        if holder != owner or until <= now:
            if until > now:
                return None
            term += 1
        self._db.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET owner = excluded.owner, term = excluded.term, until = excluded.until",
            (name, owner, term, now + ttl_ms),
        )
        return Lease(name, owner, term)

    def release_lease(self, lease: Lease) -> None:
        """Give it back, if it is ours."""
        self._db.execute(
            "UPDATE leases SET until = 0 WHERE name = ? AND owner = ? AND term = ?",
            (lease.name, lease.owner, lease.term),
        )

    def free_all_leases(self) -> None:
        """This process alone has the file, so whoever held a lease, or worked on an answer, is gone."""
        self._db.execute("UPDATE leases SET until = 0")
        self._db.execute("UPDATE answers SET until = 0 WHERE status = 0")

    def remember_media(self, media: KnownMedia, now: int) -> None:
        """An upload more or less a second: what is over goes with it, a few at a time."""
        self._db.execute(
            "INSERT INTO media VALUES (?, ?, ?, ?, ?) ON CONFLICT (phone_number_id, sha256, mime_type)"
            " DO UPDATE SET media_id = excluded.media_id, until = excluded.until",
            (media.phone_number_id, media.sha256, media.mime_type, media.media_id, media.until),
        )
        self._db.execute(
            "DELETE FROM media WHERE (phone_number_id, sha256, mime_type) IN"
            f" (SELECT phone_number_id, sha256, mime_type FROM media WHERE until <= ? LIMIT {_MEDIA_SWEEP})",
            (now,),
        )

    def note_inbound(self, windows: Sequence[Window]) -> None:
        """The latest time of each."""
        self._db.executemany(
            "INSERT INTO windows VALUES (?, ?, ?) ON CONFLICT (phone_number_id, contact)"
            " DO UPDATE SET inbound_at = excluded.inbound_at WHERE excluded.inbound_at > inbound_at",
            [
                (window.phone_number_id, window.contact, window.inbound_at)
                for window in windows
                if window.first
            ],
        )
        self._db.executemany(
            "UPDATE windows SET inbound_at = ? WHERE phone_number_id = ? AND contact = ? AND inbound_at < ?",
            [(w.inbound_at, w.phone_number_id, w.contact, w.inbound_at) for w in windows if not w.first],
        )

    def sweep_inbound(self, before: int, limit: int) -> int:
        """Forget some; how many."""
        where = "SELECT phone_number_id, contact FROM windows WHERE inbound_at < ? LIMIT ?"
        done = self._db.execute(
            f"DELETE FROM windows WHERE (phone_number_id, contact) IN ({where})", (before, limit)
        )
        return done.rowcount

    def note_intake(self, now: int, gap_ms: int, broken: bool) -> int:
        """Since when there was no gap."""
        found = self._db.execute("SELECT since, at FROM intake").fetchone()
        since, at = intake_at(found, now, gap_ms, broken)
        self._db.execute("INSERT OR REPLACE INTO intake VALUES (1, ?, ?)", (since, at))
        return since

    def put_suppressions(self, wanted: Sequence[Suppression], by_operator: bool) -> list[Suppression]:
        """One word after the other; how each contact stands then."""
        stands: dict[str, Suppression] = {}
        for word in wanted:
            found = self._db.execute(
                "SELECT * FROM suppressions WHERE contact = ?", (word.contact,)
            ).fetchone()
            before = as_suppression(found) if found else None
            after = stands[word.contact] = suppression_after(before, word, by_operator)
            if after != before:
                self._db.execute(
                    "INSERT OR REPLACE INTO suppressions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    msgspec.structs.astuple(after),
                )
        return [stands[word.contact] for word in wanted]

    def claim_once(self, key: str, token: str, now: int, cooldown_ms: int) -> bool:
        """One claim per cooldown, repeatable by its holder."""
        found = self._db.execute("SELECT token, at FROM claims WHERE key = ?", (key,)).fetchone()
        if found is not None:
            holder, at = found
            if holder == token:
                return True
            if now - at < cooldown_ms:
                return False
        self._db.execute(
            "INSERT INTO claims VALUES (?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET token = excluded.token, at = excluded.at",
            (key, token, now),
        )
        return True

    def claim_answer(
        self, key: str, digest: str, holder: str, now: int, hold_ms: int, keep_ms: int
    ) -> AnswerRecord:
        """Claim what nobody works on."""
        found = self._db.execute("SELECT * FROM answers WHERE key = ?", (key,)).fetchone()
        record = AnswerRecord(*found) if found else None
        claimed = claim_of(record, AnswerRecord(key, digest, holder, now, now + hold_ms), keep_ms)
        if claimed is None:
            assert record is not None
            return record
        self._db.execute(
            "INSERT OR REPLACE INTO answers (key, digest, holder, at, until) VALUES (?, ?, ?, ?, ?)",
            (key, digest, holder, claimed.at, claimed.until),
        )
        return claimed

    def keep_answer(self, key: str, status: int, body: bytes) -> None:
        """Once."""
        self._db.execute(
            "UPDATE answers SET status = ?, body = ? WHERE key = ? AND status = 0", (status, body, key)
        )

    def release_answer(self, key: str, holder: str) -> None:
        """The holder's own claim."""
        self._db.execute(
            "UPDATE answers SET until = 0 WHERE key = ? AND holder = ? AND status = 0", (key, holder)
        )

    def sweep_answers(self, claimed_before: int, limit: int) -> int:
        """Remove some; how many."""
        where = "SELECT key FROM answers WHERE at < ? LIMIT ?"
        done = self._db.execute(f"DELETE FROM answers WHERE key IN ({where})", (claimed_before, limit))
        return done.rowcount

    def _stored_head(self) -> int:
        (head,) = self._db.execute("SELECT coalesce(max(offset), 0) FROM events").fetchone()
        return int(head)

    def _head_of(self, task_id: str) -> tuple[int, bool]:
        """When a task was made, and whether it is ready. Raises StoreError where there is none."""
        found = self._db.execute(
            f"SELECT created_at, ready FROM tasks WHERE id = ? AND completed_at != {_CONDEMNED}", (task_id,)
        ).fetchone()
        if found is None:
            raise StoreError(f"the task {task_id} is not there, or was swept away before it was ready")
        return int(found[0]), bool(found[1])

    def _check_term(self, lease: Lease) -> None:
        found = self._db.execute("SELECT term FROM leases WHERE name = ?", (lease.name,)).fetchone()
        if found is None or found[0] != lease.term:
            raise LeaseLost(f"the lease {lease.name} has another owner")

    def _insert_rows(self, task_id: str, created_at: int, rows: Sequence[NewRow]) -> None:
        self._last_due = max(self._last_due, self._now_ms())
        done = self._db.executemany(
            "INSERT INTO rows (task_id, n, lane, contact, priority, due, payload, state, expires_at,"
            " callback_data, created_at, ordered, on_unknown, fallback, heeds_opt_out)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (task_id, n) DO NOTHING",
            [
                (
                    task_id,
                    row.n,
                    row.lane,
                    row.contact,
                    row.priority,
                    row.due or self._last_due,
                    row.payload,
                    row.expires_at,
                    row.callback_data,
                    created_at,
                    row.ordered,
                    row.on_unknown,
                    row.fallback,
                    row.heeds_opt_out,
                )
                for row in rows
            ],
        )
        self._db.execute("UPDATE tasks SET open_rows = open_rows + ? WHERE id = ?", (done.rowcount, task_id))

    def _apply_one(self, change: Change) -> bool:
        task_id, n = row_key(change.row_id)
        found = self._db.execute(
            "SELECT seq, sent_at, state, attempt, term, fallback != x'' AND NOT fell_back, over FROM rows"
            " WHERE task_id = ? AND n = ?",
            (task_id, n),
        ).fetchone()
        if found is None:
            return False
        seq, sent_at, *stands = found
        if change.wamid:
            self._db.execute(
                "INSERT INTO wamids VALUES (?, ?, ?) ON CONFLICT (wamid) DO NOTHING",
                (change.wamid, seq, change.at),
            )
        row = Standing(State(stands[0]), *stands[1:])
        if not change.allowed(row):
            self._keep_told(seq, change, not sent_at)
            return False
        self._update_row(seq, change)
        if change.note:
            self._keep_note(seq, change.note)
        opened = (change.to in OPEN) - (row.state in OPEN)
        if opened:
            self._db.execute(
                "UPDATE tasks SET open_rows = open_rows + ?,"
                " completed_at = CASE WHEN ? > 0 THEN 0 ELSE completed_at END WHERE id = ?",
                (opened, opened, task_id),
            )
        return True

    def _keep_told(self, seq: int, change: Change, is_first: bool) -> None:
        """What a change that was stopped leaves on its row all the same. ``is_first``: nothing has proved yet
        that Meta took it."""
        sets: list[str] = []
        parameters: list[object] = []
        if change.to in TAKEN and is_first:
            sets.append("sent_at = ?")
            parameters.append(change.at)
        if change.to in TOLD:
            column = TIME_OF[change.to]
            sets.append(f"{column} = CASE {column} WHEN 0 THEN ? ELSE min({column}, ?) END")
            parameters += [change.time, change.time]
        if change.pricing:
            sets.append("pricing = ?")
            parameters.append(change.pricing)
        if sets:
            self._db.execute(f"UPDATE rows SET {', '.join(sets)} WHERE seq = ?", (*parameters, seq))

    def _keep_note(self, seq: int, note: bytes) -> None:
        """As the next of a row's notes; the oldest of its last ones makes room."""
        (n,) = self._db.execute(
            "SELECT coalesce(max(n), 0) + 1 FROM attempts WHERE row_seq = ?", (seq,)
        ).fetchone()
        self._db.execute("INSERT INTO attempts VALUES (?, ?, ?)", (seq, n, note))
        if n - NOTES_LAST > NOTES_FIRST:
            self._db.execute("DELETE FROM attempts WHERE row_seq = ? AND n = ?", (seq, n - NOTES_LAST))

    def _update_row(self, seq: int, change: Change) -> None:
        sets = ["state = ?"]
        parameters: list[object] = [change.to.value]
        if change.to is State.QUEUED:
            sets.append("due = ?")
            parameters.append(change.due)
        if change.fresh:
            sets += ["failures = 0", "spared = 0", "ended_at = 0"]
        elif change.burn:
            sets.append("failures = failures + 1")
        elif change.spared:
            sets.append("spared = spared + 1")
        if change.sends_anew:
            sets.append("retried = retried + 1")
        if change.doubt:
            sets.append("doubt = 1")
        if change.fall_back:
            sets.append("fell_back = 1")
        if change.ends_attempts:
            sets.append("over = attempt")
        if change.to is State.SENT:
            sets.append("last_sent_at = ?")
            parameters.append(change.at)
        if change.error:
            sets += ["error = ?", "error_name = ?", "error_code = ?"]
            parameters += [change.error, change.error_name, change.error_code]
        if (column := TIME_OF.get(change.to)) is not None:
            sets.append(f"{column} = ?")
            parameters.append(change.time)
        if change.pricing:
            sets.append("pricing = ?")
            parameters.append(change.pricing)
        if change.to in TAKEN:
            sets.append("sent_at = CASE sent_at WHEN 0 THEN ? ELSE sent_at END")
            parameters.append(change.at)
        self._db.execute(f"UPDATE rows SET {', '.join(sets)} WHERE seq = ?", (*parameters, seq))

"""What the SQLite store reads: the queries of the contract, over a connection of their own.

Plain functions of a connection, no threads, no event loop, and nothing that writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from store.records import (
    Alias,
    DeadCounts,
    DeadFilter,
    Event,
    History,
    Lease,
    Memo,
    NewTask,
    Place,
    Row,
    RowView,
    Suppression,
    TaskPlace,
    TaskView,
)
from store.sqlite_erasing import Erasing
from store.sqlite_removal import Removal
from store.sqlite_subscribers import Subscribers
from store.sqlite_threads import Threads
from store.states import TAKEN, State

__all__ = ["Reads", "as_suppression", "row_key"]

_ROW = (
    "seq, task_id, n, lane, contact, priority, due, CASE WHEN fell_back THEN fallback ELSE payload END,"
    " state, attempt, failures, doubt, expires_at, callback_data, created_at, retried, ordered, on_unknown,"
    " fallback != x'' AND NOT fell_back, fell_back, claimed_at, spared, heeds_opt_out"
)
_ROW_WIDTH = 23
_EVENT = "offset, offset - 1, key, type, at, body, phone_number_id, contact, message_id"
"""Offsets of this store are contiguous, so ``prev`` follows from the offset."""
_TASK = "id, kind, source, total, created_at, skipped"
_TAKEN = ", ".join(f"'{state.value}'" for state in sorted(TAKEN))
_MAX_BYTES = 4 * 1024 * 1024
"""Of bodies read at once."""
_LAST = "\U0010ffff"
"""After all that a key goes on with."""
_DIGITS = 19
"""Of a number that is too large for a column."""
_READY = "task_id NOT IN (SELECT id FROM tasks WHERE ready = 0)"


def row_key(row_id: str) -> tuple[str, int]:
    """Task id and place of a row; a place that no row has where the id is none of ours."""
    task_id, _, n = row_id.rpartition("-")
    return task_id, int(n) if n.isascii() and n.isdigit() and len(n) < _DIGITS else -1


class Reads:
    """The queries of the contract, over a connection of their own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.subscribers = Subscribers(connection)
        self.threads = Threads(connection)
        self.removal = Removal(connection)
        self.erasing = Erasing(connection, self.removal)

    def events_after(self, offset: int, limit: int) -> list[Event]:
        """Oldest first."""
        found = self._db.execute(
            f"SELECT {_EVENT} FROM events WHERE offset > ? ORDER BY offset LIMIT ?",
            (offset, limit),
        )
        events = []
        size = 0
        for values in found:
            events.append(Event(*values))
            size += len(events[-1].body)
            if size >= _MAX_BYTES:
                found.close()
                break
        return events

    def count_past(self, offsets: Collection[int]) -> dict[int, int]:
        """By the bounds, since offsets are contiguous."""
        floor, head = self.log_bounds()
        return {offset: max(0, head - max(offset, floor)) for offset in offsets}

    def known_keys(self, keys: Collection[str]) -> set[str]:
        """By point look-ups: callers ask for a few at a time."""
        find = "SELECT 1 FROM events WHERE key = ?"
        return {key for key in keys if self._db.execute(find, (key,)).fetchone()}

    def events_of(self, keys: Collection[str]) -> list[Event]:
        """By point look-ups."""
        find = f"SELECT {_EVENT} FROM events WHERE key = ?"
        rows = (self._db.execute(find, (key,)).fetchone() for key in set(keys))
        return sorted((Event(*row) for row in rows if row is not None), key=lambda event: event.offset)

    def find_events(self, beginnings: Collection[str], limit: int) -> list[Event]:
        """Down the index of keys."""
        found: dict[int, Event] = {}
        for beginning in beginnings:
            for values in self._db.execute(
                f"SELECT {_EVENT} FROM events WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
                (beginning, beginning + _LAST, limit),
            ):
                found[values[0]] = Event(*values)
        return [found[offset] for offset in sorted(found)[:limit]]

    def log_bounds(self) -> tuple[int, int]:
        """Offset before the oldest event, and of the newest."""
        oldest, newest = self._db.execute("SELECT min(offset), max(offset) FROM events").fetchone()
        return (oldest - 1, newest) if newest else (0, 0)

    def load_cursor(self, name: str) -> int:
        """0 where there is none."""
        found = self._db.execute("SELECT offset FROM cursors WHERE name = ?", (name,)).fetchone()
        return int(found[0]) if found else 0

    def find_memo(self, name: str) -> Memo | None:
        """As it stands."""
        found = self._db.execute("SELECT name, version, body FROM memos WHERE name = ?", (name,)).fetchone()
        return Memo(*found) if found else None

    def held_leases(self, now: int) -> list[Lease]:
        """Those that have not run out."""
        return [
            Lease(*found)
            for found in self._db.execute("SELECT name, owner, term FROM leases WHERE until > ?", (now,))
        ]

    def find_media(self, phone_number_id: str, sha256: str, mime_type: str, now: int) -> str | None:
        """None for what is over, too."""
        found = self._db.execute(
            "SELECT media_id FROM media WHERE phone_number_id = ? AND sha256 = ? AND mime_type = ?"
            " AND until > ?",
            (phone_number_id, sha256, mime_type, now),
        ).fetchone()
        return str(found[0]) if found else None

    def find_inbound(self, phone_number_id: str, contacts: Collection[str]) -> dict[str, int]:
        """By point look-ups: as many as leave together."""
        known = {}
        for contact in contacts:
            found = self._db.execute(
                "SELECT inbound_at FROM windows WHERE phone_number_id = ? AND contact = ?",
                (phone_number_id, contact),
            ).fetchone()
            if found is not None:
                known[contact] = int(found[0])
        return known

    def find_suppressions(self, contacts: Collection[str]) -> dict[str, Suppression]:
        """By one statement, since those asked for are many and those found few."""
        found = self._db.execute(
            "SELECT suppressions.* FROM json_each(?) CROSS JOIN suppressions"
            " ON contact = json_each.value WHERE until = 0",
            (json.dumps(list(contacts)),),
        )
        return {values[0]: as_suppression(values) for values in found}

    def list_suppressions(self, limit: int, after: str) -> list[Suppression]:
        """By contact."""
        found = self._db.execute(
            "SELECT * FROM suppressions WHERE contact > ? AND until = 0 ORDER BY contact LIMIT ?",
            (after, limit),
        )
        return [as_suppression(values) for values in found]

    def find_aliases(self, aliases: Collection[str]) -> dict[str, Alias]:
        """By point look-ups: callers ask for a few at a time."""
        known = {}
        for alias in aliases:
            found = self._db.execute("SELECT * FROM aliases WHERE alias = ?", (alias,)).fetchone()
            if found is not None:
                known[alias] = Alias(*found)
        return known

    def aliases_of(self, contact: str) -> list[Alias]:
        """The key itself, and those in the index of others."""
        found = self._db.execute(
            "SELECT * FROM aliases WHERE contact = ? AND alias != contact"
            " UNION ALL SELECT * FROM aliases WHERE alias = ? AND contact = alias ORDER BY alias",
            (contact, contact),
        )
        return [Alias(*values) for values in found]

    def read_ahead(self, lane: str, priority: int, after: Place, now: int, limit: int) -> list[Row]:
        """Due rows past a place."""
        return self._rows(
            f"SELECT {_ROW} FROM rows WHERE state = 'queued' AND lane = ? AND priority = ?"
            f" AND (due, seq) > (?, ?) AND due <= ? AND {_READY} ORDER BY due, seq LIMIT ?",
            (lane, priority, after.due, after.seq, now, limit),
        )

    def read_contact(
        self, lane: str, priority: int, contact: str, after: Place, now: int, limit: int
    ) -> list[Row]:
        """The same for one contact."""
        return self._rows(
            f"SELECT {_ROW} FROM rows WHERE state = 'queued' AND lane = ? AND priority = ? AND contact = ?"
            f" AND (due, seq) > (?, ?) AND due <= ? AND {_READY} ORDER BY due, seq LIMIT ?",
            (lane, priority, contact, after.due, after.seq, now, limit),
        )

    def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        """In flight, unknown, or backing off."""
        return self._rows(
            f"SELECT {_ROW} FROM rows WHERE lane = ? AND state IN ('sending', 'unknown') AND seq > ?"
            f" UNION ALL SELECT {_ROW} FROM rows WHERE lane = ? AND state = 'queued' AND attempt > 0"
            " AND seq > ? ORDER BY seq LIMIT ?",
            (lane, after_seq, lane, after_seq, limit),
        )

    def undelivered(
        self, lane: str, after: Place, limit: int, before: int | None, ordered: bool
    ) -> list[RowView]:
        """Down the index of sent rows, which has all that is asked for."""
        return self._views(
            "lane = ? AND state = 'sent' AND (last_sent_at, seq) > (?, ?)"
            + (" AND last_sent_at < ?" if before is not None else "")
            + (" AND ordered = 1" if ordered else "")
            + " ORDER BY last_sent_at, seq LIMIT ?",
            (lane, after.due, after.seq, *([] if before is None else [before]), limit),
        )

    def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        """By seq."""
        return self._rows(
            f"SELECT {_ROW} FROM rows WHERE lane = ? AND state = '{state.value}' AND seq > ? AND {_READY}"
            " ORDER BY seq LIMIT ?",
            (lane, after_seq, limit),
        )

    def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        """By point look-ups."""
        found = {}
        for row_id in ids:
            views = self._views("task_id = ? AND n = ?", row_key(row_id))
            if views:
                found[row_id] = views[0]
        return found

    def find_by_wamid(self, wamids: Collection[str]) -> dict[str, str]:
        """By point look-ups."""
        found = {}
        for wamid in wamids:
            row = self._db.execute(
                "SELECT task_id, n FROM wamids JOIN rows ON seq = row_seq WHERE wamid = ?", (wamid,)
            ).fetchone()
            if row is not None:
                found[wamid] = f"{row[0]}-{row[1]}"
        return found

    def task_rows(self, task_id: str, after_n: int, limit: int, state: State | None) -> list[RowView]:
        """By n."""
        if state is None:
            return self._views("task_id = ? AND n > ? ORDER BY n LIMIT ?", (task_id, after_n, limit))
        # With "+", or the index of a lane's rows in this state might be taken, of whatever task.
        where = "task_id = ? AND n > ? AND +state = ? ORDER BY n LIMIT ?"
        return self._views(where, (task_id, after_n, state.value, limit))

    def list_tasks(
        self, limit: int, before: TaskPlace | None, kind: str, source: str, complete: bool | None
    ) -> list[NewTask]:
        """Down the index of ready tasks."""
        conditions = ["ready = 1"]
        parameters: list[object] = []
        if before is not None:
            conditions.append("(created_at, id) < (?, ?)")
            parameters += before
        for column, wanted in (("kind", kind), ("source", source)):
            if wanted:
                conditions.append(f"{column} = ?")
                parameters.append(wanted)
        if complete is not None:
            conditions.append("completed_at != 0" if complete else "completed_at = 0")
        found = self._db.execute(
            f"SELECT {_TASK} FROM tasks INDEXED BY tasks_listed WHERE {' AND '.join(conditions)}"
            " ORDER BY created_at DESC, id DESC LIMIT ?",
            (*parameters, limit),
        )
        return [NewTask(*values) for values in found]

    def find_task(self, task_id: str) -> TaskView | None:
        """With its counts as they are now."""
        found = self._db.execute(
            f"SELECT {_TASK}, completed_at FROM tasks WHERE id = ? AND ready = 1", (task_id,)
        ).fetchone()
        if found is None:
            return None
        counts: dict[State, int] = {}
        retrying = taken = retried = 0
        for state, tried, sent, number, again in self._db.execute(
            "SELECT state, attempt > 0, sent_at > 0, count(*), sum(retried) FROM rows WHERE task_id = ?"
            " GROUP BY 1, 2, 3",
            (task_id,),
        ):
            retried += again
            counts[State(state)] = counts.get(State(state), 0) + number
            retrying += number if tried and state == State.QUEUED else 0
            taken += number if sent else 0
        errors = self._db.execute(
            "SELECT error FROM rows WHERE task_id = ? AND error != x''"
            f" AND state NOT IN ({_TAKEN}) ORDER BY n LIMIT 20",
            (task_id,),
        )
        return TaskView(
            NewTask(*found[:-1]),
            found[-1],
            counts,
            retrying,
            taken,
            tuple(error for (error,) in errors),
            retried,
        )

    def finished_tasks(self, task_ids: Collection[str]) -> set[str]:
        """By point look-ups of the counter; the rows themselves are counted only where that is 0."""
        finished = set()
        for task_id in task_ids:
            found = self._db.execute(
                "SELECT 1 FROM tasks WHERE id = ? AND ready = 1 AND open_rows = 0 AND completed_at = 0"
                " AND total <= (SELECT count(*) FROM rows WHERE task_id = ?)",
                (task_id, task_id),
            ).fetchone()
            if found:
                finished.add(task_id)
        return finished

    def depth(self, lane: str) -> dict[State, int]:
        """Counts over the partial indexes of open rows."""
        counts: dict[State, int] = {}
        for state, condition in (
            (State.QUEUED, "state = 'queued' AND priority IN (0, 1, 2)"),
            (State.SENDING, "state = 'sending'"),
            (State.UNKNOWN, "state = 'unknown'"),
        ):
            (counts[state],) = self._db.execute(
                f"SELECT count(*) FROM rows WHERE lane = ? AND {condition}", (lane,)
            ).fetchone()
        # Counted apart, so that the counts above need nothing but their indexes.
        (hidden,) = self._db.execute(
            "SELECT count(*) FROM tasks JOIN rows ON task_id = id WHERE ready = 0 AND lane = ?", (lane,)
        ).fetchone()
        counts[State.QUEUED] -= hidden
        return counts

    def dead_letters(self, limit: int, before: Place | None, only: DeadFilter) -> list[RowView]:
        """Down the index of rows that failed, which has all that is filtered by."""
        conditions = ["state = 'failed'"]
        parameters: list[object] = []
        for condition, wanted in (
            ("lane = ?", only.lane),
            ("task_id = ?", only.task_id),
            ("contact = ?", only.contact),
            ("error_name = ?", only.error_name),
            ("error_code = ?", only.error_code),
            ("ended_at >= ?", only.since),
            ("ended_at < ?", only.until),
        ):
            if wanted:
                conditions.append(condition)
                parameters.append(wanted)
        if before is not None:
            conditions.append("(ended_at, seq) < (?, ?)")
            parameters += before
        where = f"{' AND '.join(conditions)} ORDER BY ended_at DESC, seq DESC LIMIT ?"
        return self._views(where, (*parameters, limit), "rows INDEXED BY rows_dead")

    def count_dead(self, since: int, most: int) -> DeadCounts:
        """Down the index alone."""
        found = self._db.execute(
            "SELECT error_name, count(*), sum(ended_at >= ?) FROM (SELECT error_name, ended_at"
            " FROM rows INDEXED BY rows_dead WHERE state = 'failed' ORDER BY ended_at DESC LIMIT ?)"
            " GROUP BY 1",
            (since, most),
        ).fetchall()
        by_name = {name: recent for name, _, recent in found if recent}
        return DeadCounts(sum(number for _, number, _ in found), by_name)

    def find_history(self, row_id: str) -> History:
        """By point look-up."""
        found = self._db.execute(
            "SELECT attempts.n, note FROM rows JOIN attempts ON row_seq = seq"
            " WHERE task_id = ? AND rows.n = ? ORDER BY attempts.n",
            row_key(row_id),
        ).fetchall()
        return History(tuple(note for _, note in found), found[-1][0] - len(found) if found else 0)

    def _rows(self, statement: str, parameters: Iterable[object]) -> list[Row]:
        return [_row(values) for values in self._db.execute(statement, tuple(parameters))]

    def _views(self, condition: str, parameters: Sequence[object], rows: str = "rows") -> list[RowView]:
        found = self._db.execute(
            f"SELECT {_ROW}, error, sent_at, delivered_at, read_at, ended_at, last_sent_at, over,"
            f" played_at, pricing FROM {rows}"
            f" WHERE {condition}",
            tuple(parameters),
        )
        return [_view(values, self._wamids(values[0])) for values in found.fetchall()]

    def _wamids(self, seq: int) -> tuple[str, ...]:
        found = self._db.execute("SELECT wamid FROM wamids WHERE row_seq = ? ORDER BY at, wamid", (seq,))
        return tuple(wamid for (wamid,) in found)


def _row(values: Sequence[Any]) -> Row:
    seq, task_id, n, lane, contact, priority, due, payload, state, attempt, failures, doubt = values[:12]
    expires_at, callback_data, created_at, retried, ordered, on_unknown, has_fallback = values[12:19]
    fell_back, claimed_at, spared, heeds_opt_out = values[19:]
    return Row(
        f"{task_id}-{n}",
        seq,
        task_id,
        lane,
        contact,
        priority,
        due,
        payload,
        State(state),
        attempt,
        failures,
        bool(doubt),
        expires_at,
        callback_data,
        created_at,
        retried,
        bool(ordered),
        on_unknown,
        bool(has_fallback),
        bool(fell_back),
        claimed_at,
        spared,
        bool(heeds_opt_out),
    )


def _view(values: Sequence[Any], wamids: tuple[str, ...]) -> RowView:
    return RowView(_row(values[:_ROW_WIDTH]), wamids, *values[_ROW_WIDTH:])


def as_suppression(values: Sequence[Any]) -> Suppression:
    """A row of their table."""
    contact, since, until, reason, source, note, firm, heard = values
    return Suppression(contact, since, until, reason, source, note, bool(firm), heard)

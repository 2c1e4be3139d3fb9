"""What the SQLite store removes by age: plain functions of a connection.

The rules of ``sqlite_reads.py`` and ``sqlite_writes.py`` hold here too. A task that is to go is retired first
(``ready`` is 2): nobody finds it any more, no lane is held up by it, and its rows go a few at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from store.records import Cursor, TaskPlace
from store.states import OPEN

__all__ = ["Removal"]

_OPEN = ", ".join(f"'{state.value}'" for state in sorted(OPEN))
_LOOKED_AT = 20_000
"""Rows in one call, and those of one task more: there are few threads to read with, and others wait."""
_LAST_TIME = "max(created_at, claimed_at, sent_at, last_sent_at, delivered_at, read_at, played_at, ended_at)"


class Removal:
    """Of one connection: the writer's, or a reader's, which calls nothing that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def cursors(self) -> list[Cursor]:
        """All."""
        return [
            Cursor(*found) for found in self._db.execute("SELECT name, offset FROM cursors ORDER BY name")
        ]

    def remove_events(self, upto: int, before: int, limit: int) -> int:
        """From the oldest on, none that has a younger one below it."""
        found = self._db.execute(
            "SELECT offset, at FROM events WHERE offset <= ? AND offset < (SELECT max(offset) FROM events)"
            " ORDER BY offset LIMIT ?",
            (upto, limit),
        )
        last = 0
        for offset, at in found.fetchall():
            if at >= before:
                break
            last = offset
        return self._db.execute("DELETE FROM events WHERE offset <= ?", (last,)).rowcount

    def old_tasks(
        self, before: int, after: TaskPlace, limit: int
    ) -> tuple[TaskPlace | None, Collection[str]]:
        """The place of the last that was looked at, and those of which nothing is to be expected."""
        found = self._db.execute(
            "SELECT created_at, id, open_rows, total FROM tasks INDEXED BY tasks_listed WHERE ready = 1"
            " AND (created_at, id) > (?, ?) AND created_at < ? ORDER BY created_at, id LIMIT ?",
            (*after, before, limit),
        )
        place: TaskPlace | None = None
        old: list[str] = []
        rows = 0
        for created_at, task_id, open_rows, total in found.fetchall():
            place = TaskPlace(created_at, task_id)
            if not open_rows:
                rows += total
                if not self._has_news(task_id, before):
                    old.append(task_id)
            if rows >= _LOOKED_AT:
                break
        return place, old

    def _has_news(self, task_id: str, since: int) -> bool:
        found = self._db.execute(
            f"SELECT EXISTS (SELECT 1 FROM rows WHERE task_id = ? AND {_LAST_TIME} >= ?)", (task_id, since)
        ).fetchone()
        return bool(found[0])

    def retire(self, task_ids: Collection[str]) -> None:
        """Unless a row of theirs was queued again since they were looked at."""
        self._db.executemany(
            "UPDATE tasks SET ready = 2 WHERE id = ? AND ready = 1 AND open_rows = 0",
            [(task_id,) for task_id in task_ids],
        )

    def remove_retired(self, limit: int) -> int:
        """Rows, and tasks without any."""
        removed = 0
        while removed < limit:
            found = self._db.execute("SELECT id FROM tasks WHERE ready = 2 LIMIT 1").fetchone()
            if found is None:
                break
            removed += self._remove_part(found[0], limit - removed)
        return removed

    def _remove_part(self, task_id: str, limit: int) -> int:
        seqs = self._db.execute(
            f"SELECT seq FROM rows WHERE task_id = ? AND state NOT IN ({_OPEN}) LIMIT ?", (task_id, limit)
        ).fetchall()
        self.forget_tries(seqs)
        self._db.executemany("DELETE FROM rows WHERE seq = ?", seqs)
        if len(seqs) == limit:
            return limit
        (left,) = self._db.execute("SELECT count(*) FROM rows WHERE task_id = ?", (task_id,)).fetchone()
        if left:
            self._db.execute("UPDATE tasks SET ready = 1, total = ? WHERE id = ?", (left, task_id))
        else:
            self._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
        return len(seqs) + 1

    def forget_tries(self, seqs: Sequence[tuple[int]]) -> None:
        """What rows left in other tables."""
        self._db.executemany("DELETE FROM wamids WHERE row_seq = ?", seqs)
        self._db.executemany("DELETE FROM attempts WHERE row_seq = ?", seqs)

    def remove_said(self, before: int, limit: int) -> int:
        """Of the oldest; a thread goes with the last that was said in it."""
        found = self._db.execute(
            "SELECT offset, at, contact, phone_number_id FROM said ORDER BY offset LIMIT ?", (limit,)
        ).fetchall()
        old = [one for one in found if one[1] < before]
        self._db.executemany("DELETE FROM said WHERE offset = ?", [one[:1] for one in old])
        self._db.executemany(
            "DELETE FROM threads WHERE last_offset = ? AND contact = ? AND phone_number_id = ?",
            [(offset, contact, number) for offset, _, contact, number in old],
        )
        return len(old)

    def remove_claims(self, before: int, limit: int) -> int:
        """Down the index of their times."""
        done = self._db.execute(
            "DELETE FROM claims WHERE key IN (SELECT key FROM claims WHERE at < ? LIMIT ?)", (before, limit)
        )
        return done.rowcount

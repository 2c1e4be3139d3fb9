"""How the SQLite store erases a contact: plain functions of a connection.

The rules of ``sqlite_reads.py`` and ``sqlite_writes.py`` hold here too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from store.erasing import Erasure, Found, Mentions, Shelf
from store.records import Event
from store.sqlite_removal import Removal
from store.states import OPEN

__all__ = ["Erasing"]

_FIELDS = "id, asked_at, body, done_at"
_OPEN = frozenset(state.value for state in OPEN)


class Erasing:
    """Of one connection: the writer's, or a reader's, which calls nothing that writes."""

    def __init__(self, connection: sqlite3.Connection, removal: Removal) -> None:
        self._db = connection
        self._removal = removal

    # -- requests --------------------------------------------------------------------------------------

    def put(self, erasure: Erasure) -> None:
        """Unless it is done."""
        self._db.execute(
            f"INSERT INTO erasures ({_FIELDS}) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET body = excluded.body, done_at = excluded.done_at WHERE done_at = 0",
            (erasure.id, erasure.asked_at, erasure.body, erasure.done_at),
        )

    def find(self, id: str) -> Erasure | None:
        """By its id."""
        found = self._db.execute(f"SELECT {_FIELDS} FROM erasures WHERE id = ?", (id,)).fetchone()
        return Erasure(*found) if found else None

    def listed(self, done_since: int) -> list[Erasure]:
        """There are few."""
        found = self._db.execute(
            f"SELECT {_FIELDS} FROM erasures WHERE done_at = 0 OR done_at >= ? ORDER BY asked_at, id",
            (done_since,),
        )
        return [Erasure(*values) for values in found]

    def remove(self, done_before: int) -> None:
        """Requests that were done."""
        self._db.execute("DELETE FROM erasures WHERE done_at > 0 AND done_at < ?", (done_before,))

    # -- the log ---------------------------------------------------------------------------------------

    def rewrite_events(self, events: Sequence[Event]) -> None:
        """In place."""
        self._db.executemany(
            "UPDATE events SET key = ?, type = ?, contact = ?, message_id = ?, body = ? WHERE offset = ?",
            [
                (event.key, event.type, event.contact, event.message_id, event.body, event.offset)
                for event in events
            ],
        )

    # -- shelves ---------------------------------------------------------------------------------------

    def search(self, shelf: Shelf, who: Mentions, after: str, limit: int) -> Found:
        """Along the primary key."""
        found: list[str] = []
        if shelf == "rows":
            page = self._db.execute(
                "SELECT seq, task_id, n, contact FROM rows WHERE seq > ? ORDER BY seq LIMIT ?",
                (int(after or 0), limit),
            ).fetchall()
            found = [f"{task_id}-{n}" for _, task_id, n, contact in page if contact in who.contacts]
        elif shelf == "said":
            page = self._db.execute(
                "SELECT offset, contact, body, amended FROM said WHERE offset > ? ORDER BY offset LIMIT ?",
                (int(after or 0), limit),
            ).fetchall()
            for offset, contact, body, amended in page:
                if contact in who.contacts or who.among(body) or who.among(amended):
                    found.append(str(offset))
        elif shelf == "claims":
            page = self._db.execute(
                "SELECT key FROM claims WHERE key > ? ORDER BY key LIMIT ?", (after, limit)
            ).fetchall()
            found = [key for (key,) in page if who.claims(key)]
        else:
            page = self._db.execute(
                "SELECT key, body FROM answers WHERE key > ? ORDER BY key LIMIT ?", (after, limit)
            ).fetchall()
            found = [key for key, body in page if who.among(key) or who.among(body)]
        return Found(found, str(page[-1][0]) if len(page) == limit else "")

    def erase(self, shelf: Shelf, ids: Collection[str], answer: bytes) -> int:
        """How many."""
        if shelf == "rows":
            return sum(self._erase_row(*id.rsplit("-", 1)) for id in ids)
        if shelf == "answers" and answer:
            statement, values = "UPDATE answers SET body = ? WHERE key = ? AND status > 0", [answer]
        else:
            statement, values = f"DELETE FROM {shelf} WHERE {'offset' if shelf == 'said' else 'key'} = ?", []
        return self._db.executemany(statement, [(*values, id) for id in ids]).rowcount

    def _erase_row(self, task_id: str, n: str) -> int:
        found = self._db.execute(
            "SELECT seq, state FROM rows JOIN tasks ON id = task_id AND ready != 0"
            " WHERE task_id = ? AND n = ?",
            (task_id, int(n)),
        ).fetchone()
        if found is None or found[1] in _OPEN:
            return 0
        self._removal.forget_tries([found[:1]])
        self._db.execute("DELETE FROM rows WHERE seq = ?", found[:1])
        left = self._db.execute("SELECT 1 FROM rows WHERE task_id = ? LIMIT 1", (task_id,)).fetchone()
        if left:
            self._db.execute("UPDATE tasks SET total = total - 1 WHERE id = ?", (task_id,))
        else:
            self._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
        return 1

    def forget(self, contacts: Collection[str]) -> None:
        """What hangs on keys."""
        keys = [(contact,) for contact in contacts]
        self._db.executemany("DELETE FROM aliases WHERE contact = ? AND alias != contact", keys)
        self._db.executemany("DELETE FROM aliases WHERE alias = ? AND contact = alias", keys)
        self._db.executemany("DELETE FROM threads WHERE contact = ?", keys)
        self._db.executemany("DELETE FROM suppressions WHERE contact = ?", keys)
        self._db.executemany(
            "DELETE FROM moved_threads WHERE gone = ? OR kept = ?",
            [(contact, contact) for contact in contacts],
        )
        number = ""
        while True:
            # From number to number down the key: there are few, and many contacts of each.
            found = self._db.execute(
                "SELECT min(phone_number_id) FROM windows WHERE phone_number_id > ?", (number,)
            ).fetchone()
            if found[0] is None:
                return
            number = found[0]
            self._db.executemany(
                "DELETE FROM windows WHERE phone_number_id = ? AND contact = ?",
                [(number, contact) for contact in contacts],
            )

    def purge(self) -> bool:
        """Into the file, where what was there is overwritten; outside of a transaction."""
        (waits,) = self._db.execute("PRAGMA busy_timeout").fetchone()
        self._db.execute("PRAGMA busy_timeout = 50")
        try:
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {waits}")
        return not busy

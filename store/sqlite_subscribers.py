"""The table of named subscribers in the SQLite store: plain functions of a connection.

The rules of ``sqlite_reads.py`` and ``sqlite_writes.py`` hold here too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from store.records import Progress, Subscriber

__all__ = ["Subscribers"]

_FIELDS = "name, offset, wanted, created_at, seen_at, holder, session"


class Subscribers:
    """Of one connection: the writer's, or a reader's, which calls nothing that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def take(
        self,
        name: str,
        session: str,
        holder: str,
        now: int,
        start: int,
        wanted: bytes | None,
        most: int,
    ) -> tuple[Subscriber, bool] | None:
        """For a new connection; None where there are too many."""
        done = self._db.execute(
            "UPDATE subscribers SET holder = ?, session = ?, seen_at = ?, wanted = coalesce(?, wanted)"
            " WHERE name = ?",
            (holder, session, now, wanted, name),
        )
        is_new = not done.rowcount
        if is_new:
            (count,) = self._db.execute("SELECT count(*) FROM subscribers").fetchone()
            if count >= most:
                return None
            self._db.execute(
                f"INSERT INTO subscribers ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, start, wanted or b"", now, now, holder, session),
            )
        return self.find([name])[name], is_new

    def save_progress(self, progress: Sequence[Progress], now: int) -> set[str]:
        """Forward; sessions that are no longer the newest."""
        lost = set()
        for each in progress:
            done = self._db.execute(
                "UPDATE subscribers SET offset = max(offset, ?), seen_at = ?,"
                " holder = CASE WHEN ? THEN '' ELSE holder END WHERE name = ? AND session = ?",
                (each.offset, now, each.leaves, each.name, each.session),
            )
            if not done.rowcount:
                lost.add(each.session)
        return lost

    def find(self, names: Collection[str]) -> dict[str, Subscriber]:
        """By point look-ups."""
        found = {}
        for name in names:
            values = self._db.execute(f"SELECT {_FIELDS} FROM subscribers WHERE name = ?", (name,)).fetchone()
            if values is not None:
                found[name] = Subscriber(*values)
        return found

    def page(self, limit: int, after: str) -> list[Subscriber]:
        """By name."""
        found = self._db.execute(
            f"SELECT {_FIELDS} FROM subscribers WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
        )
        return [Subscriber(*values) for values in found]

    def remove(self, name: str) -> bool:
        """Whether it was there."""
        return self._db.execute("DELETE FROM subscribers WHERE name = ?", (name,)).rowcount > 0

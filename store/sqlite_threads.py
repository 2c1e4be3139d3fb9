"""The tables of conversations in the SQLite store: plain functions of a connection.

The rules of ``sqlite_reads.py`` and ``sqlite_writes.py`` hold here too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from store.threads import Said, Thread, ThreadNews, renamed, summed

__all__ = ["Threads"]

_SAID = "offset, contact, phone_number_id, at, kind, message_id, wamid, body, '', amended"
_THREAD = (
    "contact, phone_number_id, last_offset, last_at, heard_offset, heard_at, first_heard_at, spoke_offset,"
    " read_offset, name, preferences"
)
_MOST = ("last_offset", "last_at", "heard_offset", "heard_at", "spoke_offset", "read_offset")
_UPSERT = (
    f"INSERT INTO threads ({_THREAD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (contact, phone_number_id) DO UPDATE SET "
    + ", ".join(f"{column} = max({column}, excluded.{column})" for column in _MOST)
    + ", first_heard_at = CASE WHEN first_heard_at = 0 THEN excluded.first_heard_at"
    " WHEN excluded.first_heard_at = 0 THEN first_heard_at"
    " ELSE min(first_heard_at, excluded.first_heard_at) END"
    ", name = CASE excluded.name WHEN '' THEN name ELSE excluded.name END"
    ", preferences = CASE excluded.preferences WHEN x'' THEN preferences ELSE excluded.preferences END"
)


class Threads:
    """Of one connection: the writer's, or a reader's, which calls nothing that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def note(self, news: ThreadNews) -> None:
        """Keep it; what is there already stays."""
        contacts = {said.contact for said in news.said} | {thread.contact for thread in news.more}
        news = renamed(news, self._moved(contacts))
        self._db.executemany(
            "INSERT INTO said (offset, contact, phone_number_id, at, kind, message_id, wamid, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (offset) DO NOTHING",
            [
                (
                    said.offset,
                    said.contact,
                    said.phone_number_id,
                    said.at,
                    said.kind,
                    said.message_id,
                    said.wamid,
                    said.body,
                )
                for said in news.said
            ],
        )
        self._db.executemany(
            "UPDATE said SET amended = ? WHERE offset = ?",
            [(amended.body, amended.offset) for amended in news.amended],
        )
        self._raise(summed(news))
        for moved in news.moved:
            self._move(moved.gone, moved.kept)

    def _raise(self, threads: Sequence[Thread]) -> None:
        self._db.executemany(
            _UPSERT,
            [
                (
                    thread.contact,
                    thread.phone_number_id,
                    thread.last_offset,
                    thread.last_at,
                    thread.heard_offset,
                    thread.heard_at,
                    thread.first_heard_at,
                    thread.spoke_offset,
                    thread.read_offset,
                    thread.name,
                    thread.preferences,
                )
                for thread in threads
            ],
        )

    def _move(self, gone: str, kept: str) -> None:
        self._db.execute("DELETE FROM moved_threads WHERE gone = ?", (kept,))
        self._db.execute("UPDATE moved_threads SET kept = ? WHERE kept = ?", (kept, gone))
        self._db.execute("INSERT OR REPLACE INTO moved_threads VALUES (?, ?)", (gone, kept))
        self._db.execute("UPDATE said SET contact = ? WHERE contact = ?", (kept, gone))
        self._raise([msgspec.structs.replace(one, contact=kept) for one in self._threads(gone)])
        self._db.execute("DELETE FROM threads WHERE contact = ?", (gone,))

    def _moved(self, contacts: Collection[str]) -> dict[str, str]:
        """Of those of these that are found by other keys now, the key."""
        (any_moved,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM moved_threads)").fetchone()
        if not any_moved:
            return {}
        found = {}
        for contact in contacts:
            kept = self._db.execute("SELECT kept FROM moved_threads WHERE gone = ?", (contact,)).fetchone()
            if kept is not None:
                found[contact] = str(kept[0])
        return found

    def _threads(self, contact: str) -> list[Thread]:
        found = self._db.execute(f"SELECT {_THREAD} FROM threads WHERE contact = ?", (contact,))
        return [Thread(*values) for values in found]

    def page(
        self, contact: str, limit: int, before: int | None, after: int | None, phone_number_id: str
    ) -> list[Said]:
        """Down the index of a contact."""
        where, parameters = ["contact = ?"], [self._moved([contact]).get(contact, contact)]
        order = "DESC"
        bounds: list[object] = []
        if before is not None:
            where.append("offset < ?")
            bounds.append(before)
        if after is not None:
            where.append("offset > ?")
            bounds.append(after)
            order = "ASC" if before is None else order
        if phone_number_id:
            where.append("phone_number_id = ?")
            bounds.append(phone_number_id)
        found = self._db.execute(
            f"SELECT {_SAID} FROM said WHERE {' AND '.join(where)} ORDER BY offset {order} LIMIT ?",
            (*parameters, *bounds, limit),
        )
        return sorted((Said(*values) for values in found), key=lambda said: said.offset)

    def find_said(self, offsets: Collection[int]) -> dict[int, Said]:
        """By point look-ups."""
        found = {}
        for offset in offsets:
            values = self._db.execute(f"SELECT {_SAID} FROM said WHERE offset = ?", (offset,)).fetchone()
            if values is not None:
                found[offset] = Said(*values)
        return found

    def find_threads(self, contact: str) -> list[Thread]:
        """Of all numbers."""
        return self._threads(self._moved([contact]).get(contact, contact))

    def page_of_threads(
        self, numbers: Sequence[str], limit: int, before: int | None, unread: bool
    ) -> list[Thread]:
        """Of each number down its index, which those that are unread have too; then the last of these."""
        found: list[Thread] = []
        for number in numbers:
            page = self._db.execute(
                f"SELECT {_THREAD} FROM threads WHERE phone_number_id = ? AND last_offset > 0"
                + (" AND last_offset < ?" if before is not None else "")
                + (" AND heard_offset > read_offset" if unread else "")
                + " ORDER BY last_offset DESC LIMIT ?",
                (number, *([] if before is None else [before]), limit),
            )
            found += [Thread(*values) for values in page]
        return sorted(found, key=lambda thread: -thread.last_offset)[:limit]

    def count_unread(self, threads: Sequence[Thread], most: int) -> list[int]:
        """Up to ``most`` of each."""
        return [self._count(thread, most) if thread.unread else 0 for thread in threads]

    def _count(self, thread: Thread, most: int) -> int:
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM said WHERE contact = ? AND offset > ? AND kind = 'in'"
            " AND phone_number_id = ? LIMIT ?)",
            (thread.contact, thread.read_offset, thread.phone_number_id, most),
        ).fetchone()
        return int(count)

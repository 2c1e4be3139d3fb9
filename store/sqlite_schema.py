"""The SQLite store's tables, indexes and migrations. Nothing here runs a query of the contract.

A migration is one list of statements that takes the schema from version n to n + 1; ``PRAGMA user_version``
holds the version. Migrations are only ever added: what is written here has run on somebody's disk.
"""

from __future__ import annotations

import sqlite3

from store.errors import StoreError

__all__ = ["VERSION", "migrate"]

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE events (
            offset INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            type TEXT NOT NULL,
            at INTEGER NOT NULL,
            phone_number_id TEXT NOT NULL,
            contact TEXT NOT NULL,
            message_id TEXT NOT NULL,
            body BLOB NOT NULL
        )""",
        "CREATE TABLE cursors (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE aliases (
            alias TEXT PRIMARY KEY, contact TEXT NOT NULL, peer TEXT NOT NULL
        ) WITHOUT ROWID""",
        # open_rows: how many of the task's rows are queued, sending or unknown; kept by the writer.
        """CREATE TABLE tasks (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            source TEXT NOT NULL,
            total INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            completed_at INTEGER NOT NULL DEFAULT 0,
            ready INTEGER NOT NULL,
            open_rows INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        "CREATE INDEX tasks_unready ON tasks (id) WHERE ready = 0",
        """CREATE TABLE rows (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            task_id TEXT NOT NULL,
            n INTEGER NOT NULL,
            lane TEXT NOT NULL,
            contact TEXT NOT NULL,
            priority INTEGER NOT NULL,
            due INTEGER NOT NULL,
            payload BLOB NOT NULL,
            state TEXT NOT NULL,
            attempt INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            doubt INTEGER NOT NULL DEFAULT 0,
            term INTEGER NOT NULL DEFAULT 0,
            expires_at INTEGER NOT NULL,
            callback_data TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            error BLOB NOT NULL DEFAULT x'',
            sent_at INTEGER NOT NULL DEFAULT 0,
            delivered_at INTEGER NOT NULL DEFAULT 0,
            read_at INTEGER NOT NULL DEFAULT 0,
            ended_at INTEGER NOT NULL DEFAULT 0,
            UNIQUE (task_id, n)
        )""",
        "CREATE INDEX rows_due ON rows (lane, priority, due, seq) WHERE state = 'queued'",
        "CREATE INDEX rows_contact ON rows (lane, priority, contact, due, seq) WHERE state = 'queued'",
        "CREATE INDEX rows_retrying ON rows (lane, seq) WHERE state = 'queued' AND attempt > 0",
        "CREATE INDEX rows_in_flight ON rows (lane, state, seq) WHERE state IN ('sending', 'unknown')",
        """CREATE TABLE wamids (
            wamid TEXT PRIMARY KEY, row_seq INTEGER NOT NULL, at INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX wamids_row ON wamids (row_seq)",
        """CREATE TABLE leases (
            name TEXT PRIMARY KEY, owner TEXT NOT NULL, term INTEGER NOT NULL, until INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE claims (
            key TEXT PRIMARY KEY, token TEXT NOT NULL, at INTEGER NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE media (
            phone_number_id TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            mime_type TEXT NOT NULL,
            media_id TEXT NOT NULL,
            until INTEGER NOT NULL,
            PRIMARY KEY (phone_number_id, sha256, mime_type)
        ) WITHOUT ROWID""",
        "CREATE INDEX media_until ON media (until)",
    ),
    (
        "ALTER TABLE tasks ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rows ADD COLUMN retried INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX tasks_listed ON tasks (created_at, id) WHERE ready = 1",
        """CREATE TABLE answers (
            key TEXT PRIMARY KEY,
            digest TEXT NOT NULL,
            holder TEXT NOT NULL,
            at INTEGER NOT NULL,
            until INTEGER NOT NULL,
            status INTEGER NOT NULL DEFAULT 0,
            body BLOB NOT NULL DEFAULT x''
        ) WITHOUT ROWID""",
        "CREATE INDEX answers_at ON answers (at)",
    ),
    (
        "ALTER TABLE rows ADD COLUMN ordered INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rows ADD COLUMN on_unknown TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE rows ADD COLUMN fallback BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE rows ADD COLUMN fell_back INTEGER NOT NULL DEFAULT 0",
        # over: attempts up to this one are over, see Standing in records.py.
        "ALTER TABLE rows ADD COLUMN over INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rows ADD COLUMN last_sent_at INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX rows_undelivered ON rows (lane, last_sent_at, seq)"
        " WHERE state = 'sent' AND ordered = 1",
    ),
    (
        "ALTER TABLE rows ADD COLUMN claimed_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rows ADD COLUMN error_name TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE rows ADD COLUMN error_code INTEGER NOT NULL DEFAULT 0",
        # With all that dead letters are filtered by, so that rows that do not fit are passed over unread.
        "CREATE INDEX rows_dead ON rows (ended_at, seq, error_name, error_code, lane, contact, task_id)"
        " WHERE state = 'failed'",
        """CREATE TABLE attempts (
            row_seq INTEGER NOT NULL, n INTEGER NOT NULL, note BLOB NOT NULL, PRIMARY KEY (row_seq, n)
        ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE windows (
            phone_number_id TEXT NOT NULL,
            contact TEXT NOT NULL,
            inbound_at INTEGER NOT NULL,
            PRIMARY KEY (phone_number_id, contact)
        ) WITHOUT ROWID""",
        "CREATE INDEX windows_inbound ON windows (inbound_at)",
        # One row: webhooks have been taken in without a gap since, as was noted last at.
        "CREATE TABLE intake (one INTEGER PRIMARY KEY CHECK (one = 1), since INTEGER NOT NULL,"
        " at INTEGER NOT NULL)",
    ),
    ("ALTER TABLE rows ADD COLUMN spared INTEGER NOT NULL DEFAULT 0",),
    (
        "CREATE TABLE memos (name TEXT PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL)"
        " WITHOUT ROWID",
    ),
    (
        """CREATE TABLE suppressions (
            contact TEXT PRIMARY KEY,
            since INTEGER NOT NULL,
            until INTEGER NOT NULL,
            reason TEXT NOT NULL,
            source TEXT NOT NULL,
            note TEXT NOT NULL,
            firm INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "ALTER TABLE rows ADD COLUMN heeds_opt_out INTEGER NOT NULL DEFAULT 0",
    ),
    (
        """CREATE TABLE subscribers (
            name TEXT PRIMARY KEY,
            offset INTEGER NOT NULL,
            wanted BLOB NOT NULL,
            created_at INTEGER NOT NULL,
            seen_at INTEGER NOT NULL,
            holder TEXT NOT NULL,
            session TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE rows ADD COLUMN played_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE rows ADD COLUMN pricing BLOB NOT NULL DEFAULT x''",
        # All that wait for word of Meta's, those that others wait for among them.
        "CREATE INDEX rows_sent ON rows (lane, last_sent_at, seq, ordered) WHERE state = 'sent'",
        "DROP INDEX rows_undelivered",
    ),
    (
        """CREATE TABLE said (
            offset INTEGER PRIMARY KEY,
            contact TEXT NOT NULL,
            phone_number_id TEXT NOT NULL,
            at INTEGER NOT NULL,
            kind TEXT NOT NULL,
            message_id TEXT NOT NULL,
            wamid TEXT NOT NULL,
            body BLOB NOT NULL,
            amended BLOB NOT NULL DEFAULT x''
        )""",
        # In the order of the offset, which every index has at its end.
        "CREATE INDEX said_contact ON said (contact)",
        """CREATE TABLE threads (
            contact TEXT NOT NULL,
            phone_number_id TEXT NOT NULL,
            last_offset INTEGER NOT NULL,
            last_at INTEGER NOT NULL,
            heard_offset INTEGER NOT NULL,
            heard_at INTEGER NOT NULL,
            first_heard_at INTEGER NOT NULL,
            spoke_offset INTEGER NOT NULL,
            read_offset INTEGER NOT NULL,
            name TEXT NOT NULL,
            preferences BLOB NOT NULL,
            PRIMARY KEY (contact, phone_number_id)
        ) WITHOUT ROWID""",
        # With all that threads are filtered by, so that those that do not fit are passed over unread.
        "CREATE INDEX threads_last ON threads (phone_number_id, last_offset, heard_offset, read_offset)",
        # Most contacts have one address, which is their key.
        "CREATE INDEX aliases_contact ON aliases (contact) WHERE alias != contact",
    ),
    ("ALTER TABLE aliases ADD COLUMN at INTEGER NOT NULL DEFAULT 0",),
    ("CREATE TABLE moved_threads (gone TEXT PRIMARY KEY, kept TEXT NOT NULL) WITHOUT ROWID",),
    (
        # Tasks that are being removed: none, mostly.
        "CREATE INDEX tasks_retired ON tasks (id) WHERE ready = 2",
        "CREATE INDEX claims_at ON claims (at)",
    ),
    ("ALTER TABLE suppressions ADD COLUMN heard INTEGER NOT NULL DEFAULT 0",),
    (
        """CREATE TABLE erasures (
            id TEXT PRIMARY KEY, asked_at INTEGER NOT NULL, body BLOB NOT NULL, done_at INTEGER NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        "DROP INDEX threads_last",
        "CREATE INDEX threads_last ON threads (phone_number_id, last_offset)",
        # In the words of the query, by which it is found.
        "CREATE INDEX threads_unread ON threads (phone_number_id, last_offset)"
        " WHERE heard_offset > read_offset",
    ),
)

VERSION = len(_MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to :data:`VERSION`, each step in a transaction of its own.

    Raises StoreError where the file was written by a newer version of the gateway.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(
            f"the store has schema version {version}, this version of the gateway knows {VERSION}: "
            "run the newer gateway, or name another file in STORE_URL"
        )
    for number, statements in enumerate(_MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")

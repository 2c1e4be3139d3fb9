"""What is the SQLite store's alone: its file, and its sweep between two transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store import sqlite, sqlite_schema
from store.errors import StoreError
from store.sqlite import SqliteStore
from store.sqlite_schema import migrate
from store.sqlite_writes import Writes
from tests.support.store_values import new_event, new_row, new_task


def test_a_half_swept_task_never_becomes_ready() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    writes = Writes(connection, lambda: 1000)
    task = new_task(created_at=100, total=3)
    writes.begin()
    writes.create_task(task, [new_row(n) for n in range(3)], (), False)
    assert writes.sweep_rows(200, 2) == 2
    writes.commit()
    for late in (lambda: writes.mark_ready("task", ()), lambda: writes.add_rows("task", [new_row(3)])):
        with pytest.raises(StoreError, match="swept away"):
            late()
    writes.begin()
    assert writes.sweep_tasks(200) == 1
    writes.commit()
    assert connection.execute("SELECT count(*) FROM rows").fetchone() == (0,)


async def test_only_its_owner_reads_what_customers_wrote(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "new" / "a.db")
    await store.open()
    await store.append_events([new_event("a")])
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == ["a.db", "a.db-shm", "a.db-wal", "a.db.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    await store.close()


async def test_a_sweep_is_many_writes_between_which_others_get_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SWEEP", 2)
    store = SqliteStore(tmp_path / "a.db")
    await store.open()
    await store.create_task(new_task(created_at=100), [new_row(n) for n in range(6)], ready=False)
    write, writes = store._write, 0

    async def counted(operation: Callable[[Writes], Any], weight: int = 1) -> Any:
        nonlocal writes
        writes += 1
        return await write(operation, weight)

    monkeypatch.setattr(store, "_write", counted)
    assert await store.sweep_unready(200) == 1
    # Three portions of rows, one that finds none, and the task itself.
    assert writes == 5
    await store.close()


async def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in sqlite_schema._MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(
        "INSERT INTO tasks (id, kind, source, total, created_at, ready, open_rows)"
        " VALUES ('task', 'text', 'api', 1, 1000, 1, 1)"
    )
    connection.execute(
        "INSERT INTO rows (task_id, n, lane, contact, priority, due, payload, state, expires_at,"
        " callback_data, created_at) VALUES ('task', 0, '100', 'c', 1, 1000, x'7b7d', 'queued', 0, '', 1000)"
    )
    connection.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.list_tasks(10) == [new_task()]
    (found,) = await store.task_rows("task", -1, 10)
    assert (found.row.state, found.row.retried) == ("queued", 0)
    await store.close()


async def test_who_worked_on_an_answer_is_gone_when_the_file_is_opened(tmp_path: Path) -> None:
    for holder in ("first", "second"):
        store = SqliteStore(tmp_path / "a.db")
        await store.open()
        assert (await store.claim_answer("k", "d", holder, 1, hold_ms=1000, keep_ms=1000)).holder == holder
        await store.close()

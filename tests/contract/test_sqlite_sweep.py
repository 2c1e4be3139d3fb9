"""The SQLite store's sweep between two of its transactions."""

from __future__ import annotations

import sqlite3

import pytest

from store.errors import StoreError
from store.sqlite_schema import migrate
from store.sqlite_writes import Writes
from tests.support.store_values import new_row, new_task


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

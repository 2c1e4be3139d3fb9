"""Outbox rows as a store gives them, for tests that have none."""

from __future__ import annotations

from typing import Any

import msgspec

from store.records import NewTask, Row, RowView, TaskView
from store.states import State

__all__ = ["LANE", "TASK", "make_row", "make_task", "make_view"]

LANE = "106540352242922"
TASK = "0a1b2c3d-0000-4000-8000-000000000001"

_ROW = Row(
    id=f"{TASK}-0",
    seq=1,
    task_id=TASK,
    lane=LANE,
    contact="16505551234",
    priority=1,
    due=1000,
    payload=b'{"type":"text"}',
    state=State.QUEUED,
    attempt=0,
    failures=0,
    doubt=False,
    expires_at=0,
    callback_data="",
    created_at=1000,
)


def make_row(n: int = 0, **fields: Any) -> Row:
    """Row ``n`` of :data:`TASK`, accepted in the order of ``n``, with these fields changed."""
    return msgspec.structs.replace(_ROW, id=f"{TASK}-{n}", seq=n + 1, **fields)


def make_view(row: Row, *wamids: str) -> RowView:
    """The row with these ids of Meta's, and nothing else known of it."""
    return RowView(row, wamids, b"", 0, 0, 0, 0)


def make_task(
    counts: dict[State, int],
    *,
    total: int | None = None,
    retrying: int = 0,
    taken: int = 0,
    errors: tuple[bytes, ...] = (),
    created_at: int = 0,
    completed_at: int = 0,
) -> TaskView:
    """A task with so many rows in each state."""
    task = NewTask(TASK, "text", "api", sum(counts.values()) if total is None else total, created_at)
    return TaskView(task, completed_at, counts, retrying, taken, errors)

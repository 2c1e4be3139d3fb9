"""What callers are told of a task: the words they poll for, the counts, the errors (contract.md,
task-status).

Pure: from a task as the store has it to the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from store.records import TaskView
from store.states import OPEN, State
from whatsapp.events import rfc3339

__all__ = ["task_status", "word_of"]


def word_of(task: TaskView) -> str:
    """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED.

    What Meta took once stays a success: a failure that it reports later changes the counts only.
    """
    counts = task.counts
    open_rows = sum(counts.get(state, 0) for state in OPEN)
    if open_rows == 0:
        if counts.get(State.CANCELLED, 0) == task.task.total:
            return "REVOKED"
        return "SUCCESS" if task.taken else "FAILURE"
    if task.retrying:
        return "RETRY"
    untouched = counts.get(State.QUEUED, 0) + counts.get(State.CANCELLED, 0) + counts.get(State.EXPIRED, 0)
    return "PENDING" if untouched == task.task.total else "STARTED"


def task_status(task: TaskView, now: int) -> dict[str, Any]:
    """The answer of ``GET /api/task-status/<id>``. Recipients that were skipped count as failed in the
    result, and nowhere else: they have no rows."""
    total, skipped = task.task.total, task.task.skipped
    open_rows = sum(task.counts.get(state, 0) for state in OPEN)
    ended = total - open_rows
    return {
        "task_id": task.task.id,
        "status": word_of(task),
        "result": {
            "total": total + skipped,
            "sent": task.taken,
            "failed": task.counts.get(State.FAILED, 0) + skipped,
        },
        "created_at": rfc3339(task.task.created_at),
        "completed_at": rfc3339(task.completed_at) if task.completed_at else None,
        "kind": task.task.kind,
        "source": task.task.source,
        "counts": {state.value: task.counts.get(state, 0) for state in State},
        "progress": round(ended / total, 4) if total else 1.0,
        "eta_seconds": _eta(ended, open_rows, now - task.task.created_at),
        "errors": _grouped(task.errors),
    }


def _eta(ended: int, open_rows: int, elapsed_ms: int) -> float | None:
    """By the pace so far; None while nothing has ended."""
    if not open_rows:
        return 0.0
    return round(open_rows * max(0, elapsed_ms) / ended / 1000, 1) if ended else None


def _grouped(errors: Sequence[bytes]) -> list[dict[str, Any]]:
    decoded = [msgspec.json.decode(error, type=dict[str, Any]) for error in errors]
    numbers = Counter((error.get("code"), error.get("title")) for error in decoded)
    first = {(error.get("code"), error.get("title")): error for error in reversed(decoded)}
    return [{**first[group], "count": number} for group, number in numbers.most_common()]

"""What a person may do to a task after it was accepted: take back what has not left, send anew what failed.

Owns the portions in which the rows of a large task are moved, so that lanes and other writers get in between.
Rows in flight are nobody's to take back; what an attempt becomes is said in ``outcome.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from store.base import Store
from store.records import Row
from store.states import State
from whatsapp.events import place_of
from whatsapp.outcome import cancelled
from whatsapp.requeue import PORTION, Requeue

__all__ = ["Cancelled", "Retried", "TaskControl"]


class Cancelled(msgspec.Struct, frozen=True):
    """How a task stands after it was cancelled."""

    cancelled: int
    """Rows that never left, by this call or an earlier one."""
    too_late: int
    """All the others: in flight, taken by Meta, or ended in another way."""


class Retried(msgspec.Struct, frozen=True):
    """What a retry has moved."""

    retried: int
    left: int
    """Rows asked for that had not failed; 0 where all that failed were asked for."""


class TaskControl:
    """Cancels and retries. A call that broke off is made good by the same call again."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def cancel(self, task_id: str) -> Cancelled | None:
        """Cancel every row that is queued; None where there is no such task. Raises StoreUnavailable."""
        if await self._store.find_task(task_id) is None:
            return None
        async for rows in self._in_state(task_id, State.QUEUED):
            now = self._now_ms()
            await self._store.apply([cancelled(row, now) for row in rows])
        task = await self._store.find_task(task_id)
        counts = task.counts if task else {}
        taken_back = counts.get(State.CANCELLED, 0)
        return Cancelled(taken_back, sum(counts.values()) - taken_back)

    async def retry(self, task_id: str, message_ids: Sequence[str] | None) -> Retried | None:
        """Queue rows that failed anew: these (all of this task), or every one. None where there is no such
        task. Raises StoreUnavailable."""
        if await self._store.find_task(task_id) is None:
            return None
        requeue = Requeue(self._store, self._now_ms())
        wanted = list(dict.fromkeys(message_ids or ()))
        portions = self._in_state(task_id, State.FAILED) if message_ids is None else self._these(wanted)
        try:
            async for rows in portions:
                await requeue.queue(rows)
        finally:
            await requeue.tell()
        return Retried(requeue.count, len(wanted) - requeue.count if wanted else 0)

    async def _in_state(self, task_id: str, state: State) -> AsyncIterator[list[Row]]:
        after = -1
        while views := await self._store.task_rows(task_id, after, PORTION, state):
            after = place_of(views[-1].row.id)
            yield [view.row for view in views]

    async def _these(self, wanted: Sequence[str]) -> AsyncIterator[list[Row]]:
        for start in range(0, len(wanted), PORTION):
            found = await self._store.find_rows(wanted[start : start + PORTION])
            if rows := [view.row for view in found.values() if view.row.state is State.FAILED]:
                yield rows

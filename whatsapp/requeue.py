"""Rows that failed, sent anew because a person says so.

Owns that each is queued once, and that its lane hears of it. Which rows is said by who asks:
``task_control.py`` of a task, ``dead_letters.py`` of all. What becomes of a row is said in ``outcome.py``.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence

from store.base import Store
from store.records import NewEvent, Row
from whatsapp.events import EventType, build_event, task_key
from whatsapp.outcome import requeued

__all__ = ["PORTION", "Requeue"]

PORTION = 500
"""Rows moved at once: some ten milliseconds of the writer's time."""


class Requeue:
    """One request of a person's. ``at``: one time for all its rows, since lanes look again at what is due
    from then on, once all are there."""

    def __init__(self, store: Store, at: int) -> None:
        self._store = store
        self._at = at
        self._untold: Counter[tuple[str, str]] = Counter()
        self.count = 0
        """Rows queued anew so far."""

    async def queue(self, rows: Sequence[Row]) -> list[Row]:
        """Queue these, at most :data:`PORTION`, as far as they have failed; those that are. Raises
        StoreUnavailable."""
        moved = await self._store.apply([requeued(row, self._at) for row in rows])
        done = [row for row, by_us in zip(rows, moved, strict=True) if by_us]
        if not self._store.atomic and len(done) < len(rows):
            # The tracker of another process may have read the events and moved the rows before us.
            seen = await self._store.find_rows([row.id for row in rows])
            done = [row for row in rows if row.id in seen and seen[row.id].row.retried > row.retried]
        self._untold.update((row.task_id, row.lane) for row in done)
        self.count += len(done)
        return done

    async def tell(self) -> None:
        """Tell of what was queued, also of a part: else the rows would wait until their lane looks at
        everything again. Raises StoreUnavailable."""
        if not self._untold:
            return
        told = sorted(self._untold.items())
        self._untold.clear()
        await self._store.append_events(
            [_task_retried(task_id, lane, count, self._at) for (task_id, lane), count in told]
        )


def _task_retried(task_id: str, lane: str, count: int, at: int) -> NewEvent:
    return build_event(
        EventType.TASK_RETRIED,
        task_key(task_id, f"retried:{uuid.uuid4().hex}"),
        at,
        {"task_id": task_id, "count": count},
        phone_number_id=lane,
    )

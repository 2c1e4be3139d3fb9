"""The claim of rows that are to leave now: durable before their calls begin (``store/states.py``).

Owns that of rows released together each has its call, is ended (its window is closed, its contact has opted
out), or goes back: none stays behind in ``sending`` without somebody who settles it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from store.base import Store
from store.errors import LeaseLost, StoreError
from store.records import Row
from store.states import State
from whatsapp.attempts import Attempts, HeldLease
from whatsapp.clock import Clock
from whatsapp.queue import LaneQueue
from whatsapp.suppressions import Suppressions
from whatsapp.windows import Windows

__all__ = ["Claims"]

_DROPPED_S = 1.0
"""When a row that could not be claimed is looked up: somebody else has moved it."""


class Claims:
    """Those of one lane."""

    def __init__(
        self,
        *,
        store: Store,
        windows: Windows,
        suppressions: Suppressions,
        queue: LaneQueue,
        attempts: Attempts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._windows = windows
        self._suppressions = suppressions
        self._queue = queue
        self._attempts = attempts
        self._clock = clock

    async def claim(self, rows: Sequence[Row], held: HeldLease) -> None:
        """Claim these rows durably, then start a call for each that is ours. Raises LeaseLost,
        StoreUnavailable."""
        rows = await self._without_opted_out(rows)
        closed = await self._windows.closed(rows)
        lease, now = held.lease, self._clock.now_ms()
        try:
            moved = await self._store.mark_sending(lease, rows, now)
        except LeaseLost:
            self._drop(rows)
            raise
        except StoreError:
            # It may have been applied: none of these may stay behind in "sending".
            for row in rows:
                self._attempts.give_back(_claimed(row, now), lease.term)
            raise
        for row in rows:
            if row.id in moved and row.id in closed and not self._windows.may_have_opened(row):
                self._attempts.shut_out(_claimed(row, now), lease.term)
            elif row.id in moved:
                self._attempts.send(_claimed(row, now), held, lease.term)
        self._drop([row for row in rows if row.id not in moved])

    async def _without_opted_out(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those whose contacts may be written to; the others are ended."""
        try:
            refused = await self._suppressions.refused(rows)
        except StoreError:
            self._drop(rows)
            raise
        for row in rows:
            if row.id in refused:
                self._attempts.refuse(row)
        return [row for row in rows if row.id not in refused] if refused else rows

    def _drop(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._queue.dropped(row, self._clock.monotonic() + _DROPPED_S)


def _claimed(row: Row, at: int) -> Row:
    return msgspec.structs.replace(row, state=State.SENDING, attempt=row.attempt + 1, claimed_at=at)

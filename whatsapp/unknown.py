"""Rows whose outcome nobody knows, and the end of their grace.

Owns the waiting: a row stays ``unknown`` until a status settles it, or until ``grace_s`` have passed in which
Meta's word could have reached us. Time in which the store was away does not count, and at the end of it the
tracker must first have passed all that had come in by then. What follows is decided in ``outcome.py``.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence

from store.base import Store
from store.errors import StoreError
from store.log import Log
from store.monitor import StoreMonitor
from store.records import Row
from store.states import State
from whatsapp.outcome import resolve_unknown
from whatsapp.retry import RetryPolicy

__all__ = ["TRACKER", "UnknownRows"]

_log = logging.getLogger(__name__)

TRACKER = "tracker"
"""Name of the consumer that carries statuses to rows."""
_LOOK_S = 0.25
_AT_ONCE = 500
"""Rows resolved in one go: what the store does well within its time."""


class UnknownRows:
    """Those of one lane."""

    def __init__(
        self,
        *,
        store: Store,
        log: Log,
        monitor: StoreMonitor,
        grace_s: float,
        resend: bool,
        policy: RetryPolicy,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._log = log
        self._monitor = monitor
        self._grace_s = grace_s
        self._resend = resend
        self._policy = policy
        self._now_ms = now_ms
        self._waiting: list[tuple[float, int, int, Row]] = []  # (up_seconds, seq, attempt, row)
        self._attempts: dict[str, int] = {}  # rows of these that no status has settled

    def add(self, row: Row) -> None:
        """Begin a row's grace."""
        self._attempts[row.id] = row.attempt
        heapq.heappush(self._waiting, (self._monitor.up_seconds + self._grace_s, row.seq, row.attempt, row))

    def settled(self, row_id: str) -> None:
        """A status has proved that Meta took the row."""
        self._attempts.pop(row_id, None)

    def __len__(self) -> int:
        return len(self._attempts)

    async def run(self, resolved: Callable[[Sequence[str]], None]) -> None:
        """Resolve rows whose grace is over, until cancelled.

        ``resolved`` is told each time, with their ids: to be sent again, or ended, by now.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            over = self._over()
            while over:
                try:
                    resolved(await self._resolve(over))
                    break
                except StoreError as error:
                    _log.warning("store away, unknown rows wait: %s", error.message)
                    await asyncio.sleep(_LOOK_S)

    def _over(self) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < _AT_ONCE and self._waiting and self._waiting[0][0] <= self._monitor.up_seconds:
            row = heapq.heappop(self._waiting)[3]
            if self._attempts.get(row.id) == row.attempt:
                del self._attempts[row.id]
                rows.append(row)
        return rows

    async def _resolve(self, rows: list[Row]) -> list[str]:
        await self.tracker_caught_up()
        views = await self._store.find_rows([row.id for row in rows])
        still = [
            view.row
            for row in rows
            if (view := views.get(row.id)) is not None
            and view.row.state is State.UNKNOWN
            and view.row.attempt == row.attempt
        ]
        now = self._now_ms()
        if still:
            await self._store.apply([resolve_unknown(row, self._resend, self._policy, now) for row in still])
        return [row.id for row in rows]

    async def tracker_caught_up(self, stops: Callable[[], bool] = lambda: False) -> None:
        """Return once the tracker has passed all that is in the log now, or the lane ``stops``."""
        head = (await self._log.bounds()).head
        # It may run in another process, so nothing signals.
        while not stops() and await self._store.load_cursor(TRACKER) < head:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

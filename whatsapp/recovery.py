"""Attempts without an end: what a lane finds in the outbox when it begins, and looks for now and then.

Owns the taking over of what earlier owners left (calls that were under way when they died, rows that hold
others back), and the search for strays: rows in ``sending`` whose claim was stored after it had been given
up.
"""

from __future__ import annotations

from typing import Protocol

from store.base import Store
from store.records import Row
from store.states import State
from whatsapp.clock import Clock
from whatsapp.outcome import lost_in_crash
from whatsapp.queue import LaneQueue
from whatsapp.unknown import UnknownRows

__all__ = ["Calls", "Recovery"]

_PAGE = 500


class Calls(Protocol):
    """The attempts under way."""

    def holds(self, row: Row) -> bool:
        """Whether this row is among them."""
        ...

    def lost(self, row: Row) -> None:
        """Settle a row whose call is none of them."""
        ...


class Recovery:
    """That of one lane."""

    def __init__(
        self, lane: str, *, store: Store, queue: LaneQueue, calls: Calls, unknown: UnknownRows, clock: Clock
    ) -> None:
        self._lane = lane
        self._store = store
        self._queue = queue
        self._calls = calls
        self._unknown = unknown
        self._clock = clock
        self._suspects: set[tuple[str, int]] = set()

    async def take_over(self) -> None:
        """Begin with what earlier owners left. May be repeated. Raises StoreUnavailable."""
        await self._end_calls()
        after = 0
        while rows := await self._store.blocking_rows(self._lane, after, _PAGE):
            after = rows[-1].seq
            for row in rows:
                again = row.state is State.QUEUED
                self._queue.block(row, self._clock.monotonic_at(row.due) if again else None)
                if row.state is State.UNKNOWN:
                    self._unknown.add(row)

    async def look(self) -> None:
        """Settle strays; have all rows that hold others back looked up. Raises StoreUnavailable."""
        rows = await self._store.rows_in_state(self._lane, State.SENDING, 0, _PAGE)
        # Twice in a row: a claim that was stored just now has no call yet.
        suspects = {(row.id, row.attempt): row for row in rows if not self._calls.holds(row)}
        for suspect, row in suspects.items():
            if suspect in self._suspects:
                self._calls.lost(row)
        self._suspects = set(suspects)
        # One may have ended unseen: its status may have come before its attempt was known to wait.
        for row_id in self._queue.blocking:
            self._queue.recall(row_id, 0.0)

    async def _end_calls(self) -> None:
        if not self._store.atomic:
            # Outcomes may be in the log and not on the rows yet: let the tracker carry them over first.
            await self._unknown.tracker_caught_up()
        after = 0
        while rows := await self._store.rows_in_state(self._lane, State.SENDING, after, _PAGE):
            after = rows[-1].seq
            await self._store.apply([lost_in_crash(row, self._clock.now_ms()) for row in rows])

"""Attempts without an end: what a lane finds in the outbox when it begins, and looks for now and then.

Owns the taking over of what earlier owners left (calls that were under way when they died, rows that hold
others back), and the search for strays: rows in ``sending`` whose claim was stored after it had been given
up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from store.base import Store
from store.records import Place, Row
from store.states import State
from whatsapp.clock import Clock
from whatsapp.outcome import lost
from whatsapp.queue import LaneQueue, next_look
from whatsapp.unknown import UnknownRows

__all__ = ["Calls", "Recovery"]

_PAGE = 500
_GONE = "the sending process ended during the call"


class Calls(Protocol):
    """The attempts under way."""

    def holds(self, row: Row) -> bool:
        """Whether this row is among them."""
        ...

    def lost(self, row: Row, term: int) -> None:
        """Settle a row that stands in ``sending`` under this term at most, and is none of them."""
        ...


class Recovery:
    """That of one lane."""

    def __init__(
        self,
        lane: str,
        *,
        store: Store,
        queue: LaneQueue,
        calls: Calls,
        unknown: UnknownRows,
        clock: Clock,
        ordered_s: float,
    ) -> None:
        """``ordered_s``: how long an ordered row that is not delivered holds others back."""
        self._lane = lane
        self._store = store
        self._queue = queue
        self._calls = calls
        self._unknown = unknown
        self._clock = clock
        self._ordered_ms = int(1000 * ordered_s)
        self._suspects: set[tuple[str, int]] = set()

    async def take_over(self, term: int, stops: Callable[[], bool]) -> None:
        """Begin with what owners of older terms left, or leave off where the lane ``stops``. May be repeated.
        Raises StoreUnavailable."""
        await self._end_calls(term, stops)
        after = 0
        while not stops() and (rows := await self._store.blocking_rows(self._lane, after, _PAGE)):
            after = rows[-1].seq
            for row in rows:
                again = row.state is State.QUEUED
                self._queue.block(row, self._clock.monotonic_at(row.due) if again else None)
                if row.state is State.UNKNOWN:
                    self._unknown.add(row)
        await self._wait_for_delivery(stops)

    async def look(self, term: int) -> None:
        """Settle strays; have all rows that hold others back looked up. Raises StoreUnavailable."""
        suspects: dict[tuple[str, int], Row] = {}
        after = 0
        while rows := await self._store.rows_in_state(self._lane, State.SENDING, after, _PAGE):
            after = rows[-1].seq
            suspects.update({(row.id, row.attempt): row for row in rows if not self._calls.holds(row)})
        # Twice in a row: a claim that was stored just now has no call yet.
        for suspect, row in suspects.items():
            if suspect in self._suspects:
                self._calls.lost(row, term)
        self._suspects = set(suspects)
        # One may have ended unseen: its status may have come before its attempt was known to wait.
        self._queue.recall_blockers()

    async def _wait_for_delivery(self, stops: Callable[[], bool]) -> None:
        after = Place(self._clock.now_ms() - self._ordered_ms, 0)
        while not stops() and (views := await self._store.undelivered(self._lane, after, _PAGE)):
            after = Place(views[-1].last_sent_at, views[-1].row.seq)
            for view in views:
                look_at = next_look(view, self._ordered_ms, self._clock.now_ms())
                self._queue.block(view.row, self._clock.monotonic_at(look_at))

    async def _end_calls(self, term: int, stops: Callable[[], bool]) -> None:
        if not self._store.atomic:
            # Outcomes may be in the log and not on the rows yet: let the tracker carry them over first.
            await self._unknown.tracker_caught_up(stops)
        after = 0
        while not stops() and (
            rows := await self._store.rows_in_state(self._lane, State.SENDING, after, _PAGE)
        ):
            after = rows[-1].seq
            now = self._clock.now_ms()
            await self._store.apply([lost(row, _GONE, term, now) for row in rows])

"""Reads due rows of one lane from the outbox into its window, page by page.

Owns how far each priority's scan has come. A scan goes on from its place, since rows mostly come in behind
it; once at its end it begins anew at every poll, which finds rows that have come due or were stored behind
the place by another process.
"""

from __future__ import annotations

from collections.abc import Callable

from store.base import Store
from store.records import Place, Priority
from whatsapp.queue import PRIORITIES, LaneQueue

__all__ = ["ReadAhead"]

_PAGE = 500
_STREAM_PAGE = 8
_START = Place(0, 0)


class ReadAhead:
    """Fills ``queue`` with the rows of ``lane``."""

    def __init__(self, lane: str, queue: LaneQueue, *, store: Store, now_ms: Callable[[], int]) -> None:
        self._lane = lane
        self._queue = queue
        self._store = store
        self._now_ms = now_ms
        self._places = dict.fromkeys(PRIORITIES, _START)
        self._at_end = dict.fromkeys(PRIORITIES, False)

    def news(self) -> None:
        """Rows may have come in: those scans that were at their end go on."""
        self._at_end = dict.fromkeys(PRIORITIES, False)

    def look_again(self) -> None:
        """Begin the scans that are at their end anew."""
        for priority in PRIORITIES:
            if self._at_end[priority]:
                self._places[priority] = _START
                self._at_end[priority] = False

    async def refill(self) -> None:
        """Read what the queue has room for or asks for. Raises StoreUnavailable."""
        now = self._now_ms()
        for stream in self._queue.wanted():
            rows = await self._store.read_contact(
                self._lane, stream.priority, stream.contact, _START, now, _STREAM_PAGE
            )
            self._queue.offer_stream(stream, rows, complete=len(rows) < _STREAM_PAGE)
        for priority in PRIORITIES:
            room = min(self._queue.room(priority), _PAGE)
            if room and not self._at_end[priority]:
                await self._read_page(priority, now, room)

    async def _read_page(self, priority: Priority, now: int, room: int) -> None:
        # Before the read, so that news that come during it are not lost.
        self._at_end[priority] = True
        try:
            rows = await self._store.read_ahead(self._lane, priority, self._places[priority], now, room)
        except BaseException:
            self._at_end[priority] = False
            raise
        if len(rows) == room:
            self._at_end[priority] = False
        if rows:
            self._places[priority] = Place(rows[-1].due, rows[-1].seq)
            self._queue.offer(rows)

"""Whom a number has written to lately, read from the log as its lane starts.

Owns the reading alone: what so many messages to one recipient mean is ``pacing.py``'s. Meta goes on counting
while the gateway restarts, or another process takes over (CLOUD_API.md 3, pair burst), and the log is what
both owners of the lane know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from store.base import Store
from store.records import Event
from whatsapp.clock import Clock
from whatsapp.events import STATUS_KEY, EventType
from whatsapp.log_times import offset_of
from whatsapp.pacing import PairPacer

__all__ = ["PairHistory"]

_PAGE = 1000
_MOST = 100_000
"""Events after which no older ones are read: about those of a burst's time at Meta's usual 80 messages a
second."""
_PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Of the time that counts, the newest first: they matter most where there are too many."""
_REACHED = frozenset({EventType.MESSAGE_SENT, EventType.MESSAGE_UNKNOWN, EventType.MESSAGE_DOUBLED})
"""What is told when a message has, or may have, reached Meta."""


class PairHistory:
    """That of one lane."""

    def __init__(self, lane: str, pairs: PairPacer, *, store: Store, clock: Clock, span_s: float) -> None:
        """``span_s``: how long ago a message still counts, a whole burst paid back."""
        self._lane = lane
        self._pairs = pairs
        self._store = store
        self._clock = clock
        self._span_ms = int(1000 * span_s)

    async def read(self, stops: Callable[[], bool]) -> None:
        """Have the pacer know what has been sent, or leave off where the lane ``stops``. For before the first
        message. Raises StoreUnavailable."""
        bounds = await self._store.log_bounds()
        times: dict[str, list[float]] = {}
        now, end, left = self._clock.now_ms(), bounds.head, _MOST
        for part in _PARTS:
            since = now - int(self._span_ms * part)
            start = await offset_of(self._store, since, bounds.floor, end)
            left -= await self._note_between(start, end, times, stops)
            if left <= 0 or stops():
                break
            end = start
        for contact, at in times.items():
            self._pairs.rebuild(contact, at)

    async def _note_between(
        self, start: int, end: int, times: dict[str, list[float]], stops: Callable[[], bool]
    ) -> int:
        """How many events lie there."""
        count = 0
        while start < end and not stops() and (events := await self._store.events_after(start, _PAGE)):
            events = [event for event in events if event.offset <= end]
            start = events[-1].offset if events else end
            count += len(events)
            self._note(events, times)
        return count

    def _note(self, events: Sequence[Event], times: dict[str, list[float]]) -> None:
        since = self._clock.now_ms() - self._span_ms
        for event in events:
            ours = event.phone_number_id == self._lane and event.type in _REACHED
            if ours and event.at >= since and not event.key.startswith(STATUS_KEY):
                ago_s = max(0, self._clock.now_ms() - event.at) / 1000
                times.setdefault(event.contact, []).append(self._clock.monotonic() - ago_s)

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
from whatsapp.pacing import PairPacer

__all__ = ["PairHistory"]

_PAGE = 1000
_MOST = 100_000
"""Events read at most, the newest: those of five minutes at Meta's usual 80 messages a second."""
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
        since = self._clock.now_ms() - self._span_ms
        offset = await self._offset_of(since)
        times: dict[str, list[float]] = {}
        while not stops() and (events := await self._store.events_after(offset, _PAGE)):
            offset = events[-1].offset
            self._note(events, since, times)
        for contact, at in times.items():
            self._pairs.rebuild(contact, at)

    async def _offset_of(self, since: int) -> int:
        """A place in the log behind which everything from ``since`` (ms) on lies: events are in the order of
        their times, but for the clocks of several processes."""
        bounds = await self._store.log_bounds()
        low, high = max(bounds.floor, bounds.head - _MOST), bounds.head
        while high - low > _PAGE:
            middle = (low + high) // 2
            event = next(iter(await self._store.events_after(middle, 1)), None)
            if event is None or event.at >= since:
                high = middle
            else:
                low = middle
        return low

    def _note(self, events: Sequence[Event], since: int, times: dict[str, list[float]]) -> None:
        for event in events:
            ours = event.phone_number_id == self._lane and event.type in _REACHED
            if ours and event.at >= since and not event.key.startswith(STATUS_KEY):
                ago_s = max(0, self._clock.now_ms() - event.at) / 1000
                times.setdefault(event.contact, []).append(self._clock.monotonic() - ago_s)

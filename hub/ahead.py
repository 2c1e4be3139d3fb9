"""What is read ahead of an outside receiver's place in the log: one page, and which of it goes next.

Pure. A page is bounded by a number of events and, from one page to the next, by bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from store.records import Event

__all__ = ["Ahead"]

_PAGE_EVENTS = 100
_PAGE_BYTES = 4 * 1024 * 1024
_PORTION_BYTES = 1024 * 1024


class Ahead:
    """``wanted``: whether the receiver is to get an event."""

    def __init__(self, wanted: Callable[[Event], bool]) -> None:
        self._wanted = wanted
        self._events: deque[Event] = deque()
        self._alone_until = 0
        self.offset = 0
        """Up to here the receiver has everything, or was spared it."""
        self.page = _PAGE_EVENTS
        """How many events to read next."""

    def __len__(self) -> int:
        return len(self._events)

    def start_at(self, offset: int) -> None:
        """Forget what was read, and go on past this offset."""
        self._events.clear()
        self.offset = offset
        self._alone_until = 0

    def take(self, page: Sequence[Event]) -> None:
        """The events past what there is, not none."""
        self._events.extend(page)
        size = sum(len(event.body) for event in page)
        # Of a size like these, as many as are not too much for memory.
        self.page = max(1, min(_PAGE_EVENTS, len(page) * _PAGE_BYTES // max(1, size)))

    def next(self, most: int) -> list[Event]:
        """What is to be handed over next, at most so many; none where nothing of the page is wanted. What is
        not wanted before it is passed."""
        while self._events and not self._wanted(self._events[0]):
            self.pass_to(self._events[0].offset)
        if not self._events:
            return []
        if self._events[0].offset <= self._alone_until:
            most = 1
        portion: list[Event] = []
        size = 0
        for event in self._events:
            if not self._wanted(event):
                continue
            size += len(event.body)
            if len(portion) == most or (portion and size > _PORTION_BYTES):
                break
            portion.append(event)
        return portion

    def pass_to(self, offset: int) -> None:
        """The events up to here are done with."""
        while self._events and self._events[0].offset <= offset:
            self._events.popleft()
        self.offset = offset

    def part(self, events: Sequence[Event]) -> None:
        """Give these one by one: one of them was refused, together with the others."""
        self._alone_until = events[-1].offset

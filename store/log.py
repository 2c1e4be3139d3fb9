"""The event log as the rest of the gateway reads it: the store's log with its newest part kept in memory.

Owns the window of recent events and the wake-up of readers. A reader that keeps up is served from memory, one
that is behind reads the store; neither can tell. Publishing never waits for a reader.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from store.base import Store
from store.records import Event, LogBounds, NewEvent

__all__ = ["Log"]

_logger = logging.getLogger(__name__)

Listener = Callable[[Sequence[Event]], None]


class Log:
    """One per process. Call :meth:`start` after the store is open and before anything reads."""

    def __init__(self, store: Store, *, keep_bytes: int = 8 * 1024 * 1024) -> None:
        self._store = store
        self._keep_bytes = keep_bytes
        self._recent: deque[Event] = deque()
        self._recent_bytes = 0
        self._floor = 0
        self._head = 0
        self._listeners: list[Listener] = []
        self._grown = asyncio.Event()

    async def start(self) -> None:
        """Learn where the log stands, then follow it."""
        self._store.on_events(self._take)
        head = (await self._store.log_bounds()).head
        if not self._recent:
            self._floor = self._head = head

    @property
    def epoch(self) -> str:
        """Identity of the log."""
        return self._store.epoch

    @property
    def head(self) -> int:
        """Offset of the newest event that this process has seen."""
        return self._head

    async def bounds(self) -> LogBounds:
        """What the log holds, as the store says."""
        return await self._store.log_bounds()

    async def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Append those that are new; return just these. They have reached every listener by then."""
        return await self._store.append_events(events)

    def has_in_memory(self, after: int) -> bool:
        """Whether what comes past ``after`` is read without asking the store."""
        return after >= self._floor

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """The oldest events past ``after``, at most ``limit``; empty when there is none yet.

        Returns without having waited when ``after`` lies in the window kept in memory.
        """
        if after >= self._head:
            return ()
        if self.has_in_memory(after):
            return self._from_memory(after, limit)
        return await self._store.events_after(after, limit)

    def forget(self) -> None:
        """Let go of what is in memory, since the store has it otherwise by now: it is read from there."""
        self._recent.clear()
        self._recent_bytes = 0
        self._floor = self._head

    async def wait(self, after: int) -> None:
        """Return once there is an event past ``after``."""
        while self._head <= after:
            await self._grown.wait()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have every batch from now on handed to ``listener``, in order; returns the undo, which may be
        called twice."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def _from_memory(self, after: int, limit: int) -> list[Event]:
        newer = 0
        for event in reversed(self._recent):
            if event.offset <= after:
                break
            newer += 1
        start = len(self._recent) - newer
        return list(islice(self._recent, start, start + limit))

    def _take(self, batch: Sequence[Event]) -> None:
        for event in batch:
            self._recent.append(event)
            self._recent_bytes += len(event.body)
        self._head = batch[-1].offset
        if self._floor == 0 and self._recent[0] is batch[0]:
            self._floor = batch[0].prev
        while self._recent_bytes > self._keep_bytes and len(self._recent) > 1:
            gone = self._recent.popleft()
            self._recent_bytes -= len(gone.body)
            self._floor = gone.offset
        for listener in tuple(self._listeners):
            try:
                listener(batch)
            except Exception:
                # The events are committed: whose appended them must hear so, whatever a listener makes of
                # them.
                _logger.exception("a listener of the log failed")
        self._grown.set()
        self._grown = asyncio.Event()

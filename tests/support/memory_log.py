"""A test double of the log part of a store, and only of that: what :class:`store.log.Log` asks a store for.

Keeps events in a list. Offsets may have gaps, as the contract allows; a test may let the store know of events
before it tells this process, remove old events, hold reads back, and make them fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from store.base import Store
from store.log import Log
from store.records import Event, LogBounds, NewEvent

__all__ = ["MemoryLogStore", "new_event", "started_log"]


def new_event(
    n: int, type: str = "message.received", *, phone_number_id: str = "", contact: str = "", size: int = 0
) -> NewEvent:
    """An event that tells itself apart by ``n``; its body grows by ``size`` bytes."""
    body = {
        "event": type,
        "at": "2026-01-01T00:00:00Z",
        "phone_number_id": phone_number_id,
        "contact": contact,
        "data": {"n": n, "pad": "x" * size},
    }
    return NewEvent(
        key=f"test:{n}",
        type=type,
        at=0,
        body=msgspec.json.encode(body),
        phone_number_id=phone_number_id,
        contact=contact,
    )


class MemoryLogStore:
    """The log of a store, in memory."""

    def __init__(self, epoch: str = "e1", *, stride: int = 1) -> None:
        """``stride``: by how much offsets grow."""
        self.epoch = epoch
        self.events: list[Event] = []
        self.fault: Exception | None = None
        """Raised by the next reads, while set."""
        self.reading = asyncio.Event()
        """Set once a read has begun."""
        self.waiting = 0
        """Reads that are held."""
        self._stride = stride
        self._floor = 0
        self._told = 0
        self._callback: Callable[[Sequence[Event]], None] = lambda events: None
        self._gate = asyncio.Event()
        self._gate.set()

    def on_events(self, callback: Callable[[Sequence[Event]], None]) -> None:
        """As in the contract."""
        self._callback = callback

    async def append_events(self, events: Sequence[NewEvent]) -> list[Event]:
        """As in the contract, but for keys, which are not compared."""
        added = self.store(events)
        self.tell()
        return added

    async def events_after(self, offset: int, limit: int) -> list[Event]:
        """As in the contract; waits while reads are held."""
        self.reading.set()
        self.waiting += 1
        await self._gate.wait()
        self.waiting -= 1
        if self.fault is not None:
            raise self.fault
        return [event for event in self.events if event.offset > offset][:limit]

    async def log_bounds(self) -> LogBounds:
        """As in the contract."""
        return LogBounds(self._floor, self._head)

    def store(self, events: Sequence[NewEvent]) -> list[Event]:
        """Append without telling this process, as if another one had."""
        added: list[Event] = []
        for event in events:
            values = msgspec.structs.asdict(event)
            added.append(Event(offset=self._head + self._stride, prev=self._head, **values))
            self.events.append(added[-1])
        return added

    def tell(self) -> None:
        """Hand what was not told yet to the callback, as one batch."""
        fresh = [event for event in self.events if event.offset > self._told]
        if fresh:
            self._told = fresh[-1].offset
            self._callback(fresh)

    def remove_through(self, offset: int) -> None:
        """Remove the events up to this one, as retention does."""
        gone = [event for event in self.events if event.offset <= offset]
        self.events = self.events[len(gone) :]
        self._floor = max(self._floor, gone[-1].offset if gone else 0)

    def hold_reads(self) -> None:
        """Let reads wait until :meth:`release_reads`."""
        self.reading.clear()
        self._gate.clear()

    def release_reads(self) -> None:
        """Let held reads go on; they see the log as it is by then."""
        self._gate.set()

    @property
    def _head(self) -> int:
        return self.events[-1].offset if self.events else self._floor


async def started_log(store: MemoryLogStore, *, keep_bytes: int = 8 * 1024 * 1024) -> Log:
    """A log over this store. ``keep_bytes`` small: readers that are behind go to the store."""
    log = Log(cast("Store", store), keep_bytes=keep_bytes)
    await log.start()
    return log

"""A store with a lane that is leased, and the tracker, which reads the log when the test says so."""

from __future__ import annotations

from typing import Any

import msgspec

from store.base import Store
from store.records import Cursor
from tests.support.store_values import lane_lease
from whatsapp.retry import RetryPolicy
from whatsapp.tracker import Tracker

__all__ = ["Tracking"]


class Tracking:
    """Its clock goes on by a millisecond with each look."""

    def __init__(self, store: Store) -> None:
        self.now = 1_700_000_000_000
        self.store = store
        self._tracker = Tracker(store, policy=RetryPolicy(), random=lambda: 0.5, now_ms=self._now_ms)
        self._seen = 0

    def _now_ms(self) -> int:
        self.now += 1
        return self.now

    async def start(self) -> None:
        """Take the leases."""
        self.lane = await lane_lease(self.store)
        self._lease = await lane_lease(self.store, name="consumer:tracker")

    async def carry(self) -> None:
        """Have the tracker handle what is new."""
        while events := await self.store.events_after(self._seen, 1000):
            self._seen = events[-1].offset
            await self._tracker.handle(events, Cursor("tracker", self._seen), self._lease)

    async def data_of(self, type: str) -> list[dict[str, Any]]:
        """``data`` of every event of this type so far."""
        found = await self.store.events_after(0, 10_000)
        return [msgspec.json.decode(event.body)["data"] for event in found if event.type == type]

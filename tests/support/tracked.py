"""A row of one task on any store, and the tracker, which hears what Meta says of it when the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from store.base import Store
from store.log import Log
from store.records import Cursor, Event, RowView
from store.states import State
from tests.support.rows import TASK
from tests.support.store_values import add_task, bring, lane_lease, new_row, view
from tests.support.webhooks import OUR_ID, PHONE, body, entry, message_value
from whatsapp.contacts import Contacts
from whatsapp.intake import Intake
from whatsapp.outcome import taken
from whatsapp.retry import RetryPolicy
from whatsapp.tracker import Tracker

__all__ = ["ANSWER", "NOW", "ROW", "Tracked", "status"]

ROW = f"{TASK}-0"
NOW = 1_700_000_000_000
ANSWER = b'{"messages":[{"id":"wamid.A"}]}'


def status(name: str, wamid: str = "wamid.A", *, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"id": wamid, "status": name, "timestamp": "1700000000", "recipient_id": PHONE}
    reference = {"biz_opaque_callback_data": f"{ROW}.{attempt}"} if attempt else {}
    return {**found, **reference, **fields}


class Tracked:
    """A row whose first attempt is under way, and the tracker."""

    def __init__(self, store: Store, **asked: Any) -> None:
        """``asked``: what the row has beside its message."""
        self.store = store
        self._asked = asked
        self.log = Log(store)
        self._tracker = Tracker(store, policy=RetryPolicy(), random=lambda: 0.5, now_ms=lambda: NOW)
        self._intake = Intake(self.log, Contacts(store), store, now_ms=lambda: NOW)
        self._seen = 0

    async def start(self) -> None:
        await self.log.start()
        self.lane = await lane_lease(self.store, name=f"lane:{OUR_ID}")
        self._lease = await lane_lease(self.store, name="consumer:tracker")
        asked = {"contact": PHONE, "payload": b"{1}", **self._asked}
        row = new_row(0, lane=OUR_ID, **asked)
        await add_task(self.store, TASK, [row])
        await self.send()

    async def send(self) -> None:
        """The lane claims the row."""
        await bring(self.store, self.lane, {ROW: State.SENDING})

    async def answer(self, wamid: str = "wamid.A") -> None:
        """Meta's answer to the attempt under way, or to the first, comes late."""
        row = (await self.view()).row
        change, event = taken(row, wamid, ANSWER, NOW)
        await self.store.apply([change], [event])

    async def hear(self, *statuses: dict[str, Any]) -> None:
        await self._intake.take(body(entry(message_value(statuses=list(statuses)))))

    async def track(self) -> Sequence[Event]:
        """Handle all that is new; what it was."""
        events = await self.store.events_after(self._seen, 1000)
        if events:
            self._seen = events[-1].offset
            await self.handle(events)
        return events

    async def handle(self, events: Sequence[Event]) -> None:
        await self._tracker.handle(events, Cursor("tracker", events[-1].offset), self._lease)

    async def view(self) -> RowView:
        return await view(self.store, ROW)

    async def told(self, type: str) -> list[Event]:
        return [event for event in await self.store.events_after(0, 1000) if event.type == type]

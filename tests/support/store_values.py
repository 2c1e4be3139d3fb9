"""Records for tests of stores, and the ways that rows take to their states."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from store.base import Store
from store.records import Change, Event, Lease, NewEvent, NewRow, NewTask, Place, Row, RowView
from store.states import State
from tests.support.waiting import GUARD_S, eventually

__all__ = [
    "LANE",
    "START",
    "Listener",
    "add_task",
    "bring",
    "eventually",
    "lane_lease",
    "new_event",
    "new_row",
    "new_task",
    "read_all",
    "view",
]

LANE = "100"
START = Place(0, 0)

_WAYS: dict[State, tuple[State, ...]] = {
    State.QUEUED: (),
    State.SENDING: (State.SENDING,),
    State.UNKNOWN: (State.SENDING, State.UNKNOWN),
    State.SENT: (State.SENDING, State.SENT),
    State.DELIVERED: (State.SENDING, State.SENT, State.DELIVERED),
    State.READ: (State.SENDING, State.SENT, State.DELIVERED, State.READ),
    State.PLAYED: (State.SENDING, State.SENT, State.DELIVERED, State.READ, State.PLAYED),
    State.FAILED: (State.SENDING, State.FAILED),
    State.CANCELLED: (State.CANCELLED,),
    State.EXPIRED: (State.EXPIRED,),
}


def new_event(key: str, *, body: bytes = b'{"data":{}}') -> NewEvent:
    """An event that nothing but its key tells apart."""
    return NewEvent(key=key, type="message.received", at=1_700_000_000_000, body=body)


def new_task(task_id: str = "task", *, total: int = 1, created_at: int = 1000) -> NewTask:
    return NewTask(id=task_id, kind="text", source="api", total=total, created_at=created_at)


def new_row(
    n: int = 0,
    *,
    lane: str = LANE,
    contact: str = "",
    priority: int = 1,
    due: int = 1000,
    payload: bytes = b"{}",
    **asked: Any,
) -> NewRow:
    """A row to a contact of its own, unless ``contact`` says otherwise."""
    return NewRow(n, lane, contact or f"contact-{n}", priority, due, payload, **asked)


async def add_task(store: Store, task_id: str = "task", rows: Sequence[NewRow] | int = 1) -> list[str]:
    """Store a ready task with these rows, or so many; their ids."""
    if isinstance(rows, int):
        rows = [new_row(n) for n in range(rows)]
    assert await store.create_task(new_task(task_id, total=len(rows)), rows)
    return [f"{task_id}-{row.n}" for row in rows]


async def lane_lease(store: Store, owner: str = "me", name: str = f"lane:{LANE}") -> Lease:
    lease = await store.acquire_lease(name, owner, 60_000)
    assert lease is not None
    return lease


async def view(store: Store, row_id: str) -> RowView:
    """One row as it stands."""
    return (await store.find_rows([row_id]))[row_id]


async def bring(store: Store, lease: Lease, states: dict[str, State]) -> None:
    """Take queued rows to these states, all of them together, along the table of moves."""
    ways = {row_id: list(_WAYS[state]) for row_id, state in states.items()}
    while any(ways.values()):
        steps = {row_id: way.pop(0) for row_id, way in ways.items() if way}
        marked = [row_id for row_id, state in steps.items() if state is State.SENDING]
        rows = [found.row for found in (await store.find_rows(marked)).values()]
        assert await store.mark_sending(lease, rows) == set(marked)
        changes = [Change(row_id, to, 1) for row_id, to in steps.items() if to is not State.SENDING]
        assert all(await store.apply(changes))


async def read_all(store: Store, *, lane: str = LANE, priority: int = 1, now: int = 10_000) -> list[Row]:
    return await store.read_ahead(lane, priority, START, now, 1000)


class Listener:
    """Collects what a store calls back with."""

    def __init__(self, store: Store) -> None:
        self.events: list[Event] = []
        self._grown = asyncio.Event()
        store.on_events(self._take)

    @property
    def keys(self) -> list[str]:
        return [event.key for event in self.events]

    async def wait_for(self, count: int) -> None:
        """Return once there are so many events."""
        async with asyncio.timeout(GUARD_S):
            while len(self.events) < count:
                self._grown.clear()
                await self._grown.wait()

    def _take(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        self._grown.set()

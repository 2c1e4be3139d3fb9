"""Where every send begins: the one door to the outbox, for REST calls, the socket and automatic replies.

Owns the making of tasks and rows, and the waiting of direct sends for their outcome, which it reads from the
log like everybody else, so that it does not matter which process sends.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from store.base import Store
from store.deadline import answered_in_time
from store.errors import StoreUnavailable
from store.log import Log
from store.records import Event, NewEvent, NewRow, NewTask, Priority, RowView, Suppression
from store.states import ENDED, State
from whatsapp.contacts import Contacts
from whatsapp.drafts import AT_ONCE, HIGH, LOW, NORMAL, Draft, Terms
from whatsapp.events import STATUS_KEY, EventType, build_event, place_of, task_key, task_of_key
from whatsapp.failures import Draining

__all__ = ["AT_ONCE", "HIGH", "LOW", "NORMAL", "Draft", "Outbox", "Sifted", "Terms"]

_CHUNK = 500
"""Rows stored at once: a few milliseconds of the writer's time, so that other writes get in between."""

_OUTCOMES = frozenset(
    {
        EventType.MESSAGE_SENT,
        EventType.MESSAGE_FAILED,
        EventType.MESSAGE_CANCELLED,
        EventType.MESSAGE_EXPIRED,
    }
)


class Sifted(NamedTuple):
    """Drafts without those whose recipients have opted out."""

    drafts: list[Draft]
    """With the keys of their contacts, and so that opting out before they leave stops them too."""
    places: list[int]
    refused: list[tuple[int, Suppression]]
    """Places of the others, and why."""


class Outbox:
    """Takes drafts, answers with task ids, and tells how rows ended."""

    def __init__(self, store: Store, log: Log, contacts: Contacts, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._log = log
        self._contacts = contacts
        self._now_ms = now_ms
        self._waiters: dict[str, asyncio.Future[Event | None]] = {}
        self._draining = False
        self._unsubscribe = log.subscribe(self._notice)

    def drain(self) -> None:
        """Take nothing new from now on."""
        self._draining = True

    def close(self) -> None:
        """Stop to listen. Those who still wait are told that there is no outcome yet."""
        self._unsubscribe()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_result(None)

    async def sift(
        self,
        drafts: Sequence[Draft],
        places: Sequence[int],
        heeds: Callable[[bytes], bool],
        *,
        dry_run: bool = False,
    ) -> Sifted:
        """Leave out whoever is suppressed now, by one read for each few hundred. ``heeds``: which messages
        are to heed it; what goes to a group never does. ``dry_run``: nobody is met by it. Raises
        StoreUnavailable."""
        keys_of = self._contacts.find if dry_run else self._contacts.resolve
        sifted = Sifted([], [], [])
        for start in range(0, len(drafts), _CHUNK):
            chunk = [
                (place, draft, not draft.contact and heeds(draft.payload))
                for place, draft in zip(
                    places[start : start + _CHUNK], drafts[start : start + _CHUNK], strict=True
                )
            ]
            async with answered_in_time():
                keys = await keys_of({d.address for _, d, _ in chunk if not d.contact})
                found = await self._store.find_suppressions({keys[d.address] for _, d, asks in chunk if asks})
            for place, draft, asks in chunk:
                key = draft.contact or keys[draft.address]
                if asks and key in found:
                    sifted.refused.append((place, found[key]))
                    continue
                sifted.drafts.append(Draft(draft.address, draft.payload, key, draft.fallback, asks))
                sifted.places.append(place)
        return sifted

    async def submit(
        self,
        kind: str,
        drafts: Sequence[Draft],
        *,
        lane: str,
        priority: Priority,
        source: str = "api",
        task_id: str = "",
        terms: Terms = AT_ONCE,
        places: Sequence[int] = (),
        skipped: int = 0,
    ) -> str:
        """Store a task with a row for each draft, durably; its id.

        With ``task_id`` a repetition of the same call has no effect. ``places``: of each draft its number,
        ascending; else they are counted from 0. ``skipped``: recipients asked for that have no draft. Raises
        Draining, StoreUnavailable.
        """
        if self._draining:
            raise Draining("the gateway is stopping, try again in a moment")
        now = self._now_ms()
        task = NewTask(task_id or str(uuid.uuid4()), kind, source, len(drafts), now, skipped)
        created = _task_created(task, lane)
        places = places or range(len(drafts))
        if len(drafts) <= _CHUNK:
            async with answered_in_time():
                rows = await self._rows(drafts, places, lane, priority, terms)
                await self._store.create_task(task, rows, [created])
            return task.id
        await self._store.create_task(task, (), ready=False)
        for start in range(0, len(drafts), _CHUNK):
            async with answered_in_time():
                chunk = slice(start, start + _CHUNK)
                rows = await self._rows(drafts[chunk], places[chunk], lane, priority, terms)
                await self._store.add_rows(task.id, rows)
        # A try before this one may have been made while others had opted out.
        await self._store.mark_ready(task.id, [created], (task.total, task.skipped))
        return task.id

    async def submit_and_wait(
        self,
        kind: str,
        draft: Draft,
        *,
        lane: str,
        timeout_s: float,
        terms: Terms = AT_ONCE,
        task_id: str = "",
    ) -> tuple[str, Event | RowView | None]:
        """As :meth:`submit` for one draft at the highest priority, then its outcome; where time ran out
        first, or a task of this id had its outcome before, the row as it stands; None where that cannot be
        read."""
        may_be_known, task_id = bool(task_id), task_id or str(uuid.uuid4())
        row_id = f"{task_id}-0"
        with self._waiting_for(row_id) as waiter:
            await self.submit(kind, [draft], lane=lane, priority=HIGH, task_id=task_id, terms=terms)
            if may_be_known:
                row = await self._row_as_it_stands(row_id)
                if row is not None and row.row.state in ENDED and not waiter.done():
                    return task_id, row
            event = await _within(timeout_s, waiter)
        return task_id, event or await self._row_as_it_stands(row_id)

    async def _row_as_it_stands(self, row_id: str) -> RowView | None:
        try:
            return (await self._store.find_rows([row_id])).get(row_id)
        except StoreUnavailable:
            # It is accepted all the same: a caller who heard of a fault would send it again.
            return None

    async def submit_and_complete(
        self,
        kind: str,
        drafts: Sequence[Draft],
        *,
        lane: str,
        priority: Priority,
        timeout_s: float,
        terms: Terms = AT_ONCE,
        task_id: str = "",
        places: Sequence[int] = (),
        skipped: int = 0,
    ) -> tuple[str, int | None]:
        """As :meth:`submit`, then how many Meta took once every row has ended; None if time ran out first."""
        may_be_known, task_id = bool(task_id), task_id or str(uuid.uuid4())
        with self._waiting_for(task_id) as waiter:
            await self.submit(
                kind,
                drafts,
                lane=lane,
                priority=priority,
                task_id=task_id,
                terms=terms,
                places=places,
                skipped=skipped,
            )
            if may_be_known and (known := await self._store.find_task(task_id)) and known.completed_at:
                return task_id, known.taken
            if await _within(timeout_s, waiter) is None:
                return task_id, None
        task = await self._store.find_task(task_id)
        return task_id, task.taken if task else None

    async def failures(self, task_id: str, limit: int) -> list[tuple[int, bytes]]:
        """The first rows of a task that failed: their place in it, and their error as JSON. Raises
        StoreUnavailable."""
        views = await self._store.task_rows(task_id, -1, limit, State.FAILED)
        return [(place_of(view.row.id), view.error) for view in views]

    @contextmanager
    def _waiting_for(self, key: str) -> Iterator[asyncio.Future[Event | None]]:
        waiter: asyncio.Future[Event | None] = asyncio.get_running_loop().create_future()
        self._waiters[key] = waiter
        try:
            yield waiter
        finally:
            del self._waiters[key]

    async def _rows(
        self, drafts: Sequence[Draft], places: Sequence[int], lane: str, priority: Priority, terms: Terms
    ) -> list[NewRow]:
        keys = await self._contacts.resolve({draft.address for draft in drafts if not draft.contact})
        return [
            NewRow(
                n,
                lane,
                draft.contact or keys[draft.address],
                priority,
                terms.due,
                draft.payload,
                terms.expires_at,
                terms.callback_data,
                terms.ordered,
                terms.on_unknown,
                draft.fallback,
                draft.heeds_opt_out,
            )
            for n, draft in zip(places, drafts, strict=True)
        ]

    def _notice(self, batch: Sequence[Event]) -> None:
        if not self._waiters:
            return
        for event in batch:
            # A failed status may be of an earlier attempt: whether it ends the row, the tracker finds out.
            if event.type in _OUTCOMES and not event.key.startswith(STATUS_KEY):
                self._tell(event.message_id, event)
            elif event.type == EventType.TASK_COMPLETED:
                self._tell(task_of_key(event.key), event)

    def _tell(self, key: str, event: Event) -> None:
        waiter = self._waiters.get(key)
        if waiter is not None and not waiter.done():
            waiter.set_result(event)


async def _within(timeout_s: float, waiter: asyncio.Future[Event | None]) -> Event | None:
    """What was waited for; None where time ran out, or the gateway stopped, first."""
    try:
        async with asyncio.timeout(timeout_s):
            return await waiter
    except TimeoutError:
        return None


def _task_created(task: NewTask, lane: str) -> NewEvent:
    return build_event(
        EventType.TASK_CREATED,
        task_key(task.id, "created"),
        task.created_at,
        {"task_id": task.id, "kind": task.kind, "source": task.source, "total": task.total},
        phone_number_id=lane,
    )

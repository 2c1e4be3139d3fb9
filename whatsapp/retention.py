"""Removes by age what is not kept for good: events, ended tasks with their messages, conversations, claims.

Owns what may go, and the pace: by one process at a time, in small portions with pauses, so that other writes
come first. It breaks off anywhere and goes on with the next look. Who has not had an event yet decides:

- no event goes past the cursor of a consumer, a hand-over or a receiver of this gateway's, however old it is;
- a subscriber with a name may be gone for good, so events do go past its place, after
  ``subscriber.overtaken`` has told whose it was and where it stood.

Answers kept for repetitions, windows and files have sweeps of their own (``store/monitor.py``,
``windows.py``, ``media_keeper.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.errors import StoreError
from store.leasing import under_lease
from store.records import Lease, NewEvent, Subscriber, TaskPlace
from whatsapp.events import EventType, build_event, rfc3339
from whatsapp.log_times import offset_of

__all__ = ["Retention", "RetentionLimits", "overtaken", "slowest"]

_log = logging.getLogger(__name__)

_DAY_MS = 24 * 3600 * 1000
_LEASE = "retention"
_LEASE_MS = 30_000
_EVERY_S = 600.0
_PORTION = 100
"""Events or rows in one transaction: a few milliseconds of the writer's time."""
_TASKS = 50
_PAUSE_S = 0.05
"""Between two portions, so that others come first."""
_NAMES = 500
_LATE_MS = _DAY_MS
"""So long events may be kept past their age before that is trouble."""


class RetentionLimits(msgspec.Struct, frozen=True):
    """In days: ``events`` for the log, ``days`` for all else."""

    days: int
    events: int


def slowest(cursors: Mapping[str, int], names: Collection[str], head: int) -> tuple[int, str]:
    """How far all of these have come, and who the last of them is; one that never saved has not begun."""
    return min(((cursors.get(name, 0), name) for name in names), default=(head, ""))


def overtaken(subscriber: Subscriber, through: int, now: int) -> NewEvent:
    """That events up to ``through`` go which it has not acknowledged; once for each place where it stood."""
    data = {
        "subscriber": subscriber.name,
        "offset": subscriber.offset,
        "through": through,
        "seen_at": rfc3339(subscriber.seen_at),
    }
    key = f"overtaken:{subscriber.name}:{subscriber.created_at}:{subscriber.offset}"
    return build_event(EventType.SUBSCRIBER_OVERTAKEN, key, now, data)


class Retention:
    """One per process. ``readers``: names of the cursors that nothing may be removed past."""

    def __init__(
        self,
        limits: RetentionLimits,
        readers: Collection[str],
        *,
        store: Store,
        owner: str,
        now_ms: Callable[[], int],
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._limits = limits
        self.readers = tuple(readers)
        self._store = store
        self._owner = owner
        self._now_ms = now_ms
        self._pause_s = pause_s
        self._events = 0
        self._messages = 0
        self._oldest_at = 0
        self._held_by = ""
        self._behind: list[Subscriber] = []
        self.fault = ""
        """Why the last look broke off; empty after one that did not."""

    async def run(self) -> None:
        """Look every ten minutes, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                self.fault = error.message
                _log.warning("what is too old is removed later: %s", error.message)
            except Exception as error:  # noqa: BLE001 - it must not stop intake and sending, now or at each start
                self.fault = f"{type(error).__name__}: {error}"
                _log.exception("the removal of what is too old failed, it is tried again")
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Remove what is too old, unless another process does; see how the log stands. Raises StoreError."""
        await under_lease(self._store, _LEASE, self._owner, _LEASE_MS, self._remove)
        await self._survey()
        self.fault = ""

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "oldest_event_at": rfc3339(self._oldest_at) if self._oldest_at else None,
            "events": self._events,
            "messages": self._messages,
            "held_by": self._held_by or None,
            "fault": self.fault or None,
        }

    def trouble(self) -> list[dict[str, Any]]:
        """``{what, why, name}``: a reader that has the log grow, and subscribers that missed something."""
        told = [
            {
                "what": "subscriber",
                "name": one.name,
                "why": "Events were removed by age that it had not acknowledged, last seen"
                f" {rfc3339(one.seen_at)}: have it come back, which starts it at the oldest event kept, or"
                " forget it with DELETE /api/subscribers/<name>.",
            }
            for one in self._behind
        ]
        if self._held_by:
            why = (
                f"Old events are kept, since {self._held_by} has not had them: see what is wrong with it"
                " under consumers or hooks."
            )
            told.append({"what": "retention", "name": self._held_by, "why": why})
        return told

    # -- removing --------------------------------------------------------------------------------------

    async def _remove(self, lease: Lease, renewal: asyncio.Task[None]) -> None:
        """A look's work. The lease spares work only: whatever is done twice has its effect once."""
        try:
            before = self._now_ms() - self._limits.days * _DAY_MS
            store = self._store
            await self._remove_events(renewal)
            await self._portions(lambda: store.remove_said(before, _PORTION), renewal)
            await self._portions(lambda: store.remove_claims(before, _PORTION), renewal)
            await self._store.remove_erasures(before)
            await self._remove_tasks(before, renewal)
        finally:
            await self._store.release_lease(lease)

    async def _remove_events(self, renewal: asyncio.Task[None]) -> None:
        now = self._now_ms()
        before = now - self._limits.events * _DAY_MS
        bounds = await self._store.log_bounds()
        cursors = {cursor.name: cursor.offset for cursor in await self._store.list_cursors()}
        had, _ = slowest(cursors, self.readers, bounds.head)
        old = await offset_of(self._store, before, bounds.floor, bounds.head)
        upto = min(had, old)
        if upto <= bounds.floor:
            return
        # Told before it is done: what is told twice over a crash has one key.
        # Below the floor are those of whom it was told when that was removed.
        passed = [one for one in await self._subscribers() if bounds.floor <= one.offset < upto]
        for one in passed:
            _log.warning("events go by age that the subscriber %s has not acknowledged", one.name)
        await self._store.append_events([overtaken(one, upto, now) for one in passed])
        remove = self._store.remove_events
        self._events += await self._portions(lambda: remove(upto, before, _PORTION), renewal)

    async def _remove_tasks(self, before: int, renewal: asyncio.Task[None]) -> None:
        place: TaskPlace | None = TaskPlace(0, "")
        # First what an earlier look has left half done.
        self._messages += await self._portions(self._remove_rows, renewal)
        while place is not None and not renewal.done():
            place = await self._store.retire_tasks(before, place, _TASKS)
            self._messages += await self._portions(self._remove_rows, renewal)
            await asyncio.sleep(self._pause_s)

    async def _remove_rows(self) -> int:
        return await self._store.remove_retired(_PORTION)

    async def _portions(self, remove: Callable[[], Awaitable[int]], renewal: asyncio.Task[None]) -> int:
        """Until nothing is left, or another process goes on; how many went."""
        total = 0
        while not renewal.done() and (removed := await remove()):
            total += removed
            await asyncio.sleep(self._pause_s)
        return total

    # -- how it stands ---------------------------------------------------------------------------------

    async def _survey(self) -> None:
        floor, head = await self._store.log_bounds()
        oldest = next(iter(await self._store.events_after(floor, 1)), None)
        self._oldest_at = oldest.at if oldest else 0
        self._behind = [one for one in await self._subscribers() if one.offset < floor]
        late = self._now_ms() - self._limits.events * _DAY_MS - _LATE_MS
        self._held_by = ""
        if oldest is not None and oldest.at < late:
            cursors = {cursor.name: cursor.offset for cursor in await self._store.list_cursors()}
            had, name = slowest(cursors, self.readers, head)
            if had < await offset_of(self._store, late, floor, head):
                self._held_by = name

    async def _subscribers(self) -> Sequence[Subscriber]:
        found: list[Subscriber] = []
        while page := await self._store.list_subscribers(_NAMES, found[-1].name if found else ""):
            found += page
        return found

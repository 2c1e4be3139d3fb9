"""One sending number at work: read ahead, pace, claim, send.

The loop and nothing else: ``queue.py`` says which row is next, ``pacing.py`` when, ``read_ahead.py`` fills
the window, ``attempts.py`` makes the calls and settles them, ``brakes.py`` stops them. Works only while it
holds the lane's lease; the lease is somebody else's business (``lanes.py``).

The order of things for a row: claimed in the store (``sending``, durable), lease looked at once more, POST,
outcome in the store, and only then the next row to the same contact. What a crash leaves at any of these
points is said in ``store/states.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.errors import LeaseLost, StoreError
from store.log import Log
from store.records import Event, Row
from store.states import ENDED, State
from whatsapp.attempts import Attempts, HeldLease
from whatsapp.brakes import Brakes
from whatsapp.events import STATUS_KEY, EventType
from whatsapp.outcome import lost_in_crash
from whatsapp.pacing import LanePacer, PairPacer
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.unknown import UnknownRows

__all__ = ["Lane"]

_log = logging.getLogger(__name__)

_PAGE = 500
_STORE_AWAY_S = 0.3
_POLL_S = 1.0
"""How long it takes at most until a row is seen whose wake-up was lost, or that has come due."""
_TIDY_S = 60.0
_STRAYS_S = 30.0

_ENDINGS = frozenset(
    {
        EventType.MESSAGE_SENT,
        EventType.MESSAGE_DELIVERED,
        EventType.MESSAGE_READ,
        EventType.MESSAGE_FAILED,
        EventType.MESSAGE_CANCELLED,
        EventType.MESSAGE_EXPIRED,
    }
)


class Lane:
    """Sends the rows of one phone number id while :meth:`run` runs; ``concurrency``: attempts in flight."""

    def __init__(
        self,
        phone_number_id: str,
        *,
        store: Store,
        log: Log,
        queue: LaneQueue,
        reader: ReadAhead,
        pacer: LanePacer,
        pairs: PairPacer,
        brakes: Brakes,
        attempts: Attempts,
        unknown: UnknownRows,
        concurrency: int,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        self.phone_number_id = phone_number_id
        self._store = store
        self._log = log
        self._queue = queue
        self._reader = reader
        self._pacer = pacer
        self._pairs = pairs
        self._brakes = brakes
        self._attempts = attempts
        self._unknown = unknown
        self._concurrency = concurrency
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._woken = asyncio.Event()
        self._draining = False
        self._poll_at = 0.0
        self._tidy_at = 0.0
        self._strays_at = 0.0
        self._strays: set[tuple[str, int]] = set()

    # -- control ---------------------------------------------------------------------------------------

    async def run(self, held: HeldLease) -> None:
        """Work under this lease until drained. Raises LeaseLost when another owner has it; cancel to stop at
        once."""
        unsubscribe = self._log.subscribe(self._notice)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._attempts.open(tasks, self._woken.set)
                beside = (
                    tasks.create_task(
                        self._unknown.run(self._let_go), name=f"unknown-{self.phone_number_id}"
                    ),
                    tasks.create_task(
                        self._brakes.probe_when_parked(self.wake), name=f"probe-{self.phone_number_id}"
                    ),
                )
                await self._recover()
                self._strays_at = self._monotonic() + _STRAYS_S
                await self._work(held)
                for task in beside:
                    task.cancel()
        except* LeaseLost as group:
            raise LeaseLost(f"the lane {self.phone_number_id} went to another process") from group
        finally:
            unsubscribe()

    def wake(self) -> None:
        """There may be new rows, or old ones may have become free."""
        self._reader.news()
        self._woken.set()

    def drain(self) -> None:
        """Claim nothing more; :meth:`run` returns once what is in flight has been settled."""
        self._draining = True
        self._woken.set()

    def status(self) -> dict[str, Any]:
        """For status pages: state, pace, and what is in memory."""
        return {
            "phone_number_id": self.phone_number_id,
            **self._brakes.status(),
            "rate": round(self._pacer.rate, 1),
            "limit": self._pacer.limit,
            "in_flight": self._attempts.in_flight,
            "in_memory": len(self._queue),
            "unknown": len(self._unknown),
        }

    # -- beginning -------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Take over what earlier owners left: calls that were under way, rows that block others."""
        while not self._draining:
            try:
                await self._recover_sending()
                await self._recover_blocking()
            except StoreError as error:
                _log.warning("store away, lane waits: %s", error.message)
                await asyncio.sleep(_STORE_AWAY_S)
            else:
                return

    async def _recover_sending(self) -> None:
        if not self._store.atomic:
            # Outcomes may be in the log and not on the rows yet: let the tracker carry them over first.
            await self._unknown.tracker_caught_up()
        after = 0
        while rows := await self._store.rows_in_state(self.phone_number_id, State.SENDING, after, _PAGE):
            after = rows[-1].seq
            lost = [lost_in_crash(row, self._now_ms()) for row in rows]
            await self._store.apply([s.change for s in lost], [s.event for s in lost])

    async def _recover_blocking(self) -> None:
        after = 0
        while rows := await self._store.blocking_rows(self.phone_number_id, after, _PAGE):
            after = rows[-1].seq
            self._queue.block(rows)
            for row in rows:
                if row.state is State.UNKNOWN:
                    self._unknown.add(row)

    # -- the loop --------------------------------------------------------------------------------------

    async def _work(self, held: HeldLease) -> None:
        while not (self._draining and not self._attempts.in_flight):
            self._woken.clear()
            released: list[Row] = []
            try:
                if not self._draining:
                    self._poll()
                    await self._look_for_strays()
                    await self._reader.refill()
                    # Claims that the last look before the call would only give back are not made.
                    if self._monotonic() < held.trusted_until:
                        released = self._release()
                    if released:
                        await self._claim(released, held)
            except LeaseLost:
                raise
            except StoreError as error:
                _log.warning("store away, lane waits: %s", error.message)
                await asyncio.sleep(_STORE_AWAY_S)
            if not released:
                await self._rest()

    def _poll(self) -> None:
        now = self._monotonic()
        if now >= self._poll_at:
            self._poll_at = now + _POLL_S
            self._reader.look_again()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S
            self._pairs.forget_idle(now)

    async def _look_for_strays(self) -> None:
        """Rows that stand in ``sending`` without a call, twice in a row: a claim that timed out may be stored
        later."""
        now = self._monotonic()
        if now < self._strays_at:
            return
        self._strays_at = now + _STRAYS_S
        rows = await self._store.rows_in_state(self.phone_number_id, State.SENDING, 0, _PAGE)
        strays = {(row.id, row.attempt) for row in rows if not self._attempts.holds(row)}
        twice = strays & self._strays
        for row in rows:
            if (row.id, row.attempt) in twice:
                self._attempts.lost(row)
        self._strays = strays
        await self._look_at_blockers()

    async def _look_at_blockers(self) -> None:
        """Let go of streams whose blocker has ended: its status may come before the attempt waits."""
        blocking = list(self._queue.blocking)
        for start in range(0, len(blocking), _PAGE):
            views = await self._store.find_rows(blocking[start : start + _PAGE])
            self._let_go([row_id for row_id, view in views.items() if view.row.state in ENDED])

    def _let_go(self, ended: Sequence[str]) -> None:
        """Rows that blocked were looked at: these have ended."""
        for row_id in ended:
            self._queue.unblock(row_id)
        self.wake()

    def _release(self) -> list[Row]:
        """Rows that may leave now, their tokens spent."""
        now, clock, lowest = self._monotonic(), self._now_ms(), self._brakes.lowest
        may = min(self._concurrency - self._attempts.in_flight, self._pacer.allowance(now))
        released: list[Row] = []
        while len(released) < may and (row := self._queue.take(now, lowest)) is not None:
            if row.expires_at and row.expires_at <= clock:
                self._attempts.expire(row)
                continue
            self._pacer.spend(now)
            self._pairs.spend(row.contact, now)
            released.append(row)
        return released

    async def _claim(self, rows: Sequence[Row], held: HeldLease) -> None:
        """Claim these rows durably, then start a call for each that is ours."""
        try:
            moved = await self._store.mark_sending(held.lease, rows)
        except LeaseLost:
            for row in rows:
                self._queue.dropped(row)
            raise
        except StoreError:
            # It may have been applied: none of these may stay behind in "sending".
            for row in rows:
                self._attempts.give_back(_claimed(row), held)
            raise
        for row in rows:
            if row.id in moved:
                self._attempts.send(_claimed(row), held)
            else:
                self._queue.dropped(row)

    async def _rest(self) -> None:
        """Sleep until woken, or until something may have become possible."""
        if self._draining:
            await self._woken.wait()
            return
        now = self._monotonic()
        until = self._poll_at
        pair, pace = self._queue.next_at(), self._pacer.next_at(now)
        # While nothing may leave anyway, a pair whose time has come would only keep us from sleeping.
        may = self._attempts.in_flight < self._concurrency and self._pacer.allowance(now) > 0
        if pair is not None and may:
            until = min(until, pair)
        if pace > now:
            until = min(until, pace)
        try:
            async with asyncio.timeout(max(0.005, until - now)):
                await self._woken.wait()
        except TimeoutError:
            pass

    # -- what the log says -----------------------------------------------------------------------------

    def _notice(self, batch: Sequence[Event]) -> None:
        """New tasks, inbound messages that share the number's budget, rows that ended elsewhere."""
        inbound = 0
        for event in batch:
            if event.phone_number_id != self.phone_number_id:
                continue
            if event.type == EventType.TASK_CREATED:
                self.wake()
            elif event.type == EventType.MESSAGE_RECEIVED:
                inbound += 1
            elif event.message_id and event.type in _ENDINGS and not _may_be_refused(event):
                self._queue.unblock(event.message_id)
                if event.type == EventType.MESSAGE_SENT:
                    self._unknown.settled(event.message_id)
                self._woken.set()
        if inbound:
            self._pacer.inbound(self._monotonic(), inbound)


def _may_be_refused(event: Event) -> bool:
    """A failed status of an earlier attempt does not end its row; the next look at blockers tells."""
    return event.type == EventType.MESSAGE_FAILED and event.key.startswith(STATUS_KEY)


def _claimed(row: Row) -> Row:
    return msgspec.structs.replace(row, state=State.SENDING, attempt=row.attempt + 1)

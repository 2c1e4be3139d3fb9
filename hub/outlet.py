"""One outside receiver of the log: each event that it wants, in order, by one process of all.

Owns the loop: under the lease, read the log from a durable cursor, hand events to the receiver's carrier, and
move the cursor once they are taken. What follows when they are not is decided in ``delivery.py``; how they
travel is the carrier's business. Nothing waits for a receiver, and what is read ahead for it is one page.

Durable are the cursor ``outlet:<name>`` and the memo of the same name (``outlet_memo.py``), by which persons
pause, resume and replay it from any process.

**At least once.** The cursor is saved with the last event that is ready, and else every quarter of a second;
what was taken since is sent again after a crash. While the store cannot save it, nothing more is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from hub.ahead import Ahead
from hub.carrier import Carried, Carrier
from hub.delivery import NOWHERE, Again, Failure, Fault, Pause, Reason, Record, Rules, Skip, decide, troubled
from hub.hook_events import missed, paused, replayed, resumed, skipped
from hub.outlet_memo import OutletMemo
from store.base import Store
from store.errors import LeaseLost, StoreError, StoreUnavailable
from store.leasing import under_lease
from store.log import Log
from store.records import Cursor, Event, Lease

__all__ = ["Outlet", "OutletStatus"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_SAVE_S = 0.25
_LOOK_S = 10.0
"""How often the memo is looked at, and how often a cursor is saved that only passes what nobody wants."""
_LAST_S = 2.0
"""For the answer that is under way when the gateway stops."""
_ALARM_MS = 300_000
"""A receiver that has been behind for so long is told as trouble."""
_RETRY_S = 1.0


class OutletStatus(msgspec.Struct, frozen=True):
    """How a receiver stands. Times are milliseconds since 1970, 0: not so."""

    name: str
    kind: str
    address: str
    state: str
    """``running``, ``failing`` (it is tried again and again) or ``paused``."""
    here: bool
    """Whether this process does the work; else ``connected`` and the last four are not known here."""
    connected: bool | None
    cursor: int
    lag: int
    """Offsets from the cursor to the head."""
    record: Record
    behind_since: int
    last_taken_at: int
    taken: int
    """Events, since the start."""
    skipped: int

    def troubles(self, now: int) -> bool:
        """Whether somebody should look after it: paused, but not by a person, or behind for long."""
        record = self.record
        if record.paused_at:
            return record.reason != "person"
        since = self.behind_since or record.failing_since
        return bool(since) and now - since >= _ALARM_MS


class Outlet:
    """The work for one receiver; every process has one, and one of them does it."""

    def __init__(
        self,
        name: str,
        carrier: Carrier,
        wanted: Callable[[Event], bool],
        rules: Rules,
        *,
        store: Store,
        log: Log,
        owner: str,
        lease_ttl_ms: int,
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.name = name
        self.carrier = carrier
        self._rules = rules
        self._store = store
        self._log = log
        self._owner = owner
        self._lease_ttl_ms = lease_ttl_ms
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._random = random
        self._id = f"outlet:{name}"
        self._here = False
        self._memo = OutletMemo(self._id, store, log)
        self._looked_at = 0.0
        self._seen_at = 0.0
        """When the receiver was last looked after."""
        self._woken = asyncio.Event()
        self._ahead = Ahead(wanted)
        self._rereads = False
        self._saved = 0
        self._saved_at = 0.0
        self._owes = False
        """Whether events were taken since the cursor was saved."""
        self._tries = 0
        self._behind_since = 0
        self._last_taken_at = 0
        self._taken = 0
        self._skipped = 0

    @property
    def cursor_name(self) -> str:
        """Under which the store keeps how far it has come."""
        return self._id

    # -- from outside ----------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Have it begin with what comes from now on, if it never did. Raises StoreUnavailable."""
        await self._memo.begin(self._log.head)

    def notice(self) -> None:
        """To be told that there is an event about it: a person may want something of it."""
        self._memo.is_stale = True
        self._woken.set()

    def forget(self) -> None:
        """Hand over nothing that was read before, since the log may have it otherwise by now."""
        self._rereads = True

    async def pause(self) -> None:
        """Have nothing sent until :meth:`resume`; what is under way may still arrive."""

        def change(before: Record) -> Record:
            if before.reason == "person":
                return before
            return msgspec.structs.replace(before, paused_at=self._now_ms(), reason="person")

        cursor = await self._cursor()
        await self._memo.change(
            change,
            lambda which, before: paused(self.name, which, "person", before, cursor, self._now_ms()),
        )

    async def resume(self) -> None:
        """End a pause, whoever made it; where there is none, have the next try made at once."""
        cursor = await self._cursor()
        await self._memo.change(
            lambda before: Record(go_to=before.go_to),
            lambda which, before: resumed(self.name, which, cursor, self._now_ms()),
        )
        self.notice()

    async def replay(self, offset: int) -> None:
        """Have it go on past this offset, back or forward; a pause stays."""
        cursor = await self._cursor()
        await self._memo.change(
            lambda before: msgspec.structs.replace(before, go_to=offset, failing_at=NOWHERE, refused_since=0),
            lambda which, before: replayed(self.name, which, cursor, offset, self._now_ms()),
        )

    async def status(self) -> OutletStatus:
        """How it stands. While the store is away: as far as this process knows."""
        record, cursor = self._memo.record, self._ahead.offset
        with suppress(StoreError):
            # Also where the work is done: what a person has just asked for is not known there yet.
            record = await self._memo.look()
            cursor = await self._cursor()
        if record.go_to != NOWHERE:
            cursor = record.go_to
        state = "paused" if record.paused_at else "failing" if record.failing_since else "running"
        return OutletStatus(
            name=self.name,
            kind=self.carrier.kind,
            address=self.carrier.address,
            state=state,
            here=self._here,
            connected=self.carrier.connected if self._here else None,
            cursor=cursor,
            lag=max(0, self._log.head - cursor),
            record=record,
            behind_since=self._behind_since if self._here else 0,
            last_taken_at=self._last_taken_at,
            taken=self._taken,
            skipped=self._skipped,
        )

    async def run(self) -> None:
        """Do the work, or wait until it is this process's turn, until cancelled. Faults are waited out."""
        while True:
            try:
                await under_lease(self._store, self._id, self._owner, self._lease_ttl_ms, self._work)
            except LeaseLost:
                _log.warning("lease lost, another process goes on", extra={"outlet": self.name})
            except StoreUnavailable as error:
                _log.warning("store away, %s waits: %s", self.name, error.message)
            except Exception:  # noqa: BLE001 - whatever it is, nothing else must feel it
                _log.exception("%s failed after offset %s", self.name, self._ahead.offset)
            finally:
                self._here = False
                await self._let_go()
            await asyncio.sleep(_RETRY_S)

    async def _let_go(self) -> None:
        try:
            await self.carrier.close()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("the connection to %s could not be closed", self.name)

    async def _refresh(self, lease: Lease) -> None:
        """See what persons want, and go where they do."""
        self._looked_at = self._monotonic()
        await self._memo.refresh()
        record = self._memo.record
        if not record.failing_since:
            # Also after a word that ended its failing: the waits begin anew.
            self._tries = 0
        if record.go_to != NOWHERE:
            # The cursor first: what is broken off between the two is done again.
            await self._store.save_cursor(Cursor(self._id, record.go_to), lease)
            self._start_at(record.go_to)
            await self._memo.keep(msgspec.structs.replace(record, go_to=NOWHERE))

    async def _recover(self) -> None:
        """It takes events again."""
        self._tries = 0
        if self._memo.record.failing_since:
            _log.info("%s takes events again", self.name)
            await self._memo.keep(Record(go_to=self._memo.record.go_to))

    # -- the cursor ------------------------------------------------------------------------------------

    async def _cursor(self) -> int:
        return self._ahead.offset if self._here else await self._store.load_cursor(self._id)

    def _start_at(self, offset: int) -> None:
        self._ahead.start_at(offset)
        self._saved = offset
        self._owes = False
        self._tries = 0

    async def _save(self, lease: Lease) -> None:
        """Save the cursor, however long it takes: what is sent meanwhile would be sent again after a crash.
        Raises LeaseLost."""
        while self._ahead.offset != self._saved:
            try:
                await self._store.save_cursor(Cursor(self._id, self._ahead.offset), lease)
            except StoreUnavailable as error:
                _log.warning("store away, %s waits: %s", self.name, error.message)
                await asyncio.sleep(_RETRY_S)
            else:
                self._saved = self._ahead.offset
        self._owes = False
        self._saved_at = self._monotonic()

    # -- the work --------------------------------------------------------------------------------------

    async def _work(self, lease: Lease, lost: asyncio.Task[None]) -> None:
        self._start_at(await self._store.load_cursor(self._id))
        await self._refresh(lease)
        self._here = True
        try:
            while not lost.done():
                await self._step(lease, lost)
        except asyncio.CancelledError:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await self._save(lease)
            raise
        raise LeaseLost(f"the lease {lease.name} went to another owner")

    async def _step(self, lease: Lease, lost: asyncio.Task[None]) -> None:
        self._woken.clear()
        if self._rereads:
            self._rereads = False
            self._ahead.start_at(self._ahead.offset)
        if self._memo.is_stale or self._monotonic() - self._looked_at >= _LOOK_S:
            await self._refresh(lease)
        if self._memo.record.paused_at:
            await self._save(lease)
            await self._let_go()
            await self._wait(lost, _LOOK_S)
        elif not self._ahead and not await self._read_on(lease):
            await self._rest(lease, lost)
        elif portion := self._ahead.next(self.carrier.most):
            self._behind_since = self._behind_since or self._now_ms()
            await self._hand_over(portion, lease, lost)
        else:
            # A long log of which nothing is wanted must not keep the loop to itself.
            await asyncio.sleep(0)
            if self._monotonic() - self._saved_at >= _LOOK_S:
                await self._save(lease)

    async def _read_on(self, lease: Lease) -> bool:
        """Read the next page; False where there is none yet."""
        if self._owes:
            await self._save(lease)
        page = await self._log.read(self._ahead.offset, self._ahead.page)
        if not page:
            return False
        if page[0].prev > self._ahead.offset:
            await self._tell_gap(page[0].prev, lease)
        self._ahead.take(page)
        return True

    async def _rest(self, lease: Lease, lost: asyncio.Task[None]) -> None:
        """All has been handed over: see that the receiver is still there, and wait for more."""
        self._behind_since = 0
        if self.carrier.connected is False or self._monotonic() - self._seen_at >= _LOOK_S:
            self._seen_at = self._monotonic()
            if failure := await self._while_held(self.carrier.look(self._ahead.offset), lost):
                await self._fail([], failure, lease, lost)
                return
        if self.carrier.connected:
            await self._recover()
        if self._owes or self._monotonic() - self._saved_at >= _LOOK_S:
            await self._save(lease)
        signals = [self._log.wait(self._ahead.offset)]
        if self.carrier.connected is not None:
            signals.append(self.carrier.parted())
        await self._wait(lost, _LOOK_S, *signals)

    async def _hand_over(self, portion: Sequence[Event], lease: Lease, lost: asyncio.Task[None]) -> None:
        taken, failure = await self._carry(portion, lost)
        if taken:
            self._took(portion[:taken])
            # Not for each of many that are ready.
            if failure or self._monotonic() - self._saved_at >= _SAVE_S:
                await self._save(lease)
            await self._recover()
        if failure is None:
            return
        rest = portion[taken:]
        if failure.fault is Fault.REFUSED and len(rest) > 1:
            # Which of them it is, tells the next try.
            self._ahead.part(rest)
            return
        await self._fail(rest, failure, lease, lost)

    def _took(self, events: Sequence[Event]) -> None:
        self._ahead.pass_to(events[-1].offset)
        self._taken += len(events)
        self._last_taken_at = self._now_ms()
        self._owes = True

    async def _carry(self, portion: Sequence[Event], lost: asyncio.Task[None]) -> Carried:
        """Hand over once; when the gateway stops, the answer under way is waited for a moment longer."""
        carrying = asyncio.Task(self.carrier.carry(portion, self._ahead.offset), name=f"carry-{self.name}")
        try:
            return await self._first(carrying, lost)
        except asyncio.CancelledError:
            await asyncio.wait({carrying}, timeout=_LAST_S)
            if carrying.done() and carrying.exception() is None and (taken := carrying.result().taken):
                self._took(portion[:taken])
            raise
        finally:
            await _end(carrying)

    async def _while_held(self, work: Coroutine[Any, Any, T], lost: asyncio.Task[None]) -> T:
        task = asyncio.Task(work, name=f"look-{self.name}")
        try:
            return await self._first(task, lost)
        finally:
            await _end(task)

    async def _first(self, task: asyncio.Task[T], lost: asyncio.Task[None]) -> T:
        """What the task comes to. Raises LeaseLost where the lease is lost before it is done."""
        await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise LeaseLost(f"the lease {self._id} went to another owner")
        return task.result()

    async def _wait(
        self, lost: asyncio.Task[None], seconds: float, *signals: Coroutine[Any, Any, Any]
    ) -> None:
        """Return when somebody wants something of it, at one of these signals, or after so long."""
        tasks = [asyncio.Task(signal) for signal in (self._woken.wait(), *signals)]
        try:
            await asyncio.wait({lost, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    # -- what is not taken -----------------------------------------------------------------------------

    async def _fail(
        self, events: Sequence[Event], failure: Failure, lease: Lease, lost: asyncio.Task[None]
    ) -> None:
        """Do what follows from a failure at the first of these events, if there are any."""
        if self._owes:
            await self._save(lease)
        if not events and failure.fault is Fault.REFUSED:
            # Not for an event of ours.
            failure = failure._replace(fault=Fault.AWAY)
        self._tries += 1
        now = self._now_ms()
        record = troubled(self._memo.record, failure, events[0].offset if events else 0, now)
        match decide(self._rules, record, failure, self._tries, now, self._random):
            case Again(delay_s):
                if self._tries == 1:
                    _log.warning("%s does not take events: %s", self.name, failure.why)
                if await self._memo.keep(record):
                    await self._back_off(delay_s, lost)
            case Skip():
                await self._skip(events[0], record, lease)
            case Pause(reason):
                await self._pause(record, reason, now)

    async def _back_off(self, delay_s: float, lost: asyncio.Task[None]) -> None:
        """Wait, or until somebody wants something of it, which is looked for meanwhile."""
        until = self._monotonic() + delay_s
        while (left := until - self._monotonic()) > 0 and not lost.done() and not self._woken.is_set():
            await self._wait(lost, min(left, _LOOK_S))
            if left > _LOOK_S and await self._memo.has_changed():
                self._memo.is_stale = True
                return

    async def _skip(self, event: Event, record: Record, lease: Lease) -> None:
        # The version is in it too: after a replay the same event may be skipped again.
        told = skipped(self.name, f"{self._memo.version}", event, record, self._now_ms())
        await self._log.append([told])
        _log.error("%s: the event at offset %s was skipped: %s", self.name, event.offset, record.why)
        self._skipped += 1
        self._tries = 0
        self._ahead.pass_to(event.offset)
        await self._save(lease)

    async def _tell_gap(self, through: int, lease: Lease) -> None:
        """Events that it did not have yet were removed from the log."""
        told = missed(self.name, f"{self._memo.version}", self._ahead.offset, through, self._now_ms())
        await self._log.append([told])
        _log.error("%s: events up to offset %s were removed before it had them", self.name, through)
        self._ahead.pass_to(through)
        await self._save(lease)

    async def _pause(self, record: Record, reason: Reason, now: int) -> None:
        # Told first: what is broken off between the two is told once, by its key, and done at the next try.
        await self._log.append(
            [paused(self.name, f"{self._memo.version + 1}", reason, record, self._ahead.offset, now)]
        )
        if await self._memo.keep(msgspec.structs.replace(record, paused_at=now, reason=reason)):
            _log.error("%s is paused, it gets nothing until it is resumed: %s", self.name, record.why)


async def _end(task: asyncio.Task[Any]) -> None:
    """Have it ended, however it ends."""
    task.cancel()
    await asyncio.wait({task})

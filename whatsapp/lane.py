"""One sending number at work: read ahead, pace, claim, send.

The loop and nothing else: ``queue.py`` says which row is next, ``pacing.py`` when, ``read_ahead.py`` fills
the window, ``claims.py`` claims, ``attempts.py`` makes the calls and settles them, ``brakes.py`` stops them,
``recovery.py`` begins with what a crash left, ``lane_news.py`` hears what the log tells. Works only while it
holds the lane's lease, which is somebody else's business (``lanes.py``).

The order of things for a row: claimed in the store (``sending``, durable), lease looked at once more, POST,
outcome in the store, and only then the next row to the same contact. What a crash leaves at any of these
points is said in ``store/states.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

from store.errors import LeaseLost, StoreError
from store.records import Row
from whatsapp.attempts import Attempts, HeldLease
from whatsapp.brakes import Brakes
from whatsapp.claims import Claims
from whatsapp.clock import Clock
from whatsapp.lane_news import LaneNews
from whatsapp.number_level import LevelReader
from whatsapp.pacing import LanePacer
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.recovery import Recovery
from whatsapp.suppressions import Suppressions
from whatsapp.template_holds import Pass, Template, TemplateHolds
from whatsapp.unknown import UnknownRows

__all__ = ["Lane"]

_log = logging.getLogger(__name__)

_STORE_AWAY_S = 0.3
_POLL_S = 1.0
"""How long it takes at most until a row is seen that has come due for the first time."""
_TIDY_S = 30.0


class Lane:
    """Sends the rows of one phone number id while :meth:`run` runs; ``concurrency``: attempts in flight."""

    def __init__(
        self,
        phone_number_id: str,
        *,
        news: LaneNews,
        queue: LaneQueue,
        reader: ReadAhead,
        pacer: LanePacer,
        brakes: Brakes,
        level: LevelReader,
        templates: TemplateHolds,
        attempts: Attempts,
        unknown: UnknownRows,
        claims: Claims,
        suppressions: Suppressions,
        concurrency: int,
        recovery: Recovery,
        clock: Clock,
    ) -> None:
        self.phone_number_id = phone_number_id
        self._news = news
        self._queue = queue
        self._reader = reader
        self._pacer = pacer
        self._brakes = brakes
        self._level = level
        self._templates = templates
        self._attempts = attempts
        self._unknown = unknown
        self._claims = claims
        self._suppressions = suppressions
        self._concurrency = concurrency
        self._recovery = recovery
        self._clock = clock
        self._woken = asyncio.Event()
        self._draining = False
        self._poll_at = 0.0
        self._tidy_at = 0.0

    # -- control ---------------------------------------------------------------------------------------

    async def run(self, held: HeldLease) -> None:
        """Work under this lease until drained, or until another owner has it; cancel to stop at once."""
        unsubscribe = self._news.follow(self._woken.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._attempts.open(tasks, self._woken.set)
                beside = (
                    tasks.create_task(
                        self._unknown.run(self._look_up), name=f"unknown-{self.phone_number_id}"
                    ),
                    tasks.create_task(
                        self._brakes.probe_when_parked(self._resumed), name=f"probe-{self.phone_number_id}"
                    ),
                    tasks.create_task(self._level.run(), name=f"level-{self.phone_number_id}"),
                )
                await self._take_over(held)
                self._tidy_at = self._clock.monotonic() + _TIDY_S
                await self._work(held)
                for task in beside:
                    task.cancel()
                await self._wind_down()
        finally:
            unsubscribe()

    def wake(self) -> None:
        """Something may have become possible, or has to end."""
        self._woken.set()

    def _resumed(self) -> None:
        # While the number was parked, its level could mostly not be read either.
        self._level.look()
        self.wake()

    def probe(self) -> None:
        """Have the number probed at once, if it is parked; go on, if it is paused."""
        self._brakes.probe_now()
        self.wake()

    def listed(self, usable: Collection[Template], asked_at: float) -> None:
        """Meta's list, asked for at ``asked_at``, has these templates as approved."""
        self._brakes.listed(usable, asked_at)
        self.wake()

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
            **self._level.status(),
            "in_flight": self._attempts.in_flight,
            "in_memory": len(self._queue),
            "unknown": len(self._unknown),
        }

    # -- the loop --------------------------------------------------------------------------------------

    async def _take_over(self, held: HeldLease) -> None:
        while not self._stops(held):
            try:
                await self._recovery.take_over(held.lease.term, lambda: self._stops(held))
                await self._news.look_back(lambda: self._stops(held))
            except StoreError as error:
                _log.warning("store away, lane waits: %s", error.message)
                await asyncio.sleep(_STORE_AWAY_S)
            else:
                return

    async def _work(self, held: HeldLease) -> None:
        while not self._stops(held):
            self._woken.clear()
            released: list[Row] = []
            try:
                # Under a lease that is not trusted, what is read may be another's by now.
                if held.trusted(self._clock.monotonic()):
                    released = await self._go_on(held)
            except LeaseLost:
                held.lose()
            except StoreError as error:
                _log.warning("store away, lane waits: %s", error.message)
                await asyncio.sleep(_STORE_AWAY_S)
            if not released:
                await self._rest(held)

    async def _go_on(self, held: HeldLease) -> list[Row]:
        """One turn: read, then start what may leave; what was started."""
        await self._poll(held)
        await self._news.stop_templates()
        if (since := self._templates.released()) is not None:
            self._reader.news(since)
        await self._reader.refill()
        released = self._release() if held.trusted(self._clock.monotonic()) else []
        if released:
            await self._claims.claim(released, held)
        return released

    async def _wind_down(self) -> None:
        """Return once what is in flight has been settled."""
        while self._attempts.in_flight:
            self._woken.clear()
            await self._woken.wait()

    def _stops(self, held: HeldLease) -> bool:
        return self._draining or held.lost

    async def _poll(self, held: HeldLease) -> None:
        now = self._clock.monotonic()
        if now >= self._tidy_at:
            self._tidy_at = now + _TIDY_S
            self._brakes.forget_idle(now)
            self._reader.look_again()
            await self._recovery.look(held.lease.term)
        if now >= self._poll_at:
            self._poll_at = now + _POLL_S
            self._reader.look_on()
            self._try_templates(now)

    def _try_templates(self, now: float) -> None:
        """Bring in a row of each template that is held, once one may be tried."""
        ids, since = self._templates.trials(now)
        for row_id in ids:
            self._queue.recall(row_id, now)
        if since:
            self._reader.news(since)

    def _look_up(self, ids: Sequence[str]) -> None:
        """Rows that blocked have moved: see where they are."""
        for row_id in ids:
            self._queue.recall(row_id, 0.0)
        self.wake()

    def _release(self) -> list[Row]:
        """Rows that may leave now, their tokens spent."""
        self._brakes.share_app(self._clock.monotonic())
        now, wall, lowest = self._clock.monotonic(), self._clock.now_ms(), self._brakes.lowest
        may = min(self._concurrency - self._attempts.in_flight, self._pacer.allowance(now))
        released: list[Row] = []
        while len(released) < may and (row := self._queue.take(now, lowest)) is not None:
            if row.expires_at and row.expires_at <= wall:
                self._attempts.expire(row)
                continue
            if self._suppressions.remembers(row):
                self._attempts.refuse(row)
                continue
            passes = self._templates.judge(row, now, wall)
            if passes is Pass.ASIDE:
                self._queue.aside(row)
                continue
            if passes is Pass.GIVE_UP:
                self._attempts.give_up(row)
                continue
            self._brakes.leaves(row, now)
            released.append(row)
        return released

    async def _rest(self, held: HeldLease) -> None:
        """Sleep until woken, or until something may have become possible."""
        now = self._clock.monotonic()
        trusted = held.trusted(now)
        if trusted and self._reader.behind:
            await asyncio.sleep(0)
            return
        until = min(self._poll_at, self._reader.next_at) if trusted else now + _POLL_S
        pace = self._pacer.next_at(now)
        # While nothing may leave anyway, a row whose time has come would only keep us from sleeping.
        may = self._attempts.in_flight < self._concurrency and self._pacer.allowance(now) > 0
        if trusted and may:
            until = min(until, self._queue.next_at())
        if pace > now:
            until = min(until, pace)
        try:
            async with asyncio.timeout(max(0.005, until - now)):
                await self._woken.wait()
        except TimeoutError:
            pass

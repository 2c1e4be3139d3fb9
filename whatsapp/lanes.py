"""The lanes of this process: which numbers it sends for, under which leases.

Owns the leases of lanes: takes this process's share of them, runs a lane while it holds its lease, renews it,
and lets another process go on when it is lost or that one's due. Whose share is what is decided in
``spreading.py``; what a lane does is in ``lane.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from store.base import Store
from store.errors import StoreError
from store.presence import Presence, living
from store.records import Lease
from whatsapp.attempts import HeldLease
from whatsapp.lane import Lane
from whatsapp.spreading import Spreading
from whatsapp.template_holds import usable_of
from whatsapp.templates import Template

__all__ = ["Lanes"]

_log = logging.getLogger(__name__)

_MARGIN_S = 2.0
"""How long before its end by our clock a lease is no longer trusted: what a call may take to leave, and
drift."""
_LOOK_S = 1.0
_PRESENT = 2 / 3
"""Of a lease's time: a process that died is counted no longer when its lanes come free, or a share of them
would wait for it. One that is late with its sign of life loses nothing: nobody gives up or takes what it
holds."""
_LEASE = "lane:"


class Lanes:
    """``make_lane`` builds the lane of a number, anew for each lease."""

    def __init__(
        self,
        numbers: Sequence[str],
        make_lane: Callable[[str], Lane],
        *,
        store: Store,
        owner: str,
        lease_ttl_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._numbers = tuple(numbers)
        self._make_lane = make_lane
        self._store = store
        self._owner = owner
        self._ttl_s = lease_ttl_s
        self._monotonic = monotonic
        self._presence = Presence(store, owner, int(_PRESENT * lease_ttl_s * 1000))
        self._spreading = Spreading(owner, self._numbers)
        self._keep_at = float("-inf")
        self._busy: set[str] = set()  # lanes that are taken, worked or wound down
        self._running: dict[str, Lane] = {}
        self._ending: set[str] = set()
        self._draining = asyncio.Event()

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that this process may send for."""
        return self._numbers

    async def run(self) -> None:
        """Work this process's share of the lanes, until drained or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while not self._draining.is_set():
                try:
                    await self._look(tasks)
                except StoreError as error:
                    _log.warning("store away, lanes are neither taken nor given up: %s", error.message)
                await self._beat()
            await self._leave()

    def drain(self) -> None:
        """Claim nothing more; :meth:`run` returns once all that is in flight has been settled."""
        self._draining.set()
        for lane in self._running.values():
            lane.drain()

    def probe(self) -> None:
        """Have every parked number probed at once: what was wrong may have been put right."""
        for lane in self._running.values():
            lane.probe()

    def listed(self, templates: Sequence[Template], asked_at: float) -> None:
        """These are Meta's templates, asked for at ``asked_at``: those that it lets send again are held no
        longer."""
        usable = usable_of(templates)
        for lane in self._running.values():
            lane.listed(usable, asked_at)

    def status(self) -> list[dict[str, Any]]:
        """Each number's state; ``elsewhere`` where another process has it."""
        return [
            self._running[number].status()
            if number in self._running
            else {"phone_number_id": number, "state": "elsewhere"}
            for number in self._numbers
        ]

    # -- which ones ------------------------------------------------------------------------------------

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        """See who holds what; give up, and seek, what is due."""
        if self._monotonic() >= self._keep_at:
            await self._presence.keep()
            self._keep_at = self._monotonic() + self._ttl_s / 3
        leases = await self._store.held_leases()
        holders = {
            number: lease.owner
            for lease in leases
            if lease.name.startswith(_LEASE)
            # One that is ours, and that we never heard of, is as good as free.
            and ((number := lease.name.removeprefix(_LEASE)) in self._busy or lease.owner != self._owner)
        }
        moves = self._spreading.look(holders, living(leases), self._ending)
        for number in moves.give_up:
            self._give_up(number)
        for number in moves.seek:
            if number not in self._busy and not self._draining.is_set():
                self._busy.add(number)
                tasks.create_task(self._take(number), name=f"lane-{number}")

    def _give_up(self, number: str) -> None:
        lane = self._running.get(number)
        if lane is not None:
            _log.info("the lane %s is handed over to another process", number)
            self._ending.add(number)
            lane.drain()

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(min(_LOOK_S, self._ttl_s / 3)):
                await self._draining.wait()
        except TimeoutError:
            pass

    async def _leave(self) -> None:
        """What we give back is then others' share at once."""
        try:
            await self._presence.leave()
        except StoreError as error:
            _log.warning("this process counts until its lease runs out: %s", error.message)

    # -- one of them -----------------------------------------------------------------------------------

    async def _take(self, number: str) -> None:
        try:
            asked = self._monotonic()
            lease = await self._acquire(f"{_LEASE}{number}")
            if lease is not None:
                await self._work(number, HeldLease(lease, self._trusted_until(asked)))
        finally:
            self._busy.discard(number)
            self._ending.discard(number)

    async def _acquire(self, name: str) -> Lease | None:
        """Seek it; what the store does not answer is sought again at the next look."""
        try:
            return await self._store.acquire_lease(name, self._owner, int(self._ttl_s * 1000))
        except StoreError as error:
            _log.warning("store away, %s waits: %s", name, error.message)
            return None

    async def _work(self, number: str, held: HeldLease) -> None:
        _log.info("this process sends for the number %s", number)
        lane = self._running[number] = self._make_lane(number)
        if self._draining.is_set():
            lane.drain()
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(lane, held), name=f"renew-{number}")
                await lane.run(held)
                renewal.cancel()
        finally:
            del self._running[number]
        if held.lost:
            _log.warning("the lane %s was lost to another process", number)
        else:
            await self._give_back(held.lease)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._store.release_lease(lease)
        except StoreError as error:
            _log.warning("%s was not given back, it runs out by itself: %s", lease.name, error.message)

    async def _renew(self, lane: Lane, held: HeldLease) -> None:
        """Extend the lease in time, until another owner has it; the lane then ends by itself."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            asked = self._monotonic()
            try:
                lease = await self._store.acquire_lease(held.lease.name, self._owner, int(self._ttl_s * 1000))
            except StoreError as error:
                # The lane stops to send by itself once its trust has run out.
                _log.warning("a lease could not be renewed: %s", error.message)
                continue
            if lease is None or lease.term > held.lease.term + 1:
                await self._lose(held, lease)
                lane.wake()
                return
            # With the next term it had run out, and nobody else has had it since: we go on.
            held.lease = lease
            held.trusted_until = self._trusted_until(asked)

    async def _lose(self, held: HeldLease, lease: Lease | None) -> None:
        """``lease``: where another owner had it, and gave it back so soon that it is ours again."""
        held.lose()
        if lease is not None:
            await self._give_back(lease)

    def _trusted_until(self, asked: float) -> float:
        return asked + self._ttl_s - min(_MARGIN_S, self._ttl_s / 3)

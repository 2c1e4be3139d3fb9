"""The lanes of this process: which numbers it sends for, under which leases.

Owns the leases of lanes: takes each number's lease when it is free, runs the lane while it holds it, renews
it, and lets another process go on when it is lost. What a lane does is in ``lane.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from store.base import Store
from store.errors import StoreError
from store.records import Lease
from whatsapp.attempts import HeldLease
from whatsapp.lane import Lane

__all__ = ["Lanes"]

_log = logging.getLogger(__name__)

_MARGIN_S = 2.0
"""How long before its end by our clock a lease is no longer trusted: what a call may take to leave, and
drift."""
_RETRY_S = 1.0


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
        self._running: dict[str, Lane] = {}
        self._draining = False

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that this process may send for."""
        return self._numbers

    async def run(self) -> None:
        """Work all lanes that can be had, until drained or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in self._numbers:
                tasks.create_task(self._keep(number), name=f"lane-{number}")

    def drain(self) -> None:
        """Claim nothing more; :meth:`run` returns once all that is in flight has been settled."""
        self._draining = True
        for lane in self._running.values():
            lane.drain()

    def status(self) -> list[dict[str, Any]]:
        """Each number's state; ``elsewhere`` where another process has it."""
        return [
            self._running[number].status()
            if number in self._running
            else {"phone_number_id": number, "state": "elsewhere"}
            for number in self._numbers
        ]

    async def _keep(self, number: str) -> None:
        name = f"lane:{number}"
        while not self._draining:
            asked = self._monotonic()
            try:
                lease = await self._store.acquire_lease(name, self._owner, int(self._ttl_s * 1000))
            except StoreError as error:
                _log.warning("store away, lane %s waits: %s", number, error.message)
                lease = None
            if lease is None:
                await asyncio.sleep(_RETRY_S)
                continue
            await self._work(number, HeldLease(lease, self._trusted_until(asked)))

    async def _work(self, number: str, held: HeldLease) -> None:
        lane = self._running[number] = self._make_lane(number)
        if self._draining:
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

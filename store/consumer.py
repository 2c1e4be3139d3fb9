"""A consumer of the log that must run once among all processes, from a durable cursor.

Owns the loop: hold the lease, read from the cursor, hand batches over, begin again after a fault. What a
batch means is the handler's business; it must be idempotent, since a crash between its work and the saved
cursor makes it see a batch again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from store.base import Store
from store.errors import LeaseLost, StoreError
from store.log import Log
from store.records import Cursor, Event, Lease

__all__ = ["Consumer"]

_log = logging.getLogger(__name__)

Handler = Callable[[Sequence[Event], Cursor, Lease], Awaitable[None]]
"""Does what the events ask for and saves the cursor with the lease, as one or in this order."""


class Consumer:
    """Runs ``handle`` over the log under the lease ``consumer:<name>``."""

    def __init__(
        self,
        name: str,
        handle: Handler,
        *,
        store: Store,
        log: Log,
        owner: str,
        lease_ttl_ms: int,
        batch: int = 500,
        retry_s: float = 1.0,
    ) -> None:
        self.name = name
        self.offset = 0
        """Every event up to here has been handled."""
        self.fault = ""
        """What the handler failed of, while it does."""
        self._handle = handle
        self._store = store
        self._log = log
        self._owner = owner
        self._lease_ttl_ms = lease_ttl_ms
        self._batch = batch
        self._size = batch
        self._retry_s = retry_s
        self._advanced = asyncio.Event()

    async def run(self) -> None:
        """Consume until cancelled. Faults are waited out, also the handler's: it gets the batch again."""
        while True:
            try:
                lease = await self._store.acquire_lease(self._lease_name, self._owner, self._lease_ttl_ms)
                if lease is not None:
                    await self._consume(lease)
            except LeaseLost:
                _log.warning("lease lost, another process goes on", extra={"consumer": self.name})
            except StoreError as error:
                _log.warning("store away, consumer waits: %s", error.message, extra={"consumer": self.name})
            except Exception as error:  # noqa: BLE001 - see below
                # One event that its handler cannot take must not stop intake and sending; it is told, and
                # tried again.
                self.fault = f"{type(error).__name__}: {error}"
                _log.exception("consumer %s failed at an event after offset %s", self.name, self.offset)
            await asyncio.sleep(self._retry_s)

    async def wait_past(self, offset: int) -> None:
        """Return once every event up to ``offset`` has been handled here."""
        while self.offset < offset:
            await self._advanced.wait()

    @property
    def _lease_name(self) -> str:
        return f"consumer:{self.name}"

    async def _consume(self, lease: Lease) -> None:
        try:
            await self._follow(lease)
        except asyncio.CancelledError:
            # Where the store is away the lease runs out by itself; it must not keep this task alive.
            with suppress(StoreError):
                await self._store.release_lease(lease)
            raise

    async def _follow(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._lease_ttl_ms / 3000
        self._move_to(await self._store.load_cursor(self.name))
        while True:
            if loop.time() >= renew_at:
                renew_at = loop.time() + self._lease_ttl_ms / 3000
                kept = await self._store.acquire_lease(self._lease_name, self._owner, self._lease_ttl_ms)
                if kept is None or kept.term != lease.term:
                    raise LeaseLost(f"the lease {self._lease_name} went to another owner")
            batch = await self._log.read(self.offset, self._size)
            if batch:
                await self._hand_over(batch, lease)
            else:
                await self._wait(renew_at - loop.time())

    async def _hand_over(self, batch: Sequence[Event], lease: Lease) -> None:
        """One batch. Half as many next time where it fails: a store too slow for all of them at once would
        refuse the same batch for ever, and an event that cannot be handled is to hold up itself alone."""
        try:
            await self._handle(batch, Cursor(self.name, batch[-1].offset), lease)
        except Exception:
            self._size = max(1, len(batch) // 2)
            raise
        self._size = min(self._batch, 2 * self._size)
        self.fault = ""
        self._move_to(batch[-1].offset)

    async def _wait(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(max(timeout, 0.01)):
                await self._log.wait(self.offset)
        except TimeoutError:
            pass

    def _move_to(self, offset: int) -> None:
        self.offset = offset
        self._advanced.set()
        self._advanced = asyncio.Event()

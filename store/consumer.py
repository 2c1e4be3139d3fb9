"""A consumer of the log that must run once among all processes, from a durable cursor.

Owns the loop: under the lease, read from the cursor, hand batches over, begin again after a fault. What a
batch means is the handler's business; it must be idempotent, since a crash between its work and the saved
cursor makes it see a batch again. An event that it cannot take is stepped over after three tries.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from store.base import Store
from store.commit import Portion
from store.errors import LeaseLost, StoreUnavailable
from store.leasing import under_lease
from store.log import Log
from store.records import Cursor, Event, Lease

__all__ = ["Consumer", "OnSkip"]

_log = logging.getLogger(__name__)

_TRIES = 3
"""Of an event that is handed over alone, before it is stepped over; what the store failed of is no try."""

Handler = Callable[[Sequence[Event], Cursor, Lease], Awaitable[None]]
"""Does what the events ask for and saves the cursor with the lease, as one or in this order."""

OnSkip = Callable[[Event], Awaitable[None]]
"""Keeps what follows from it that an event is stepped over; may be called again for the same one."""


class Consumer:
    """Runs ``handle`` over the log under the lease ``consumer:<name>``.

    ``gather_s``: how long it lets events gather before it takes the next ones, where it is not behind, so
    that one that may be late costs few writes. ``on_skip`` is called before the cursor passes an event that
    is stepped over; while it fails, the event is not passed.
    """

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
        gather_s: float = 0.0,
        retry_s: float = 1.0,
        on_skip: OnSkip | None = None,
    ) -> None:
        self.name = name
        self.offset = 0
        """Every event up to here has been handled."""
        self.fault = ""
        """What the handler failed of, while it does."""
        self.skipped = 0
        """How many events were stepped over since the start."""
        self.last_skipped = 0
        """Offset of the last of them; 0 where there is none."""
        self._handle = handle
        self._store = store
        self._log = log
        self._owner = owner
        self._lease_ttl_ms = lease_ttl_ms
        self._portion = Portion(batch)
        self._gather_s = gather_s
        self._retry_s = retry_s
        self._on_skip = on_skip
        self._tried = 0
        self._tries = 0

    async def run(self) -> None:
        """Consume until cancelled. Faults are waited out, also the handler's: it gets the batch again."""
        while True:
            try:
                await under_lease(
                    self._store, self._lease_name, self._owner, self._lease_ttl_ms, self._follow
                )
                self.fault = ""  # another process is at work
            except LeaseLost:
                self.fault = ""
                _log.warning("lease lost, another process goes on", extra={"consumer": self.name})
            except StoreUnavailable as error:
                self.fault = ""
                _log.warning("store away, consumer waits: %s", error.message, extra={"consumer": self.name})
            except Exception as error:  # noqa: BLE001 - see below
                # A handler's fault must not stop intake and sending; it is told, and the batch tried again.
                self.fault = f"{type(error).__name__}: {error}"
                _log.exception("consumer %s failed at an event after offset %s", self.name, self.offset)
            await asyncio.sleep(self._retry_s)

    @property
    def _lease_name(self) -> str:
        return f"consumer:{self.name}"

    async def _follow(self, lease: Lease, renewal: asyncio.Task[None]) -> None:
        """Hand over what comes, for as long as the lease is renewed."""
        self.offset = await self._store.load_cursor(self.name)
        while not renewal.done():
            batch = await self._log.read(self.offset, self._portion.size)
            if batch:
                await self._hand_over(batch, lease)
                if self._gather_s and len(batch) < self._portion.size:
                    await asyncio.sleep(self._gather_s)
            else:
                await self._wait(renewal)
        raise LeaseLost(f"the lease {self._lease_name} went to another owner")

    async def _hand_over(self, batch: Sequence[Event], lease: Lease) -> None:
        """One batch. Half as many next time where it fails: a store too slow for all of them at once would
        refuse the same batch for ever, and an event that cannot be handled is to be found."""
        try:
            await self._handle(batch, Cursor(self.name, batch[-1].offset), lease)
        except Exception as error:
            self._portion.refused(len(batch))
            if len(batch) > 1 or _is_no_try(error) or self._try_of(batch[0].offset) < _TRIES:
                raise
            await self._step_over(batch[0], lease, error)
        else:
            self._portion.taken()
        self.fault = ""
        self.offset = batch[-1].offset

    def _try_of(self, offset: int) -> int:
        """Which try this was at the event; the lease may have been taken anew in between."""
        if offset != self._tried:
            self._tried, self._tries = offset, 0
        self._tries += 1
        return self._tries

    async def _step_over(self, event: Event, lease: Lease, error: Exception) -> None:
        if self._on_skip is not None:
            await self._on_skip(event)
        await self._store.save_cursor(Cursor(self.name, event.offset), lease)
        self.skipped += 1
        self.last_skipped = event.offset
        _log.error(
            "consumer %s stepped over the event at offset %s (%s) after %s tries",
            self.name,
            event.offset,
            event.type,
            self._tries,
            exc_info=error,
        )

    async def _wait(self, renewal: asyncio.Task[None]) -> None:
        """Return once there is more to read, or the lease is lost."""
        growth = asyncio.Task(self._log.wait(self.offset), name=f"wait-{self.name}")
        try:
            await asyncio.wait({growth, renewal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            growth.cancel()


def _is_no_try(error: Exception) -> bool:
    """Whether this says nothing of the event: the store is away, or the lease is another's."""
    return isinstance(error, StoreUnavailable | LeaseLost)

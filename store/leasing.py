"""Work that one process of all may do: the lease is renewed beside it, and given back when it is cancelled.

Owns the keeping of a lease; what is done under it is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from store.base import Store
from store.errors import StoreError
from store.records import Lease

__all__ = ["Work", "under_lease"]

_log = logging.getLogger(__name__)

Work = Callable[[Lease, "asyncio.Task[None]"], Awaitable[None]]
"""Gets the lease, and a task that ends when another owner has it."""


async def under_lease(store: Store, name: str, owner: str, ttl_ms: int, work: Work) -> bool:
    """Do the work under this lease; False, and nothing is done, where another owner has it.

    Raises what the work does, and StoreUnavailable.
    """
    lease = await store.acquire_lease(name, owner, ttl_ms)
    if lease is None:
        return False
    renewal = asyncio.Task(_renew(store, lease, ttl_ms), name=f"renew-{name}")
    try:
        await work(lease, renewal)
    except asyncio.CancelledError:
        renewal.cancel()
        # Where the store is away the lease runs out by itself; it must not keep this task alive.
        with suppress(StoreError):
            await store.release_lease(lease)
        raise
    finally:
        renewal.cancel()
    return True


async def _renew(store: Store, lease: Lease, ttl_ms: int) -> None:
    """Extend the lease until another owner has it."""
    while True:
        await asyncio.sleep(ttl_ms / 3000)
        try:
            kept = await store.acquire_lease(lease.name, lease.owner, ttl_ms)
        except StoreError as error:
            _log.warning("a lease could not be renewed: %s", error.message, extra={"lease": lease.name})
            continue
        if kept is None or kept.term != lease.term:
            return

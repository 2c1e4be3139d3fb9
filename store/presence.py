"""Which processes share the store, each known by a lease of its own while it lives.

Owns the leases ``process:<n>``. A process takes the first place that is free, so the places that there ever
were are as many as the processes that lived at once, and nothing has to be swept. Who was killed is counted
until its place runs out.
"""

from __future__ import annotations

from collections.abc import Iterable

from store.base import Store
from store.errors import StoreError
from store.records import Lease

__all__ = ["Presence", "living"]

_PREFIX = "process:"
_PLACES = 1000


class Presence:
    """That of the process ``owner``; whoever keeps it calls :meth:`keep` more often than every ``ttl_ms``."""

    def __init__(self, store: Store, owner: str, ttl_ms: int) -> None:
        self._store = store
        self._owner = owner
        self._ttl_ms = ttl_ms
        self._place: str | None = None
        self._lease: Lease | None = None

    async def keep(self) -> None:
        """Be counted for ``ttl_ms`` from now. Raises StoreUnavailable, or StoreError where all is taken."""
        if self._place is not None:
            self._lease = await self._take(self._place)
        if self._lease is None:
            # The first time; or we were asleep for longer than the lease lasts, and our place was taken.
            self._lease = await self._take_any()
        self._place = self._lease.name

    async def leave(self) -> None:
        """Be counted no longer. Raises StoreUnavailable; the lease then runs out by itself."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._store.release_lease(lease)

    async def _take_any(self) -> Lease:
        for place in range(_PLACES):
            lease = await self._take(f"{_PREFIX}{place}")
            if lease is not None:
                return lease
        raise StoreError(f"{_PLACES} processes share this store, there is no place for another")

    async def _take(self, place: str) -> Lease | None:
        return await self._store.acquire_lease(place, self._owner, self._ttl_ms)


def living(leases: Iterable[Lease]) -> set[str]:
    """The owners of all processes among the leases that are held."""
    return {lease.owner for lease in leases if lease.name.startswith(_PREFIX)}

"""Where a time lies in the log."""

from __future__ import annotations

from store.base import Store

__all__ = ["offset_of"]


async def offset_of(store: Store, since: int, low: int, high: int) -> int:
    """The place between these behind which everything from ``since`` (ms) on lies, by few reads: events are
    in the order of their times, but for the clocks of several processes. Offsets need not be dense. Raises
    StoreUnavailable."""
    while high - low > 1:
        middle = (low + high) // 2
        event = next(iter(await store.events_after(middle, 1)), None)
        if event is None or event.at >= since:
            high = middle
        else:
            low = middle
    return low

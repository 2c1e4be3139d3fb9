"""A page of the log for a client that asks for one: what it wants of the events past its place.

Owns the bounds of such a read: however long the log and however rare what is wanted, a page looks at so many
events and holds so many bytes, and says from where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from hub.replay import Start
from hub.subscription import Filter
from store.records import Event

__all__ = ["Page", "read_page"]

_READ_EVENTS = 500
_MOST_EVENTS = 10_000
"""Looked at for one page."""
_MOST_BYTES = 1024 * 1024
"""Of the bodies in one page, unless one alone is larger."""


Read = Callable[[int, int], Awaitable[Sequence[Event]]]
"""Of the log: events past an offset, at most so many; none only where there is none."""


class Page(NamedTuple):
    """Events in order, and the place up to which everything wanted is in them."""

    events: list[Event]
    place: int
    recovered: bool
    """False where events before these were removed unseen."""


async def read_page(
    read: Read, start: Start, wanted: Filter, limit: int, *, most_events: int = _MOST_EVENTS
) -> Page:
    """At most ``limit`` events past ``start``. Raises StoreError."""
    place, recovered = start
    events: list[Event] = []
    size = seen = 0
    while seen < most_events and (chunk := await read(place, min(_READ_EVENTS, most_events - seen))):
        recovered = recovered and chunk[0].prev <= place
        for event in chunk:
            if wanted.matches(event):
                size += len(event.body)
                if events and size > _MOST_BYTES:
                    return Page(events, place, recovered)
                events.append(event)
            place = event.offset
            if len(events) == limit:
                return Page(events, place, recovered)
        seen += len(chunk)
        # What is read from memory never waits: let others have a turn.
        await asyncio.sleep(0)
    return Page(events, place, recovered)

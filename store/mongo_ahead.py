"""What of the MongoDB log was read with a page and not asked for yet.

Pure. A document holds up to two thousand events and is read whole, while readers ask for some hundred:
without this each document would be read as often as there are pages in it. Holds little, for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.records import Event

__all__ = ["Ahead"]

_MOST = 4
"""Readers whose next page is kept; each has at most what one read brings, some megabytes."""
_FRESH_S = 2.0
"""An active reader comes back at once. What is older may have been emptied in the log since."""


class Ahead:
    """Events by the offset that they follow."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[float, Sequence[Event]]] = {}

    def take(self, offset: int, now: float) -> Sequence[Event]:
        """What follows this offset, which is not kept any longer; empty where nothing is known."""
        self._kept = {at: kept for at, kept in self._kept.items() if now - kept[0] < _FRESH_S}
        return self._kept.pop(offset, (now, ()))[1]

    def keep(self, offset: int, events: Sequence[Event], now: float) -> None:
        """Keep what follows this offset; the oldest of others makes room."""
        if events:
            self._kept[offset] = now, events
            while len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]

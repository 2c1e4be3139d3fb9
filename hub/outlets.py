"""All outside receivers of the log, by their names: the relay and the hooks.

Owns which events a receiver wants. What each of them does is in ``outlet.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from hub.hook_events import subject
from hub.outlet import Outlet, OutletStatus
from hub.subscription import Filter
from store.records import Event
from whatsapp.events import WEBHOOK_KEYS

__all__ = ["INBOUND", "Outlets", "selection"]

INBOUND = "inbound"
"""In a list of types: whatever came by one of Meta's webhooks, of whatever type."""


def selection(types: Sequence[str], phone_number_id: str = "") -> Callable[[Event], bool]:
    """Whether an event is of one of these types, and of this number (empty: any).

    Types are written as for ``/ws``, and :data:`INBOUND`. Raises BadFilter.
    """
    named = [type for type in types if type != INBOUND]
    of_number = Filter.of(phone_number_id=phone_number_id)
    by_name = Filter.of(named)
    if INBOUND not in types:
        return Filter.of(named, phone_number_id=phone_number_id).matches

    def matches(event: Event) -> bool:
        is_wanted = event.key.startswith(WEBHOOK_KEYS) or (bool(named) and by_name.matches(event))
        return is_wanted and of_number.matches(event)

    return matches


class Outlets:
    """Those that are configured."""

    def __init__(self, outlets: Iterable[Outlet]) -> None:
        self.by_name: Mapping[str, Outlet] = {outlet.name: outlet for outlet in outlets}

    async def begin(self) -> None:
        """Have those that are new begin with what comes from now on. Raises StoreUnavailable."""
        for outlet in self.by_name.values():
            await outlet.begin()

    def notice(self, batch: Sequence[Event]) -> None:
        """To be told of every batch of the log."""
        for event in batch:
            if (outlet := self.by_name.get(subject(event))) is not None:
                outlet.notice()

    def forget(self) -> None:
        """Have all of them read again what they have read ahead."""
        for outlet in self.by_name.values():
            outlet.forget()

    async def status(self) -> list[OutletStatus]:
        """How each stands."""
        # Together: a store that is away keeps each of them waiting.
        return await asyncio.gather(*(outlet.status() for outlet in self.by_name.values()))

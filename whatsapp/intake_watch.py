"""Since when no word of a customer's can have been missed.

Owns the beat that notes in the store that webhooks are taken in, and the rule when that may be relied upon.
While no process notes it for longer than a minute, some inbound may not have come yet, since Meta repeats
what was refused, at ever longer intervals, for seven days (CLOUD_API_2026.md 7). What came late, or could not
be read, breaks it too. And a gateway that Meta's webhooks do not reach cannot tell by itself: so a number
counts only while something came for it within the last hour, statuses included.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from store.base import Store
from store.errors import StoreError
from store.records import Event
from whatsapp.events import WEBHOOK_KEYS

__all__ = ["IntakeWatch"]

_log = logging.getLogger(__name__)

_BEAT_S = 5.0
_GAP_MS = 60 * 1000
"""A shorter gap, as at a restart, does not count: what Meta could not deliver it soon tries again."""
_SILENCE_MS = 3600 * 1000


class IntakeWatch:
    """One per process; all of them keep one record, so that any that runs counts."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._since = 0
        self._noted_at: int | None = None
        self._heard_at: dict[str, int] = {}

    async def run(self) -> None:
        """Note that webhooks are taken in, until cancelled."""
        while True:
            try:
                await self._note()
            except StoreError as error:
                _log.info("that webhooks are taken in is not noted: %s", error.message)
            await asyncio.sleep(_BEAT_S)

    def notice(self, batch: Sequence[Event]) -> None:
        """What the log says: for which numbers webhooks come."""
        for event in batch:
            if event.phone_number_id and event.key.startswith(WEBHOOK_KEYS):
                self._heard_at[event.phone_number_id] = event.at

    async def broke(self) -> None:
        """Something was missed until now. Raises StoreUnavailable."""
        await self._note(broken=True)

    def unbroken_since(self, phone_number_id: str) -> int | None:
        """Since when nothing that was said to this number can have been missed, in milliseconds; None where
        something may be missed now."""
        now = self._now_ms()
        if self._noted_at is None or abs(now - self._noted_at) > _GAP_MS:
            return None
        if abs(now - self._heard_at.get(phone_number_id, 0)) > _SILENCE_MS:
            return None
        return self._since

    @property
    def since(self) -> int | None:
        """When the last gap ended, as far as this process knows."""
        return None if self._noted_at is None else self._since

    async def _note(self, *, broken: bool = False) -> None:
        now = self._now_ms()
        self._since = await self._store.note_intake(now, _GAP_MS, broken=broken)
        self._noted_at = now

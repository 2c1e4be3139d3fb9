"""Looks after the store: whether it answers, for how long it has, and what requests left half done in it.

Owns the beat in which the store is asked. Others read :attr:`StoreMonitor.up`, or count by
:attr:`StoreMonitor.up_seconds`: time in which nobody could have written does not count for deadlines that
wait for a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from store.base import Store
from store.errors import StoreError

__all__ = ["KEEP_ANSWERS_MS", "StoreMonitor"]

_log = logging.getLogger(__name__)

KEEP_ANSWERS_MS = 24 * 3600 * 1000
"""How long an answer is kept for the repetition of its request (contract.md, Part 2)."""

_BEAT_S = 1.0
_SWEEP_S = 3600.0


class StoreMonitor:
    """One per process; knows the store as away until it has answered once."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._monotonic = monotonic
        self.up = False
        """Whether the store took a write a moment ago."""
        self.up_seconds = 0.0
        """How long it has, all in all, while this process ran."""
        self._is_told = False  # that it is away

    async def run(self) -> None:
        """Look until cancelled."""
        before = self._monotonic()
        sweep_at = before
        while True:
            await self._look()
            now = self._monotonic()
            if self.up:
                # At most a beat and a half: a process that was stopped does not count the stop.
                self.up_seconds += min(now - before, 1.5 * _BEAT_S)
            before = now
            if self.up and now >= sweep_at:
                sweep_at = now + _SWEEP_S
                await self._sweep()
            await asyncio.sleep(_BEAT_S)

    async def _look(self) -> None:
        try:
            await self._store.ping()
        except StoreError as error:
            if not self._is_told:
                _log.error("the store is away: %s", error.message)
            self.up, self._is_told = False, True
        else:
            if self._is_told:
                _log.warning("the store answers again")
            self.up, self._is_told = True, False

    async def _sweep(self) -> None:
        """Remove tasks whose request ended before all their rows were stored, and answers kept long
        enough."""
        now = self._now_ms()
        try:
            await self._store.sweep_unready(now - int(_SWEEP_S * 1000))
            await self._store.sweep_answers(now - KEEP_ANSWERS_MS)
        except StoreError as error:
            _log.warning("half-stored tasks and old answers are removed later: %s", error.message)

"""Looks now and then for messages of which no word will come any more, and ends them.

Owns the search: by one process at a time (a lease, which spares work only: every move is guarded and its
event has a key, so that two at once, or a kill at any moment, do no harm), a few rows at once, down the index
of rows that wait for word. Each row is looked at once for each time to live that there is, and not before it
may be over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf

from store.base import Store
from store.errors import StoreError
from store.records import Place, RowView
from whatsapp.intake_watch import IntakeWatch
from whatsapp.template_holds import Template as Name
from whatsapp.templates import Template
from whatsapp.time_to_live import USUAL_MS, life_of, lives_of, margin_ms, may_expire
from whatsapp.unheard import unheard

__all__ = ["UnheardSweep"]

_log = logging.getLogger(__name__)

_LEASE = "sweep:unheard"
_LEASE_MS = 30_000
_EVERY_S = 60.0
_AT_ONCE = 200
_PAUSE_S = 0.05
"""Between two portions, so that others come first."""


class UnheardSweep:
    """One per process. ``templates``: tells those of the account, None where they are not to be had;
    ``numbers``: those that send."""

    def __init__(
        self,
        store: Store,
        templates: Callable[[], Awaitable[Sequence[Template] | None]],
        watch: IntakeWatch,
        *,
        numbers: Sequence[str],
        owner: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._templates = templates
        self._watch = watch
        self._numbers = numbers
        self._owner = owner
        self._now_ms = now_ms
        self._passed: dict[tuple[str, int], Place] = {}  # by number and time to live: all up to here is done

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            try:
                await self.sweep()
            except StoreError as error:
                _log.info("messages without word are looked for later: %s", error.message)
            except Exception:  # noqa: BLE001 - it must not stop intake and sending, now or at each start
                _log.exception("looking for messages without word failed, it is tried again")
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Look once, unless another process does; how many messages expired. Raises StoreUnavailable."""
        numbers = [
            one for one in self._numbers if may_expire(self._watch.unbroken_since(one), self._now_ms())
        ]
        if not numbers or not await self._leads():
            return 0
        lives = lives_of(await self._templates() or ())
        ended = 0
        for number in numbers:
            for life in sorted({USUAL_MS, *lives.values()}):
                ended += await self._sweep_number(number, life, lives)
        return ended

    async def _leads(self) -> bool:
        return await self._store.acquire_lease(_LEASE, self._owner, _LEASE_MS) is not None

    async def _sweep_number(self, number: str, life: int, lives: Mapping[Name, int]) -> int:
        """End what has lived for so long, and may not live longer."""
        before = self._now_ms() - life - margin_ms(life)
        ended = 0
        while views := await self._store.undelivered(
            number, self._passed.get((number, life), Place(0, 0)), _AT_ONCE, before=before, ordered=False
        ):
            now = self._now_ms()
            over = [view for view in views if view.sent_at < before and _life(view, lives) <= life]
            if over:
                ended += sum(await self._store.apply([unheard(view, now) for view in over]))
            self._passed[number, life] = Place(views[-1].last_sent_at, views[-1].row.seq)
            await asyncio.sleep(_PAUSE_S)
            if not await self._leads():
                break
        return ended


def _life(view: RowView, lives: Mapping[Name, int]) -> float:
    life = life_of(view.row.payload, lives)
    return inf if life is None else life

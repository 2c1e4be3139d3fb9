"""When each contact was last heard from, and which messages are not to be sent for want of an open window.

A consumer of the log that keeps the ledger in the store, and the one that lanes ask. What opens a window, and
when it is closed, is decided in ``window.py``; whether something may have been missed in ``intake_watch.py``.
Owns that no word of a customer's is overlooked between the log and the ledger: what came since this process
started is in memory, within bounds, and what may be neither there nor in the ledger yet closes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from store.base import Store
from store.errors import StoreError
from store.records import Cursor, Event, Lease, Row, Window
from store.threads import Moved
from whatsapp.contacts import Contacts
from whatsapp.drafts import GROUP_KEY
from whatsapp.events import CALLS, FROM_CUSTOMERS, EventType
from whatsapp.intake_watch import IntakeWatch
from whatsapp.thread_events import merge_of
from whatsapp.window import OPEN_MS, Heard, WindowState, judge, needs_window, read

__all__ = ["WINDOWS", "Windows"]

_log = logging.getLogger(__name__)

WINDOWS = "windows"
"""Name of the consumer."""
_MOST = 50_000
"""Contacts that are remembered to have been heard from: some megabytes."""
_MAYBE_HEARD = (
    FROM_CUSTOMERS
    | CALLS
    | {
        EventType.STANDBY_MESSAGE,
        EventType.WEBHOOK_OTHER,
        EventType.WEBHOOK_UNPARSED,
    }
)
"""Where memory does not keep who said it to which number: may be anybody's word or call. The ledger finds
out."""
_SWEEP_S = 3600.0
_DAY_MS = 24 * 3600 * 1000


class Windows:
    """One per process, and the handler of the consumer :data:`WINDOWS`.

    ``head``: where the log stood when this process began to listen. ``keep_days``: how long a contact who is
    not heard from any more stays in the ledger.
    """

    def __init__(
        self,
        store: Store,
        contacts: Contacts,
        watch: IntakeWatch,
        *,
        head: int,
        keep_days: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._watch = watch
        self._keep_ms = int(keep_days * _DAY_MS)
        self._now_ms = now_ms
        self._recent: dict[str, dict[str, int]] = {}  # by number and contact
        self._remembered = 0
        self._seen = head
        self._needed = head
        """The ledger must have passed this offset: what came before it is not in memory."""
        self._passed = 0

    # -- the ledger ------------------------------------------------------------------------------------

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Keep whom a batch was heard from, then save the cursor. Raises StoreUnavailable, LeaseLost."""
        readings = [(event, read(event)) for event in batch]
        horizon = self._now_ms() - OPEN_MS
        if any(reading.missed and event.at > horizon for event, reading in readings):
            await self._watch.broke()
        heard = [one for _, reading in readings for one in reading.heard]
        if heard:
            await self._store.note_inbound(await self._windows(heard))
        for event in batch:
            if (moved := merge_of(event)) is not None:
                await self._inherit(moved)
        await self._store.save_cursor(cursor, lease)

    async def lost(self, event: Event) -> None:
        """The ledger will never have what this event says. Raises StoreUnavailable."""
        if event.at > self._now_ms() - OPEN_MS:
            await self._watch.broke()

    async def _inherit(self, moved: Moved) -> None:
        """Two contacts are one person: what the one was last heard from counts for the other."""
        numbers = {thread.phone_number_id for thread in await self._store.threads_of(moved.kept)}
        for number in numbers | self._recent.keys():
            at = (await self._store.find_inbound(number, [moved.gone])).get(moved.gone)
            if at is not None:
                await self._store.note_inbound([Window(number, moved.kept, at)])

    async def _windows(self, heard: Sequence[Heard]) -> list[Window]:
        """What is to be kept, the last word of each; not what would be forgotten at once."""
        named = await self._contacts.resolve({one.address for one in heard if not one.contact})
        latest: dict[tuple[str, str, bool], int] = {}
        oldest = self._now_ms() - self._keep_ms
        for one in heard:
            if one.at >= oldest:
                key = (one.phone_number_id, one.contact or named[one.address], one.whole)
                latest[key] = max(one.at, latest.get(key, 0))
        return [Window(number, contact, at, whole) for (number, contact, whole), at in latest.items()]

    async def sweep(self) -> None:
        """Forget whom nobody has heard from for long, now and then, until cancelled."""
        while True:
            try:
                await self._store.sweep_inbound(self._now_ms() - self._keep_ms)
            except StoreError as error:
                _log.warning("old entries of the ledger of windows are removed later: %s", error.message)
            await asyncio.sleep(_SWEEP_S)

    # -- what the log says -----------------------------------------------------------------------------

    def notice(self, batch: Sequence[Event]) -> None:
        """Customers who wrote, before the ledger knows."""
        self._seen = batch[-1].offset
        for event in batch:
            if event.type in FROM_CUSTOMERS and event.contact and event.phone_number_id:
                self._remember(event)
            elif event.type in _MAYBE_HEARD:
                self._needed = event.offset
            elif (moved := merge_of(event)) is not None:
                self._needed = event.offset
                for contacts in self._recent.values():
                    if at := contacts.get(moved.gone):
                        contacts[moved.kept] = max(at, contacts.get(moved.kept, 0))

    def _remember(self, event: Event) -> None:
        contacts = self._recent.setdefault(event.phone_number_id, {})
        if event.contact not in contacts:
            self._remembered += 1
        # When it was written may be earlier: then the window is closed, and Meta will say so.
        contacts[event.contact] = event.at
        if self._remembered > _MOST:
            self.forget()

    def forget(self) -> None:
        """Let go of what is in memory; the ledger has it, once it has come so far."""
        self._recent, self._remembered, self._needed = {}, 0, self._seen

    # -- verdicts --------------------------------------------------------------------------------------

    async def closed(self, rows: Collection[Row]) -> frozenset[str]:
        """Ids of those rows of one lane for which the window is closed now, by one read for all of them; by
        more only before it is said of any. None where the store does not answer: then Meta decides."""
        asked = [row for row in rows if not row.fell_back and not row.contact.startswith(GROUP_KEY)]
        if not asked or self._judge(0, asked[0].lane) is not WindowState.CLOSED:
            # It could be said of nobody.
            return frozenset()
        asked = [row for row in asked if needs_window(row.payload) and not self._has_written(row)]
        if not asked:
            return frozenset()
        try:
            shut = await self._shut(asked[0].lane, {row.contact for row in asked})
        except StoreError as error:
            _log.info("windows are not looked at: %s", error.message)
            return frozenset()
        return frozenset(row.id for row in asked if row.contact in shut)

    async def states(
        self, contact: str, numbers: Collection[str]
    ) -> dict[str, tuple[WindowState, int | None]]:
        """How the window of a contact is at each of these numbers, and when they were last heard from there.
        What came a moment ago may not be known yet. Raises StoreUnavailable."""
        found: dict[str, tuple[WindowState, int | None]] = {}
        for number in numbers:
            kept = (await self._store.find_inbound(number, [contact])).get(contact, 0)
            at = max(kept, self._recent.get(number, {}).get(contact, 0)) or None
            found[number] = (self._judge(at, number), at)
        return found

    def may_have_opened(self, row: Row) -> bool:
        """Whether the window may be open by what has come since :meth:`closed` said otherwise: to be asked
        just before that is acted upon."""
        return self._passed < self._needed or self._has_written(row)

    def _has_written(self, row: Row) -> bool:
        """Whether its contact has, since this process started, and the window is open by that."""
        at = self._recent.get(row.lane, {}).get(row.contact)
        return self._judge(at, row.lane) is WindowState.OPEN

    async def _shut(self, lane: str, contacts: Collection[str]) -> set[str]:
        """Those of these contacts whose window is closed."""
        # Looked at before the ledger: what it passes in between is in the ledger then.
        if not await self._caught_up():
            return set()
        shut = await self._closed_of(lane, contacts)
        if not shut:
            return shut
        # Two contacts may have turned out to be one person, or a phone have passed on: then the window of who
        # has the address now counts too.
        aliases = await self._store.find_aliases(shut)
        heirs = {alias.alias: alias.contact for alias in aliases.values() if alias.contact != alias.alias}
        of_heirs = await self._closed_of(lane, set(heirs.values())) if heirs else set()
        if self._passed < self._needed or not await self._has_seen_all():
            # Something came that is neither in memory nor in what was read.
            return set()
        return {contact for contact in shut if contact not in heirs or heirs[contact] in of_heirs}

    async def _closed_of(self, lane: str, contacts: Collection[str]) -> set[str]:
        inbound = await self._store.find_inbound(lane, contacts)
        recent = self._recent.get(lane, {})
        return {
            contact
            for contact, at in inbound.items()
            if self._judge(max(at, recent.get(contact, 0)), lane) is WindowState.CLOSED
        }

    async def _has_seen_all(self) -> bool:
        """Whether this process has seen the whole log. What another has put there comes a moment later."""
        return self._store.atomic or (await self._store.log_bounds()).head <= self._seen

    async def _caught_up(self) -> bool:
        """Whether the ledger has what is not in memory."""
        needed = self._needed
        if self._passed < needed:
            self._passed = await self._store.load_cursor(WINDOWS)
        return self._passed >= needed

    def _judge(self, inbound_at: int | None, lane: str) -> WindowState:
        return judge(inbound_at, self._watch.unbroken_since(lane), self._now_ms())

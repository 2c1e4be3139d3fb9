"""Erases all that is kept of a contact, on request: durable once asked for, done in portions beside the load.

Owns the order of the steps, each of which may be the last before a crash: the next look begins again, but for
the part of the log that it has gone through, and what was done has its effect once.

1. What is queued for them is cancelled; what is under way, or of which nobody knows, is waited for.
2. The consumers of the log pass what is in it by then, so that nothing that they keep of it comes after.
3. Messages of ours to them are removed with their attempts. From here on statuses about them are nobody's.
4. Their events are emptied in place, up to where the log ends by then; what comes later is a new contact's.
5. Conversations, claims and answers kept for repetitions; then what hangs on their keys. Who had opted out
   is remembered by a fingerprint.
6. ``contact.erased`` tells of it, and every process lets go of what it has in memory and on disk. At last
   what was removed is overwritten in the store's files.

What was done after the request, such as a message accepted meanwhile, may go too, or stay.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.erasing import Erasure, Mentions, Shelf
from store.errors import StoreError
from store.leasing import under_lease
from store.log import Log
from store.records import Event, Lease, Place
from store.states import OPEN, State
from whatsapp.contacts import Contacts
from whatsapp.erased import REMEMBERED, Erased
from whatsapp.erasure_rules import ANSWER, erased_event, left_of
from whatsapp.events import EventType, rfc3339
from whatsapp.identity import parse_address
from whatsapp.media_keeper import wanted_of
from whatsapp.outcome import cancelled

__all__ = ["Erasures", "Forgetful"]

_log = logging.getLogger(__name__)

_LEASE = "erasure"
_LEASE_MS = 30_000
_EVERY_S = 5.0
_PORTION = 500
"""Records that are looked through by one read."""
_AT_ONCE = 100
"""Of those that are erased: a few milliseconds of the writer's time."""
_EVENTS = 100
"""In one read: their bodies are looked through in the event loop."""
_PAUSE_S = 0.02
_NOTED = 100
"""Portions of the log after which it is noted how far it is."""
_BREATH_S = 0.008
"""After a portion in which there was nothing: many more of these come."""
_TOGETHER = 100
"""Requests that are worked on at once."""
_CATCH_UP_S = 10.0
_IN_TIME_S = 2.5
"""Longer than a webhook may take to be answered."""
_PURGES = 20
_PRIORITIES = (0, 1, 2)
_FOREVER = (1 << 53) - 1
_LATE_MS = 24 * 3600 * 1000
_DONE_MS = 35 * 24 * 3600 * 1000
"""How long it is known that a request was done."""

Forgetful = Callable[[], None]
"""Lets go of what a part of the process has in memory."""


class _Plan(msgspec.Struct, omit_defaults=True):
    """How far a request is. Of one that is done neither contacts nor addresses are left."""

    contacts: list[str] = []
    """Keys."""
    addresses: list[str] = []
    fingerprints: list[str] = []
    salt: str = ""
    media: list[str] = []
    """Ids of files that they had sent."""
    events: int = 0
    messages: int = 0
    place: int = 0
    """Their events up to this offset are emptied."""
    waits: bool = False
    """Whether a message to them is still under way."""


class _NotYet(Exception):
    """Something is to be waited for; the next look goes on."""


class _Work:
    """One request, while it is worked on."""

    def __init__(self, erasure: Erasure) -> None:
        self.erasure = erasure
        self.plan = msgspec.json.decode(erasure.body, type=_Plan)
        self.who = Mentions(self.plan.contacts, self.plan.addresses)

    def record(self, done_at: int = 0) -> Erasure:
        return Erasure(self.erasure.id, self.erasure.asked_at, msgspec.json.encode(self.plan), done_at)


class Erasures:
    """One per process. ``numbers``: those that send; ``consumers``: names of the cursors that are waited for;
    ``forget``: told when somebody was erased; ``remove_file``: removes what customers sent, by its id."""

    def __init__(
        self,
        store: Store,
        log: Log,
        contacts: Contacts,
        erased: Erased,
        *,
        numbers: Sequence[str],
        consumers: Collection[str],
        forget: Sequence[Forgetful],
        remove_file: Callable[[str], Awaitable[None]] | None,
        owner: str,
        now_ms: Callable[[], int],
        every_s: float | None = None,
    ) -> None:
        self._store = store
        self._log = log
        self._contacts = contacts
        self._erased = erased
        self._numbers = tuple(numbers)
        self._consumers = tuple(consumers)
        self._forget = tuple(forget)
        self._remove_file = remove_file
        self._owner = owner
        self._now_ms = now_ms
        self._every_s = _EVERY_S if every_s is None else every_s
        self._asked = asyncio.Event()
        self._files: set[str] = set()
        self._pending: list[Erasure] = []
        self.fault = ""
        """Why the last look broke off; empty after one that did not."""

    # -- asking ----------------------------------------------------------------------------------------

    async def ask(self, text: str) -> Erasure | None:
        """Have somebody erased whom a caller names by phone, user id or key; None where that is no address,
        and nobody is known by it. Who is to be erased already is not asked for twice. Raises
        StoreUnavailable."""
        contact = await self._contacts.find_text(text)
        aliases = [alias.alias for alias in await self._store.aliases_of(contact)]
        if not aliases and parse_address(text) is None and not await self._store.threads_of(contact):
            return None
        for one in await self._store.list_erasures(_FOREVER):
            if contact in msgspec.json.decode(one.body, type=_Plan).contacts:
                return one
        # A phone that is somebody else's by now is no word for them.
        elsewhere = await self._store.find_aliases([contact])
        own = [] if elsewhere and elsewhere[contact].contact != contact else [contact]
        addresses = sorted({*aliases, *own})
        # Two who turned out to be one may have events under either key; who had such a phone before has it as
        # a key of their own still.
        former = [alias for alias in aliases if not await self._store.aliases_of(alias)]
        plan = _Plan(
            contacts=sorted({contact, *former}),
            addresses=addresses,
            fingerprints=sorted({self._erased.fingerprint(one) for one in addresses}),
            salt=secrets.token_hex(16),
        )
        asked = Erasure(str(uuid.uuid4()), self._now_ms(), msgspec.json.encode(plan))
        await self._store.put_erasure(asked)
        self._asked.set()
        return asked

    async def find(self, id: str) -> dict[str, Any] | None:
        """How a request stands, as callers read it. Raises StoreUnavailable."""
        found = await self._store.find_erasure(id)
        return told_erasure(found) if found else None

    def status(self) -> dict[str, Any]:
        """For the status page."""
        oldest = self._pending[0].asked_at if self._pending else 0
        return {
            "pending": len(self._pending),
            "oldest_at": rfc3339(oldest) if oldest else None,
            "fault": self.fault or None,
        }

    def trouble(self) -> list[dict[str, Any]]:
        """``{what, why}`` where somebody has waited for a day to be erased."""
        if not self._pending or self._now_ms() - self._pending[0].asked_at < _LATE_MS:
            return []
        why = f"A contact is to be erased since {rfc3339(self._pending[0].asked_at)}"
        return [{"what": "erasure", "why": f"{why}: {self.fault or 'a message to them is still under way'}."}]

    # -- what every process does -----------------------------------------------------------------------

    def notice(self, batch: Sequence[Event]) -> None:
        """A listener of the log: somebody was erased, maybe by another process."""
        for event in batch:
            if event.type == EventType.CONTACT_ERASED:
                self._files.update(msgspec.json.decode(event.body)["data"]["media"])
                for forget in self._forget:
                    forget()
                self._asked.set()

    async def begin(self) -> None:
        """Take up what was told while this process was down. Raises StoreUnavailable."""
        await self._erased.load()
        for one in await self._store.list_erasures(self._now_ms() - _DONE_MS):
            plan = msgspec.json.decode(one.body, type=_Plan)
            if not plan.contacts:
                self._files.update(plan.media)

    async def run(self) -> None:
        """Look every few seconds, and when asked, until cancelled."""
        while True:
            self._asked.clear()
            try:
                await self.look()
                self.fault = ""
            except _NotYet as error:
                self.fault = str(error)
            except (StoreError, OSError) as error:
                self.fault = str(error)
                _log.info("who is to be erased is looked for later: %s", error)
            except Exception as error:  # noqa: BLE001 - it must not stop intake and sending, now or at each start
                self.fault = f"{type(error).__name__}: {error}"
                _log.exception("the erasing of a contact failed, it is tried again")
            try:
                async with asyncio.timeout(self._every_s):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        """Erase whom somebody asked to, unless another process does. Raises StoreError, OSError."""
        await self._remove_files()
        await self._erased.load()
        self._pending = await self._store.list_erasures(_FOREVER)
        if self._pending:
            await under_lease(self._store, _LEASE, self._owner, _LEASE_MS, self._erase)
            self._pending = await self._store.list_erasures(_FOREVER)

    async def _remove_files(self) -> None:
        while self._files and self._remove_file is not None:
            media_id = next(iter(self._files))
            await self._remove_file(media_id)
            self._files.discard(media_id)

    # -- the steps -------------------------------------------------------------------------------------

    async def _erase(self, lease: Lease, renewal: asyncio.Task[None]) -> None:
        try:
            works = [_Work(erasure) for erasure in self._pending]
            told = [work for work in works if not work.plan.contacts]
            if told:
                await self._end(told)
            # Those that wait last, so that they keep nobody else waiting.
            works = sorted((work for work in works if work.plan.contacts), key=lambda work: work.plan.waits)
            works = works[:_TOGETHER]
            if not works:
                return
            if not self._store.atomic:
                # Every process has to know them before their events are emptied, for Meta's repetitions.
                await asyncio.sleep(2 * self._every_s)
            open_to = await self._end_messages(works, renewal)
            ready = [work for work in works if not open_to & work.who.contacts]
            for work in works:
                work.plan.waits = work not in ready
                await self._store.put_erasure(work.record())
            if ready:
                await self._erase_all(ready, renewal)
                await self._end([work for work in ready if not work.plan.contacts])
            if len(ready) < len(works):
                raise _NotYet("a message to them is still under way")
        finally:
            await self._store.release_lease(lease)

    async def _erase_all(self, works: Sequence[_Work], renewal: asyncio.Task[None]) -> None:
        await self._passed_by_consumers()
        await self._remove_messages(works, renewal)
        # A status that was let in while its message was there is in the log by then, or refused.
        await asyncio.sleep(_IN_TIME_S)
        await self._empty_events(works, await self._passed_by_consumers(), renewal)
        everybody = _together(works)
        await self._remove(everybody, "said", renewal)
        await self._remove(everybody, "claims", renewal)
        await self._remove_answers(everybody, renewal)
        if renewal.done():
            return
        for work in works:
            await self._remember(work)
            await self._store.forget_contacts(work.who.contacts)
        for work in works:
            await self._tell(work)

    async def _end_messages(self, works: Sequence[_Work], renewal: asyncio.Task[None]) -> set[str]:
        """Cancel what is queued; contacts to whom something is under way."""
        contacts = {contact for work in works for contact in work.who.contacts}
        for number in self._numbers:
            for contact in contacts:
                await self._cancel_due(number, contact)
        open_to: set[str] = set()
        async for ids in self._search(_together(works), "rows", renewal):
            views = await self._store.find_rows(ids)
            queued = [view.row for view in views.values() if view.row.state is State.QUEUED]
            moved = await self._store.apply([cancelled(row, self._now_ms()) for row in queued])
            left = {row.id for row, done in zip(queued, moved, strict=True) if not done}
            open_to |= {
                view.row.contact
                for id, view in views.items()
                if id in left or view.row.state in OPEN - {State.QUEUED}
            }
        return open_to

    async def _cancel_due(self, number: str, contact: str) -> None:
        """At once, before all that was ever sent to them is looked through."""
        for priority in _PRIORITIES:
            after = Place(0, 0)
            while rows := await self._store.read_contact(
                number, priority, contact, after, _FOREVER, _PORTION
            ):
                await self._store.apply([cancelled(row, self._now_ms()) for row in rows])
                after = Place(rows[-1].due, rows[-1].seq)

    async def _passed_by_consumers(self) -> int:
        """The head of the log, once all have passed it."""
        head = (await self._log.bounds()).head
        until = asyncio.get_running_loop().time() + _CATCH_UP_S
        while behind := await self._behind(head):
            if asyncio.get_running_loop().time() > until:
                raise _NotYet(f"{behind} has not read the log up to where it is")
            await asyncio.sleep(_PAUSE_S)
        return head

    async def _behind(self, head: int) -> str:
        cursors = {cursor.name: cursor.offset for cursor in await self._store.list_cursors()}
        return next((name for name in self._consumers if cursors.get(name, 0) < head), "")

    async def _remove_messages(self, works: Sequence[_Work], renewal: asyncio.Task[None]) -> None:
        for work in works:
            stay = 0
            async for ids in self._search(work.who, "rows", renewal):
                removed = await self._store.erase("rows", ids)
                work.plan.messages += removed
                stay += len(ids) - removed
            if stay:
                raise _NotYet("a message to them was accepted meanwhile")

    async def _empty_events(self, works: Sequence[_Work], upto: int, renewal: asyncio.Task[None]) -> None:
        everybody = _together(works)
        place = min(work.plan.place for work in works)
        portions = 0
        while place < upto and not renewal.done():
            events = await self._store.events_after(place, _EVENTS)
            if not events:
                break
            found = [event for event in events if event.offset <= upto and left_of(event, everybody)]
            if found:
                await self._empty(works, found)
            place = min(upto, events[-1].offset)
            portions += 1
            if portions % _NOTED == 0:
                for work in works:
                    work.plan.place = place
                    await self._store.put_erasure(work.record())
            await asyncio.sleep(_PAUSE_S if found else _BREATH_S)

    async def _empty(self, works: Sequence[_Work], events: Sequence[Event]) -> None:
        left = {event.offset: event for event in events}
        for work in works:
            for event in events:
                if (fresh := left_of(left[event.offset], work.who)) is None:
                    continue
                left[event.offset] = fresh
                work.plan.events += 1
                if event.contact in work.who.contacts and (want := wanted_of(event)) is not None:
                    work.plan.media.append(want.id)
            # First: an event that is emptied tells no more of its file.
            await self._store.put_erasure(work.record())
        await self._store.rewrite_events(list(left.values()))

    async def _remove(self, who: Mentions, shelf: Shelf, renewal: asyncio.Task[None]) -> None:
        async for ids in self._search(who, shelf, renewal):
            await self._store.erase(shelf, ids)

    async def _remove_answers(self, who: Mentions, renewal: asyncio.Task[None]) -> None:
        async for ids in self._search(who, "answers", renewal):
            await self._store.erase("answers", [id for id in ids if who.among(id)])
            await self._store.erase("answers", [id for id in ids if not who.among(id)], ANSWER)

    async def _search(
        self, who: Mentions, shelf: Shelf, renewal: asyncio.Task[None]
    ) -> AsyncIterator[list[str]]:
        """Portions of ids, those that have any."""
        after = ""
        while not renewal.done():
            found = await self._store.search_shelf(shelf, who, after, _PORTION)
            for start in range(0, len(found.ids), _AT_ONCE):
                yield found.ids[start : start + _AT_ONCE]
                await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(_BREATH_S)
            after = found.after
            if not after:
                break

    async def _remember(self, work: _Work) -> None:
        """That they are not to be written to unasked, if they are not."""
        found = await self._store.find_suppressions(work.who.contacts)
        if found:
            kept = max(found.values(), key=lambda one: (one.firm, one.at))
            words = [
                msgspec.structs.replace(kept, contact=REMEMBERED + one, note="erased")
                for one in work.plan.fingerprints
            ]
            await self._store.put_suppressions(words, by_operator=True)

    async def _tell(self, work: _Work) -> None:
        """Told before it is noted: what is told twice over a crash has one key."""
        plan = work.plan
        names = {*plan.contacts, *plan.addresses}
        await self._store.append_events(
            [erased_event(work.erasure.id, plan.salt, names, plan.media, self._now_ms())]
        )
        plan.contacts, plan.addresses, plan.salt = [], [], ""
        await self._store.put_erasure(work.record())

    async def _end(self, works: Sequence[_Work]) -> None:
        """The last: nothing of them is written any more."""
        for _ in range(_PURGES):
            if await self._store.purge():
                break
            await asyncio.sleep(_PAUSE_S)
        else:
            raise _NotYet("somebody reads what is to be overwritten in the file")
        for work in works:
            await self._store.put_erasure(work.record(done_at=self._now_ms()))
            plan = work.plan
            _log.info(
                "the erasure %s is done: %d events, %d messages", work.erasure.id, plan.events, plan.messages
            )


def told_erasure(erasure: Erasure) -> dict[str, Any]:
    """A request as callers read it."""
    plan = msgspec.json.decode(erasure.body, type=_Plan)
    state = "done" if erasure.done_at else "waiting" if plan.waits else "running"
    return {
        "erasure": erasure.id,
        "state": state,
        "asked_at": rfc3339(erasure.asked_at),
        "done_at": rfc3339(erasure.done_at) if erasure.done_at else None,
        "events": plan.events,
        "messages": plan.messages,
        "files": len(plan.media),
    }


def _together(works: Sequence[_Work]) -> Mentions:
    return Mentions(
        {contact for work in works for contact in work.plan.contacts},
        {address for work in works for address in work.plan.addresses},
    )

"""Who is not sent what they did not ask for: the consumer that learns it, the memory that lanes look into,
and the operator's door.

What is said by events is read in ``opt_out.py``; how words follow each other is the store's contract. Owns
that each change is told by an event, once, also over a crash between the two, and that a lane asks the store
once for many rows. All numbers of the gateway share one list: it hangs on a contact's key.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from store.base import Store
from store.errors import StoreError
from store.records import Cursor, Event, Lease, Row, Suppression
from whatsapp.contacts import Contacts
from whatsapp.events import EventType
from whatsapp.opt_out import OptOutWords, Said, event_of, said

__all__ = ["SUPPRESSIONS", "Suppressions"]

_log = logging.getLogger(__name__)

SUPPRESSIONS = "suppressions"
"""Name of the consumer."""
_MOST = 50_000
"""Contacts of whom it is remembered whether they are suppressed: some megabytes."""
_HEAL_MS = 24 * 3600 * 1000
"""So long a change is told once more when it is said again; the log drops what it has."""
_LIFE_MS = 60_000
"""After which all is asked anew: a word may be in the store whose event was lost with its process."""


_Heard = tuple[tuple[Event, Said], Suppression]
"""What was said, by which event, and the word that it is."""


class Suppressions:
    """One per process, and the handler of the consumer :data:`SUPPRESSIONS`."""

    def __init__(
        self, store: Store, contacts: Contacts, words: OptOutWords, *, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._words = words
        self._now_ms = now_ms
        self._known: dict[str, bool] = {}
        self._known_since = now_ms()
        self._former: dict[str, set[str]] = {}
        """Of a contact the keys that rows may have of them still: two turned out to be one, or a phone has
        passed on."""

    # -- what events say -------------------------------------------------------------------------------

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Keep what a batch says, tell it, and save the cursor. Raises StoreUnavailable, LeaseLost."""
        heard = [(event, one) for event in batch for one in said(event, self._words)]
        events = []
        if heard:
            keys = await self._contacts.resolve({one.address for _, one in heard if not one.contact})
            words = [one.by(one.contact or keys[one.address]) for _, one in heard]
            for part in _once_each(list(zip(heard, words, strict=True))):
                stands = await self._store.put_suppressions([word for _, word in part])
                for ((event, one), word), after in zip(part, stands, strict=True):
                    if _decides(word, after):
                        events.append(event_of(after, event.at, one.phone_number_id, one.source))
        if events:
            await self._store.apply((), events, cursor, lease)
        else:
            await self._store.save_cursor(cursor, lease)

    # -- the operator's door ---------------------------------------------------------------------------

    async def put(self, words: Sequence[Suppression]) -> list[Suppression]:
        """Say these words, and tell of those that count; how each contact stands. Raises StoreUnavailable."""
        after = await self._store.put_suppressions(words, by_operator=True)
        now = self._now_ms()
        events = [
            event_of(one, now, source=word.source)
            for word, one in zip(words, after, strict=True)
            # Also of one that was said a while ago: then the store may have failed before it was told.
            if _decides(word, one) or (one.since and now - one.at < _HEAL_MS)
        ]
        if events:
            await self._store.append_events(events)
        return after

    # -- what lanes ask --------------------------------------------------------------------------------

    def notice(self, batch: Sequence[Event]) -> None:
        """What has changed, in whichever process."""
        if len(self._known) > _MOST:
            self.forget()  # as after a long list was put in, while no lane asks
        for event in batch:
            if event.type == EventType.CONTACT_SUPPRESSED:
                for contact in (event.contact, *self._former.get(event.contact, ())):
                    self._known[contact] = True
            elif event.type == EventType.CONTACT_RESTORED:
                self._known[event.contact] = False
                for contact in self._former.get(event.contact, ()):
                    self._known.pop(contact, None)  # it may have been said under that key, too
            elif event.type == EventType.CONTACT_MERGED:
                # An opt-out goes along without an event of its own.
                self.forget()

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._known, self._known_since, self._former = {}, self._now_ms(), {}

    def remembers(self, row: Row) -> bool:
        """Whether a row is known not to be sent, by what is in memory."""
        return row.heeds_opt_out and self._known.get(row.contact, False)

    async def learn(self, rows: Collection[Row]) -> None:
        """Have the contacts of these in memory, as far as the store answers."""
        try:
            await self.refused(rows)
        except StoreError as error:
            _log.info("suppressions are looked at later: %s", error.message)

    async def refused(self, rows: Collection[Row]) -> frozenset[str]:
        """Ids of those that are not to be sent, by one read at most. Raises StoreUnavailable."""
        asked = [row for row in rows if row.heeds_opt_out]
        if not asked:
            return frozenset()
        known = await self._of({row.contact for row in asked})
        return frozenset(row.id for row in asked if known[row.contact])

    async def _of(self, contacts: Collection[str]) -> Mapping[str, bool]:
        if self._now_ms() - self._known_since > _LIFE_MS or len(self._known) > _MOST:
            self.forget()
        known = self._known
        missing = [contact for contact in contacts if contact not in known]
        if not missing:
            return known
        asked = await self._ask(missing)
        # What was told during the read is newer than what was read.
        told = {contact: self._known[contact] for contact in missing if contact in self._known}
        if known is self._known:
            known.update({**asked, **told})
        return {**asked, **{one: known[one] for one in contacts if one in known}, **told}

    async def _ask(self, contacts: Collection[str]) -> dict[str, bool]:
        """Whether each, or whoever their key leads to by now, is suppressed."""
        found = await self._store.find_suppressions(contacts)
        others = [contact for contact in contacts if contact not in found]
        aliases = (await self._store.find_aliases(others)).values() if others else ()
        heirs = {alias.alias: alias.contact for alias in aliases if alias.contact != alias.alias}
        of_heirs = await self._store.find_suppressions(set(heirs.values())) if heirs else {}
        for former, contact in heirs.items():
            self._former.setdefault(contact, set()).add(former)
        return {contact: contact in found or heirs.get(contact) in of_heirs for contact in contacts}


def _once_each(words: Sequence[_Heard]) -> list[list[_Heard]]:
    """In parts that name nobody twice: of one who leaves and comes back within a batch both are told."""
    parts: list[list[_Heard]] = []
    said_by: Counter[str] = Counter()
    for heard, word in words:
        turn = said_by[word.contact]
        said_by[word.contact] += 1
        if turn == len(parts):
            parts.append([])
        parts[turn].append((heard, word))
    return parts


def _decides(word: Suppression, after: Suppression) -> bool:
    """Whether a contact stands as they do by this word; so it is of one that is said again, too."""
    if not after.since:
        return False
    return after == word if word.in_force else after.until == word.until

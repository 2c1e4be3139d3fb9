"""Conversations: the consumer of the log that keeps them, and what callers are told of them.

Owns the way from a batch of events to the store, and the looking up of what stands beside a thread: the rows
of what is ours. What an event says of a conversation is decided in ``thread_events.py``, how a message is
told in ``thread_messages.py``. All of it can be written again from the log: a gateway that has none begins at
the oldest event that there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from store.base import Store
from store.records import Cursor, Event, Lease
from store.threads import Amended, Moved, Said, Thread, ThreadNews
from whatsapp.events import rfc3339
from whatsapp.thread_events import Change, keys_of_message, read_event
from whatsapp.thread_messages import is_shown, told_message

__all__ = ["CONVERSATIONS", "ConversationKeeper", "Conversations"]

CONVERSATIONS = "conversations"
"""Name of the consumer."""
MOST_UNREAD = 100
"""Up to how many unread messages of a thread are counted."""


class ConversationKeeper:
    """The handler of the consumer :data:`CONVERSATIONS`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """Keep what a batch says, and the cursor with it. Raises StoreUnavailable, LeaseLost."""
        said: list[Said] = []
        changes: list[Change] = []
        more: list[Thread] = []
        moved: list[Moved] = []
        for event in batch:
            found = read_event(event)
            if isinstance(found, Said):
                said.append(found)
            elif isinstance(found, Change):
                changes.append(found)
            elif isinstance(found, Moved):
                moved.append(found)
            elif found is not None:
                more.append(found)
        amended = await self._amend(changes, said) if changes else []
        news = ThreadNews(tuple(said), tuple(amended), tuple(more), tuple(moved))
        if news:
            await self._store.note_threads(news, cursor, lease)
        else:
            await self._store.save_cursor(cursor, lease)

    async def _amend(self, changes: Sequence[Change], said: list[Said]) -> list[Amended]:
        """The amendments; a change of a message that is not known, or that is somebody else's, is said by
        itself."""
        places = await self._places({change.wamid for change in changes}, said)
        amended = []
        for change in changes:
            place = places.get((change.said.contact, change.wamid))
            if place is None:
                said.append(change.said)
            else:
                amended.append(Amended(place, msgspec.json.encode(change.told)))
        said.sort(key=lambda one: one.offset)
        return amended

    async def _places(self, wamids: Iterable[str], said: Sequence[Said]) -> dict[tuple[str, str], int]:
        """Offsets by the contact in whose thread it stands, and Meta's id."""
        keys = [key for wamid in wamids for key in keys_of_message(wamid)]
        found = map(read_event, await self._store.events_of(keys))
        known = [*said, *(one for one in found if isinstance(one, Said))]
        return {(one.contact, one.wamid): one.offset for one in known if one.wamid}


class Conversations:
    """What callers ask. A contact is a key: see :meth:`~whatsapp.contacts.Contacts.find_text`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(
        self, numbers: Sequence[str], limit: int, before: int | None, *, unread: bool
    ) -> list[dict[str, Any]]:
        """Threads with these numbers, those in which something was said last first. Raises
        StoreUnavailable."""
        threads = await self._store.list_threads(numbers, limit, before, unread=unread)
        last = await self.told(thread.last_offset for thread in threads)
        counts = await self._store.count_unread(threads, MOST_UNREAD)
        return [
            {
                "contact": thread.contact,
                "phone_number_id": thread.phone_number_id,
                "name": thread.name or None,
                "position": thread.last_offset,
                "last_at": rfc3339(thread.last_at),
                "last_heard_at": rfc3339(thread.heard_at) if thread.heard_at else None,
                "unread": count,
                "last": last.get(thread.last_offset),
            }
            for thread, count in zip(threads, counts, strict=True)
        ]

    async def messages(
        self, contact: str, limit: int, *, before: int | None, after: int | None, phone_number_id: str
    ) -> list[Said]:
        """A page of a contact's threads, in the order of the log. Raises StoreUnavailable."""
        return await self._store.said_of(
            contact, limit, before=before, after=after, phone_number_id=phone_number_id
        )

    async def tell(self, said: Sequence[Said]) -> list[dict[str, Any]]:
        """These messages as callers read them. Raises StoreUnavailable."""
        rows = {one.message_id for one in said if one.message_id}
        views = await self._store.find_rows(rows) if rows else {}
        return [
            told_message(one, views.get(one.message_id))
            for one in said
            if is_shown(one, views.get(one.message_id))
        ]

    async def told(self, offsets: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Messages by their place, those that are known. Raises StoreUnavailable."""
        said = await self._store.find_said({offset for offset in offsets if offset})
        return {one["position"]: one for one in await self.tell(list(said.values()))}

    async def threads(self, contact: str) -> list[Thread]:
        """Those of a contact, the one first in which they wrote last. Raises StoreUnavailable."""
        threads = await self._store.threads_of(contact)
        return sorted(threads, key=lambda thread: (-thread.heard_offset, -thread.last_offset))

    async def heard_last(self, contact: str, phone_number_id: str) -> tuple[Thread, Said] | None:
        """The last message of the customer's, with this number or any (empty), and its thread; None where
        there is none. Raises StoreUnavailable."""
        for thread in await self.threads(contact):
            if thread.heard_offset and phone_number_id in ("", thread.phone_number_id):
                said = (await self._store.find_said([thread.heard_offset])).get(thread.heard_offset)
                return (thread, said) if said is not None else None
        return None

"""A webhook's way into the log: parsed, its people resolved, durable.

Thin: what an update is, is decided in ``webhook.py``, who a person is in ``contacts.py``. Returns only when
everything in the body is in the log, so that the caller may answer 200 (docs/design.md, In).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from store.base import Store
from store.deadline import answered_in_time
from store.log import Log
from store.records import NewEvent
from whatsapp.contacts import Contacts
from whatsapp.erased import Erased
from whatsapp.events import build_event
from whatsapp.identity import Address
from whatsapp.webhook import BadPayload, Update, parse

__all__ = ["MAX_BYTES", "Intake"]

MAX_BYTES = 64 * 1024 * 1024
"""Of all events of one body. What stands beside many items, as the metadata, is in the event of each: of
Meta's largest bodies that makes some 20 MB, and of one that is made for it any number."""


class Intake:
    """Takes the bodies of webhooks whose signature has been checked."""

    def __init__(
        self,
        log: Log,
        contacts: Contacts,
        store: Store,
        *,
        now_ms: Callable[[], int],
        erased: Erased | None = None,
    ) -> None:
        """``erased``: knows what is not to be told again, since it was erased."""
        self._erased = erased
        self._log = log
        self._store = store
        self._contacts = contacts
        self._now_ms = now_ms
        self.last_at = 0
        """When the last webhook was taken, in milliseconds; 0 before the first."""

    async def take(self, body: bytes) -> None:
        """Make every update of a body durable. Raises BadPayload; StoreUnavailable within two seconds."""
        updates = parse(body)
        if updates:
            async with answered_in_time():
                await self._append(updates)
        self.last_at = self._now_ms()

    async def _append(self, updates: Sequence[Update]) -> None:
        updates = await self._not_told(updates)
        if self._erased is not None:
            updates = await self._erased.not_told(updates)
        if not updates:
            return
        now = self._now_ms()
        keys = await self._keys(updates, now)
        await self._add_callback_data([update for update in updates if update.has_callback_data])
        events: list[NewEvent] = []
        size = 0
        for update, key in zip(updates, keys, strict=True):
            events.append(_event(update, key, now))
            size += len(events[-1].body)
            if size > MAX_BYTES:
                raise BadPayload("The body repeats too much of itself in its updates.")
        await self._log.append(events)

    async def _not_told(self, updates: Sequence[Update]) -> Sequence[Update]:
        """Without the parts of what an earlier version has told as one: Meta repeats for seven days."""
        former = {update.former_key for update in updates if update.former_key}
        told = await self._store.known_keys(former) if former else frozenset()
        return [update for update in updates if update.former_key not in told] if told else updates

    async def _add_callback_data(self, updates: Sequence[Update]) -> None:
        """Of statuses about rows that have some."""
        rows = await self._store.find_rows({update.message_id for update in updates}) if updates else {}
        for update in updates:
            if (view := rows.get(update.message_id)) is not None:
                update.data["callback_data"] = view.row.callback_data

    async def _keys(self, updates: Sequence[Update], now: int) -> list[str]:
        """Whom each update is about; all are looked up at once, unless somebody changes in between."""
        if any(update.change is not None for update in updates):
            return [(await self._together([update], now))[0] for update in updates]
        return await self._together(updates, now)

    async def _together(self, updates: Sequence[Update], now: int) -> list[str]:
        first = updates[0]
        if (change := first.change) is not None:
            return [await self._contacts.change(change.old, change.new, min(first.at, now))]
        if len(updates) == 1:
            # As almost always: from memory, without a table of one.
            contact = self._contacts.cached(first.address, min(first.at, now)) if first.address else ""
            if contact is not None:
                return [contact]
        times: dict[Address, int] = {}
        for update in updates:
            if update.address:
                times[update.address] = max(times.get(update.address, 0), min(update.at, now))
        found = await self._contacts.resolve(times, times)
        return [found.get(update.address, "") for update in updates]


def _event(update: Update, contact: str, now: int) -> NewEvent:
    return build_event(
        update.type,
        update.key,
        now,
        update.data,
        phone_number_id=update.phone_number_id,
        contact=contact,
        message_id=update.message_id,
    )

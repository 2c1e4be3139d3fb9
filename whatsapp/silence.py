"""How long a contact had not written before a message: from their threads, and what came just now.

Threads follow the log a moment later (``store/threads.py``); what they may lack is remembered here, within
bounds. Only what came before the message counts, so that the answer is the same when it is asked again.
"""

from __future__ import annotations

from store.base import Store
from store.records import Event
from store.threads import Thread

__all__ = ["Silence"]

_MOST = 50_000
_BACK = 50
"""Messages that are looked through for the last of the contact's, where the threads are ahead."""


class Silence:
    """For one reader of the log. What it remembers of a batch counts once :meth:`keep` was called."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard: dict[str, int] = {}
        self._batch: dict[str, int] = {}

    def begin(self) -> None:
        """A batch begins, perhaps one that was begun before."""
        self._batch = {}

    def keep(self) -> None:
        """The batch is done with."""
        if len(self._heard) + len(self._batch) > _MOST:
            self._heard = {}
        self._heard |= self._batch

    def forget(self) -> None:
        """Let go of what is in memory."""
        self._heard, self._batch = {}, {}

    def note(self, event: Event) -> None:
        """A message of a contact's of which nothing is asked."""
        self._batch[event.contact] = event.at

    async def before(self, event: Event) -> int | None:
        """Milliseconds since the contact's message before this one; None where there was none. To be asked of
        each of their messages, in order, that is not noted. Raises StoreUnavailable."""
        contact = event.contact
        last = self._batch.get(contact) or self._heard.get(contact) or 0
        for thread in await self._store.threads_of(contact):
            last = max(last, await self._last_in(thread, event))
        self.note(event)
        return max(0, event.at - last) if last else None

    async def _last_in(self, thread: Thread, event: Event) -> int:
        """When the contact's last message before this one was, in this thread; 0: there was none."""
        if thread.heard_offset < event.offset:
            return thread.heard_at
        said = await self._store.said_of(
            thread.contact, _BACK, before=event.offset, phone_number_id=thread.phone_number_id
        )
        heard = [one.at for one in said if one.kind == "in"]
        if heard:
            return max(heard)
        return thread.first_heard_at if 0 < thread.first_heard_at < event.at and len(said) == _BACK else 0

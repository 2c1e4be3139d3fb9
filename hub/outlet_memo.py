"""What is remembered of an outside receiver, in the store, for all processes.

Owns the memo: a :class:`~hub.delivery.Record` that is compared and set, so that persons may change it from
any process while another does the work. Each change of theirs is an event too, which is how the process that
does the work hears of it at once.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hub.delivery import Record
from store.base import Store
from store.errors import StoreUnavailable
from store.log import Log
from store.records import Memo, NewEvent

__all__ = ["OutletMemo"]

_TRIES = 5


class OutletMemo:
    """The memo of this name. All methods raise StoreUnavailable."""

    def __init__(self, name: str, store: Store, log: Log) -> None:
        self._name = name
        self._store = store
        self._log = log
        self.record = Record()
        """As this process has seen it last."""
        self.version = 0
        self.is_stale = True
        """Whether it may have changed since."""

    async def begin(self, head: int) -> None:
        """Make it, where there is none: begin past this offset.

        It, and not the cursor, tells that a receiver has begun: a cursor of 0 would look like none.
        """
        if await self._store.find_memo(self._name) is None:
            await self._store.put_memo(self._memo(1, Record(go_to=head)))

    async def look(self) -> Record:
        """As it stands, for somebody who does not do the work."""
        return (await self._read())[1]

    async def has_changed(self) -> bool:
        """Whether it is another than this process has seen last."""
        return (await self._read())[0] != self.version

    async def refresh(self) -> None:
        """See it as it stands."""
        self.is_stale = False
        self.version, self.record = await self._read()

    async def keep(self, record: Record) -> bool:
        """Put this in its place; False where somebody has changed it since it was seen, which comes first."""
        if record == self.record:
            return True
        if not await self._store.put_memo(self._memo(self.version + 1, record)):
            self.is_stale = True
            return False
        self.version, self.record = self.version + 1, record
        return True

    async def change(
        self, change: Callable[[Record], Record], event: Callable[[str, Record], NewEvent]
    ) -> None:
        """Do what a person wants, whoever else changes it at this moment, and tell so; nothing where it is so
        already. ``event`` gets the name of the change, and the record before it."""
        for _ in range(_TRIES):
            version, before = await self._read()
            after = change(before)
            if after == before:
                return
            if await self._store.put_memo(self._memo(version + 1, after)):
                await self._log.append([event(f"{version + 1}", before)])
                return
        raise StoreUnavailable(f"{self._name} changes too often at once, try again later")

    def _memo(self, version: int, record: Record) -> Memo:
        return Memo(self._name, version, msgspec.json.encode(record))

    async def _read(self) -> tuple[int, Record]:
        memo = await self._store.find_memo(self._name)
        return (memo.version, msgspec.json.decode(memo.body, type=Record)) if memo else (0, Record())

"""A plain model of the outbox: a list of rows with their states, and the reads that a lane makes of it.

Pure. Owns what the rules of order (docs/design.md, Out) mean for a list that is looked at as a whole: which
row of each stream is next, and which may leave. The window in memory is held against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from store.errors import StoreUnavailable
from store.records import Change, Place, Priority, Row, RowView
from store.states import State
from tests.support.rows import TASK, make_row
from whatsapp.queue import Stream

__all__ = ["OPEN", "ORDERED_S", "Entry", "Outbox", "at_once"]

T = TypeVar("T")

ORDERED_S = 3.0
"""How long the rows behind an ordered one wait for its delivery."""
OPEN = (State.QUEUED, State.SENDING, State.UNKNOWN)


_TEXT = b'{"type":"text"}'
_TEMPLATE = b'{"type":"template","template":{"name":"offer","language":{"code":"en"}}}'


def _none(entry: Entry) -> bool:
    return False


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waited")


@dataclass(eq=False)
class Entry:
    """A row of the model; times are milliseconds."""

    n: int
    contact: str
    priority: Priority
    due: int
    state: State = State.QUEUED
    attempt: int = 0
    ready: bool = True
    ordered: bool = False
    sent_at: int = 0
    created_at: int = 0
    """When it was accepted; 0: when it is due."""
    template: bool = False

    def __post_init__(self) -> None:
        self.id = f"{TASK}-{self.n}"
        self.created_at = self.created_at or self.due

    @property
    def stream(self) -> Stream:
        return Stream(self.contact, self.priority)

    @property
    def place(self) -> tuple[int, int]:
        return self.due, self.n

    @property
    def waited_for_until(self) -> int:
        """Until when the later ones wait for its delivery."""
        waits = self.ordered and self.state is State.SENT
        return self.sent_at + int(1_000 * ORDERED_S) if waits else 0

    def blocks(self, now: int) -> bool:
        """Tried, and not over."""
        return (self.state in OPEN and self.attempt > 0) or self.waited_for_until > now

    def as_row(self) -> Row:
        return make_row(
            self.n,
            contact=self.contact,
            priority=self.priority,
            due=self.due,
            state=self.state,
            attempt=self.attempt,
            ordered=self.ordered,
            created_at=self.created_at,
            payload=_TEMPLATE if self.template else _TEXT,
        )

    def as_view(self) -> RowView:
        return RowView(self.as_row(), (), b"", self.sent_at, 0, 0, 0, self.sent_at)


class Outbox:
    """The part of a store that a lane reads, and the rules as they are for all rows at once."""

    atomic = True

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.answers = -1
        """How many more reads are answered before the store is away; below 0: all."""

    # -- the rules -------------------------------------------------------------------------------------

    def queued(self, now: int) -> list[Entry]:
        """Rows that are due, in the order in which they are."""
        queued = (entry for entry in self.entries if entry.ready and entry.state is State.QUEUED)
        return sorted((entry for entry in queued if entry.due <= now), key=lambda entry: entry.place)

    def heads(self, now: int, aside: Callable[[Entry], bool] = _none) -> dict[Stream, Entry]:
        """Of each stream the row that is next: the first that blocks, else the first that is due. Those that
        are ``aside`` do not count."""
        streams: dict[Stream, list[Entry]] = defaultdict(list)
        for entry in self.queued(now):
            if not aside(entry):
                streams[entry.stream].append(entry)
        heads = {stream: entries[0] for stream, entries in streams.items()}
        for entry in reversed(self.entries):
            if entry.blocks(now) and not aside(entry):
                heads[entry.stream] = entry
        return heads

    def could_leave(self, now: int, aside: Callable[[Entry], bool] = _none) -> list[Entry]:
        """Rows that nothing but the pace holds back."""
        busy = {entry.contact for entry in self.entries if entry.state is State.SENDING}
        return [
            entry
            for entry in self.heads(now, aside).values()
            if entry.state is State.QUEUED and entry.due <= now and entry.contact not in busy
        ]

    # -- as in the contract of the store ---------------------------------------------------------------

    async def read_ahead(self, lane: str, priority: int, after: Place, now: int, limit: int) -> list[Row]:
        return self._page([entry for entry in self.queued(now) if entry.priority == priority], after, limit)

    async def read_contact(
        self, lane: str, priority: Priority, contact: str, after: Place, now: int, limit: int
    ) -> list[Row]:
        stream = Stream(contact, priority)
        return self._page([entry for entry in self.queued(now) if entry.stream == stream], after, limit)

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        self._answer()
        return {entry.id: entry.as_view() for entry in self.entries if entry.id in ids}

    async def blocking_rows(self, lane: str, after_seq: int, limit: int) -> list[Row]:
        self._answer()
        tried = (entry.as_row() for entry in self.entries if entry.attempt and entry.state in OPEN)
        return [row for row in tried if row.seq > after_seq][:limit]

    async def rows_in_state(self, lane: str, state: State, after_seq: int, limit: int) -> list[Row]:
        self._answer()
        rows = (entry.as_row() for entry in self.entries if entry.ready and entry.state is state)
        return [row for row in rows if row.seq > after_seq][:limit]

    async def undelivered(self, lane: str, after: Place, limit: int) -> list[RowView]:
        """Those that others wait for."""
        self._answer()
        sent = [entry for entry in self.entries if entry.ordered and entry.state is State.SENT]
        views = sorted((entry.as_view() for entry in sent), key=lambda v: (v.last_sent_at, v.row.seq))
        return [view for view in views if (view.last_sent_at, view.row.seq) > after][:limit]

    async def apply(self, changes: Sequence[Change]) -> list[bool]:
        """The moves that a lane makes at its start: what was ``sending`` becomes ``unknown``."""
        self._answer()
        by_id = {entry.id: entry for entry in self.entries}
        for change in changes:
            entry = by_id[change.row_id]
            assert (entry.state, change.to) == (State.SENDING, State.UNKNOWN)
            entry.state = State.UNKNOWN
        return [True] * len(changes)

    def _answer(self) -> None:
        if self.answers == 0:
            raise StoreUnavailable("the store is away")
        self.answers -= 1

    def _page(self, entries: list[Entry], after: Place, limit: int) -> list[Row]:
        self._answer()
        rows = (entry.as_row() for entry in entries)
        return [row for row in rows if (row.due, row.seq) > after][:limit]

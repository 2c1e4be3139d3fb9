"""Which row of a lane leaves next: priority, order per recipient, and the bounded window kept in memory.

Pure: owns the order, knows no store and no clock. The lane offers rows that it read from the outbox, takes
those that may leave, and says how each attempt ended. The rules (docs/design.md, Out):

- First in, first out per (contact, priority), by (due, seq). One row of a contact is in flight at a time.
- A row *blocks* the later ones of its contact and priority from its first attempt until it has ended: while
  it backs off, and while its outcome is unknown; an ordered one also while it is sent and not delivered.
  Other priorities of the contact go on.
- A higher priority goes first, but after ``share`` rows in a row that overtook a waiting lower one, that one
  has its turn.
- A contact that the pair limit holds back waits alone; the others go on.

The store is the truth and the window only a part of it. Rows that cannot leave soon are not kept: their
(contact, priority) is marked as having more, and :meth:`LaneQueue.wanted` names it once it could go on. A row
that is to be sent again is not kept either: :meth:`LaneQueue.recalled` names it when its time has come.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable, Iterator
from math import inf
from typing import NamedTuple, Protocol

from store.records import Priority, Row, RowView
from store.states import State

__all__ = ["PRIORITIES", "LaneQueue", "PairLimit", "Stream", "held_until", "next_look"]

_LOOK_MS = 1000

PRIORITIES: tuple[Priority, ...] = (0, 1, 2)


class PairLimit(Protocol):
    """What the queue asks of the pacing per recipient."""

    def ready_at(self, contact: str, now: float) -> float:
        """When the next message to this contact may leave; at most ``now`` if it may at once."""
        ...


class Stream(NamedTuple):
    """The rows of one contact with one priority, which leave one after another."""

    contact: str
    priority: Priority


class _Waiting:
    """What is known of a stream."""

    __slots__ = ("blockers", "entered", "more", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, Row]] = []  # (due, seq, row), sorted
        self.blockers: dict[str, int] = {}  # row that blocks -> its seq
        self.more = False
        self.entered: tuple[int, int] | None = None  # place of its entry among the ready ones

    def first_blocker(self) -> str:
        """Of several rows that block, the one accepted first holds back the others too; empty if none."""
        return min(self.blockers, key=self.blockers.__getitem__, default="")

    def eligible(self) -> Row | None:
        """The row that may leave next as far as its own stream goes."""
        if not self.blockers:
            return self.rows[0][2] if self.rows else None
        first = self.first_blocker()
        return next((row for _, _, row in self.rows if row.id == first), None)

    def idle(self) -> bool:
        return not (self.rows or self.blockers or self.more)


def held_until(view: RowView, ordered_ms: int) -> int:
    """Until when (ms) a row that Meta took holds others back for want of its delivery; 0: it does not."""
    holds = view.row.ordered and view.row.state is State.SENT
    return view.last_sent_at + ordered_ms if holds else 0


def next_look(view: RowView, ordered_ms: int, now: int) -> int:
    """When (ms) to see whether such a row was delivered, since the word of it may be missed: the tracker may
    be behind, and a status may not name its row. The longer it holds, the seldomer."""
    pause = min(max(now - view.last_sent_at, _LOOK_MS), 30 * _LOOK_MS)
    return min(held_until(view, ordered_ms), now + pause)


class LaneQueue:
    """The window of one lane.

    ``window``: how many rows per priority are kept ready to leave. ``per_stream``: how many rows of one
    stream. ``share``: see the module. Times are monotonic seconds, as the pair limit takes them.
    """

    def __init__(self, pairs: PairLimit, *, window: int = 1000, per_stream: int = 8, share: int = 20) -> None:
        self._pairs = pairs
        self._window = window
        self._per_stream = per_stream
        self._share = share
        self._streams: dict[Stream, _Waiting] = {}
        self._held: dict[str, Stream] = {}  # rows in memory or in flight
        self._busy: dict[str, str] = {}  # contact -> row in flight
        self._blocks: dict[str, Stream] = {}  # row that blocks -> what it blocks
        self._ordered: set[str] = set()  # those of them that block until they are delivered
        self._ready: dict[Priority, list[tuple[int, int, str]]] = {priority: [] for priority in PRIORITIES}
        self._delayed: list[tuple[float, str]] = []  # (when, contact): held back by the pair limit
        self._delayed_contacts: set[str] = set()
        self._recalls: list[tuple[float, str]] = []  # (when, row id); valid where the next says the same
        self._recall_at: dict[str, float] = {}
        self._passed = dict.fromkeys(PRIORITIES, 0)
        self._passed_before = 0  # of the priority of the last row taken, before it had its turn
        self._wanted: dict[Stream, None] = {}

    # -- rows come in ----------------------------------------------------------------------------------

    def offer(self, rows: Iterable[Row]) -> int:
        """Take over rows read from the outbox; how many were new. Those held already are passed over."""
        return sum(self._add(row) for row in rows)

    def block(self, row: Row, again_at: float | None) -> None:
        """Learn of a row whose attempts are not over; the next is due at ``again_at``, None: nobody knows."""
        self._block(row)
        if again_at is not None:
            self.recall(row.id, again_at)

    def recall(self, row_id: str, when: float) -> None:
        """Have a row looked up in the store at this time, or sooner: it may be sent again then, or have
        ended."""
        if when < self._recall_at.get(row_id, inf):
            self._recall_at[row_id] = when
            heapq.heappush(self._recalls, (when, row_id))

    def may_have_ended(self, row_id: str, when: float) -> None:
        """Have a row looked up at this time if it holds others back."""
        if row_id in self._blocks:
            self.recall(row_id, when)

    def recall_blockers(self) -> None:
        """Have all rows that hold others back looked up now, but for those that are going to be."""
        for row_id in self._blocks:
            if row_id not in self._recall_at:
                self.recall(row_id, 0.0)

    def recalled(self, now: float, limit: int) -> list[str]:
        """Rows whose time has come, at most ``limit``, to be looked up, and offered if they are due; told
        once."""
        ids: list[str] = []
        while len(ids) < limit and self._recalls and self._recalls[0][0] <= now:
            when, row_id = heapq.heappop(self._recalls)
            if self._recall_at.get(row_id) == when:
                del self._recall_at[row_id]
                if row_id not in self._held:
                    ids.append(row_id)
        return ids

    @property
    def per_stream(self) -> int:
        """How many rows of one stream are kept."""
        return self._per_stream

    def room(self, priority: Priority) -> int:
        """How many rows of this priority to read ahead now; 0 while enough are ready to leave."""
        ready = len(self._ready[priority])
        return self._window - ready if ready <= self._window // 2 else 0

    def wanted(self) -> list[Stream]:
        """Streams that could go on and have more rows in the store than in memory; each until it was offered.

        Read each from its beginning and hand the rows to :meth:`offer_stream`.
        """
        return list(self._wanted)

    def offer_stream(self, stream: Stream, rows: Iterable[Row], *, complete: bool) -> None:
        """The due rows of a stream that was wanted; ``complete`` if the store has no more of them."""
        self._wanted.pop(stream, None)
        waiting = self._streams.setdefault(stream, _Waiting())
        waiting.more = False
        for row in rows:
            self._add(row)
        waiting.more = waiting.more or not complete
        self._tidy(stream)

    # -- rows leave ------------------------------------------------------------------------------------

    def take(self, now: float, lowest: Priority = PRIORITIES[-1]) -> Row | None:
        """The next row that may leave now, or None. It counts as in flight until one of the methods below is
        told.

        ``lowest``: the lowest priority that may leave, while Meta brakes the lower ones.
        """
        self._wake_delayed(now)
        for priority in self._turns():
            row = self._take_of(priority, now) if priority <= lowest else None
            if row is not None:
                self._count_turn(priority)
                return row
        return None

    def next_at(self) -> float:
        """When the next contact that the pair limit holds back, or the next row that is to be sent again, may
        go on; ``inf`` if there is none."""
        return min(heap[0][0] if heap else inf for heap in (self._delayed, self._recalls))

    # -- attempts end ----------------------------------------------------------------------------------

    def ended(self, row: Row) -> None:
        """The row needs no more attempts: later ones may follow."""
        self._let_go(row)
        self.unblock(row.id)
        self._freed(row.contact)

    def aside(self, row: Row) -> None:
        """The row just taken may not leave after all, and holds nobody back: the turn is not spent."""
        self._passed[row.priority] = self._passed_before
        self.ended(row)

    def waits(self, row: Row, again_at: float | None) -> None:
        """The row will be sent again at this time, or its outcome is unknown, or it is ordered and not
        delivered: later ones of its stream stay behind it."""
        self._let_go(row)
        self.block(row, again_at)
        self._freed(row.contact)

    def dropped(self, row: Row, again_at: float) -> None:
        """The row turned out not to be ours to send: it has changed in the store since it was read. It is
        looked up at this time."""
        self._let_go(row)
        self.recall(row.id, again_at)
        self._freed(row.contact)

    def withdraw(self, row_id: str) -> None:
        """A row has ended before it left: do not keep it. One in flight is not touched."""
        stream = self._held.get(row_id)
        waiting = self._streams.get(stream) if stream else None
        if stream is None or waiting is None or self._busy.get(stream.contact) == row_id:
            return
        waiting.rows = [entry for entry in waiting.rows if entry[2].id != row_id]
        del self._held[row_id]
        self._requeue(stream)
        self._tidy(stream)

    def sent(self, row_id: str) -> None:
        """Meta has it, by a status: a row that blocked does no more, unless it is ordered."""
        if row_id in self._ordered:
            self.recall(row_id, 0.0)
        else:
            self.unblock(row_id)

    def unblock(self, row_id: str) -> None:
        """A row that blocked has ended in some other way: a status came, or a person cancelled it."""
        stream = self._blocks.pop(row_id, None)
        if stream is None:
            return
        self._ordered.discard(row_id)
        waiting = self._streams[stream]
        waiting.blockers.pop(row_id, None)
        if waiting.blockers:
            # The next one that blocks may be due, and was left outside as long as this one came first.
            self.recall(waiting.first_blocker(), 0.0)
        self._requeue(stream)
        self._tidy(stream)

    # -- for status pages ------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Rows in memory, those in flight included."""
        return len(self._held)

    @property
    def in_flight(self) -> int:
        """Rows taken and not ended."""
        return len(self._busy)

    @property
    def blocking(self) -> Iterator[str]:
        """Ids of the rows that hold others back, whether or not any wait behind them."""
        return iter(self._blocks)

    # -- inside ----------------------------------------------------------------------------------------

    def _add(self, row: Row) -> bool:
        if row.id in self._held:
            return False
        stream = Stream(row.contact, row.priority)
        waiting = self._streams.setdefault(stream, _Waiting())
        if row.id != waiting.first_blocker() and self._must_wait_outside(waiting):
            waiting.more = True
            return False
        insort(waiting.rows, (row.due, row.seq, row), key=lambda entry: entry[:2])
        self._held[row.id] = stream
        if waiting.eligible() is row:
            self._requeue(stream)
        return True

    def _must_wait_outside(self, waiting: _Waiting) -> bool:
        # Once one row was left outside, all later ones are, or they would overtake it.
        return waiting.more or bool(waiting.blockers) or len(waiting.rows) >= self._per_stream

    def _requeue(self, stream: Stream) -> None:
        """Enter the stream's next row among the ready ones, if nothing holds it; entries are checked when
        taken."""
        waiting = self._streams.get(stream)
        if waiting is None or stream.contact in self._busy or stream.contact in self._delayed_contacts:
            return
        row = waiting.eligible()
        if row is not None:
            # Once only: a contact is freed with every message to it, whatever the priority.
            if waiting.entered != (place := _place(row)):
                waiting.entered = place
                heapq.heappush(self._ready[stream.priority], (*place, stream.contact))
        elif waiting.more and not waiting.blockers:
            self._wanted[stream] = None

    def _turns(self) -> list[Priority]:
        starved = [p for p in PRIORITIES if self._passed[p] >= self._share and self._ready[p]]
        return [*starved, *(p for p in PRIORITIES if p not in starved)]

    def _count_turn(self, taken: Priority) -> None:
        self._passed_before = self._passed[taken]
        self._passed[taken] = 0
        for lower in PRIORITIES[taken + 1 :]:
            if self._ready[lower]:
                self._passed[lower] += 1

    def _take_of(self, priority: Priority, now: float) -> Row | None:
        ready = self._ready[priority]
        while ready:
            *place, contact = heapq.heappop(ready)
            waiting = self._streams.get(Stream(contact, priority))
            if waiting is None or waiting.entered != tuple(place):
                continue
            entered, waiting.entered = waiting.entered, None
            row = waiting.eligible()
            if row is None or _place(row) != entered:
                continue
            if contact in self._busy or contact in self._delayed_contacts:
                continue
            when = self._pairs.ready_at(contact, now)
            if when > now:
                heapq.heappush(self._delayed, (when, contact))
                self._delayed_contacts.add(contact)
                self._put_out(waiting, keep=1)
                continue
            waiting.rows.remove((row.due, row.seq, row))
            self._busy[contact] = row.id
            return row
        return None

    def _wake_delayed(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, contact = heapq.heappop(self._delayed)
            self._delayed_contacts.discard(contact)
            self._freed(contact)

    def _let_go(self, row: Row) -> None:
        self._held.pop(row.id, None)
        if self._busy.get(row.contact) == row.id:
            del self._busy[row.contact]

    def _block(self, row: Row) -> None:
        stream = Stream(row.contact, row.priority)
        waiting = self._streams.setdefault(stream, _Waiting())
        self._put_out(waiting)
        waiting.blockers[row.id] = row.seq
        self._blocks[row.id] = stream
        if row.ordered:
            self._ordered.add(row.id)

    def _put_out(self, waiting: _Waiting, keep: int = 0) -> None:
        """Rows of this stream may wait long: the store keeps them better than the window does."""
        for _, _, row in waiting.rows[keep:]:
            self._held.pop(row.id, None)
            if row.id in waiting.blockers:
                self.recall(row.id, 0.0)
            else:
                waiting.more = True
        del waiting.rows[keep:]

    def _freed(self, contact: str) -> None:
        for priority in PRIORITIES:
            stream = Stream(contact, priority)
            self._requeue(stream)
            self._tidy(stream)

    def _tidy(self, stream: Stream) -> None:
        waiting = self._streams.get(stream)
        if waiting is not None and waiting.idle() and stream.contact not in self._busy:
            del self._streams[stream]


def _place(row: Row) -> tuple[int, int]:
    """Its place in the line. A row that is sent again keeps the one that it had: else it would wait, its time
    long come, until a large backlog is sent."""
    return (min(row.due, row.created_at) if row.attempt else row.due, row.seq)

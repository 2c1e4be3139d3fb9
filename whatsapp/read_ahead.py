"""Reads due rows of one lane from the outbox into its window, page by page.

Owns how far each priority's scan has come. A scan goes on from its place, since rows mostly come in behind
it. What it would miss is brought in by other ways: rows of a task that was long in storing take the scan back
to the task's beginning, rows to be sent again are looked up one by one when their time comes. Now and then
all is read again beside that, a page a turn, for rows of a process whose clock is slow. Where the store is
not atomic, the rows of a task follow the event that told of it, and are looked for some times more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from store.base import Store
from store.records import Place, Priority, Row
from store.states import ENDED, State
from whatsapp.clock import Clock
from whatsapp.queue import PRIORITIES, LaneQueue, Stream, held_until, next_look
from whatsapp.template_holds import TemplateHolds

__all__ = ["ReadAhead"]

_PAGE = 500
_STREAMS = 50
"""Streams read in one refill, so that one that is wanted does not keep the others from leaving."""
_NEVER = 2**63
_STREAM_PAGES = 4
"""Pages of one stream read in one refill, where all that is in them is held; the next refill goes on."""
_START = Place(0, 0)


_LATER_S = (0.05, 0.2, 5.0)
"""How long after the news rows are looked for again: mostly they are there a moment later, and after seconds
where the store was slow or away between the two."""


class _LaterLook:
    """One more look ``delay_s`` after each news, or up to as much later where news are many."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.at = float("inf")
        self._since = 0
        self._next: int | None = None

    def news(self, now: float, since: int) -> None:
        """Of rows that may be due from ``since`` on."""
        if self.at == float("inf"):
            self.at, self._since = now + self._delay_s, since
        else:
            self._next = since if self._next is None else min(self._next, since)

    def due(self, now: float) -> int | None:
        """From what time on to look now; None: there is nothing to look for yet."""
        if now < self.at:
            return None
        since, self.at = self._since, float("inf")
        if self._next is not None:
            following, self._next = self._next, None
            self.news(now, following)
        return since


class ReadAhead:
    """Fills ``queue`` with the rows of ``lane``."""

    def __init__(
        self,
        lane: str,
        queue: LaneQueue,
        *,
        store: Store,
        templates: TemplateHolds,
        clock: Clock,
        ordered_s: float,
        learn: Callable[[Sequence[Row]], Awaitable[None]] | None = None,
    ) -> None:
        """``ordered_s``: how long an ordered row that is not delivered holds others back. ``learn``: is shown
        each page before its rows may leave."""
        self._lane = lane
        self._queue = queue
        self._store = store
        self._templates = templates
        self._clock = clock
        self._ordered_ms = int(1000 * ordered_s)
        self._learn = learn
        self._places = dict.fromkeys(PRIORITIES, _START)
        self._at_end = dict.fromkeys(PRIORITIES, False)
        self._news = 0
        self._later = () if store.atomic else tuple(map(_LaterLook, _LATER_S))
        self._read_to: dict[Stream, Place] = {}  # in streams that were begun: what lies before is held
        self._taken_back = _NEVER
        self._again: dict[Priority, Place] = {}  # where the reading again is, while it is

    @property
    def behind(self) -> bool:
        """Whether a scan has room and is not at its end, or a stream has not been read to its first row that
        may leave."""
        return bool(self._read_to) or any(
            not self._at_end[priority] and self._queue.room(priority) for priority in PRIORITIES
        )

    @property
    def next_at(self) -> float:
        """Monotonic time at which to look next for rows that were announced."""
        return min((look.at for look in self._later), default=float("inf"))

    def news(self, since: int) -> None:
        """Rows have come in, or will at any moment, that may be due from this time on."""
        now = self._clock.monotonic()
        for look in self._later:
            look.news(now, since)
        self._look_from(since)

    def _look_from(self, since: int) -> None:
        self._news += 1
        self._taken_back = min(self._taken_back, since)
        self._read_to = {stream: place for stream, place in self._read_to.items() if place.due < since}
        for priority, place in self._places.items():
            if place.due >= since:
                self._places[priority] = Place(since, 0)
        self.look_on()

    def look_on(self) -> None:
        """Rows may have come due behind those that were read."""
        self._at_end = dict.fromkeys(PRIORITIES, False)

    def look_again(self) -> None:
        """Read again, by and by, what lies before the scans."""
        for priority in PRIORITIES:
            self._again.setdefault(priority, _START)

    async def refill(self) -> None:
        """Read what the queue has room for or asks for. Raises StoreUnavailable."""
        for look in self._later:
            if (since := look.due(self._clock.monotonic())) is not None:
                self._look_from(since)
        now = self._clock.now_ms()
        if recalled := self._queue.recalled(self._clock.monotonic(), _PAGE):
            await self._look_up(recalled, now)
        wanted = self._queue.wanted()
        self._read_to = {stream: self._read_to[stream] for stream in wanted if stream in self._read_to}
        for stream in wanted[:_STREAMS]:
            await self._read_stream(stream, now)
        for priority in PRIORITIES:
            room = min(self._queue.room(priority), _PAGE)
            if room and not self._at_end[priority]:
                await self._read_page(priority, now, room)
            # In the same turn: a lane that rests has one a second, each of which begins at the scan.
            room = min(self._queue.room(priority), _PAGE)
            if room and self._at_end[priority] and priority in self._again:
                await self._read_again(priority, now, room)

    async def _read_stream(self, stream: Stream, now: int) -> None:
        page, after = self._queue.per_stream, self._read_to.get(stream, _START)
        self._taken_back = _NEVER
        for _ in range(_STREAM_PAGES):
            rows = await self._store.read_contact(
                self._lane, stream.priority, stream.contact, after, now, page
            )
            kept = self._not_held(rows)
            if kept or len(rows) < page:
                self._read_to.pop(stream, None)
                self._queue.offer_stream(stream, kept, complete=len(rows) < page)
                return
            after = _place(rows)
            page = _PAGE
        # News during the reads may be of rows that lie before.
        if after.due < self._taken_back:
            self._read_to[stream] = after

    def _not_held(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Without those whose template Meta has stopped: they wait in the store."""
        if not self._templates:
            return rows
        return [row for row in rows if not self._is_held(row)]

    def _is_held(self, row: Row) -> bool:
        now, wall = self._clock.monotonic(), self._clock.now_ms()
        return self._templates.waits(row, now, wall)

    async def _look_up(self, ids: list[str], now: int) -> None:
        try:
            views = await self._store.find_rows(ids)
        except BaseException:
            for row_id in ids:
                self._queue.recall(row_id, 0.0)
            raise
        for row_id in ids:
            view = views.get(row_id)
            if view is not None and held_until(view, self._ordered_ms) > now:
                # Only if it still holds others back: its delivery may have been told during the read.
                look_at = next_look(view, self._ordered_ms, now)
                self._queue.may_have_ended(row_id, self._clock.monotonic_at(look_at))
            elif view is None or view.row.state in ENDED:
                self._queue.unblock(row_id)
            elif view.row.state is State.QUEUED and view.row.due <= now:
                if self._is_held(view.row):
                    self._queue.unblock(row_id)
                else:
                    self._queue.offer([view.row])
            elif view.row.state is State.QUEUED and self._templates.why(view.row) is not None:
                self._queue.unblock(row_id)
            elif view.row.state is State.QUEUED and view.row.attempt:
                # It backs off, and held nothing back before where a status has had it queued again.
                self._queue.block(view.row, self._clock.monotonic_at(view.row.due))
            elif view.row.state is State.QUEUED:
                self._queue.recall(row_id, self._clock.monotonic_at(view.row.due))

    async def _read_page(self, priority: Priority, now: int, room: int) -> None:
        # Before the read, so that news that come during it are not lost.
        self._at_end[priority] = True
        place, news = self._places[priority], self._news
        try:
            rows = await self._store.read_ahead(self._lane, priority, place, now, room)
            if self._learn is not None and rows:
                await self._learn(rows)
        except BaseException:
            self._at_end[priority] = False
            raise
        if len(rows) == room:
            self._at_end[priority] = False
        self._queue.offer(self._not_held(rows))
        # News that came during the read may have taken the scan back.
        if rows and news == self._news:
            self._places[priority] = _place(rows)

    async def _read_again(self, priority: Priority, now: int, room: int) -> None:
        rows = await self._store.read_ahead(self._lane, priority, self._again[priority], now, room)
        self._queue.offer(self._not_held(rows))
        if len(rows) == room and _place(rows) < self._places[priority]:
            self._again[priority] = _place(rows)
        else:
            del self._again[priority]


def _place(rows: Sequence[Row]) -> Place:
    return Place(rows[-1].due, rows[-1].seq)

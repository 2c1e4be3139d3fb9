"""A lane in simulated time: its window, its read-ahead and its recovery, on a model of the outbox.

Owns a clock that goes on by ticks, the misfortunes of a plan, and what is checked after each tick: nothing
leaves out of its turn, nothing is overtaken longer than the rules allow, nothing that may leave stands still.
No loop and no I/O; ``lane.py``, whose turns are imitated here, is tried on sockets and stores elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Priority, Row
from store.states import State
from tests.support.outbox import OPEN, ORDERED_S, Entry, Outbox, at_once
from tests.support.rows import LANE
from whatsapp.clock import Clock
from whatsapp.errors import GraphError, classify
from whatsapp.pacing import PairPacer
from whatsapp.queue import PRIORITIES, LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.recovery import Calls, Recovery
from whatsapp.template_holds import News, Pass, Template, TemplateHolds
from whatsapp.unknown import UnknownRows

__all__ = ["SHARE", "TICK_MS", "Arrival", "LaneRun", "Plan"]

TICK_MS = 100
SHARE = 3
_WINDOW, _PER_STREAM = 8, 3
_BURST, _INTERVAL_S = 4, 0.5
_POLL = 10
"""Ticks from one poll to the next."""
_STANDS_STILL = _POLL + 2
"""Ticks after which a row that may leave has left where nothing else did: a poll, and a tick on each side."""
_CALL = 2
"""Ticks that a call takes."""
_GRACE = 15
_LONG_S = 1e6
_STOPPED = GraphError(code=132015, from_graph=True)


@dataclass(frozen=True)
class Arrival:
    """Rows that come in together."""

    tick: int
    contact: str
    priority: Priority
    count: int
    later: int = 0
    """Ticks until they are due."""
    ordered: bool = False
    template: bool = False
    """Of the one template that Meta may stop."""


@dataclass(frozen=True)
class Plan:
    """What happens, tick by tick. After ``ticks`` nothing goes wrong any more."""

    ticks: int
    arrivals: Sequence[Arrival]
    fates: Sequence[str] = ("sent",)
    """How the attempts end, in turn: ``sent``, ``undelivered`` (sent, and never delivered), ``retry``,
    ``back`` (never left), ``pair`` (refused for the pair's rate), ``taken`` and ``lost`` (no answer; Meta has
    it, or has it not)."""
    rate: int = 3
    """Rows that may leave in one tick."""
    deaths: Sequence[int] = ()
    """The process dies at these ticks, and is back after :attr:`down`."""
    down: int = 2
    away: frozenset[int] = frozenset()
    """Ticks in which the store answers nothing."""
    braked: frozenset[int] = frozenset()
    """Ticks in which only the highest priority may leave."""
    stopped: frozenset[int] = frozenset()
    """Ticks in which Meta has stopped the template. It says so when that begins and ends."""


@dataclass
class _Life:
    """What a process has in memory."""

    pairs: PairPacer
    queue: LaneQueue
    reader: ReadAhead
    templates: TemplateHolds
    recovery: Recovery
    began: int
    ready: bool = False
    """Whether it has taken over what was left."""
    unknown: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """As ``UnknownRows`` does."""
        self.unknown.append(row)


class LaneRun:
    """One run of a plan; :meth:`run` fails where a rule was broken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tick = 0
        self.outbox = Outbox()
        self.left: list[tuple[int, Entry]] = []
        """(tick, row) of each attempt."""
        self.overtaken: Counter[Priority] = Counter()
        """The most rows in a row that overtook one of this priority which could have left."""
        self._life: _Life | None = None
        self._back_at = 0
        self._calls: list[tuple[int, Entry, Row, str]] = []
        self._news: list[tuple[int, str, Entry]] = []
        self._over: dict[int, int] = {}  # n -> when the ones behind it could go
        self._passed: Counter[Priority] = Counter()
        self._waiting: dict[int, int] = {}  # n -> since when it could leave
        self._seen_ms = 0
        self._may_err = True
        self._was_stopped = False

    @property
    def clock_ms(self) -> int:
        return 1_000 + self.tick * TICK_MS

    @property
    def now(self) -> float:
        return self.clock_ms / 1_000

    def run(self) -> None:
        """All of the plan, and then until nothing is left."""
        for _ in range(self.plan.ticks):
            self._step()
        self._may_err = False
        for _ in range(self._enough()):
            if self._is_over():
                break
            self._step()
        assert self._is_over(), [entry for entry in self.outbox.entries if entry.state in OPEN]
        self._check_order()

    def _enough(self) -> int:
        """Ticks in which all that is left must have gone: as if all went to one contact, one by one."""
        open_rows = sum(entry.state in OPEN for entry in self.outbox.entries)
        each_s = ORDERED_S + _INTERVAL_S
        # Three refusals of a pair in a row, and what was scheduled or backs off.
        return int((each_s * (open_rows + 1) + 4**4) * 1_000 / TICK_MS) + 100

    def _is_over(self) -> bool:
        return not any(entry.state in OPEN for entry in self.outbox.entries)

    # -- one tick --------------------------------------------------------------------------------------

    def _step(self) -> None:
        self.tick += 1
        if self._may_err and self.tick in self.plan.deaths:
            self._die()
        if self._life is None and self.tick >= self._back_at:
            self._life = self._start()
        self._arrive()
        self._answer_calls()
        self._tell_news()
        self._hear_of_template()
        if self._life is not None:
            self._turn(self._life)

    def _start(self) -> _Life:
        clock = Clock(lambda: self.clock_ms, lambda: self.now)
        store = cast(Store, self.outbox)
        pairs = PairPacer(_BURST, _INTERVAL_S)
        queue = LaneQueue(pairs, window=_WINDOW, per_stream=_PER_STREAM, share=SHARE)
        templates = TemplateHolds(_LONG_S)
        reader = ReadAhead(LANE, queue, templates=templates, store=store, clock=clock, ordered_s=ORDERED_S)
        life = _Life(pairs, queue, reader, templates, cast(Recovery, None), self.tick)
        life.recovery = Recovery(
            LANE,
            store=store,
            queue=queue,
            calls=cast(Calls, None),
            unknown=cast(UnknownRows, life),
            clock=clock,
            ordered_s=ORDERED_S,
        )
        return life

    def _die(self) -> None:
        self._life, self._back_at = None, self.tick + self.plan.down
        # Meta may have taken what was under way; what it answers nobody hears.
        for at, entry, _, fate in self._calls:
            if fate in ("sent", "undelivered", "taken"):
                self._news.append((at + _CALL, "sent", entry))
        self._calls.clear()
        self._waiting.clear()
        self._passed.clear()

    def _arrive(self) -> None:
        for arrival in self.plan.arrivals:
            if arrival.tick != self.tick:
                continue
            due = self.clock_ms + arrival.later * TICK_MS
            for _ in range(arrival.count):
                n, to, priority = len(self.outbox.entries), arrival.contact, arrival.priority
                entry = Entry(n, to, priority, due, ordered=arrival.ordered, template=arrival.template)
                entry.created_at = self.clock_ms
                self.outbox.entries.append(entry)
            if self._life is not None:
                self._life.reader.news(self.clock_ms)
                self._seen_ms = self.clock_ms

    def _answer_calls(self) -> None:
        due = [call for call in self._calls if call[0] <= self.tick]
        self._calls = [call for call in self._calls if call[0] > self.tick]
        for _, entry, row, fate in due:
            assert self._life is not None
            self._settle(self._life, entry, row, fate)

    def _settle(self, life: _Life, entry: Entry, row: Row, fate: str) -> None:
        if entry.template and self._is_stopped():
            life.templates.refused(row, classify(_STOPPED), self.now)
            entry.state, entry.due = State.QUEUED, self.clock_ms
            life.queue.ended(row)
            return
        if fate in ("sent", "undelivered"):
            self._is_sent(entry, delivered=fate == "sent")
            if entry.ordered:
                life.queue.waits(row, self.now)
            else:
                life.queue.ended(row)
            return
        if fate in ("taken", "lost"):
            entry.state = State.UNKNOWN
            life.queue.waits(row, None)
            life.add(row)
            after, word = (_CALL, "sent") if fate == "taken" else (_GRACE, "grace")
            self._news.append((self.tick + after, word, entry))
            return
        delay_s = {"retry": 0.7, "back": 0.0, "pair": 0.0}[fate]
        if fate == "pair":
            delay_s = life.pairs.refused(entry.contact, self.now) - self.now
        entry.state, entry.due = State.QUEUED, self.clock_ms + int(1_000 * delay_s)
        life.queue.waits(row, self.now + delay_s)

    def _is_sent(self, entry: Entry, *, delivered: bool) -> None:
        entry.state, entry.sent_at = State.SENT, self.clock_ms
        if delivered:
            self._news.append((self.tick + 3, "delivered", entry))
        held_s = ORDERED_S if entry.ordered else 0.0
        self._over[entry.n] = self.clock_ms + int(1_000 * held_s)

    def _tell_news(self) -> None:
        """Statuses, and the end of a grace, which the store knows whether a lane works or not."""
        due = [news for news in self._news if news[0] <= self.tick]
        self._news = [news for news in self._news if news[0] > self.tick]
        for _, word, entry in due:
            queue = self._life.queue if self._life is not None and self._life.ready else None
            if word == "grace" and self._life is None:
                self._news.append((self.tick + _GRACE, word, entry))
            elif word == "grace" and entry.state is State.UNKNOWN:
                entry.state, entry.due = State.QUEUED, self.clock_ms
                if queue is not None:
                    queue.recall(entry.id, self.now)
            elif word == "sent" and entry.state is State.UNKNOWN:
                self._is_sent(entry, delivered=True)
                if queue is not None:
                    queue.sent(entry.id)
            elif word == "sent" and entry.state is State.SENDING:
                # The next life is not there yet to see that it is unknown.
                self._news.append((self.tick + 1, word, entry))
            elif word == "delivered" and entry.state is State.SENT:
                entry.state = State.DELIVERED
                self._over[entry.n] = min(self._over[entry.n], self.clock_ms)
                if queue is not None:
                    queue.unblock(entry.id)

    # -- a turn of the lane ----------------------------------------------------------------------------

    def _turn(self, life: _Life) -> None:
        self.outbox.answers = 0 if self._may_err and self.tick in self.plan.away else -1
        left = 0
        try:
            if not life.ready:
                self._take_over(life)
            if (since := life.templates.released()) is not None:
                life.reader.news(since)
                self._seen_ms = self.clock_ms
            if (self.tick - life.began) % _POLL == 0:
                life.reader.look_on()
                self._seen_ms = self.clock_ms
            for _ in range(self.plan.rate):
                at_once(life.reader.refill())
                if not self._release(life):
                    break
                left += 1
        except StoreUnavailable:
            self._waiting.clear()
            return
        self._check_still(spare=left < self.plan.rate)

    def _take_over(self, life: _Life) -> None:
        known = {entry.n for entry in self.outbox.entries if entry.state is State.UNKNOWN}
        at_once(life.recovery.take_over(2, lambda: False))
        life.ready = True
        for entry in self.outbox.entries:
            told = any(entry is other for _, _, other in self._news)
            if entry.state is State.UNKNOWN and (entry.n not in known or not told):
                self._news.append((self.tick + _GRACE, "grace", entry))

    def _is_stopped(self) -> bool:
        return self._may_err and self.tick in self.plan.stopped

    def _hear_of_template(self) -> None:
        """Meta's word of the template, where a lane works that hears it."""
        if self._life is None or self._is_stopped() is self._was_stopped:
            return
        self._was_stopped = self._is_stopped()
        stops = classify(_STOPPED) if self._was_stopped else None
        self._life.templates.heard(News(Template("offer", "en"), stops, self.tick), self.now)

    def _lowest(self) -> Priority:
        return PRIORITIES[0] if self._may_err and self.tick in self.plan.braked else PRIORITIES[-1]

    def _release(self, life: _Life) -> bool:
        could = self._could_leave(life)
        while True:
            row = life.queue.take(self.now, self._lowest())
            if row is None:
                return False
            if life.templates.judge(row, self.now, self.clock_ms) is Pass.GO:
                break
            life.queue.aside(row)
        entry = self.outbox.entries[row.seq - 1]
        assert entry in could or self._is_beside(entry, life), f"out of its turn: {entry}"
        self._count_overtaken(entry, could)
        life.pairs.spend(entry.contact, self.now)
        entry.state, entry.attempt = State.SENDING, entry.attempt + 1
        fates = self.plan.fates if self._may_err else ("sent",)
        fate = fates[len(self.left) % len(fates)]
        self._calls.append((self.tick + _CALL, entry, entry.as_row(), fate))
        self.left.append((self.tick, entry))
        self._waiting.pop(entry.n, None)
        return True

    def _could_leave(self, life: _Life) -> list[Entry]:
        return self._of_pace(life, self.outbox.could_leave(self.clock_ms, self._aside(life)))

    def _aside(self, life: _Life) -> Callable[[Entry], bool]:
        held = bool(life.templates)
        return lambda entry: held and entry.template and entry.state is State.QUEUED

    def _is_beside(self, entry: Entry, life: _Life) -> bool:
        """Whether only the messages of the template were there before it, or it is one: those that were held
        come in again by and by, and what went past them has not waited for them."""
        if not self.plan.stopped:
            return False
        if entry.template:
            return entry.state is State.QUEUED and entry.due <= self.clock_ms
        could = self.outbox.could_leave(self.clock_ms, lambda other: other.template)
        return entry in self._of_pace(life, could)

    def _is_passed(self, entry: Entry) -> bool:
        """Whether it stepped aside with its template, and waits for one that went past it and is not over."""
        return (
            bool(self.plan.stopped)
            and entry.template
            and any(
                other.stream == entry.stream and other is not entry and other.blocks(self.clock_ms)
                for other in self.outbox.entries
            )
        )

    def _of_pace(self, life: _Life, entries: Sequence[Entry]) -> list[Entry]:
        return [
            entry
            for entry in entries
            if entry.priority <= self._lowest() and life.pairs.ready_at(entry.contact, self.now) <= self.now
        ]

    # -- what must hold --------------------------------------------------------------------------------

    def _count_overtaken(self, entry: Entry, could: Sequence[Entry]) -> None:
        # What comes due for the first time is seen at the next poll, and waits only from then on.
        seen = [other for other in could if other.attempt or other.due <= self._seen_ms]
        seen = [other for other in seen if not self._is_passed(other)]
        waiting = {other.priority for other in seen if other is not entry}
        for priority in PRIORITIES:
            if priority <= entry.priority or priority not in waiting:
                self._passed[priority] = 0
            else:
                self._passed[priority] += 1
                self.overtaken[priority] = max(self.overtaken[priority], self._passed[priority])

    def _check_still(self, *, spare: bool) -> None:
        """Fail where the lane had time left, and a row that could leave stood still longer than a poll."""
        assert self._life is not None
        could = {entry.n for entry in self._could_leave(self._life) if not self._is_passed(entry)}
        self._waiting = {n: self._waiting.get(n, self.tick) for n in could} if spare else {}
        still = [n for n, since in self._waiting.items() if self.tick - since > _STANDS_STILL]
        assert not still, f"nothing holds these back: {[self.outbox.entries[n] for n in still]}"

    def _check_order(self) -> None:
        """Of each stream, by what has left: one after another, each after the end of the one before."""
        first: dict[int, int] = {}
        for tick, entry in self.left:
            first.setdefault(entry.n, tick)
        for stream in {entry.stream for entry in self.outbox.entries}:
            entries = (self.outbox.entries[n] for n in first)
            rows = [e.n for e in entries if e.stream == stream and not (e.template and self.plan.stopped)]
            by_turn = sorted(rows, key=lambda n: (first[n], n))
            for before, after in pairwise(by_turn):
                over = self._over[before]
                assert 1_000 + first[after] * TICK_MS >= over, f"{after} left before the end of {before}"

"""The window of a lane against a plain model of the outbox, driven as ``lane.py`` drives it.

The model is a list of rows with their states. Rows come in, at once or in parts, leave, fail, back off,
become unknown, are settled by a status or cancelled by a person, the store is away, the process begins anew.
After every step the window must be small; whatever leaves must be next in its stream; whatever may leave must
leave; in the end nothing is left.
"""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Priority, Row
from store.states import State
from tests.support.outbox import OPEN, ORDERED_S, Entry, Outbox, at_once
from tests.support.rows import LANE
from whatsapp.clock import Clock
from whatsapp.pacing import PairPacer
from whatsapp.queue import PRIORITIES, LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.recovery import Calls, Recovery
from whatsapp.template_holds import TemplateHolds
from whatsapp.unknown import UnknownRows

CONTACTS = ("ana", "ben")
WINDOW, PER_STREAM, SHARE = 6, 3, 2
BURST, INTERVAL_S = 5, 1.0


class Graces:
    """The rows whose outcome nobody knows; hypothesis says when their grace ends."""

    def add(self, row: Row) -> None:
        """As :class:`UnknownRows` does."""
        assert row.state is State.UNKNOWN


class LaneMachine(RuleBasedStateMachine):
    """One lane, whose clock and misfortunes hypothesis chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 1_000
        self.outbox = Outbox()
        self.in_flight: list[tuple[Entry, Row]] = []
        self.start()

    def start(self) -> None:
        """A process with an empty memory, and what it learns at its start."""
        clock = Clock(lambda: self.clock, lambda: self.now)
        self.pairs = PairPacer(BURST, INTERVAL_S)
        self.queue = LaneQueue(self.pairs, window=WINDOW, per_stream=PER_STREAM, share=SHARE)
        self.reader = ReadAhead(
            LANE,
            self.queue,
            templates=TemplateHolds(60.0),
            store=cast(Store, self.outbox),
            clock=clock,
            ordered_s=ORDERED_S,
        )
        unknown = cast(UnknownRows, Graces())
        recovery = Recovery(
            LANE,
            store=cast(Store, self.outbox),
            queue=self.queue,
            calls=cast(Calls, None),
            unknown=unknown,
            clock=clock,
            ordered_s=ORDERED_S,
        )
        at_once(recovery.take_over(2, lambda: False))

    # -- what happens to the outbox --------------------------------------------------------------------

    @rule(
        contact=st.sampled_from(CONTACTS),
        priority=st.sampled_from(PRIORITIES),
        count=st.integers(1, 2 * PER_STREAM),
        later=st.sampled_from([0, 0, 0, 1_500]),
        ordered=st.booleans(),
    )
    def rows_come_in(self, contact: str, priority: Priority, count: int, later: int, ordered: bool) -> None:
        for _ in range(count):
            n = len(self.outbox.entries)
            due = self.clock + later
            entry = Entry(n, contact, priority, due, ordered=ordered, created_at=self.clock)
            self.outbox.entries.append(entry)
        self.reader.news(self.clock)

    @rule(priority=st.sampled_from(PRIORITIES))
    def a_row_of_a_task_is_stored(self, priority: Priority) -> None:
        # To somebody of its own: what was read before the task was ready may leave before its rows.
        n = len(self.outbox.entries)
        self.outbox.entries.append(Entry(n, "eva", priority, self.clock, ready=False))

    @rule()
    def the_task_is_ready(self) -> None:
        stored = [entry for entry in self.outbox.entries if not entry.ready]
        for entry in stored:
            entry.ready = True
        if stored:
            self.reader.news(min(entry.due for entry in stored))

    @rule(data=st.data())
    def a_row_ends_by_other_means(self, data: st.DataObject) -> None:
        # A person cancels it, or a status proves that an attempt arrived; the log tells the lane.
        found = [e for e in self.outbox.entries if e.ready and e.state in (State.QUEUED, State.UNKNOWN)]
        if found:
            entry = data.draw(st.sampled_from(found))
            proved = bool(entry.attempt) and data.draw(st.booleans())
            entry.state = State.DELIVERED if proved or entry.state is State.UNKNOWN else State.CANCELLED
            if entry.state is State.CANCELLED:
                self.queue.withdraw(entry.id)
            self.queue.unblock(entry.id)

    @rule(data=st.data())
    def a_row_is_delivered(self, data: st.DataObject) -> None:
        found = [entry for entry in self.outbox.entries if entry.state is State.SENT]
        if found:
            entry = data.draw(st.sampled_from(found))
            entry.state = State.DELIVERED
            self.queue.unblock(entry.id)

    @rule(data=st.data())
    def a_status_proves_that_a_row_was_sent(self, data: st.DataObject) -> None:
        found = [entry for entry in self.outbox.entries if entry.state is State.UNKNOWN]
        if found:
            entry = data.draw(st.sampled_from(found))
            entry.state, entry.sent_at = State.SENT, self.clock
            self.queue.sent(entry.id)

    @rule(data=st.data())
    def the_grace_of_an_unknown_row_ends(self, data: st.DataObject) -> None:
        found = [entry for entry in self.outbox.entries if entry.state is State.UNKNOWN]
        if found:
            entry = data.draw(st.sampled_from(found))
            entry.state, entry.due = State.QUEUED, self.clock
            self.queue.recall(entry.id, self.now)

    # -- what the lane does ----------------------------------------------------------------------------

    @rule(answers=st.integers(0, 2))
    def the_store_is_away_while_rows_are_read(self, answers: int) -> None:
        self.outbox.answers = answers
        try:
            at_once(self.reader.refill())
        except StoreUnavailable:
            pass
        self.outbox.answers = -1

    @rule()
    def rows_are_read(self) -> None:
        at_once(self.reader.refill())

    @rule()
    def the_lane_polls(self) -> None:
        self.reader.look_on()
        at_once(self.reader.refill())

    @invariant()
    def a_scan_that_is_behind_has_room(self) -> None:
        if self.reader.behind:
            assert any(self.queue.room(priority) for priority in PRIORITIES)

    @rule()
    def the_lane_begins_to_read_anew(self) -> None:
        self.reader.look_again()
        at_once(self.reader.refill())

    @rule(count=st.integers(1, 8), lowest=st.sampled_from([*PRIORITIES, PRIORITIES[-1]]))
    def rows_leave(self, count: int, lowest: int) -> None:
        for _ in range(count):
            if self.one_leaves(lowest) is None:
                return

    @rule(count=st.integers(1, 4))
    def rows_are_sent_one_by_one(self, count: int) -> None:
        for _ in range(count):
            if (entry := self.one_leaves()) is not None:
                self.settle(entry, self.in_flight[-1][1], "sent", 0)

    @rule(data=st.data(), outcome=st.sampled_from(["sent", "retry", "back", "unknown"]))
    @precondition(lambda self: self.in_flight)
    def an_attempt_ends(self, data: st.DataObject, outcome: str) -> None:
        entry, row = data.draw(st.sampled_from(self.in_flight))
        self.settle(entry, row, outcome, data.draw(st.sampled_from([0, 700, 4_000])))

    @rule(milliseconds=st.sampled_from([0, 1, 500, 2_000, 6_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock += milliseconds

    @rule(seconds=st.sampled_from([1.0, 5.0]), contact=st.sampled_from(CONTACTS))
    def meta_refuses_a_pair(self, seconds: float, contact: str) -> None:
        self.pairs.refused(contact, self.now)

    @rule()
    def the_process_begins_anew(self) -> None:
        self.in_flight.clear()
        self.start()

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def the_window_is_bounded(self) -> None:
        waits = (State.QUEUED, State.UNKNOWN, State.SENT)
        blocking = (entry for entry in self.outbox.entries if entry.blocks(self.clock))
        blocked = {entry.stream for entry in blocking if entry.state in waits}
        known = {entry.stream for entry in self.outbox.entries}
        most = sum(1 if stream in blocked else PER_STREAM for stream in known)
        # A row may be in memory still that ended elsewhere; it goes when its turn comes.
        ended = Counter(entry.stream for entry in self.outbox.entries if entry.state not in OPEN)
        slack = sum(min(count, PER_STREAM) for stream, count in ended.items() if stream in blocked)
        assert len(self.queue) <= most + len(self.in_flight) + slack

    @invariant()
    def the_lane_knows_what_is_in_flight(self) -> None:
        assert self.queue.in_flight == len(self.in_flight)

    @rule()
    def what_may_leave_leaves(self) -> None:
        could = self.could_leave()
        # Each turn may find only rows that ended elsewhere, behind which the window must be filled again.
        for _ in range(1 + len(self.outbox.entries)):
            self.read_all()
            if self.one_leaves() is not None:
                return
        assert could == []

    def teardown(self) -> None:
        self.the_task_is_ready()
        for _ in range(40 * len(self.outbox.entries) + 40):
            for entry, row in tuple(self.in_flight):
                self.settle(entry, row, "sent", 0)
            for entry in self.outbox.entries:
                if entry.state is State.UNKNOWN:
                    entry.state, entry.due = State.QUEUED, self.clock
                    self.queue.recall(entry.id, self.now)
            self.read_all()
            while self.one_leaves() is not None:
                pass
            over = not any(entry.state in OPEN for entry in self.outbox.entries)
            if over and not len(self.queue) and not list(self.queue.blocking):
                break
            # As the lane sleeps: until a pair may go on, or until the next poll.
            next_at = self.queue.next_at()
            self.clock = max(self.clock + 1_000, int(1_000 * next_at) + 1 if isfinite(next_at) else 0)
        for entry, row in tuple(self.in_flight):
            self.settle(entry, row, "sent", 0)
        left = [entry for entry in self.outbox.entries if entry.state in OPEN]
        assert left == []
        assert (len(self.queue), self.queue.in_flight, list(self.queue.blocking)) == (0, 0, [])

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock / 1_000

    def read_all(self) -> None:
        """Polls until the window is as full as it gets."""
        for _ in range(4 + len(self.outbox.queued(self.clock)) // (WINDOW // 2)):
            self.reader.look_on()
            at_once(self.reader.refill())

    def one_leaves(self, lowest: int = PRIORITIES[-1]) -> Entry | None:
        """The next row that is claimed; those that ended while they were in memory are dropped."""
        while (row := self.queue.take(self.now, lowest)) is not None:
            assert row.priority <= lowest
            entry = self.outbox.entries[row.seq - 1]
            if entry.state is not State.QUEUED or entry.attempt != row.attempt:
                self.queue.dropped(row, self.now)
                continue
            self.check_turn(entry)
            self.pairs.spend(entry.contact, self.now)
            entry.state, entry.attempt = State.SENDING, entry.attempt + 1
            self.in_flight.append((entry, entry.as_row()))
            return entry
        return None

    def check_turn(self, entry: Entry) -> None:
        """Whether it is this row's turn, as far as its own stream and contact go."""
        assert entry.due <= self.clock
        assert entry.contact not in {flying.contact for flying, _ in self.in_flight}
        assert self.pairs.ready_at(entry.contact, self.now) <= self.now
        assert entry is self.outbox.heads(self.clock)[entry.stream]

    def could_leave(self) -> list[Entry]:
        """Rows that nothing holds back."""
        left = self.outbox.could_leave(self.clock)
        return [entry for entry in left if self.pairs.ready_at(entry.contact, self.now) <= self.now]

    def settle(self, entry: Entry, row: Row, outcome: str, delay_ms: int) -> None:
        self.in_flight.remove((entry, row))
        if outcome == "sent":
            entry.state, entry.sent_at = State.SENT, self.clock
            if entry.ordered:
                self.queue.waits(row, self.now)
            else:
                self.queue.ended(row)
            return
        entry.state = State.UNKNOWN if outcome == "unknown" else State.QUEUED
        if outcome != "unknown":
            entry.due = self.clock + (delay_ms if outcome == "retry" else 0)
        self.queue.waits(row, self.again_at(entry))

    def again_at(self, entry: Entry) -> float | None:
        """When the next attempt is due, if anybody knows."""
        if entry.state is State.SENT:
            return entry.waited_for_until / 1_000
        return entry.due / 1_000 if entry.state is State.QUEUED else None


LaneMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestLane = LaneMachine.TestCase

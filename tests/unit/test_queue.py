"""Which row of a lane leaves next, rule by rule. All rules at once: ``test_queue_machine.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Row
from tests.support.rows import make_row
from whatsapp.pacing import PairPacer
from whatsapp.queue import PRIORITIES, LaneQueue, Stream

HIGH, NORMAL, LOW = PRIORITIES
ANA, BEN, EVA = "ana", "ben", "eva"


class Pairs:
    """A pair limit that holds back whom the test names."""

    def __init__(self) -> None:
        self.until: dict[str, float] = {}

    def ready_at(self, contact: str, now: float) -> float:
        """As in the protocol."""
        return max(now, self.until.get(contact, 0.0))


def queue(
    pairs: Pairs | None = None, *, window: int = 1000, per_stream: int = 8, share: int = 20
) -> LaneQueue:
    return LaneQueue(pairs or Pairs(), window=window, per_stream=per_stream, share=share)


def rows(*contacts: str, priority: int = NORMAL, first: int = 0) -> list[Row]:
    """A row to each of these, in this order."""
    return [make_row(first + n, contact=contact, priority=priority) for n, contact in enumerate(contacts)]


def take_all(lane: LaneQueue, now: float = 0.0) -> list[Row]:
    """Let rows leave until none may, without telling how they ended."""
    taken = []
    while (row := lane.take(now)) is not None:
        taken.append(row)
    return taken


def send_all(lane: LaneQueue, now: float = 0.0) -> list[Row]:
    """Let rows leave until none may, each of them sent at once."""
    sent = []
    while (row := lane.take(now)) is not None:
        sent.append(row)
        lane.ended(row)
    return sent


def ids(found: Iterable[Row]) -> list[str]:
    return [row.id for row in found]


# -- order of a stream -------------------------------------------------------------------------------------


def test_rows_leave_by_due_and_then_by_acceptance() -> None:
    later = make_row(0, due=2000)
    first, second = make_row(1, due=1000), make_row(2, due=1000)
    lane = queue()
    assert lane.offer([second, later, first]) == 3
    assert send_all(lane) == [first, second, later]


def test_one_row_of_a_contact_is_in_flight_at_a_time() -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    urgent = make_row(5, contact=ANA, priority=HIGH)
    lane.offer([first, second, urgent])
    assert take_all(lane) == [urgent]
    lane.ended(urgent)
    assert take_all(lane) == [first]
    assert lane.in_flight == 1


def test_contacts_are_in_flight_side_by_side() -> None:
    lane = queue()
    lane.offer(rows(ANA, BEN, ANA, EVA))
    assert [row.contact for row in take_all(lane)] == [ANA, BEN, EVA]
    assert lane.in_flight == 3


def test_a_row_that_comes_in_late_goes_before_later_ones() -> None:
    lane = queue()
    late, early = make_row(1, due=2000), make_row(0, due=1000)
    lane.offer([late])
    lane.offer([early])
    assert send_all(lane) == [early, late]


def test_rows_that_are_held_already_are_passed_over() -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    assert lane.offer([first, second]) == 2
    assert lane.offer([first, second]) == 0
    assert lane.take(0.0) == first
    assert lane.offer([first, second]) == 0  # also the one in flight
    assert len(lane) == 2


@pytest.mark.parametrize("end", [LaneQueue.ended, lambda lane, row: lane.dropped(row, 1.0)])
def test_after_a_row_is_gone_the_next_one_leaves(end: Callable[[LaneQueue, Row], None]) -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    lane.offer([first, second])
    taken = lane.take(0.0)
    assert taken == first
    end(lane, taken)
    assert take_all(lane) == [second]


def test_a_dropped_row_may_be_offered_again() -> None:
    lane = queue()
    (row,) = rows(ANA)
    lane.offer([row])
    assert lane.take(0.0) == row
    lane.dropped(row, 1.0)
    assert (len(lane), lane.in_flight) == (0, 0)
    assert (lane.next_at(), lane.recalled(0.9, 10), lane.recalled(1.0, 10)) == (1.0, [], [row.id])
    assert lane.offer([row]) == 1
    assert lane.take(0.0) == row


# -- rows that block ---------------------------------------------------------------------------------------


def test_a_row_that_waits_holds_back_later_ones_of_its_priority_alone() -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    low = make_row(7, contact=ANA, priority=LOW)
    other = make_row(8, contact=BEN)
    lane.offer([first, second, low, other])
    assert lane.take(0.0) == first
    lane.waits(first, None)
    assert send_all(lane) == [other, low]
    assert list(lane.blocking) == [first.id]
    assert lane.wanted() == []


def test_a_row_that_blocks_leaves_again_before_those_behind_it() -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    lane.offer([first, second])
    assert lane.take(0.0) == first
    lane.waits(first, None)
    again = make_row(0, contact=ANA, due=5000, attempt=1)
    lane.offer([second, again])
    assert take_all(lane) == [again]
    lane.ended(again)
    assert list(lane.blocking) == []
    assert lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), [second], complete=True)
    assert send_all(lane) == [second]


def test_rows_behind_one_that_blocks_are_not_kept() -> None:
    lane = queue()
    first, *behind = rows(ANA, ANA, ANA)
    lane.offer([first, *behind])
    assert lane.take(0.0) == first
    lane.waits(first, None)
    assert len(lane) == 0
    lane.unblock(first.id)
    assert lane.wanted() == [Stream(ANA, NORMAL)]


def test_rows_that_come_in_behind_one_that_blocks_are_left_outside() -> None:
    lane = queue()
    lane.block(make_row(0, contact=ANA), None)
    assert lane.offer(rows(ANA, ANA, first=1)) == 0
    assert lane.wanted() == []
    lane.unblock(make_row(0).id)
    assert lane.wanted() == [Stream(ANA, NORMAL)]


def test_rows_learnt_at_the_start_block() -> None:
    lane = queue()
    lane.block(make_row(0, contact=ANA, attempt=1), None)
    lane.offer([make_row(1, contact=ANA), make_row(2, contact=BEN)])
    assert [row.contact for row in send_all(lane)] == [BEN]
    lane.unblock(make_row(0).id)
    lane.offer_stream(Stream(ANA, NORMAL), [make_row(1, contact=ANA)], complete=True)
    assert ids(send_all(lane)) == [make_row(1).id]


def test_of_several_that_block_the_first_accepted_goes_first() -> None:
    # Rows that a person queued again have been tried before; after a restart all of them block.
    unknown = make_row(0, contact=ANA, attempt=1)
    again = make_row(1, contact=ANA, attempt=1, due=500)
    lane = queue()
    lane.block(again, 0.0)
    lane.block(unknown, None)
    assert lane.recalled(0.0, 10) == [again.id]
    lane.offer([again])
    assert take_all(lane) == []
    lane.unblock(unknown.id)
    assert (lane.wanted(), lane.recalled(0.0, 10)) == ([], [again.id])
    lane.offer([again, make_row(2, contact=ANA)])
    assert take_all(lane) == [again]
    lane.ended(again)
    assert lane.wanted() == [Stream(ANA, NORMAL)]


def test_of_many_that_block_one_is_kept() -> None:
    blockers = [make_row(n, contact=ANA, attempt=1) for n in range(50)]
    lane = queue()
    for blocker in blockers:
        lane.block(blocker, 0.0)
    assert lane.offer(blockers) == 1
    assert take_all(lane) == [blockers[0]]


def test_unblocking_what_does_not_block_changes_nothing() -> None:
    lane = queue()
    first, second = rows(ANA, ANA)
    lane.offer([first, second])
    lane.unblock(first.id)
    lane.unblock("no such row")
    assert send_all(lane) == [first, second]


def test_a_row_that_blocks_and_is_cancelled_in_memory_is_still_told_once() -> None:
    lane = queue()
    (row,) = rows(ANA)
    lane.block(row, None)
    lane.offer([row])
    lane.unblock(row.id)
    assert take_all(lane) == [row]  # the store refuses it, and the lane drops it
    lane.dropped(row, 1.0)
    assert (len(lane), lane.in_flight, lane.wanted()) == (0, 0, [])


def test_a_row_to_be_sent_again_is_named_once_when_its_time_has_come() -> None:
    lane = queue()
    first, second = rows(ANA, BEN)
    lane.offer([first, second])
    for row, again_at in ((first, 5.0), (second, 7.0)):
        assert lane.take(0.0) == row
        lane.waits(row, again_at)
    assert (lane.next_at(), lane.recalled(4.9, 10)) == (5.0, [])
    assert (lane.recalled(5.0, 10), lane.recalled(5.0, 10), lane.next_at()) == ([first.id], [], 7.0)
    assert (lane.recalled(9.0, 10), lane.next_at()) == ([second.id], inf)


def test_only_so_many_rows_are_named_at_a_time() -> None:
    lane = queue()
    for n in range(5):
        lane.block(make_row(n, contact=str(n), attempt=1), 1.0)
    named = [*lane.recalled(1.0, 3), *lane.recalled(1.0, 3), *lane.recalled(1.0, 3)]
    assert sorted(named) == sorted(make_row(n).id for n in range(5))


def test_a_row_is_looked_up_at_the_soonest_time_that_was_asked_for() -> None:
    lane = queue()
    for when in (5.0, 9.0, 3.0, 4.0):
        lane.recall("row", when)
    assert (lane.recalled(2.9, 10), lane.recalled(3.0, 10), lane.recalled(9.0, 10)) == ([], ["row"], [])


def test_rows_that_block_are_looked_up_now_unless_they_are_going_to_be() -> None:
    lane = queue()
    lane.block(make_row(0, contact=ANA, attempt=1), 50.0)
    lane.block(make_row(1, contact=BEN, attempt=1), None)
    for _ in range(3):
        lane.recall_blockers()
        assert lane.recalled(1.0, 10) == [make_row(1).id]
    assert lane.recalled(50.0, 10) == [make_row(0).id]


def test_a_row_in_memory_is_not_looked_up() -> None:
    lane = queue()
    (row,) = rows(ANA)
    lane.offer([row])
    lane.recall(row.id, 0.0)
    assert lane.recalled(0.0, 10) == []
    assert send_all(lane) == [row]


# -- priorities --------------------------------------------------------------------------------------------


def test_a_higher_priority_goes_first() -> None:
    lane = queue()
    low, normal, high = (make_row(n, contact=str(n), priority=p) for n, p in enumerate((LOW, NORMAL, HIGH)))
    lane.offer([low, normal, high])
    assert take_all(lane) == [high, normal, low]


def test_a_higher_priority_that_comes_later_overtakes() -> None:
    lane = queue()
    lane.offer(rows("a", "b", "c", priority=LOW))
    assert [row.contact for row in (lane.take(0.0), lane.take(0.0)) if row] == ["a", "b"]
    lane.offer(rows("x", priority=HIGH, first=10))
    assert [row.contact for row in take_all(lane)] == ["x", "c"]


def test_a_waiting_lower_one_has_its_turn_after_share_others() -> None:
    lane = queue(share=3)
    lane.offer(rows(*(f"h{n}" for n in range(8)), priority=HIGH))
    lane.offer(rows("l0", "l1", priority=LOW, first=20))
    assert [row.contact[0] for row in take_all(lane)] == [*"hhhlhhhlhh"]


def test_no_turn_is_saved_up_while_nothing_waits() -> None:
    lane = queue(share=3)
    lane.offer(rows(*(f"h{n}" for n in range(8)), priority=HIGH))
    for _ in range(5):
        assert lane.take(0.0) is not None
    lane.offer(rows("low", priority=LOW, first=20))
    assert [row.contact[0] for row in take_all(lane)] == [*"hhhl"]


def test_below_the_lowest_nothing_leaves() -> None:
    lane = queue(share=1)
    lane.offer(rows("h0", "h1", "h2", priority=HIGH))
    lane.offer(rows("n0", priority=NORMAL, first=10))
    for _ in range(3):
        row = lane.take(0.0, lowest=HIGH)
        assert row is not None and row.priority == HIGH
    assert lane.take(0.0, lowest=HIGH) is None
    assert [row.contact for row in take_all(lane)] == ["n0"]


@given(st.lists(st.sampled_from(PRIORITIES), max_size=120), st.integers(1, 5))
def test_nothing_that_waits_is_overtaken_much_longer_than_share(priorities: list[int], share: int) -> None:
    lane = queue(share=share)
    lane.offer(make_row(n, contact=str(n), priority=p) for n, p in enumerate(priorities))
    left = [row.priority for row in take_all(lane)]
    assert sorted(left) == sorted(priorities)
    for lower in (NORMAL, LOW):
        turns = [n for n, p in enumerate(left) if p == lower]
        # Normal and low may be due for their turn together: then one is taken after the other.
        for before, after in pairwise([-1, *turns]):
            assert sum(p < lower for p in left[before + 1 : after]) <= share + 1


@given(st.lists(st.sampled_from(PRIORITIES), max_size=120))
def test_between_its_turns_a_priority_keeps_its_order(priorities: list[int]) -> None:
    lane = queue(share=4)
    lane.offer(make_row(n, contact=str(n), priority=p) for n, p in enumerate(priorities))
    taken = take_all(lane)
    for priority in PRIORITIES:
        seqs = [row.seq for row in taken if row.priority == priority]
        assert seqs == sorted(seqs)


# -- the pair limit ----------------------------------------------------------------------------------------


def test_a_contact_that_is_held_back_waits_alone() -> None:
    pairs = Pairs()
    pairs.until = {ANA: 9.0}
    lane = queue(pairs)
    lane.offer([*rows(ANA, BEN, EVA), make_row(7, contact=ANA, priority=HIGH)])
    assert [row.contact for row in send_all(lane, 1.0)] == [BEN, EVA]
    assert lane.next_at() == 9.0
    assert send_all(lane, 8.9) == []
    assert [row.priority for row in send_all(lane, 9.0)] == [HIGH, NORMAL]
    assert lane.next_at() == inf


def test_rows_that_come_in_while_a_contact_is_held_back_wait_with_it() -> None:
    pairs = Pairs()
    pairs.until = {ANA: 9.0}
    lane = queue(pairs)
    lane.offer(rows(ANA))
    assert lane.take(0.0) is None
    lane.offer([make_row(5, contact=ANA, priority=HIGH)])
    assert lane.take(5.0) is None
    row = lane.take(9.0)
    assert row is not None and row.priority == HIGH


def test_a_contact_held_back_anew_waits_anew() -> None:
    pairs = Pairs()
    pairs.until = {ANA: 9.0}
    lane = queue(pairs)
    lane.offer(rows(ANA))
    assert lane.take(0.0) is None
    pairs.until = {ANA: 20.0}
    assert lane.take(9.0) is None
    assert lane.next_at() == 20.0
    assert lane.take(20.0) is not None


def test_the_soonest_contact_is_told() -> None:
    pairs = Pairs()
    pairs.until = {ANA: 9.0, BEN: 4.0, EVA: 6.0}
    lane = queue(pairs)
    lane.offer(rows(ANA, BEN, EVA))
    assert lane.take(0.0) is None
    assert lane.next_at() == 4.0


def test_of_a_contact_that_is_held_back_one_row_a_stream_is_kept() -> None:
    pairs = Pairs()
    pairs.until = {ANA: 9.0}
    lane = queue(pairs)
    first, *behind = rows(ANA, ANA, ANA)
    lane.offer([first, *behind])
    assert lane.take(0.0) is None
    assert len(lane) == 1
    assert lane.take(9.0) == first
    lane.ended(first)
    assert lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), behind, complete=True)
    assert send_all(lane, 9.0) == behind


# -- the window --------------------------------------------------------------------------------------------


def test_of_one_stream_only_so_many_rows_are_kept() -> None:
    lane = queue(per_stream=3)
    all_rows = rows(*[ANA] * 10)
    assert lane.offer(all_rows) == 3
    assert len(lane) == 3
    assert send_all(lane) == all_rows[:3]
    assert lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), all_rows[3:], complete=True)
    assert send_all(lane) == all_rows[3:6]
    assert lane.wanted() == [Stream(ANA, NORMAL)]


def test_no_later_row_overtakes_those_left_outside() -> None:
    lane = queue(per_stream=2)
    all_rows = rows(*[ANA] * 4)
    lane.offer(all_rows[:3])
    assert lane.take(0.0) == all_rows[0]
    lane.ended(all_rows[0])
    assert lane.offer([all_rows[3]]) == 0  # there is a place for it, but all_rows[2] comes first
    assert send_all(lane) == [all_rows[1]]
    lane.offer_stream(Stream(ANA, NORMAL), all_rows[2:], complete=True)
    assert send_all(lane) == all_rows[2:]


def test_a_stream_is_wanted_until_it_was_offered() -> None:
    # A store that is away when the stream is to be read must not make the lane forget it.
    lane = queue(per_stream=1)
    first, second = rows(ANA, ANA)
    lane.offer([first, second])
    assert send_all(lane) == [first]
    assert lane.wanted() == lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), [second], complete=True)
    assert lane.wanted() == []
    assert send_all(lane) == [second]


def test_a_stream_that_was_read_in_part_is_wanted_again() -> None:
    lane = queue(per_stream=2)
    lane.offer(rows(*[ANA] * 3))
    assert len(send_all(lane)) == 2
    lane.offer_stream(Stream(ANA, NORMAL), rows(*[ANA] * 2, first=2), complete=False)
    assert len(send_all(lane)) == 2
    assert lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), [], complete=True)
    assert (lane.wanted(), len(lane)) == ([], 0)


def test_a_stream_whose_contact_is_held_back_is_wanted_only_afterwards() -> None:
    pairs = Pairs()
    lane = queue(pairs, per_stream=1)
    lane.offer([*rows(ANA, ANA), make_row(5, contact=ANA, priority=HIGH)])
    urgent = lane.take(0.0)
    assert urgent is not None
    pairs.until = {ANA: 6.0}
    lane.ended(urgent)
    assert (lane.take(1.0), lane.wanted()) == (None, [])
    assert send_all(lane, 6.0) == rows(ANA)
    assert lane.wanted() == [Stream(ANA, NORMAL)]


def test_there_is_room_for_a_page_once_half_the_window_is_empty() -> None:
    lane = queue(window=10)
    assert lane.room(NORMAL) == 10
    lane.offer(rows(*"abcdef"))
    assert lane.room(NORMAL) == 0
    assert lane.room(LOW) == 10
    assert lane.take(0.0) is not None
    assert lane.room(NORMAL) == 5


def test_a_row_that_waits_takes_one_place_of_the_window_however_often_its_contact_is_freed() -> None:
    lane = queue(window=10)
    lane.offer([make_row(99, contact=ANA, priority=LOW)])
    for n in range(10):
        urgent = make_row(n, contact=ANA, priority=HIGH)
        lane.offer([urgent])
        assert lane.take(0.0) == urgent
        lane.ended(urgent)
    assert lane.room(LOW) == 9
    assert ids(send_all(lane)) == [make_row(99).id]


def test_rows_of_one_stream_fill_no_more_than_one_place_of_the_window() -> None:
    lane = queue(window=10)
    lane.offer(rows(*[ANA] * 8))
    assert lane.room(NORMAL) == 9


def test_an_empty_queue_gives_nothing() -> None:
    lane = queue()
    assert (lane.take(0.0), lane.next_at(), lane.wanted(), lane.recalled(inf, 10)) == (None, inf, [], [])
    assert (len(lane), lane.in_flight) == (0, 0)
    assert list(lane.blocking) == []


# -- rows that a person takes back -------------------------------------------------------------------------


def test_a_row_that_was_withdrawn_does_not_leave_and_the_next_one_does() -> None:
    lane = queue()
    first, second, other = rows(ANA, ANA, BEN)
    lane.offer([first, second, other])
    lane.withdraw(first.id)
    lane.withdraw("unknown")
    assert len(lane) == 2
    assert {row.id for row in send_all(lane)} == {second.id, other.id}
    assert len(lane) == 0


def test_a_row_in_flight_is_not_withdrawn() -> None:
    lane = queue()
    (row,) = rows(ANA)
    lane.offer([row])
    assert lane.take(0.0) is row
    lane.withdraw(row.id)
    assert (len(lane), lane.in_flight) == (1, 1)
    lane.ended(row)
    assert len(lane) == 0


def test_the_room_of_rows_that_were_withdrawn_is_for_others() -> None:
    lane = queue(per_stream=2)
    stream = rows(ANA, ANA, ANA)
    assert lane.offer(stream) == 2
    for row in stream[:2]:
        lane.withdraw(row.id)
    assert lane.wanted() == [Stream(ANA, NORMAL)]
    lane.offer_stream(Stream(ANA, NORMAL), stream[2:], complete=True)
    assert [row.id for row in send_all(lane)] == [stream[2].id]


def test_a_row_that_steps_aside_spends_no_turn_of_its_priority() -> None:
    queue = LaneQueue(PairPacer(), share=2)
    queue.offer([make_row(n, contact=f"h{n}", priority=0) for n in range(4)])
    queue.offer([make_row(n, contact=f"l{n}", priority=2) for n in range(10, 12)])
    left = []
    while (row := queue.take(0.0)) is not None and len(left) < 4:
        if row.contact == "l10":
            queue.aside(row)
        else:
            left.append(row.contact)
            queue.ended(row)
    assert left == ["h0", "h1", "l11", "h2"]

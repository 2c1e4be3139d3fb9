"""What a lane asks of every store: its rows in their order, and the mark before a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import pytest

from store.base import Store
from store.errors import LeaseLost
from store.records import Change, Place, Row
from store.states import State
from tests.support.store_values import (
    LANE,
    START,
    add_task,
    bring,
    lane_lease,
    new_row,
    new_task,
    read_all,
    view,
)

MakeStore = Callable[[], Store]


def ids(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


# -- reading ahead -------------------------------------------------------------------------------------


async def test_rows_are_read_in_the_order_of_due_and_acceptance(store: Store) -> None:
    await add_task(store, "a", [new_row(0, due=30), new_row(1, due=10), new_row(2, due=20)])
    await add_task(store, "b", [new_row(0, due=20), new_row(1, due=10), new_row(2, due=5)])
    assert ids(await read_all(store)) == ["b-2", "a-1", "b-1", "a-2", "b-0", "a-0"]


async def test_reading_goes_on_past_a_place(store: Store) -> None:
    await add_task(store, "a", [new_row(n, due=due) for n, due in enumerate((10, 10, 10, 20, 30, 30))])
    expected = ids(await read_all(store))
    for limit in range(1, 7):
        read: list[str] = []
        after = START
        while page := await store.read_ahead(LANE, 1, after, 10_000, limit):
            assert len(page) <= limit
            read += ids(page)
            after = Place(page[-1].due, page[-1].seq)
        assert read == expected


async def test_a_row_queued_again_as_due_long_ago_comes_first(store: Store) -> None:
    await add_task(store, "task", 3)
    await bring(store, await lane_lease(store), {"task-2": State.SENDING})
    await store.apply([Change("task-2", State.QUEUED, 1, due=0)])
    assert ids(await read_all(store)) == ["task-2", "task-0", "task-1"]


async def test_rows_due_later_are_hidden_until_then(store: Store) -> None:
    await add_task(store, "task", [new_row(0, due=1000), new_row(1, due=1001)])
    assert ids(await store.read_ahead(LANE, 1, START, 999, 10)) == []
    assert ids(await store.read_ahead(LANE, 1, START, 1000, 10)) == ["task-0"]
    assert ids(await store.read_ahead(LANE, 1, START, 1001, 10)) == ["task-0", "task-1"]


async def test_a_place_past_now_has_nothing_behind_it(store: Store) -> None:
    await add_task(store, "task", [new_row(0, due=1000), new_row(1, due=3000)])
    assert await store.read_ahead(LANE, 1, Place(2000, 1), 1500, 10) == []


async def test_other_lanes_and_priorities_are_not_read(store: Store) -> None:
    rows = [
        new_row(n, lane=lane, priority=priority)
        for n, (lane, priority) in enumerate(product(("100", "200"), (0, 1, 2)))
    ]
    await add_task(store, "task", rows)
    for n, (lane, priority) in enumerate(product(("100", "200"), (0, 1, 2))):
        assert ids(await read_all(store, lane=lane, priority=priority)) == [f"task-{n}"]


async def test_just_queued_rows_are_read(store: Store) -> None:
    row_ids = await add_task(store, "task", len(State))
    await bring(store, await lane_lease(store), dict(zip(row_ids, State, strict=True)))
    assert ids(await read_all(store)) == [row_ids[list(State).index(State.QUEUED)]]


async def test_rows_that_are_not_ready_hide_none_behind_them(store: Store) -> None:
    await store.create_task(new_task("unready", total=7), [new_row(n, due=1) for n in range(7)], ready=False)
    await add_task(store, "ready", [new_row(n, due=2) for n in range(3)])
    await store.create_task(new_task("more", total=4), [new_row(n, due=3) for n in range(4)], ready=False)
    await add_task(store, "last", [new_row(0, due=4)])
    for limit in (1, 2, 3):
        page = await store.read_ahead(LANE, 1, START, 10_000, limit)
        assert ids(page) == ["ready-0", "ready-1", "ready-2"][:limit]
    assert ids(await read_all(store)) == ["ready-0", "ready-1", "ready-2", "last-0"]


async def test_rows_read_show_what_was_made_of_them(store: Store) -> None:
    await add_task(store)
    await bring(store, await lane_lease(store), {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 1, due=50, burn=True, doubt=True)])
    (row,) = await read_all(store)
    assert (row.state, row.attempt, row.failures, row.doubt, row.due) == (State.QUEUED, 1, 1, True, 50)
    assert row == (await view(store, "task-0")).row


# -- one contact ---------------------------------------------------------------------------------------


async def test_rows_of_one_contact_are_read_alone_and_in_order(store: Store) -> None:
    rows = [new_row(n, contact="ab"[n % 2], due=100 - n // 2) for n in range(8)]
    await add_task(store, "task", rows)
    await add_task(store, "other", [new_row(0, contact="a", lane="200"), new_row(1, contact="a", priority=2)])
    page = await store.read_contact(LANE, 1, "a", START, 10_000, 3)
    assert ids(page) == ["task-6", "task-4", "task-2"]
    after = Place(page[-1].due, page[-1].seq)
    assert ids(await store.read_contact(LANE, 1, "a", after, 10_000, 3)) == ["task-0"]
    assert ids(await store.read_contact(LANE, 1, "a", START, 98, 10)) == ["task-6", "task-4"]
    assert await store.read_contact(LANE, 1, "c", START, 10_000, 10) == []


# -- what blocks, what is in a state -------------------------------------------------------------------


async def test_rows_block_while_in_flight_unknown_or_queued_after_an_attempt(store: Store) -> None:
    row_ids = await add_task(store, "task", len(State) + 2)
    lease = await lane_lease(store)
    states = dict(zip(row_ids, State, strict=False))
    await bring(store, lease, {**states, **dict.fromkeys(row_ids[-2:], State.SENDING)})
    # Due by now, and due in a far future.
    await store.apply(
        [
            Change(row_ids[-1], State.QUEUED, 1, due=1),
            Change(row_ids[-2], State.QUEUED, 1, due=10**15),
        ]
    )
    blocking = [row_id for row_id, state in states.items() if state in (State.SENDING, State.UNKNOWN)]
    blocking += row_ids[-2:]
    found = await store.blocking_rows(LANE, 0, 100)
    assert ids(found) == blocking
    assert ids(await store.blocking_rows(LANE, found[0].seq, 2)) == blocking[1:3]
    assert await store.blocking_rows("200", 0, 100) == []


async def test_a_row_marked_again_still_blocks_once(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    await bring(store, lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 1, due=1)])
    await bring(store, lease, {"task-0": State.SENDING})
    assert ids(await store.blocking_rows(LANE, 0, 100)) == ["task-0"]
    await store.apply([Change("task-0", State.SENT, 1)])
    assert await store.blocking_rows(LANE, 0, 100) == []


async def test_what_a_row_asks_for_is_shown(store: Store) -> None:
    asked = new_row(0, ordered=True, on_unknown="fail", fallback=b"{2}")
    plain, special = await add_task(store, "task", [new_row(1), asked])
    shown = {row.id: row for row in await read_all(store)}
    row = shown[special]
    assert (row.ordered, row.on_unknown, row.has_fallback, row.fell_back) == (True, "fail", True, False)
    row = shown[plain]
    assert (row.ordered, row.on_unknown, row.has_fallback, row.fell_back) == (False, "", False, False)
    assert (await view(store, special)).row == shown[special]


async def test_rows_that_others_wait_for_are_read_until_they_are_delivered(store: Store) -> None:
    tasks = await add_task(store, "task", [new_row(n, ordered=n != 1) for n in range(6)])
    lease = await lane_lease(store)
    await bring(store, lease, dict.fromkeys(tasks, State.SENDING))
    await store.apply([Change(row_id, State.SENT, 10 + n) for n, row_id in enumerate(tasks)])
    await store.apply([Change("task-4", State.DELIVERED, 20), Change("task-5", State.FAILED, 20)])

    async def waited_for(after: Place, limit: int = 10) -> list[str]:
        return [found.row.id for found in await store.undelivered(LANE, after, limit)]

    assert await waited_for(START) == ["task-0", "task-2", "task-3"]
    assert await waited_for(Place(12, 0)) == ["task-2", "task-3"]
    first = (await store.undelivered(LANE, START, 1))[0]
    assert (first.row.id, first.last_sent_at) == ("task-0", 10)
    assert await waited_for(Place(10, first.row.seq), 1) == ["task-2"]
    assert await store.undelivered("200", START, 10) == []
    # What is sent anew is waited for anew.
    failed = Change("task-0", State.FAILED, 30)
    await store.apply([failed, Change("task-0", State.QUEUED, 31, attempt=1, due=31, fresh=True)])
    await bring(store, lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.SENT, 40, word_of=2)])
    assert await waited_for(START) == ["task-2", "task-3", "task-0"]
    assert ((await view(store, "task-0")).sent_at, (await view(store, "task-0")).last_sent_at) == (10, 40)


async def test_rows_that_wait_for_word_are_read_in_the_order_in_which_they_were_sent(store: Store) -> None:
    tasks = await add_task(store, "task", [new_row(n, ordered=n == 3) for n in range(5)])
    await bring(store, await lane_lease(store), dict.fromkeys(tasks, State.SENDING))
    times = (30, 10, 20, 20, 40)
    await store.apply([Change(row_id, State.SENT, at) for row_id, at in zip(tasks, times, strict=True)])

    async def waiting(after: Place, before: int | None, limit: int = 10) -> list[str]:
        found = await store.undelivered(LANE, after, limit, before=before, ordered=False)
        return [one.row.id for one in found]

    assert await waiting(START, None) == ["task-1", "task-2", "task-3", "task-0", "task-4"]
    assert await waiting(START, 30) == ["task-1", "task-2", "task-3"]
    assert await waiting(START, 30, 2) == ["task-1", "task-2"]
    seq = (await view(store, "task-2")).row.seq
    assert await waiting(Place(20, seq), 30) == ["task-3"]
    assert await waiting(Place(20, seq), 20) == await waiting(START, 10) == []


@pytest.mark.parametrize("state", State)
async def test_rows_in_a_state_are_read_in_the_order_of_acceptance(store: Store, state: State) -> None:
    other = State.QUEUED if state is not State.QUEUED else State.CANCELLED
    row_ids = await add_task(store, "task", [new_row(n, due=100 - n, priority=n % 3) for n in range(6)])
    states = {row_id: state if n != 3 else other for n, row_id in enumerate(row_ids)}
    await bring(store, await lane_lease(store), states)
    expected = [row_id for row_id in row_ids if row_id != "task-3"]
    page = await store.rows_in_state(LANE, state, 0, 3)
    assert ids(page) == expected[:3]
    assert ids(await store.rows_in_state(LANE, state, page[-1].seq, 3)) == expected[3:]
    assert await store.rows_in_state("200", state, 0, 10) == []


async def test_depth_counts_the_open_rows_of_a_lane(store: Store) -> None:
    row_ids = await add_task(store, "task", len(State) + 3)
    await add_task(store, "other", [new_row(lane="200")])
    await bring(store, await lane_lease(store), dict(zip(row_ids, State, strict=False)))
    depth = await store.depth(LANE)
    assert {state: depth[state] for state in (State.QUEUED, State.SENDING, State.UNKNOWN)} == {
        State.QUEUED: 4,
        State.SENDING: 1,
        State.UNKNOWN: 1,
    }
    assert sum(depth.values()) == 6
    assert sum((await store.depth("300")).values()) == 0


# -- marking -------------------------------------------------------------------------------------------


async def test_marking_moves_rows_to_sending_with_the_next_attempt(store: Store) -> None:
    await add_task(store, "task", 3)
    lease = await lane_lease(store)
    first, second, _ = await read_all(store)
    assert await store.mark_sending(lease, [first, second]) == {"task-0", "task-1"}
    marked = (await view(store, "task-0")).row
    assert (marked.state, marked.attempt, marked.failures, marked.doubt) == (State.SENDING, 1, 0, False)
    assert ids(await read_all(store)) == ["task-2"]


async def test_marking_no_rows_moves_none(store: Store) -> None:
    assert await store.mark_sending(await lane_lease(store), []) == set()


async def test_attempts_count_up(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    for attempt in (1, 2, 3):
        assert await store.mark_sending(lease, await read_all(store)) == {"task-0"}
        assert (await view(store, "task-0")).row.attempt == attempt
        await store.apply([Change("task-0", State.QUEUED, 1, due=1)])


async def test_a_row_is_marked_once(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    rows = await read_all(store)
    answers = await asyncio.gather(*(store.mark_sending(lease, rows) for _ in range(5)))
    assert sorted(answers, key=len) == [set(), set(), set(), set(), {"task-0"}]
    assert (await view(store, "task-0")).row.attempt == 1


async def test_a_row_with_another_attempt_than_shown_is_left_out(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    shown = await read_all(store)
    await store.mark_sending(lease, shown)
    await store.apply([Change("task-0", State.QUEUED, 1, due=1)])
    before = await view(store, "task-0")
    assert await store.mark_sending(lease, shown) == set()
    assert await view(store, "task-0") == before


async def test_rows_that_are_not_queued_are_left_out_and_their_neighbours_are_not(store: Store) -> None:
    row_ids = await add_task(store, "task", len(State) * 2)
    lease = await lane_lease(store)
    shown = await read_all(store)
    states = dict(zip(row_ids[::2], State, strict=True))
    # Without an attempt made, so that only the state tells.
    await store.apply([Change(row_id, State.CANCELLED, 1) for row_id in row_ids[2::4]])
    await store.apply([Change(row_id, State.SENT, 1) for row_id in row_ids[4::4]])
    expected = {row_id for row_id in row_ids if row_id not in states or row_id == row_ids[0]}
    assert await store.mark_sending(lease, shown) == expected


async def test_a_row_that_is_not_there_is_left_out(store: Store) -> None:
    await store.create_task(new_task("gone", created_at=1), [new_row(due=1)], ready=False)
    gone = (await view(store, "gone-0")).row
    await store.sweep_unready(1000)
    await add_task(store)
    rows = [gone, *await read_all(store)]
    assert await store.mark_sending(await lane_lease(store), rows) == {"task-0"}


async def test_a_former_owner_of_the_lease_marks_nothing(store: Store) -> None:
    await add_task(store)
    former = await lane_lease(store, "former")
    await store.release_lease(former)
    await lane_lease(store, "latter")
    before = await view(store, "task-0")
    with pytest.raises(LeaseLost):
        await store.mark_sending(former, [before.row])
    assert await view(store, "task-0") == before


async def test_a_row_marked_under_a_newer_term_is_left_out(store: Store) -> None:
    await add_task(store, "task", 2)
    older = await lane_lease(store, name="lane:older")
    newer = await lane_lease(store, name="lane:newer")
    await store.release_lease(newer)
    newer = await lane_lease(store, name="lane:newer")
    assert newer.term > older.term
    await bring(store, newer, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 1, due=1)])
    assert await store.mark_sending(older, await read_all(store)) == {"task-1"}
    assert await store.mark_sending(newer, await read_all(store)) == {"task-0"}

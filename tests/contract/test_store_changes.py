"""What becomes of rows on every store: the table of moves, every guard, and what goes with a move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from store.base import Store
from store.errors import LeaseLost
from store.records import TIME_OF, TOLD, Change, Cursor, Lease, RowView
from store.states import MOVES, TAKEN, State, can_move
from tests.support.store_values import (
    Listener,
    add_task,
    bring,
    lane_lease,
    new_event,
    new_row,
    read_all,
    view,
)

MakeStore = Callable[[], Store]


@dataclass(frozen=True, slots=True)
class Sending:
    """A store with rows in ``sending``, and the lease that they were marked under."""

    lease: Lease
    ids: list[str]


async def sending(store: Store, count: int = 1) -> Sending:
    ids = await add_task(store, "task", count)
    lease = await lane_lease(store)
    await bring(store, lease, dict.fromkeys(ids, State.SENDING))
    return Sending(lease, ids)


# -- the table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", State)
async def test_rows_move_to_a_state_from_where_the_table_allows(store: Store, to: State) -> None:
    states = dict(zip(await add_task(store, "task", len(MOVES)), MOVES, strict=True))
    await bring(store, await lane_lease(store), states)
    before = await store.find_rows(states)
    allowed = [can_move(source, to) for source in states.values()]
    assert await store.apply([Change(row_id, to, 5000, due=5000) for row_id in states]) == allowed
    after = await store.find_rows(states)
    for row_id, moves in zip(states, allowed, strict=True):
        if moves:
            assert after[row_id].row.state is to
            assert after[row_id].row.attempt == before[row_id].row.attempt
        else:
            known_since = before[row_id].sent_at or (5000 if to in TAKEN else 0)
            told = {}
            if to in TOLD:
                known_at = getattr(before[row_id], TIME_OF[to])
                told = {TIME_OF[to]: min(known_at, 5000) if known_at else 5000}
            assert after[row_id] == msgspec.structs.replace(before[row_id], sent_at=known_since, **told)


async def test_changes_apply_in_their_order(store: Store) -> None:
    await sending(store)
    moves = (
        State.SENT,
        State.DELIVERED,
        State.SENT,
        State.READ,
        State.DELIVERED,
        State.PLAYED,
        State.READ,
        State.QUEUED,
    )
    changes = [Change("task-0", to, 100 + n) for n, to in enumerate(moves)]
    assert await store.apply(changes) == [True, True, False, True, False, True, False, False]
    found = await view(store, "task-0")
    assert found.row.state is State.PLAYED
    assert (found.sent_at, found.delivered_at, found.read_at) == (100, 101, 103)


async def test_a_row_may_move_often_in_one_call(store: Store) -> None:
    await add_task(store)
    moves = (State.UNKNOWN, *(State.FAILED, State.QUEUED) * 8)
    changes = [Change("task-0", to, 1, due=1, burn=True) for to in moves]
    assert await store.apply(changes) == [False] + [True] * 16
    assert (await view(store, "task-0")).row.failures == 16


async def test_calls_under_way_at_once_apply_in_their_order(store: Store) -> None:
    await sending(store, 3)
    answers = await asyncio.gather(
        store.apply([Change("task-0", State.SENT, 1), Change("task-1", State.FAILED, 1)], [new_event("a")]),
        store.apply([Change("task-0", State.DELIVERED, 2), Change("task-1", State.SENT, 2)]),
        store.apply([Change("task-0", State.READ, 3), Change("task-2", State.SENT, 3)], [new_event("b")]),
    )
    assert list(answers) == [[True, True], [True, False], [True, True]]


async def test_a_mark_and_a_change_under_way_at_once_apply_in_their_order(store: Store) -> None:
    await add_task(store)
    lease = await lane_lease(store)
    rows = await read_all(store)
    marked, moved = await asyncio.gather(
        store.mark_sending(lease, rows), store.apply([Change("task-0", State.SENT, 2, attempt=1)])
    )
    assert (marked, moved) == ({"task-0"}, [True])


async def test_each_of_many_changes_tells_whether_it_moved(store: Store) -> None:
    ids = await add_task(store, "task", 300)
    await store.apply([Change(row_id, State.CANCELLED, 1) for row_id in ids[::3]])
    changes = [Change(row_id, State.EXPIRED, 2) for row_id in ids]
    assert await store.apply(changes) == [n % 3 != 0 for n in range(300)]


async def test_a_change_of_an_unknown_row_moves_nothing(store: Store) -> None:
    await sending(store)
    unknown = ("task-1", "other-0", "nothing", "", f"task-{'9' * 30}")
    changes = [Change(row_id, State.SENT, 1, wamid=f"wamid.{row_id}") for row_id in unknown]
    assert await store.apply([*changes, Change("task-0", State.SENT, 1)]) == [False] * 5 + [True]
    assert (await store.find_rows([*unknown, "task-0"])).keys() == {"task-0"}
    assert await store.find_by_wamid([f"wamid.{row_id}" for row_id in unknown]) == {}


async def test_applying_nothing_changes_nothing(store: Store) -> None:
    assert await store.apply([]) == []


async def test_a_repeated_change_has_its_effect_once(store: Store) -> None:
    await sending(store)
    change = Change("task-0", State.UNKNOWN, 5, attempt=1, burn=True, doubt=True, error=b"{}", wamid="w")
    events = [new_event("unknown")]
    assert await store.apply([change], events, Cursor("tracker", 9)) == [True]
    before = await view(store, "task-0")
    assert await store.apply([change], events, Cursor("tracker", 9)) == [False]
    assert await view(store, "task-0") == before
    assert len(await store.events_after(0, 10)) == 1


# -- guards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "guard",
    [
        {"attempt": 2},
        {"attempt": 3},
        {"term": 1},
        {"term": 3},
        {"before_term": 2},
        {"before_term": 1},
        {"only_from": (State.UNKNOWN,)},
        {"only_from": (State.QUEUED, State.UNKNOWN)},
        {"only_from": (State.CANCELLED,)},
        {"attempt": 1, "term": 3},
        {"attempt": 2, "term": 2},
        {"attempt": 1, "term": 2, "only_from": (State.QUEUED,)},
    ],
    ids=str,
)
async def test_a_guard_that_does_not_hold_stops_a_change(store: Store, guard: dict[str, Any]) -> None:
    before = await _sent_for_the_first_time_under_term_two(store)
    change = Change("task-0", State.FAILED, 5, burn=True, doubt=True, error=b"{}", **guard)
    assert await store.apply([change]) == [False]
    assert await view(store, "task-0") == before


@pytest.mark.parametrize(
    "guard",
    [
        {},
        {"attempt": 1},
        {"term": 2},
        {"before_term": 3},
        {"only_from": (State.SENDING,)},
        {"only_from": (State.SENDING, State.PLAYED)},
        {"attempt": 1, "term": 2, "only_from": (State.SENDING,)},
    ],
    ids=str,
)
async def test_guards_that_hold_let_a_change_pass(store: Store, guard: dict[str, Any]) -> None:
    await _sent_for_the_first_time_under_term_two(store)
    assert await store.apply([Change("task-0", State.FAILED, 5, **guard)]) == [True]
    assert (await view(store, "task-0")).row.state is State.FAILED


async def _sent_for_the_first_time_under_term_two(store: Store) -> RowView:
    await add_task(store)
    await store.release_lease(await lane_lease(store, "former"))
    lease = await lane_lease(store)
    assert lease.term == 2
    await bring(store, lease, {"task-0": State.SENDING})
    return await view(store, "task-0")


async def test_the_states_of_a_guard_allow_no_more_than_the_table(store: Store) -> None:
    await sending(store)
    assert await store.apply([Change("task-0", State.CANCELLED, 5, only_from=(State.SENDING,))]) == [False]


async def test_a_late_settlement_under_an_old_term_is_stopped(store: Store) -> None:
    await sending(store)
    former = await lane_lease(store)
    await store.apply([Change("task-0", State.QUEUED, 1, due=1)])
    await store.release_lease(former)
    latter = await lane_lease(store, "latter")
    await bring(store, latter, {"task-0": State.SENDING})
    late = Change("task-0", State.FAILED, 5, attempt=1, term=former.term)
    assert await store.apply([late, msgspec.structs.replace(late, attempt=2)]) == [False, False]
    assert await store.apply([msgspec.structs.replace(late, attempt=2, term=latter.term)]) == [True]


# -- what goes with a move -----------------------------------------------------------------------------


async def test_a_row_queued_again_is_due_when_the_change_says(store: Store) -> None:
    await sending(store)
    await store.apply([Change("task-0", State.QUEUED, 5, due=7777)])
    (row,) = await read_all(store)
    assert (row.due, row.attempt, row.failures, row.doubt) == (7777, 1, 0, False)


async def test_due_is_left_by_other_moves(store: Store) -> None:
    await sending(store)
    await store.apply([Change("task-0", State.SENT, 5, due=7777)])
    assert (await view(store, "task-0")).row.due == 1000


@pytest.mark.parametrize("source", [State.SENDING, State.FAILED])
async def test_a_row_falls_back_once(store: Store, source: State) -> None:
    await add_task(store, "task", [new_row(payload=b"{1}", fallback=b"{2}")])
    lease = await lane_lease(store)
    await bring(store, lease, {"task-0": source})
    back = Change("task-0", State.QUEUED, 5, attempt=1, due=5, fall_back=True, event=new_event("back"))
    assert await store.apply([back]) == [True]
    row = (await view(store, "task-0")).row
    assert (row.payload, row.has_fallback, row.fell_back) == (b"{2}", False, True)
    assert [found.payload for found in await read_all(store)] == [b"{2}"]
    await bring(store, lease, {"task-0": State.SENDING})
    again = msgspec.structs.replace(back, attempt=2, event=new_event("again"))
    assert await store.apply([again]) == [False]
    row = (await view(store, "task-0")).row
    assert (row.payload, row.state) == (b"{2}", State.SENDING)
    assert [event.key for event in await store.events_after(0, 10)] == ["back"]


@pytest.mark.parametrize("how", [{"fresh": True}, {"fall_back": True}])
async def test_late_word_of_an_attempt_that_is_over_does_not_stop_what_follows_it(
    store: Store, how: dict[str, Any]
) -> None:
    await add_task(store, "task", [new_row(fallback=b"{2}")])
    lease = await lane_lease(store)
    await bring(store, lease, {"task-0": State.SENDING})
    work = [
        Change("task-0", State.SENT, 5, word_of=1, wamid="a"),
        Change("task-0", State.FAILED, 6, attempt=1, only_from=(State.SENT,)),
        Change("task-0", State.QUEUED, 7, attempt=1, due=7, event=new_event("anew"), **how),
        Change("task-0", State.SENT, 8, word_of=1, wamid="a"),
        Change("task-0", State.SENT, 8, wamid="a"),
    ]
    assert await store.apply(work) == [True, True, True, False, False]
    assert [event.key for event in await store.events_after(0, 10)] == ["anew"]
    # As a batch is repeated whose cursor was not saved.
    await store.apply(work)
    assert (await view(store, "task-0")).row.state is State.QUEUED
    await bring(store, lease, {"task-0": State.SENDING})
    assert await store.apply(work) == [False] * 5
    assert await store.apply([Change("task-0", State.SENT, 9, word_of=2, wamid="b")]) == [True]
    found = await view(store, "task-0")
    assert (found.wamids, found.sent_at, found.last_sent_at) == (("a", "b"), 5, 9)


async def test_a_row_without_a_fallback_does_not_fall_back(store: Store) -> None:
    await sending(store)
    assert await store.apply([Change("task-0", State.QUEUED, 5, due=5, fall_back=True)]) == [False]
    assert (await view(store, "task-0")).row.state is State.SENDING


async def test_a_burnt_attempt_counts_as_a_failure(store: Store) -> None:
    rows = await sending(store)
    for failures in (1, 2):
        await store.apply([Change("task-0", State.QUEUED, 5, due=1, burn=True)])
        assert (await view(store, "task-0")).row.failures == failures
        await bring(store, rows.lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 5, due=1)])
    assert (await view(store, "task-0")).row.failures == 2


async def test_doubt_stays(store: Store) -> None:
    rows = await sending(store)
    await store.apply([Change("task-0", State.QUEUED, 5, due=1, doubt=True)])
    assert (await view(store, "task-0")).row.doubt is True
    await bring(store, rows.lease, {"task-0": State.SENDING})
    await store.apply([Change("task-0", State.QUEUED, 6, due=1)])
    assert (await view(store, "task-0")).row.doubt is True


async def test_the_last_error_is_kept(store: Store) -> None:
    rows = await sending(store)
    for change, kept in (
        (Change("task-0", State.QUEUED, 5, due=1, error=b'{"code":1}'), b'{"code":1}'),
        (Change("task-0", State.QUEUED, 6, due=1, error=b'{"code":2}'), b'{"code":2}'),
        (Change("task-0", State.SENT, 7), b'{"code":2}'),
    ):
        await store.apply([change])
        assert (await view(store, "task-0")).error == kept
        if change.to is State.QUEUED:
            await bring(store, rows.lease, {"task-0": State.SENDING})


async def test_a_status_sets_the_time_of_its_state(store: Store) -> None:
    await sending(store)
    times = []
    for at, to in ((11, State.SENT), (12, State.DELIVERED), (13, State.READ), (14, State.PLAYED)):
        await store.apply([Change("task-0", to, at)])
        found = await view(store, "task-0")
        times.append((found.sent_at, found.delivered_at, found.read_at, found.played_at, found.ended_at))
    assert times == [(11, 0, 0, 0, 0), (11, 12, 0, 0, 0), (11, 12, 13, 0, 0), (11, 12, 13, 14, 0)]


async def test_the_time_that_meta_tells_is_kept_also_of_what_comes_too_late_to_move_the_row(
    store: Store,
) -> None:
    await sending(store)
    late = Change("task-0", State.DELIVERED, 30, told_at=20, pricing=b'{"category":"utility"}')
    read = Change("task-0", State.READ, 29, told_at=25)
    assert await store.apply([read, late]) == [True, False]
    found = await view(store, "task-0")
    assert (found.row.state, found.sent_at, found.delivered_at, found.read_at) == (State.READ, 29, 20, 25)
    assert found.pricing == b'{"category":"utility"}'
    # A later word of the same changes nothing, an earlier one does: of a group, the first who has it counts.
    await store.apply([Change("task-0", State.DELIVERED, 32, told_at=at) for at in (31, 19, 21)])
    assert (await view(store, "task-0")).delivered_at == 19


async def test_the_price_that_meta_told_last_is_kept(store: Store) -> None:
    await sending(store)
    assert (await view(store, "task-0")).pricing == b""
    for price, moves in ((b'{"n":1}', True), (b'{"n":2}', False), (b"", False)):
        assert await store.apply([Change("task-0", State.SENT, 11, pricing=price)]) == [moves]
    assert (await view(store, "task-0")).pricing == b'{"n":2}'
    await store.apply([Change("task-0", State.FAILED, 12, pricing=b'{"n":3}')])
    assert (await view(store, "task-0")).pricing == b'{"n":3}'


@pytest.mark.parametrize("to", [State.SENT, State.DELIVERED, State.READ])
async def test_the_first_proof_tells_when_meta_took_a_row(store: Store, to: State) -> None:
    await sending(store)
    await store.apply([Change("task-0", to, 11)])
    await store.apply([Change("task-0", State.READ, 12)])
    assert (await view(store, "task-0")).sent_at == 11


async def test_what_meta_took_stays_taken_after_it_failed(store: Store) -> None:
    await sending(store)
    await store.apply([Change("task-0", State.SENT, 11)])
    await store.apply([Change("task-0", State.FAILED, 12)])
    found = await view(store, "task-0")
    assert (found.sent_at, found.ended_at) == (11, 12)


async def test_a_proof_that_moves_nothing_still_counts_as_taken(store: Store) -> None:
    await sending(store, 2)
    await store.apply([Change(f"task-{n}", State.FAILED, 11, wamid="w" * n) for n in range(2)])
    late = [Change(f"task-{n}", State.SENT, at, wamid="w" * n) for at in (12, 13) for n in range(2)]
    assert await store.apply(late) == [False] * 4
    for n in range(2):
        found = await view(store, f"task-{n}")
        assert (found.row.state, found.sent_at, found.ended_at) == (State.FAILED, 12, 11)
    task = await store.find_task("task")
    assert task is not None
    assert task.taken == 2


@pytest.mark.parametrize("to", [State.FAILED, State.CANCELLED, State.EXPIRED])
async def test_an_end_without_success_sets_its_time(store: Store, to: State) -> None:
    await add_task(store)
    await store.apply([Change("task-0", to, 21)])
    found = await view(store, "task-0")
    assert (found.sent_at, found.delivered_at, found.read_at, found.ended_at) == (0, 0, 0, 21)


# -- ids of Meta's -------------------------------------------------------------------------------------


async def test_an_id_of_metas_leads_to_its_row(store: Store) -> None:
    await sending(store, 2)
    changes = [Change(f"task-{n}", State.SENT, 5, wamid=f"wamid.{n}") for n in range(2)]
    await store.apply(changes)
    known = {"wamid.0": "task-0", "wamid.1": "task-1"}
    assert await store.find_by_wamid(["wamid.0", "wamid.1", "unknown"]) == known
    assert await store.find_by_wamid([]) == {}
    assert (await view(store, "task-0")).wamids == ("wamid.0",)


@pytest.mark.parametrize(
    "change",
    [
        Change("task-0", State.SENT, 6, wamid="wamid.b", attempt=9),
        Change("task-0", State.SENT, 6, wamid="wamid.b", term=9),
        Change("task-0", State.SENT, 6, wamid="wamid.b", only_from=(State.QUEUED,)),
        Change("task-0", State.SENT, 6, wamid="wamid.b", only_from=(State.CANCELLED,)),
        Change("task-0", State.CANCELLED, 6, wamid="wamid.b"),
    ],
    ids=["attempt", "term", "state", "no state", "table"],
)
async def test_an_id_of_metas_is_kept_where_the_move_is_stopped(store: Store, change: Change) -> None:
    await sending(store, 2)
    before = await view(store, "task-0")
    assert await store.apply([change, Change("task-1", State.SENT, 6, wamid="wamid.c")]) == [False, True]
    found = await view(store, "task-0")
    known_since = 6 if change.to in TAKEN else 0
    assert found == msgspec.structs.replace(before, wamids=("wamid.b",), sent_at=known_since)
    assert await store.find_by_wamid(["wamid.b", "wamid.c"]) == {"wamid.b": "task-0", "wamid.c": "task-1"}


async def test_ids_of_metas_are_kept_each_once_and_the_oldest_first(store: Store) -> None:
    await sending(store)
    changes = [
        Change("task-0", State.SENT, 5, wamid="z", attempt=9),
        Change("task-0", State.SENT, 6, wamid="y"),
        Change("task-0", State.DELIVERED, 7, wamid="y"),
        Change("task-0", State.SENT, 8, wamid="x"),
        Change("task-0", State.SENT, 9, wamid="z"),
    ]
    assert await store.apply(changes) == [False, True, True, False, False]
    assert (await view(store, "task-0")).wamids == ("z", "y", "x")
    assert await store.find_by_wamid(["x", "y", "z"]) == dict.fromkeys("xyz", "task-0")


# -- events and cursor ---------------------------------------------------------------------------------


async def test_events_are_in_the_log_when_their_changes_are_applied(store: Store) -> None:
    await sending(store)
    listener = Listener(store)
    await store.apply([Change("task-0", State.SENT, 5)], [new_event("a"), new_event("b"), new_event("a")])
    assert listener.keys == ["a", "b"]
    assert await store.events_after(0, 10) == listener.events


async def test_known_events_are_dropped_and_the_changes_applied(store: Store) -> None:
    await sending(store)
    await store.append_events([new_event("a")])
    assert await store.apply([Change("task-0", State.SENT, 5)], [new_event("a"), new_event("b")]) == [True]
    assert [event.key for event in await store.events_after(0, 10)] == ["a", "b"]


async def test_a_change_that_moves_its_row_tells_its_event(store: Store) -> None:
    await sending(store, 2)
    listener = Listener(store)
    changes = [Change(f"task-{n}", State.FAILED, 5, attempt=1, event=new_event(f"f{n}")) for n in range(2)]
    assert await store.apply(changes, [new_event("a")]) == [True, True]
    assert sorted(listener.keys) == ["a", "f0", "f1"]
    assert [event.key for event in await store.events_after(0, 10)] == listener.keys


async def test_a_change_that_is_stopped_tells_nothing(store: Store) -> None:
    await sending(store, 3)
    await store.apply([Change("task-0", State.DELIVERED, 4)])
    stopped = [
        Change("task-0", State.FAILED, 5, event=new_event("table")),
        Change("task-1", State.FAILED, 5, attempt=2, event=new_event("attempt")),
        Change("task-1", State.FAILED, 5, term=9, event=new_event("term")),
        Change("task-1", State.FAILED, 5, only_from=(State.UNKNOWN,), event=new_event("state")),
        Change("task-9", State.FAILED, 5, event=new_event("row")),
    ]
    moves = Change("task-2", State.UNKNOWN, 5, event=new_event("moves"))
    assert await store.apply([*stopped, moves]) == [False] * 5 + [True]
    assert [event.key for event in await store.events_after(0, 10)] == ["moves"]


async def test_a_repeated_change_tells_its_event_once(store: Store) -> None:
    await sending(store)
    change = Change("task-0", State.UNKNOWN, 5, attempt=1, event=new_event("unknown"))
    answers = await asyncio.gather(store.apply([change]), store.apply([change]))
    assert sorted([answers[0][0], answers[1][0]]) == [False, True]
    assert await store.apply([change]) == [False]
    assert [event.key for event in await store.events_after(0, 10)] == ["unknown"]


async def test_the_cursor_is_saved_with_the_changes(store: Store) -> None:
    await sending(store)
    lease = await lane_lease(store, name="consumer:tracker")
    await store.apply([Change("task-0", State.SENT, 5)], [], Cursor("tracker", 7), lease)
    assert await store.load_cursor("tracker") == 7
    await store.apply([], [], Cursor("tracker", 8))
    assert await store.load_cursor("tracker") == 8


async def test_under_a_lost_lease_nothing_is_kept(store: Store) -> None:
    await sending(store)
    former = await lane_lease(store, "former", "consumer:tracker")
    await store.save_cursor(Cursor("tracker", 7), former)
    await store.release_lease(former)
    await lane_lease(store, "latter", "consumer:tracker")
    before = await view(store, "task-0")
    with pytest.raises(LeaseLost):
        await store.apply(
            [Change("task-0", State.SENT, 5, wamid="w")], [new_event("a")], Cursor("tracker", 8), former
        )
    assert await view(store, "task-0") == before
    assert await store.events_after(0, 10) == []
    assert await store.load_cursor("tracker") == 7


async def test_a_lost_lease_stops_its_own_call_alone(store: Store) -> None:
    await sending(store, 2)
    former = await lane_lease(store, "former", "consumer:tracker")
    await store.release_lease(former)
    await lane_lease(store, "latter", "consumer:tracker")
    lost, moved = await asyncio.gather(
        store.apply([Change("task-0", State.SENT, 5)], [], Cursor("tracker", 8), former),
        store.apply([Change("task-1", State.SENT, 5)], [new_event("a")]),
        return_exceptions=True,
    )
    assert isinstance(lost, LeaseLost)
    assert moved == [True]


# -- new opening ---------------------------------------------------------------------------------------


async def test_what_became_of_rows_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    rows = await sending(store, 3)
    await store.apply(
        [
            Change("task-0", State.SENT, 5, wamid="a"),
            Change("task-0", State.DELIVERED, 6, wamid="b"),
            Change("task-1", State.QUEUED, 7, due=8, burn=True, doubt=True, error=b'{"code":1}'),
        ],
        [new_event("sent")],
        Cursor("tracker", 9),
    )
    before = await store.find_rows(rows.ids)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert await again.find_rows(rows.ids) == before
        assert await again.find_by_wamid(["a", "b"]) == {"a": "task-0", "b": "task-0"}
        assert [row.id for row in await again.blocking_rows("100", 0, 10)] == ["task-1", "task-2"]
        assert await again.load_cursor("tracker") == 9
        assert await again.apply([Change("task-2", State.SENT, 9, attempt=1, term=rows.lease.term)]) == [True]
    finally:
        await again.close()

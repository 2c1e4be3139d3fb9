"""What a lane makes of attempts without an end, over a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tornado.ioloop import IOLoop

from store.records import Change, Lease, Row
from store.sqlite import SqliteStore
from store.states import State
from tests.support.store_values import LANE, add_task, bring, lane_lease, new_row, view
from whatsapp.clock import Clock
from whatsapp.outcome import lost
from whatsapp.pacing import PairPacer
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead
from whatsapp.recovery import Recovery
from whatsapp.template_holds import TemplateHolds
from whatsapp.unknown import UnknownRows

NOW = 50_000
ORDERED_S = 5.0


class Calls:
    """The attempts of a lane: those that the test says are under way."""

    def __init__(self) -> None:
        self.under_way: set[str] = set()
        self.settled: list[Row] = []

    def holds(self, row: Row) -> bool:
        return row.id in self.under_way

    def lost(self, row: Row, term: int) -> None:
        assert term == 1
        self.settled.append(row)


class Unknown:
    """Collects rows whose grace has begun."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)


class Bench:
    """A lane's parts around a store."""

    def __init__(self, store: SqliteStore, lease: Lease) -> None:
        self.store = store
        self.lease = lease
        self.calls = Calls()
        self.unknown = Unknown()
        self.clock = Clock(lambda: NOW, lambda: 0.0)
        self.queue = LaneQueue(PairPacer())
        self.reader = ReadAhead(
            LANE,
            self.queue,
            templates=TemplateHolds(60.0),
            store=store,
            clock=self.clock,
            ordered_s=ORDERED_S,
        )
        self.recovery = Recovery(
            LANE,
            store=store,
            queue=self.queue,
            calls=self.calls,
            unknown=cast(UnknownRows, self.unknown),
            clock=self.clock,
            ordered_s=ORDERED_S,
        )

    async def bring(self, **states: State) -> None:
        await bring(self.store, self.lease, {row.replace("_", "-"): to for row, to in states.items()})

    async def take_over(self) -> None:
        """As the next owner, after the one that brought the rows to where they are."""
        await self.recovery.take_over(self.lease.term + 1, lambda: False)

    async def leaving(self) -> list[str]:
        """Ids of the rows that may leave now."""
        await self.reader.refill()
        rows = []
        while (row := self.queue.take(0.0)) is not None:
            rows.append(row.id)
        return rows


@pytest.fixture
def bench(io_loop: IOLoop, tmp_path: Path) -> Iterator[Bench]:
    store = SqliteStore(tmp_path / "a.db")
    io_loop.run_sync(store.open)
    lease = io_loop.run_sync(lambda: lane_lease(store))
    yield Bench(store, lease)
    io_loop.run_sync(store.close)


async def test_calls_of_an_earlier_owner_are_unknown(bench: Bench) -> None:
    await add_task(bench.store, "task", 3)
    await bench.bring(task_0=State.SENDING, task_1=State.SENT)
    await bench.take_over()
    assert (await view(bench.store, "task-0")).row.state is State.UNKNOWN
    assert [row.id for row in bench.unknown.rows] == ["task-0"]
    assert [event.type for event in await bench.store.events_after(0, 9)] == ["message.unknown"]
    assert await bench.leaving() == ["task-2"]


async def test_what_backs_off_holds_back_its_contact_until_its_time(bench: Bench) -> None:
    await add_task(bench.store, "task", [new_row(n, contact="ana") for n in range(2)])
    await bench.bring(task_0=State.SENDING)
    await bench.store.apply([Change("task-0", State.QUEUED, 1, due=NOW + 7000)])
    await bench.take_over()
    assert await bench.leaving() == []
    assert bench.queue.next_at() == 7.0


async def test_an_ordered_row_that_is_not_delivered_holds_back_its_contact_for_the_rest_of_its_time(
    bench: Bench,
) -> None:
    people = ("ana", "ana", "ben", "ben")
    await add_task(bench.store, "task", [new_row(n, contact=to, ordered=True) for n, to in enumerate(people)])
    await bench.bring(task_0=State.SENDING, task_2=State.SENDING)
    await bench.store.apply(
        [Change("task-0", State.SENT, NOW - 1000), Change("task-2", State.SENT, NOW - 6000)]
    )
    await bench.take_over()
    assert await bench.leaving() == ["task-3"]
    # It is looked at before its time is over: word of its delivery may be missed.
    assert bench.queue.next_at() == 1.0
    await bench.store.apply([Change("task-0", State.DELIVERED, NOW)])
    bench.queue.recall("task-0", 0.0)
    assert await bench.leaving() == ["task-1"]


async def test_a_claim_that_was_stored_after_it_was_given_up_is_settled_at_the_second_look(
    bench: Bench,
) -> None:
    await add_task(bench.store, "task", 2)
    await bench.bring(task_0=State.SENDING, task_1=State.SENDING)
    bench.calls.under_way = {"task-1"}
    await bench.recovery.look(1)
    assert bench.calls.settled == []
    await bench.recovery.look(1)
    assert [row.id for row in bench.calls.settled] == ["task-0"]


async def test_strays_are_found_behind_more_calls_than_a_page_has(bench: Bench) -> None:
    ids = await add_task(bench.store, "task", 501)
    await bench.bring(**dict.fromkeys(ids, State.SENDING))
    bench.calls.under_way = set(ids[:-1])
    await bench.recovery.look(1)
    await bench.recovery.look(1)
    assert [row.id for row in bench.calls.settled] == ids[-1:]


async def test_a_claim_whose_call_has_ended_meanwhile_is_no_stray(bench: Bench) -> None:
    await add_task(bench.store)
    await bench.bring(task_0=State.SENDING)
    await bench.recovery.look(1)
    await bench.store.apply([Change("task-0", State.QUEUED, 1, due=1)])
    await bring(bench.store, bench.lease, {"task-0": State.SENDING})
    # It is another attempt now.
    await bench.recovery.look(1)
    assert bench.calls.settled == []


async def test_a_row_that_ended_unseen_holds_nobody_back(bench: Bench) -> None:
    await add_task(bench.store, "task", [new_row(n, contact="ana") for n in range(2)])
    await bench.bring(task_0=State.SENDING)
    sending = (await view(bench.store, "task-0")).row
    await bench.store.apply([lost(sending, "a crash", 2, NOW)])
    await bench.take_over()
    await bench.store.apply([Change("task-0", State.READ, NOW)])
    assert await bench.leaving() == []
    await bench.recovery.look(1)
    assert await bench.leaving() == ["task-1"]


async def test_a_call_of_a_newer_owner_is_left_alone(bench: Bench) -> None:
    # Our lease ran out while we waited, and another owner has claimed the row since.
    await add_task(bench.store, "task", 2)
    await bench.bring(task_0=State.SENDING)
    await bench.store.release_lease(bench.lease)
    newer = await lane_lease(bench.store, "newer")
    await bring(bench.store, newer, {"task-1": State.SENDING})
    await bench.recovery.take_over(newer.term, lambda: False)
    states = {
        row_id: view.row.state for row_id, view in (await bench.store.find_rows(["task-0", "task-1"])).items()
    }
    assert states == {"task-0": State.UNKNOWN, "task-1": State.SENDING}


async def test_a_lane_that_stops_leaves_off_taking_over(bench: Bench) -> None:
    await add_task(bench.store, "task", 1)
    await bench.bring(task_0=State.SENDING)
    await bench.recovery.take_over(2, lambda: True)
    assert (await view(bench.store, "task-0")).row.state is State.SENDING
    assert bench.unknown.rows == []

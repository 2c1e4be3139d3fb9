"""How a lane's window is filled past rows that may not leave. All together: ``test_queue_machine.py``."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import msgspec
import pytest

from store.base import Store
from store.records import Place, Row, RowView
from store.states import State
from tests.support.rows import LANE, make_row, make_view
from whatsapp.clock import Clock
from whatsapp.errors import GraphError, classify
from whatsapp.pacing import PairPacer
from whatsapp.queue import LaneQueue, held_until, next_look
from whatsapp.read_ahead import ReadAhead
from whatsapp.template_holds import News, Pass, Template, TemplateHolds

PAGE = 500


class Backlog:
    """A store that has only due rows, and counts how many it gave."""

    atomic = True

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.read: list[Place] = []

    async def read_ahead(self, lane: str, priority: int, after: Place, now: int, limit: int) -> list[Row]:
        """As in the contract."""
        if priority != 1:
            return []
        self.read.append(after)
        return [row for row in self.rows if (row.due, row.seq) > after and row.due <= now][:limit]


class Bench:
    """A window over a backlog to one person whom the pair limit holds back."""

    def __init__(self, count: int) -> None:
        self.now = 10_000
        self.backlog = Backlog([make_row(n, contact="ana", due=1_000) for n in range(count)])
        pairs = PairPacer(burst=1)
        pairs.spend("ana", 10.0)
        self.queue = LaneQueue(pairs)
        self.reader = ReadAhead(
            LANE,
            self.queue,
            templates=TemplateHolds(60.0),
            store=cast(Store, self.backlog),
            clock=Clock(lambda: self.now, lambda: self.now / 1000),
            ordered_s=1.0,
        )

    async def catch_up(self) -> int:
        """Read on as a lane does that does not rest while it is behind; in how many turns."""
        turns = 0
        while self.reader.behind:
            await self.reader.refill()
            assert self.queue.take(self.now / 1000) is None
            turns += 1
        return turns


async def test_a_lane_that_does_not_rest_while_behind_is_soon_past_what_cannot_leave() -> None:
    bench = Bench(10 * PAGE)
    bench.backlog.rows.append(make_row(99_999, contact="ben", due=2_000))
    turns = 0
    while (row := bench.queue.take(bench.now / 1000)) is None:
        assert bench.reader.behind
        await bench.reader.refill()
        turns += 1
    assert row.contact == "ben"
    assert turns <= 11


async def test_what_comes_in_while_all_is_read_again_is_not_behind_it() -> None:
    bench = Bench(10 * PAGE)
    await bench.catch_up()
    bench.reader.look_again()
    assert not bench.reader.behind
    await bench.reader.refill()
    bench.backlog.rows.append(make_row(99_999, contact="ben", due=9_000))
    bench.reader.news(9_000)
    await bench.reader.refill()
    row = bench.queue.take(bench.now / 1000)
    assert row is not None and row.contact == "ben"


async def test_all_is_read_again_a_page_a_turn_and_once() -> None:
    bench = Bench(3 * PAGE)
    await bench.catch_up()
    # Stored behind the scan by a process whose clock is slow.
    bench.backlog.rows.insert(0, make_row(88_888, contact="ben", due=500))
    bench.reader.look_again()
    bench.backlog.read.clear()
    for _ in range(8):
        await bench.reader.refill()
    assert len(bench.backlog.read) == 4
    row = bench.queue.take(bench.now / 1000)
    assert row is not None and row.contact == "ben"


# -- ordered rows ------------------------------------------------------------------------------------------


def sent(at: int, *, ordered: bool = True) -> RowView:
    row = make_row(ordered=ordered, state=State.SENT, attempt=1)
    return msgspec.structs.replace(make_view(row), last_sent_at=at)


class Delivering:
    """A store in which a row is still sent, and whose reader hears meanwhile that it was delivered."""

    atomic = True

    def __init__(self, queue: LaneQueue, told: bool) -> None:
        self._queue = queue
        self._told = told

    async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
        """As in the contract."""
        if self._told:
            for row_id in ids:
                self._queue.unblock(row_id)
        return {row_id: sent(9_500) for row_id in ids}

    async def read_ahead(self, *_: object) -> list[Row]:
        """As in the contract."""
        return []


@pytest.mark.parametrize("told", [True, False])
async def test_a_delivery_that_is_told_during_the_read_is_not_forgotten_by_it(told: bool) -> None:
    queue = LaneQueue(PairPacer())
    row = sent(9_500).row
    queue.block(row, 0.0)
    clock = Clock(lambda: 10_000, lambda: 10.0)
    store = cast(Store, Delivering(queue, told))
    await ReadAhead(
        LANE, queue, templates=TemplateHolds(60.0), store=store, clock=clock, ordered_s=300.0
    ).refill()
    assert list(queue.blocking) == ([] if told else [row.id])
    assert queue.next_at() == (float("inf") if told else 11.0)


def test_an_ordered_row_is_looked_at_the_seldomer_the_longer_it_holds() -> None:
    ages = (0, 1_000, 5_000, 60_000, 299_000)
    looks = [next_look(sent(0), 300_000, age) - age for age in ages]
    assert looks == [1_000, 1_000, 5_000, 30_000, 1_000]
    assert held_until(sent(7), 300_000) == 300_007
    assert held_until(sent(7, ordered=False), 300_000) == 0


async def test_a_row_that_a_status_has_queued_again_holds_back_those_behind_it() -> None:
    row = make_row(0, contact="ana", due=5_000, attempt=1)
    queue = LaneQueue(PairPacer())

    class Outbox:
        atomic = True

        async def find_rows(self, ids: Collection[str]) -> dict[str, RowView]:
            return {row.id: make_view(row)}

        async def read_ahead(self, *_: object) -> list[Row]:
            return []

    clock = Clock(lambda: 1_000, lambda: 1.0)
    reader = ReadAhead(
        LANE, queue, templates=TemplateHolds(60.0), store=cast(Store, Outbox()), clock=clock, ordered_s=1.0
    )
    queue.recall(row.id, 1.0)
    await reader.refill()
    queue.offer([make_row(1, contact="ana", due=900), make_row(2, contact="ben", due=900)])
    assert [taken and taken.contact for taken in (queue.take(1.0), queue.take(1.0))] == ["ben", None]
    assert queue.next_at() == 5.0


# -- rows that follow their event --------------------------------------------------------------------------


class Later(Backlog):
    """Stores an event before its rows, as MongoDB does."""

    atomic = False


async def late_by(seconds: float, news_each_s: float = 0.0, before_s: float = 0.0) -> float:
    """How long a row that is so much behind its event waits until it is found; other rows come in behind it,
    and with them other news, that often. ``before_s``: there was other news so long before."""
    store, queue, clock = Later([]), LaneQueue(PairPacer()), [10_000]
    reader = ReadAhead(
        LANE,
        queue,
        templates=TemplateHolds(60.0),
        store=cast(Store, store),
        clock=Clock(lambda: clock[0], lambda: clock[0] / 1000),
        ordered_s=1.0,
    )
    if before_s:
        reader.news(10_000)
        clock[0] += int(1000 * before_s)
        await reader.refill()
    told = clock[0]
    reader.news(told)
    for n in range(1, 12_000):
        if clock[0] >= told + 1000 * seconds and not any(row.id == "late" for row in store.rows):
            store.rows.insert(0, msgspec.structs.replace(make_row(0, contact="late", due=told), id="late"))
        if n == 2 or (news_each_s and n % int(news_each_s * 1000) == 0):
            store.rows.append(make_row(n, contact=f"c{n}", due=clock[0]))
            reader.news(clock[0])
        await reader.refill()
        while (row := queue.take(clock[0] / 1000)) is not None:
            if row.id == "late":
                return (clock[0] - told) / 1000 - seconds
            store.rows.remove(row)
            queue.ended(row)
        clock[0] += 1
    raise AssertionError("it was not found")


@pytest.mark.parametrize("news_each_s", [0.0, 0.03, 1.0])
async def test_a_row_that_follows_its_event_is_found_soon(news_each_s: float) -> None:
    assert await late_by(0.002, news_each_s) <= 0.1
    assert await late_by(0.12, news_each_s) <= 0.4
    assert await late_by(3.0, news_each_s) <= 7.0
    # A look that was due anyway may come too early for it.
    assert await late_by(3.0, news_each_s, before_s=4.9) <= 7.0


async def test_a_row_that_is_read_but_cannot_leave_is_not_the_one_that_is_tried() -> None:
    promo = b'{"template":{"name":"promo","language":{"code":"es"}}}'
    first, other = (make_row(n, contact=f"c{n}", due=1, payload=promo) for n in range(2))
    templates = TemplateHolds(86_400.0)
    templates.refused(other, classify(GraphError(code=132015, from_graph=True)), 0.0)
    queue, later_s = LaneQueue(PairPacer()), 4 * 3600.0
    reader = ReadAhead(
        LANE,
        queue,
        templates=templates,
        store=cast(Store, Backlog([first])),
        clock=Clock(lambda: 1_000, lambda: later_s),
        ordered_s=1.0,
    )
    await reader.refill()
    assert len(queue) == 1
    assert templates.judge(other, later_s, 1_000) is Pass.GO


@pytest.mark.parametrize(("count", "let_go"), [(30, False), (5_000, False), (5_000, True)])
async def test_behind_many_that_wait_for_their_template_the_rest_of_a_person_is_found(
    count: int, let_go: bool
) -> None:
    promo = b'{"template":{"name":"promo","language":{"code":"es"}}}'
    rows = [make_row(n, contact="ana", due=n, payload=promo) for n in range(count)]
    rows.append(make_row(count, contact="ana", due=count))
    queue = LaneQueue(PairPacer())
    queue.offer(rows)
    templates = TemplateHolds(60.0)
    templates.refused(rows[0], classify(GraphError(code=132015, from_graph=True)), 0.0)
    while (row := queue.take(0.0)) is not None:
        queue.ended(row)

    reads: list[Place] = []

    class Outbox:
        atomic = True

        async def read_contact(
            self, lane: str, priority: int, contact: str, after: Place, now: int, limit: int
        ) -> list[Row]:
            reads.append(after)
            return [row for row in rows if (row.due, row.seq) > after][:limit]

        async def read_ahead(self, *_: object) -> list[Row]:
            return []

    reader = ReadAhead(
        LANE,
        queue,
        templates=templates,
        store=cast(Store, Outbox()),
        clock=Clock(lambda: 1_000, lambda: 1.0),
        ordered_s=1.0,
    )
    if let_go:
        await reader.refill()
        assert templates.heard(News(Template("promo", "es"), None, 1), 1.0)
        reader.news(0)
        reads.clear()
    while reader.behind:
        before = len(reads)
        await reader.refill()
        assert len(reads) <= before + 4, "others have their turn"
    assert sorted(set(reads)) == reads, "none is read twice"
    found = queue.take(1.0)
    assert found is not None
    assert found.id == rows[0 if let_go else -1].id

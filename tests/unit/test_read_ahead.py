"""How a lane's window is filled past rows that may not leave. All together: ``test_queue_machine.py``."""

from __future__ import annotations

from typing import cast

from store.base import Store
from store.records import Place, Row
from tests.support.rows import LANE, make_row
from whatsapp.clock import Clock
from whatsapp.pacing import PairPacer
from whatsapp.queue import LaneQueue
from whatsapp.read_ahead import ReadAhead

PAGE = 500


class Backlog:
    """A store that has only due rows, and counts how many it gave."""

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

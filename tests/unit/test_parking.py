"""When a parked number is probed, and what ends its parking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.support.waiting import GUARD_S
from whatsapp.parking import Parking, ProbeTimes


def waits(times: ProbeTimes, count: int) -> list[float]:
    return [times.wait_s() for _ in range(count)]


def test_each_wait_is_twice_as_long_up_to_five_minutes() -> None:
    times = ProbeTimes(5.0)
    times.parked(0.0)
    assert waits(times, 8) == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_number_that_parks_again_soon_after_is_probed_as_seldom_as_before() -> None:
    times = ProbeTimes(5.0)
    times.parked(0.0)
    waits(times, 3)
    times.resumed(100.0)
    times.parked(179.0)
    assert waits(times, 2) == [40, 80]


def test_a_number_that_has_sent_for_a_while_begins_anew() -> None:
    times = ProbeTimes(5.0)
    times.parked(0.0)
    waits(times, 3)
    times.resumed(100.0)
    times.parked(180.0)
    assert waits(times, 2) == [5, 10]


def test_the_longer_it_was_parked_the_longer_it_must_go_well() -> None:
    times = ProbeTimes(5.0)
    times.parked(0.0)
    waits(times, 7)
    times.resumed(1_000.0)
    times.parked(1_599.0)
    assert times.wait_s() == 300


class Number:
    """A parked number, and Meta, which says what the test has it say."""

    def __init__(self, first_s: float) -> None:
        self.answers: Iterator[bool] = iter(())
        self.probes = 0
        self.resumed = asyncio.Event()
        self.asked = asyncio.Event()
        self.parking = Parking("100", works=self._works, monotonic=lambda: 0.0, first_s=first_s)

    async def _works(self) -> bool:
        self.probes += 1
        self.asked.set()
        return next(self.answers, False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.parking.run(self.resumed.set))
        try:
            yield
        finally:
            task.cancel()


async def test_who_asks_has_it_probed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    number = Number(first_s=3600.0)
    number.answers = iter([False, True])
    async with number.running(), asyncio.timeout(GUARD_S):
        assert number.parking.park("no token")
        number.parking.probe_now()
        await number.asked.wait()
        assert number.parking.why == "no token"
        number.parking.probe_now()
        await number.resumed.wait()
    assert (number.parking.why, number.probes) == ("", 2)
    caplog.clear()


async def test_it_is_parked_once(caplog: pytest.LogCaptureFixture) -> None:
    number = Number(first_s=3600.0)
    assert number.parking.park("no token")
    assert not number.parking.park("no money")
    assert number.parking.why == "no token"
    caplog.clear()


async def test_a_number_that_sends_is_not_probed() -> None:
    number = Number(first_s=0.01)
    async with number.running():
        number.parking.probe_now()
        await asyncio.sleep(0)
    assert number.probes == 0

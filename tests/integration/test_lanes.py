"""Who works a lane: the lease is taken, renewed, lost to another owner, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tornado.ioloop import IOLoop

from settings import NumberSettings
from store.sqlite import SqliteStore
from tests.support.gateway import NUMBER as OUR_NUMBER
from tests.support.gateway import serving
from tests.support.store_values import eventually
from whatsapp.attempts import HeldLease
from whatsapp.lane import Lane
from whatsapp.lanes import Lanes
from whatsapp.sandbox import SandboxSettings

NUMBER = "111"
NAME = f"lane:{NUMBER}"
TTL_S = 0.3


class Clock:
    """The store's clock; a test moves it on."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


class IdleLane:
    """Stands for a lane: works until it is drained, cancelled, or without its lease; tells which leases it
    had."""

    def __init__(self, runs: asyncio.Queue[HeldLease], ends: asyncio.Queue[str]) -> None:
        self._runs = runs
        self._ends = ends
        self._drained = asyncio.Event()

    async def run(self, held: HeldLease) -> None:
        self._runs.put_nowait(held)
        try:
            await self._drained.wait()
        except asyncio.CancelledError:
            self._ends.put_nowait("cancelled")
            raise
        self._ends.put_nowait("lost" if held.lost else "drained")

    def wake(self) -> None:
        self._drained.set()

    def drain(self) -> None:
        self._drained.set()

    def status(self) -> dict[str, Any]:
        return {"phone_number_id": NUMBER, "state": "running"}


class Bench:
    """Lanes of one number over a real store, with an idle lane in it."""

    def __init__(self, store: SqliteStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.runs: asyncio.Queue[HeldLease] = asyncio.Queue()
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.lanes = Lanes(
            [NUMBER],
            lambda number: cast(Lane, IdleLane(self.runs, self.ends)),
            store=store,
            owner="us",
            lease_ttl_s=TTL_S,
            monotonic=asyncio.get_running_loop().time,
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(io_loop: IOLoop, tmp_path: Path, clock: Clock) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "a.db", now_ms=clock)
    io_loop.run_sync(store.open)
    yield store
    io_loop.run_sync(store.close)


async def test_a_drained_lane_gives_its_lease_back(store: SqliteStore, clock: Clock) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        await bench.runs.get()
        assert [lane["state"] for lane in bench.lanes.status()] == ["running"]
        bench.lanes.drain()
    assert bench.ends.get_nowait() == "drained"
    assert await store.acquire_lease(NAME, "another", 1) is not None


async def test_a_lease_is_renewed_while_the_lane_works(store: SqliteStore, clock: Clock) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        held = await bench.runs.get()
        trusted = held.trusted_until
        clock.now += int(TTL_S * 1000) - 1

        async def renewed() -> bool | None:
            return held.trusted_until > trusted or None

        await eventually(renewed)
        clock.now += int(TTL_S * 1000) - 1
        # By its first term it would have run out long ago.
        assert await store.acquire_lease(NAME, "another", 1) is None
        bench.lanes.drain()


async def test_a_lane_ends_where_another_owner_has_the_lease_and_begins_anew_when_it_is_free(
    store: SqliteStore, clock: Clock
) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        first = await bench.runs.get()
        clock.now += int(TTL_S * 1000) + 1
        stolen = await store.acquire_lease(NAME, "another", 60_000)
        assert stolen is not None
        assert await bench.ends.get() == "lost"
        assert first.trusted_until < asyncio.get_running_loop().time()
        await store.release_lease(stolen)
        second = await bench.runs.get()
        assert second.lease.term > stolen.term > first.lease.term
        bench.lanes.drain()


async def test_a_lease_that_ran_out_and_that_nobody_took_is_gone_on_with(
    store: SqliteStore, clock: Clock
) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        held = await bench.runs.get()
        first = held.lease
        clock.now += int(TTL_S * 1000) + 1

        async def renewed() -> bool | None:
            return held.lease.term > first.term or None

        await eventually(renewed)
        assert held.lease.term == first.term + 1
        assert bench.ends.empty() and not held.lost
        assert await store.acquire_lease(NAME, "another", 1) is None
        bench.lanes.drain()
    assert bench.ends.get_nowait() == "drained"
    assert await store.acquire_lease(NAME, "another", 1) is not None


async def test_a_lease_that_another_had_meanwhile_is_lost_even_where_it_is_free_again(
    store: SqliteStore, clock: Clock
) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        await bench.runs.get()
        clock.now += int(TTL_S * 1000) + 1
        stolen = await store.acquire_lease(NAME, "another", 60_000)
        assert stolen is not None
        await store.release_lease(stolen)
        assert await bench.ends.get() == "lost"
        again = await bench.runs.get()
        assert again.lease.term > stolen.term + 1
        bench.lanes.drain()


async def test_a_number_that_another_owner_works_is_elsewhere(store: SqliteStore, clock: Clock) -> None:
    bench = Bench(store, clock)
    assert await store.acquire_lease(NAME, "another", 60_000) is not None
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.lanes.run())
        await store.ping()
        assert bench.lanes.status() == [{"phone_number_id": NUMBER, "state": "elsewhere"}]
        running.cancel()
    assert bench.runs.empty()


async def test_a_send_leaves_from_the_number_that_it_names(tmp_path: Path) -> None:
    second = "100000000000002"
    sandbox = SandboxSettings(
        enforce_limits=False, phone_numbers=((OUR_NUMBER, "15550000001"), (second, "15550000002"))
    )
    numbers = (NumberSettings(phone_number_id=second),)
    async with serving(tmp_path, sandbox=sandbox, whatsapp={"numbers": numbers}) as gateway:
        text = {"phone": "5215550001111", "message": "hello"}
        for asked, sends in ((None, OUR_NUMBER), (second, second), (int(second), second)):
            answer = await gateway.post("/api/send-message", {**text, "phone_number_id": asked})
            assert answer.status == 200
            (sent,) = await gateway.events.wait("message.sent", task_id=answer.body["task_id"])
            told = [e for e in gateway.events.all if e.message_id == sent["message_id"]]
            assert {event.phone_number_id for event in told} == {sends}
        assert [lane["phone_number_id"] for lane in (await gateway.status())["lanes"]] == [OUR_NUMBER, second]
        refused = await gateway.post("/api/send-bulk", {"recipients": [text], "phone_number_id": "7"})
        assert (refused.status, refused.body["details"][0]["path"]) == (400, "phone_number_id")

"""Who works a lane: leases are taken, renewed, lost to another owner, given back, and shared out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from tornado.ioloop import IOLoop

from settings import NumberSettings
from store.presence import Presence, living
from store.sqlite import SqliteStore
from tests.support.gateway import NUMBER as OUR_NUMBER
from tests.support.gateway import serving
from tests.support.waiting import GUARD_S, eventually
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
    """Lanes of a process over a real store, with idle lanes in them."""

    def __init__(
        self, store: SqliteStore, clock: Clock, owner: str = "us", numbers: Sequence[str] = (NUMBER,)
    ) -> None:
        self.store = store
        self.clock = clock
        self.runs: asyncio.Queue[HeldLease] = asyncio.Queue()
        self.ends: asyncio.Queue[str] = asyncio.Queue()
        self.lanes = Lanes(
            numbers,
            lambda number: cast(Lane, IdleLane(self.runs, self.ends)),
            store=store,
            owner=owner,
            lease_ttl_s=TTL_S,
            monotonic=asyncio.get_running_loop().time,
        )

    async def works(self, lanes: int) -> None:
        """Return once it works so many."""

        async def look() -> bool | None:
            return [lane["state"] for lane in self.lanes.status()].count("running") == lanes or None

        await eventually(look)


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
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.lanes.run())
        await bench.runs.get()
        assert [lane["state"] for lane in bench.lanes.status()] == ["running"]
        bench.lanes.drain()
    assert bench.ends.get_nowait() == "drained"
    assert await store.acquire_lease(NAME, "another", 1) is not None


async def test_a_lease_is_renewed_while_the_lane_works(store: SqliteStore, clock: Clock) -> None:
    bench = Bench(store, clock)
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
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
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
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
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
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
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
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
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.lanes.run())
        await store.ping()
        assert bench.lanes.status() == [{"phone_number_id": NUMBER, "state": "elsewhere"}]
        running.cancel()
    assert bench.runs.empty()


# -- several processes -----------------------------------------------------------------------------------

THREE = ("111", "222", "333")


async def test_who_comes_is_handed_its_share_and_who_goes_hands_over_all(
    store: SqliteStore, clock: Clock
) -> None:
    first, second = (Bench(store, clock, owner, THREE) for owner in ("first", "second"))
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(first.lanes.run())
        await first.works(3)
        tasks.create_task(second.lanes.run())
        await second.works(1)
        await first.works(2)
        # Drained, and not stopped amid its calls.
        assert first.ends.get_nowait() == "drained" and first.ends.empty()
        first.lanes.drain()
        await second.works(3)
        assert second.ends.empty()
        second.lanes.drain()
    assert await store.held_leases() == []


async def test_what_the_dead_held_is_worked_by_who_lives_once_its_leases_have_run_out(
    store: SqliteStore, clock: Clock
) -> None:
    benches = [Bench(store, clock, owner, THREE) for owner in ("a", "b", "c")]
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(bench.lanes.run()) for bench in benches]
        for bench in benches:
            await bench.works(1)
        # Cancelled, it gives nothing back.
        running[0].cancel()
        await asyncio.wait(running[:1])
        assert len([lease for lease in await store.held_leases() if lease.owner == "a"]) == 2
        # Within the time of the living, who renew theirs meanwhile, and past that of the dead.
        while any(lease.owner == "a" for lease in await store.held_leases()):
            clock.now += int(TTL_S * 1000) // 10
            await asyncio.sleep(TTL_S / 10)
        assert {lane["state"] for lane in benches[0].lanes.status()} == {"elsewhere"}

        async def all_worked() -> bool | None:
            states = [lane["state"] for bench in benches[1:] for lane in bench.lanes.status()]
            return states.count("running") == 3 or None

        await eventually(all_worked)
        for bench in benches[1:]:
            bench.lanes.drain()


async def test_a_process_has_one_place_and_another_where_it_slept_too_long(
    store: SqliteStore, clock: Clock
) -> None:
    ours, theirs = Presence(store, "us", 100), Presence(store, "them", 100)
    await ours.keep()
    await theirs.keep()
    await ours.keep()
    places = {lease.owner: lease.name for lease in await store.held_leases()}
    assert sorted(places.values()) == ["process:0", "process:1"]
    clock.now += 101
    assert living(await store.held_leases()) == set()
    # Who comes anew takes the place of one who slept; that one, awake again, goes elsewhere.
    await Presence(store, "new", 100).keep()
    await ours.keep()
    await theirs.keep()
    assert living(await store.held_leases()) == {"us", "them", "new"}
    await ours.leave()
    await ours.leave()
    assert living(await store.held_leases()) == {"them", "new"}


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

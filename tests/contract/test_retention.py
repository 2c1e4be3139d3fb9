"""Removal by age on every store: what goes, what stays for whom, and what is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Cursor
from store.states import State
from store.threads import Said, ThreadNews
from tests.contract.conftest import MakeStore
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import LANE, add_task, bring, lane_lease, new_event, new_row
from whatsapp.retention import Retention, RetentionLimits, slowest

DAY_MS = 24 * 3600 * 1000


class Rig:
    """A store whose events and rows are of now, and retentions whose clock a test puts forward."""

    def __init__(self, store: Store) -> None:
        self.faulty = FaultyStore(store)
        self.store = self.faulty.as_store()
        self.began = int(time.time() * 1000)
        self.now = self.began

    def retention(self, *readers: str, owner: str = "me", days: int = 35, events: int = 35) -> Retention:
        return Retention(
            RetentionLimits(days, events),
            readers,
            store=self.store,
            owner=owner,
            now_ms=lambda: self.now,
            pause_s=0.0,
        )

    def later(self, days: float) -> None:
        self.now = self.began + int(days * DAY_MS)

    async def fill(self, count: int = 10) -> list[int]:
        events = [msgspec.structs.replace(new_event(f"{self.now}-{n}"), at=self.began) for n in range(count)]
        return [(await self.store.append_events([event]))[0].offset for event in events]

    async def offsets(self) -> list[int]:
        return [event.offset for event in await self.store.events_after(0, 1000)]

    async def told(self) -> list[dict[str, object]]:
        return [
            msgspec.json.decode(event.body)["data"]
            for event in await self.store.events_after(0, 1000)
            if event.type == "subscriber.overtaken"
        ]

    async def subscribe(self, name: str, offset: int) -> None:
        taken = await self.store.take_subscriber(
            name, f"session-{name}", "me", self.began, start=offset, wanted=None, most=10
        )
        assert taken is not None


@pytest.fixture
def rig(store: Store) -> Iterator[Rig]:
    yield Rig(store)


async def test_events_go_when_they_are_old_and_everybody_has_had_them(rig: Rig) -> None:
    offsets = await rig.fill()
    retention = rig.retention("tracker", "outlet:crm", events=8)
    await rig.store.save_cursor(Cursor("tracker", offsets[-1]))
    await rig.store.save_cursor(Cursor("outlet:crm", offsets[3]))
    rig.later(7.9)
    await retention.look()
    assert await rig.offsets() == offsets
    rig.later(8.1)
    await retention.look()
    assert await rig.offsets() == offsets[4:]
    assert retention.trouble() == []
    assert retention.status()["events"] == 4


async def test_who_keeps_old_events_from_being_removed_is_told(rig: Rig) -> None:
    offsets = await rig.fill()
    retention = rig.retention("tracker", "windows")
    await rig.store.save_cursor(Cursor("tracker", offsets[-1]))
    rig.later(37)
    await retention.look()
    assert await rig.offsets() == offsets
    assert retention.status()["held_by"] == "windows"
    (trouble,) = retention.trouble()
    assert (trouble["what"], trouble["name"]) == ("retention", "windows")
    await rig.store.save_cursor(Cursor("windows", offsets[-1]))
    await retention.look()
    assert await rig.offsets() == offsets[-1:]
    assert retention.trouble() == []


async def test_a_cursor_of_what_is_not_configured_any_more_holds_up_nothing(rig: Rig) -> None:
    offsets = await rig.fill()
    await rig.store.save_cursor(Cursor("outlet:gone", 0))
    await rig.store.save_cursor(Cursor("tracker", offsets[-1]))
    rig.later(40)
    await rig.retention("tracker").look()
    assert await rig.offsets() == offsets[-1:]


async def test_events_go_past_a_named_subscriber_once_that_is_told(rig: Rig) -> None:
    offsets = await rig.fill()
    await rig.subscribe("gone", offsets[2])
    await rig.subscribe("there", offsets[-1])
    retention = rig.retention()
    rig.later(40)
    await retention.look()
    (told,) = await rig.told()
    assert (told["subscriber"], told["offset"]) == ("gone", offsets[2])
    assert (await rig.offsets())[0] > offsets[2]
    (trouble,) = retention.trouble()
    assert (trouble["what"], trouble["name"]) == ("subscriber", "gone")
    # Not again for the same place, and no trouble any more once somebody has seen to it.
    await rig.fill()
    rig.later(80)
    await retention.look()
    assert len(await rig.told()) <= 1
    await rig.store.remove_subscriber("gone")
    await retention.look()
    assert not any(one["name"] == "gone" for one in retention.trouble())


async def test_a_subscriber_that_was_overtaken_is_not_told_of_with_every_look(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = await rig.fill()
    await rig.subscribe("gone", offsets[2])
    retention = rig.retention()
    for days in (40, 80, 120):
        rig.later(days)
        await retention.look()
        fresh = [msgspec.structs.replace(new_event(f"{days}-{n}"), at=rig.now) for n in range(3)]
        for event in fresh:
            await rig.store.append_events([event])
    assert (await rig.store.log_bounds()).floor > offsets[-1]
    assert sum("has not acknowledged" in record.message for record in caplog.records) == 1


async def test_nothing_goes_past_a_subscriber_that_could_not_be_told(rig: Rig) -> None:
    offsets = await rig.fill()
    await rig.subscribe("gone", offsets[2])
    retention = rig.retention()
    rig.later(40)
    rig.faulty.fail("append_events")
    with pytest.raises(StoreUnavailable):
        await retention.look()
    assert await rig.offsets() == offsets
    rig.faulty.heal()
    await retention.look()
    assert len(await rig.told()) == 1


async def test_ended_tasks_conversations_and_claims_go_with_the_years(rig: Rig) -> None:
    store = rig.store
    lease = await lane_lease(store)
    old = await add_task(store, "old", [new_row(0), new_row(1)])
    await add_task(store, "open", [new_row(0)])
    await bring(store, lease, dict.fromkeys(old, State.READ))
    keeper = await store.acquire_lease("consumer:conversations", "me", 60_000)
    assert keeper is not None
    said = Said(1, "ann", LANE, rig.began, "in", body=b"{}")
    await store.note_threads(ThreadNews((said,)), Cursor("conversations", 1), keeper)
    await store.claim_once("a", "one", rig.began, DAY_MS)
    retention = rig.retention()
    rig.later(34)
    await retention.look()
    assert await store.threads_of("ann") != []
    rig.later(36)
    await retention.look()
    assert await store.find_rows(old) == {}
    assert await store.threads_of("ann") == []
    assert [task.id for task in await store.list_tasks(10)] == ["open"]
    assert await store.claim_once("a", "two", rig.began + 1, DAY_MS)
    assert retention.status()["messages"] == 3


@pytest.mark.parametrize("call", ["remove_events", "retire_tasks", "remove_retired", "remove_said"])
async def test_what_breaks_off_at_any_step_goes_on_with_the_next_look(rig: Rig, call: str) -> None:
    offsets = await rig.fill()
    lease = await lane_lease(rig.store)
    ids = await add_task(rig.store, "old", 3)
    await bring(rig.store, lease, dict.fromkeys(ids, State.READ))
    retention = rig.retention()
    rig.later(40)
    rig.faulty.fail(call)
    with pytest.raises(StoreUnavailable):
        await retention.look()
    rig.faulty.heal()
    # Another process, at once: the lease was given back.
    await rig.retention(owner="another").look()
    assert await rig.offsets() == offsets[-1:]
    assert await rig.store.find_rows(ids) == {}


async def test_of_two_processes_one_removes(rig: Rig) -> None:
    offsets = await rig.fill()
    rig.later(40)
    rig.faulty.hold("remove_events")
    first = asyncio.Task(rig.retention().look())
    await rig.faulty.arrived("remove_events")
    await rig.retention(owner="another").look()
    assert rig.faulty.calls["remove_events"] == 1
    rig.faulty.heal()
    await first
    assert await rig.offsets() == offsets[-1:]


async def test_events_that_come_while_old_ones_go_are_kept(rig: Rig) -> None:
    await rig.fill(5)
    rig.later(40)
    retention = rig.retention()
    look = asyncio.Task(retention.look())
    fresh = [msgspec.structs.replace(new_event(f"fresh-{n}"), at=rig.now) for n in range(20)]
    kept = [(await rig.store.append_events([event]))[0].offset for event in fresh]
    await look
    assert (await rig.offsets())[-20:] == kept


@pytest.mark.parametrize("kind", ["sqlite", "mongo"])
def test_of_any_log_only_what_is_old_and_was_had_goes(
    kind: str, make_fresh: dict[str, MakeStore], io_loop: IOLoop
) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        gaps=st.lists(st.integers(0, 6), min_size=1, max_size=12),
        places=st.lists(st.integers(0, 12), min_size=1, max_size=3),
        named=st.integers(0, 12),
        age=st.integers(0, 50),
    )
    def holds(gaps: list[int], places: list[int], named: int, age: int) -> None:
        io_loop.run_sync(lambda: one_log(make_fresh[kind](), gaps, places, named, age))

    holds()


async def one_log(store: Store, gaps: list[int], places: list[int], named: int, age: int) -> None:
    """Events so many days apart; readers and a named subscriber at any of them; ``age`` days later."""
    await store.open()
    try:
        rig = Rig(store)
        at = rig.began - sum(gaps) * DAY_MS
        offsets = [0]
        for n, gap in enumerate(gaps):
            at += gap * DAY_MS
            (event,) = await store.append_events([msgspec.structs.replace(new_event(f"{n}"), at=at)])
            offsets.append(event.offset)
        before = await store.events_after(0, 100)
        readers = {f"r{n}": offsets[min(place, len(gaps))] for n, place in enumerate(places)}
        for name, offset in readers.items():
            await store.save_cursor(Cursor(name, offset))
        await rig.subscribe("somebody", offsets[min(named, len(gaps))])
        rig.later(age)
        await rig.retention(*readers, events=8).look()
        kept = {event.offset for event in await store.events_after(0, 100)}
        young = rig.now - 8 * DAY_MS
        for event in before:
            needed = event.at >= young or event.offset > min(readers.values())
            assert event.offset in kept or not needed
        assert before[-1].offset in kept or len(kept) > 0
        floor = (await store.log_bounds()).floor
        if offsets[min(named, len(gaps))] < floor:
            assert [one["subscriber"] for one in await rig.told()] == ["somebody"]
    finally:
        await store.close()


def test_the_slowest_reader_is_found() -> None:
    assert slowest({"a": 5, "b": 3}, ["a", "b"], 9) == (3, "b")
    assert slowest({"a": 5}, ["a", "b"], 9) == (0, "b")
    assert slowest({"a": 5}, [], 9) == (9, "")

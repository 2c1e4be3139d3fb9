"""An owner of a lane that slept past its lease, while another went on, and then really gets Meta's answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from store.log import Log
from store.monitor import StoreMonitor
from store.records import Lease
from store.sqlite import SqliteStore
from store.states import State
from tests.support.slow_meta import SlowMeta, calling
from tests.support.store_values import LANE, add_task, bring, lane_lease, new_row, view
from tests.support.waiting import GUARD_S, eventually
from whatsapp.attempts import HeldLease
from whatsapp.clock import Clock
from whatsapp.contacts import Contacts
from whatsapp.intake_watch import IntakeWatch
from whatsapp.lane_builder import LaneBuilder, LaneLimits
from whatsapp.number_level import Rates
from whatsapp.opt_out import OptOutWords
from whatsapp.outcome import lost, resolve_unknown, taken
from whatsapp.retry import RetryPolicy
from whatsapp.suppressions import Suppressions
from whatsapp.windows import Windows

ROW = "task-0"
POLICY = RetryPolicy(8, 1.0, 60.0)
LIMITS = LaneLimits(
    rates={LANE: Rates(1000.0, 1000.0)},
    pair_burst=45,
    pair_interval_s=6.0,
    concurrency=8,
    read_ahead=100,
    probe_s=60.0,
    grace_s=3600.0,
    resend=True,
    ordered_s=5.0,
    template_hold_s=60.0,
)


class Sleeper:
    """A lane whose only call is at Meta, and the store, in which another owner may go on."""

    def __init__(self, store: SqliteStore, meta: SlowMeta, held: HeldLease) -> None:
        self.store = store
        self.meta = meta
        self.held = held

    async def taken_over(self) -> Lease:
        """Another owner takes the lane, and finds the call under way."""
        await self.store.release_lease(self.held.lease)
        newer = await lane_lease(self.store, "another")
        row = (await view(self.store, ROW)).row
        assert all(await self.store.apply([lost(row, "its owner is gone", newer.term, 1)]))
        return newer

    async def sent_again(self, newer: Lease, wamid: str) -> None:
        """That one has waited in vain for word of it."""
        row = (await view(self.store, ROW)).row
        assert all(await self.store.apply([resolve_unknown(row, True, POLICY, 1)]))
        await bring(self.store, newer, {ROW: State.SENDING})
        row = (await view(self.store, ROW)).row
        change, event = taken(row, wamid, b"{}", 2)
        assert all(await self.store.apply([change], [event]))

    async def told(self, type: str) -> list[dict[str, object]]:
        """``data`` of all events of this type."""
        events = await self.store.events_after(0, 100)
        return [msgspec.json.decode(event.body)["data"] for event in events if event.type == type]


@asynccontextmanager
async def asleep(path: Path) -> AsyncIterator[Sleeper]:
    """With its call under way; at the end its lane has lost the lease, and has wound down."""
    store = SqliteStore(path / "a.db")
    await store.open()
    log = Log(store)
    await log.start()
    contacts = Contacts(store)
    watch = IntakeWatch(store, now_ms=lambda: 1000)
    async with calling(1) as (meta, graph), asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        lane = LaneBuilder(
            LIMITS,
            POLICY,
            store=store,
            log=log,
            monitor=StoreMonitor(store, now_ms=lambda: 1000, monotonic=time.monotonic),
            graph=graph,
            contacts=contacts,
            windows=Windows(store, contacts, watch, head=0, keep_days=1.0, now_ms=lambda: 1000),
            suppressions=Suppressions(store, contacts, OptOutWords((), ()), now_ms=lambda: 1000),
            clock=Clock(lambda: 2000, time.monotonic),
            random=lambda: 0.5,
        ).build(LANE)
        await add_task(store, "task", [new_row(payload=b'{"to":"1"}')])
        held = HeldLease(await lane_lease(store), float("inf"))
        running = tasks.create_task(lane.run(held))
        await meta.requests.get()
        yield Sleeper(store, meta, held)
        held.lose()
        lane.wake()
        await running
    await store.close()


async def test_its_success_ends_the_doubt(tmp_path: Path) -> None:
    async with asleep(tmp_path) as sleeper:
        await sleeper.taken_over()
        assert (await view(sleeper.store, ROW)).row.state is State.UNKNOWN
        sleeper.meta.answer("wamid.late")

        async def sent() -> bool | None:
            return (await view(sleeper.store, ROW)).row.state is State.SENT or None

        await eventually(sent)
        assert (await view(sleeper.store, ROW)).wamids == ("wamid.late",)
        assert [data["wamid"] for data in await sleeper.told("message.sent")] == ["wamid.late"]
        assert await sleeper.told("message.doubled") == []


async def test_its_success_is_told_as_a_double_where_the_other_has_sent_it_again(tmp_path: Path) -> None:
    async with asleep(tmp_path) as sleeper:
        newer = await sleeper.taken_over()
        await sleeper.sent_again(newer, "wamid.again")
        sleeper.meta.answer("wamid.late")

        async def told() -> list[dict[str, object]] | None:
            return await sleeper.told("message.doubled") or None

        (double,) = await eventually(told)
        assert double["wamids"] == ["wamid.again", "wamid.late"]
        found = await view(sleeper.store, ROW)
        assert found.row.state is State.SENT and found.wamids == ("wamid.again", "wamid.late")


async def test_its_failure_moves_nothing_of_the_other_s(tmp_path: Path) -> None:
    async with asleep(tmp_path) as sleeper:
        newer = await sleeper.taken_over()
        await sleeper.sent_again(newer, "wamid.again")
        # It breaks off: for the sleeper nobody knows how it ended.
        sleeper.meta.close()
    found = await sleeper_view(tmp_path)
    assert found is State.SENT


async def sleeper_view(path: Path) -> State:
    store = SqliteStore(path / "a.db")
    await store.open()
    try:
        return (await view(store, ROW)).row.state
    finally:
        await store.close()

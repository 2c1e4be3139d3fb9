"""Messages that Meta took and never spoke of again, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from store.base import Store
from store.errors import StoreUnavailable
from store.records import Change, Event
from store.states import State
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import LANE, add_task, bring, lane_lease, new_row, view
from tests.support.tracking import Tracking
from tests.support.waiting import eventually, until
from whatsapp import unheard_sweep
from whatsapp.events import UPDATE_KEY
from whatsapp.intake_watch import IntakeWatch
from whatsapp.templates import Needs, Template
from whatsapp.time_to_live import USUAL_MS
from whatsapp.unheard import unheard
from whatsapp.unheard_sweep import UnheardSweep

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
SENT_AT = 1_700_000_000_000
CODE = b'{"type":"template","template":{"name":"code","language":{"code":"es"}}}'
TEMPLATES = [Template("code", "es", "APPROVED", "AUTHENTICATION", False, Needs())]


class Rig:
    """Rows that Meta took at :data:`SENT_AT`, a watch that has seen no gap since long before, and a clock."""

    def __init__(self, store: Store) -> None:
        self.store = FaultyStore(store)
        self.now = SENT_AT
        self.watch = IntakeWatch(self.store.as_store(), now_ms=lambda: self.now)
        self.first, self.second = self.process("one"), self.process("two")

    def process(self, owner: str, templates: Sequence[Template] = TEMPLATES) -> UnheardSweep:
        async def known() -> Sequence[Template]:
            return templates

        return UnheardSweep(
            self.store.as_store(),
            known,
            self.watch,
            numbers=[LANE],
            owner=owner,
            now_ms=lambda: self.now,
        )

    async def sent(self, *payloads: bytes) -> list[str]:
        """Rows with these messages, taken a millisecond after another."""
        store = self.store.as_store()
        rows = [new_row(n, payload=payload) for n, payload in enumerate(payloads)]
        ids = await add_task(store, "task", rows)
        self.lane = await lane_lease(store)
        await bring(store, self.lane, dict.fromkeys(ids, State.SENDING))
        changes = [
            Change(row_id, State.SENT, SENT_AT + n, wamid=f"wamid.{n}") for n, row_id in enumerate(ids)
        ]
        assert all(await store.apply(changes))
        return ids

    async def wait_until(self, now: int, *, since: int = SENT_AT - DAY_MS) -> None:
        """The clock stands there, and webhooks were taken in without a gap since then."""
        self.now = now
        gap_ms = 2 * now
        await self.store.as_store().note_intake(since, 0, broken=True)
        await self.store.as_store().note_intake(now, gap_ms)
        await self.watch._note()
        self.watch.notice([Event(1, 0, f"{UPDATE_KEY}x", "webhook.other", now, b"", LANE)])

    async def states(self) -> list[State]:
        views = await self.store.as_store().task_rows("task", -1, 10_000)
        return [found.row.state for found in views]

    async def expired(self) -> list[dict[str, object]]:
        events = await self.store.as_store().events_after(0, 10_000)
        return [msgspec.json.decode(e.body)["data"] for e in events if e.type == "message.expired"]


@pytest.fixture
def rig(store: Store, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(unheard_sweep, "_PAUSE_S", 0.0)
    return Rig(store)


async def test_a_message_of_which_nothing_was_heard_expires_after_its_time_to_live_and_a_day(
    rig: Rig,
) -> None:
    await rig.sent(b'{"type":"text"}')
    await rig.wait_until(SENT_AT + USUAL_MS + DAY_MS)
    assert await rig.first.sweep() == 0
    await rig.wait_until(SENT_AT + USUAL_MS + DAY_MS + 1)
    assert await rig.first.sweep() == 1
    found = await view(rig.store.as_store(), "task-0")
    assert (found.row.state, found.sent_at, found.ended_at) == (State.EXPIRED, SENT_AT, rig.now)
    assert msgspec.json.decode(found.error)["name"] == "time_to_live"
    (told,) = await rig.expired()
    assert (told["message_id"], told["wamid"], told["attempt"]) == ("task-0", "wamid.0", 1)
    assert told["reason"] == "time_to_live"


async def test_a_template_expires_by_its_own_time_to_live(rig: Rig) -> None:
    await rig.sent(CODE, b'{"type":"text"}', CODE)
    await rig.wait_until(SENT_AT + 20 * MINUTE_MS + 1)
    assert await rig.first.sweep() == 1
    assert await rig.states() == [State.EXPIRED, State.SENT, State.SENT]
    await rig.wait_until(SENT_AT + 20 * MINUTE_MS + 3)
    assert await rig.first.sweep() == 1
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    assert await rig.first.sweep() == 1
    assert await rig.states() == [State.EXPIRED] * 3


async def test_without_the_list_of_templates_all_live_as_long_as_is_usual(rig: Rig) -> None:
    await rig.sent(CODE)
    blind = rig.process("one", ())
    await rig.wait_until(SENT_AT + USUAL_MS)
    assert await blind.sweep() == 0
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    assert await blind.sweep() == 1


async def test_what_is_never_told_to_be_delivered_does_not_expire(rig: Rig) -> None:
    await rig.sent(b'{"type":"reaction"}')
    await rig.wait_until(SENT_AT + 10 * USUAL_MS)
    assert await rig.first.sweep() == 0


async def test_nothing_expires_in_the_day_after_a_gap_in_the_intake(rig: Rig) -> None:
    await rig.sent(b'{"type":"text"}')
    late = SENT_AT + USUAL_MS + 2 * DAY_MS
    await rig.wait_until(late, since=late - DAY_MS + 1)
    assert await rig.first.sweep() == 0
    await rig.wait_until(late + 1, since=late - DAY_MS + 1)
    assert await rig.first.sweep() == 1


async def test_nothing_expires_while_nothing_comes_for_its_number(rig: Rig) -> None:
    await rig.sent(b'{"type":"text"}')
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    rig.now += 61 * MINUTE_MS
    await rig.watch._note()
    assert await rig.first.sweep() == 0


async def test_a_row_that_has_moved_on_is_left(rig: Rig) -> None:
    await rig.sent(*[b'{"type":"text"}'] * 3)
    store = rig.store.as_store()
    await store.apply([Change("task-0", State.DELIVERED, SENT_AT), Change("task-1", State.FAILED, SENT_AT)])
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    assert await rig.first.sweep() == 1
    assert await rig.states() == [State.DELIVERED, State.FAILED, State.EXPIRED]


async def test_late_word_moves_an_expired_row_on(rig: Rig) -> None:
    await rig.sent(b'{"type":"text"}')
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    await rig.first.sweep()
    assert await rig.store.as_store().apply([Change("task-0", State.DELIVERED, rig.now)]) == [True]


async def test_many_expire_in_portions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unheard_sweep, "_AT_ONCE", 4)
    await rig.sent(*[b'{"type":"text"}'] * 10)
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    assert await rig.first.sweep() == 10
    assert await rig.states() == [State.EXPIRED] * 10
    assert len(await rig.expired()) == 10


async def test_a_fault_of_its_own_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unheard_sweep, "_EVERY_S", 0.001)
    await rig.sent(b'{"type":"text"}')
    await rig.wait_until(SENT_AT + USUAL_MS + DAY_MS + 1)
    rig.store.fail("undelivered", RuntimeError("a bug"))
    running = asyncio.Task(rig.first.run())
    await until(lambda: "a bug" in caplog.text)
    rig.store.heal()

    async def is_expired() -> bool:
        return await rig.states() == [State.EXPIRED]

    await eventually(is_expired)
    running.cancel()
    caplog.clear()


async def test_of_two_processes_one_looks(rig: Rig) -> None:
    await rig.sent(*[b'{"type":"text"}'] * 3)
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    assert sorted(await asyncio.gather(rig.first.sweep(), rig.second.sweep())) == [0, 3]
    assert len(await rig.expired()) == 3


async def test_a_sweep_that_broke_off_is_made_good_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard_sweep, "_AT_ONCE", 2)
    await rig.sent(*[b'{"type":"text"}'] * 3)
    await rig.wait_until(SENT_AT + USUAL_MS + 2 * DAY_MS)
    rig.store.fail("apply")
    with pytest.raises(StoreUnavailable):
        await rig.first.sweep()
    rig.store.heal()
    assert await rig.first.sweep() == 3
    # Another process begins at the beginning, and finds nothing left.
    assert await rig.process("one").sweep() == 0
    assert len(await rig.expired()) == 3


async def test_the_tracker_makes_the_move_that_a_crash_left_out(store: Store) -> None:
    tracking = Tracking(store)
    await tracking.start()
    (row_id,) = await add_task(store, "0a1b2c3d-0000-4000-8000-000000000001")
    await bring(store, tracking.lane, {row_id: State.SENT})
    change = unheard(await view(store, row_id), SENT_AT)
    assert change.event is not None
    await store.append_events([change.event])
    await tracking.carry()
    state = (await view(store, row_id)).row.state
    # Where log and rows are one, no crash comes between.
    assert state is (State.SENT if store.atomic else State.EXPIRED)

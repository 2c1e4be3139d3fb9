"""What the contract says of an end midway: MongoDB stores cut off, or held up, between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.errors import LeaseLost, StoreError, StoreUnavailable
from store.mongo import MongoStore
from store.mongo_connection import Connection
from store.records import Alias, Change, Cursor, Lease
from store.states import State
from tests.support.store_values import (
    Listener,
    add_task,
    bring,
    lane_lease,
    new_event,
    new_row,
    new_task,
    read_all,
    view,
)
from tests.support.waiting import GUARD_S

T = TypeVar("T")


def _by_the_follower() -> bool:
    task = asyncio.current_task()
    return task is not None and task.get_name() == "mongo-log-follower"


class Cut:
    """Cuts a store off from its server at the n-th call of a method: before it took effect, or after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, effective: bool) -> None:
        self._effective = effective
        self._left = -1
        self._call = Connection.call
        cut = self

        async def call(db: Connection, work: Callable[[], Awaitable[T]], **options: Any) -> T:
            return await cut._through(db, work, options)

        monkeypatch.setattr(Connection, "call", call)

    async def reaches(self, step: int, method: Awaitable[object]) -> bool:
        """Whether the method got so far as to be cut off at this step."""
        self._left = step
        try:
            await method
        except StoreUnavailable:
            return True
        finally:
            self._left = -1
        return False

    async def _through(self, db: Connection, work: Callable[[], Awaitable[T]], options: dict[str, Any]) -> T:
        if self._left < 0 or _by_the_follower():
            return await self._call(db, work, **options)
        self._left -= 1
        if self._left >= 0:
            return await self._call(db, work, **options)
        if self._effective:
            await self._call(db, work, **options)
        raise StoreUnavailable("cut off")


@pytest.fixture(params=[False, True], ids=["before", "after"])
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cut:
    return Cut(monkeypatch, request.param)


@pytest.fixture
def shared(io_loop: IOLoop, mongo_url: str) -> Iterator[MongoStore]:
    opened = MongoStore(mongo_url, answer_s=GUARD_S)
    io_loop.run_sync(opened.open)
    yield opened
    io_loop.run_sync(opened.close)


async def test_a_task_cut_off_midway_is_hidden_and_a_repetition_stores_it(
    shared: MongoStore, cut: Cut
) -> None:
    step = 0
    while await cut.reaches(step, _store_task(shared, step)):
        seen = [row.id for row in await read_all(shared)]
        if seen:
            # Cut off after the last step.
            assert await shared.find_task(f"{step}") is not None
            assert await _store_task(shared, step) is False
        else:
            assert await shared.find_task(f"{step}") is None
            assert await _store_task(shared, step) is True
        assert [row.id for row in await read_all(shared)] == [f"{step}-0", f"{step}-1"]
        assert await _store_task(shared, step) is False
        events = await shared.events_after(0, 1000)
        assert [event.key for event in events].count(f"created-{step}") == 1
        await shared.apply([Change(f"{step}-{n}", State.CANCELLED, 1) for n in range(2)])
        step += 1
    assert step >= 4


async def test_a_task_cut_off_midway_and_not_repeated_is_swept(shared: MongoStore, cut: Cut) -> None:
    step = 0
    while await cut.reaches(step, _store_task(shared, step)):
        await shared.sweep_unready(10**15)
        if await shared.find_task(f"{step}") is None:
            assert await shared.find_rows([f"{step}-0", f"{step}-1"]) == {}
            assert await _store_task(shared, step) is True
        step += 1
    assert len(await read_all(shared)) == 2 * (step + 1)


async def _store_task(store: Store, step: int) -> bool:
    rows = [new_row(0, due=1), new_row(1, due=2)]
    return await store.create_task(new_task(f"{step}", total=2), rows, [new_event(f"created-{step}")])


async def test_making_a_task_ready_cut_off_midway_can_be_repeated(shared: MongoStore, cut: Cut) -> None:
    step = 0
    while True:
        await shared.create_task(new_task(f"{step}"), [new_row()], ready=False)
        if not await cut.reaches(step, shared.mark_ready(f"{step}", [new_event(f"created-{step}")])):
            break
        await shared.mark_ready(f"{step}", [new_event(f"created-{step}")])
        assert await shared.find_task(f"{step}") is not None
        step += 1
    assert step >= 3
    assert len(await read_all(shared)) == len(await shared.events_after(0, 100)) == step + 1


async def _mark_complete(store: MongoStore, task_id: str) -> None:
    """As it may stand where a row of a complete task was queued again by a call cut off."""
    marked = {"$set": {"completed_at": 1}}
    await store._db.call(lambda: store._db["tasks"].update_one({"_id": task_id}, marked))


async def test_changes_cut_off_midway_are_completed_by_a_repetition(shared: MongoStore, cut: Cut) -> None:
    lease = await lane_lease(shared, name="consumer:tracker")
    lane = await lane_lease(shared)
    step = 0
    while True:
        ids = await add_task(shared, f"{step}", 3)
        await bring(shared, lane, {ids[0]: State.SENDING, ids[1]: State.SENDING, ids[2]: State.FAILED})
        await _mark_complete(shared, f"{step}")
        work = (
            [
                Change(ids[0], State.QUEUED, 5, attempt=1, burn=True, wamid=f"{step}-a"),
                Change(ids[1], State.SENT, 5, attempt=9, wamid=f"{step}-b"),
                Change(ids[2], State.QUEUED, 5),
            ],
            [new_event(f"{step}")],
            Cursor("tracker", step),
            lease,
        )
        reached = await cut.reaches(step, shared.apply(*work))
        await shared.apply(*work)
        found = await shared.find_rows(ids)
        assert [found[row_id].row.state for row_id in ids] == [State.QUEUED, State.SENDING, State.QUEUED]
        assert [found[row_id].wamids for row_id in ids] == [(f"{step}-a",), (f"{step}-b",), ()]
        assert (found[ids[0]].row.failures, found[ids[0]].row.attempt) == (1, 1)
        task = await shared.find_task(f"{step}")
        assert task is not None and task.completed_at == 0
        assert await shared.load_cursor("tracker") == step
        await shared.apply([Change(row_id, State.FAILED, 6) for row_id in ids])
        assert await shared.finished_tasks([f"{step}"]) == {f"{step}"}
        if not reached:
            break
        step += 1
    assert step >= 6
    assert [event.key for event in await shared.events_after(0, 100)] == [f"{n}" for n in range(step + 1)]


async def test_a_sweep_cut_off_midway_is_taken_up_by_the_next(shared: MongoStore, cut: Cut) -> None:
    step = 0
    while True:
        await shared.create_task(new_task(f"{step}", total=2), [new_row(0), new_row(1)], ready=False)
        if not await cut.reaches(step, shared.sweep_unready(10**15)):
            break
        with_rows = await shared.find_rows([f"{step}-0", f"{step}-1"])
        if len(with_rows) < 2:
            with pytest.raises(StoreError):
                await shared.mark_ready(f"{step}")
        await shared.sweep_unready(10**15)
        assert await shared.find_rows([f"{step}-0", f"{step}-1"]) == {}
        step += 1
    assert step >= 4


async def _answer(store: Store, key: str) -> None:
    """Claim, keep, release, and claim again by another."""
    claimed = await store.claim_answer(key, "d", "me", 5, hold_ms=10, keep_ms=100)
    assert claimed.holder == "me"
    await store.keep_answer(key, 200, b"x")
    await store.release_answer(key, "me")
    found = await store.claim_answer(key, "d", "other", 50, hold_ms=10, keep_ms=100)
    assert (found.status, found.body) == (200, b"x")


async def test_small_writes_cut_off_midway_can_be_repeated(shared: MongoStore, cut: Cut) -> None:
    lease = await lane_lease(shared, name="consumer:tracker")
    writes: tuple[Callable[[int], Awaitable[object]], ...] = (
        lambda n: shared.save_cursor(Cursor(f"{n}", 7), lease),
        lambda n: shared.save_cursor(Cursor("tracker", n), lease),
        lambda n: shared.put_aliases([Alias(f"{n}", "c"), Alias("known", f"{n}")]),
        lambda n: shared.claim_once(f"{n}", "token", 1, 100),
        lambda n: shared.acquire_lease(f"{n}", "me", 60_000),
        lambda n: _answer(shared, f"{n}"),
    )
    for write in writes:
        step = 0
        while await cut.reaches(step, write(step)):
            assert await write(step) in (None, True, Lease(f"{step}", "me", 1))
            step += 1
        assert step >= 2
    assert (await shared.find_aliases(["0", "known"])).keys() == {"0", "known"}
    assert await shared.load_cursor("0") == 7
    assert not await shared.claim_once("0", "other", 2, 100)


async def test_a_row_marked_by_a_call_cut_off_is_marked_once(shared: MongoStore, cut: Cut) -> None:
    lease = await lane_lease(shared)
    step = 0
    while True:
        await add_task(shared, f"{step}")
        (row,) = await read_all(shared)
        reached = await cut.reaches(step, shared.mark_sending(lease, [row]))
        await shared.mark_sending(lease, [row])
        marked = (await view(shared, f"{step}-0")).row
        assert (marked.state, marked.attempt) == (State.SENDING, 1)
        if not reached:
            break
        step += 1
    assert step == 2


async def test_a_task_cut_off_and_half_swept_is_not_stored_before_the_sweep_is_over(
    shared: MongoStore, cut: Cut
) -> None:
    step = 0
    while True:
        assert await cut.reaches(2, _store_task(shared, step))
        swept = not await cut.reaches(step, shared.sweep_unready(10**15))
        try:
            stored = await _store_task(shared, step)
        except StoreUnavailable:
            await shared.sweep_unready(10**15)
            stored = await _store_task(shared, step)
        assert stored
        # Neither to be swept any more, nor marked to be.
        await shared.mark_ready(f"{step}")
        assert await shared.sweep_unready(10**15) == 0
        assert (await shared.find_rows([f"{step}-0", f"{step}-1"])).keys() == {f"{step}-0", f"{step}-1"}
        if swept:
            break
        step += 1
    assert step >= 4


# -- between two steps ---------------------------------------------------------------------------------


class Held:
    """Holds a store's own call of the server back: before its n-th call, or the follower's answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading = asyncio.Event()
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._monkeypatch = monkeypatch
        self._call = Connection.call

    def before(self, step: int) -> None:
        """Hold the n-th call from now on, whosoever it is, until ``go_on``."""
        left = step
        original = self._call

        async def call(db: Connection, work: Callable[[], Awaitable[T]], **options: Any) -> T:
            nonlocal left
            if not _by_the_follower():
                left -= 1
                if left == -1:
                    self.reached.set()
                    await self.go_on.wait()
            return await original(db, work, **options)

        self._monkeypatch.setattr(Connection, "call", call)

    def reads_of_the_follower(self) -> None:
        """Have the answer to every other call wait until the follower has read something; then hold that.

        To be relied on from ``reading`` on: a read that was under way before is not held.
        """
        original = self._call

        async def call(db: Connection, work: Callable[[], Awaitable[T]], **options: Any) -> T:
            if _by_the_follower():
                self.reading.set()
            answer = await original(db, work, **options)
            if not _by_the_follower():
                await self.reached.wait()
            elif isinstance(answer, tuple) and answer[0]:
                self.reached.set()
                await self.go_on.wait()
            return answer

        self._monkeypatch.setattr(Connection, "call", call)

    def let_go(self) -> None:
        """Hold nothing any more, so that a store can be closed after a failure too."""
        self.reached.set()
        self.go_on.set()


@pytest.fixture
def held(shared: MongoStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    # After ``shared``, so that it lets go before that is closed.
    holding = Held(monkeypatch)
    yield holding
    holding.let_go()


async def test_a_cursor_is_not_saved_by_an_owner_that_was_held_up(
    shared: MongoStore, mongo_url: str, held: Held
) -> None:
    former = await lane_lease(shared, "former", "consumer:tracker")
    await shared.save_cursor(Cursor("tracker", 5), former)
    # After it has asked for the newest term, and before it writes.
    held.before(1)
    late = asyncio.ensure_future(shared.save_cursor(Cursor("tracker", 6), former))
    await held.reached.wait()
    other = MongoStore(mongo_url, answer_s=GUARD_S)
    await other.open()
    try:
        await other.release_lease(former)
        latter = await lane_lease(other, "latter", "consumer:tracker")
        await other.save_cursor(Cursor("tracker", 7), latter)
        held.go_on.set()
        with pytest.raises(LeaseLost):
            await late
        assert await other.load_cursor("tracker") == 7
    finally:
        await other.close()


async def test_what_an_append_has_handed_on_is_not_handed_on_by_a_read_that_was_held_up(
    shared: MongoStore, held: Held
) -> None:
    listener = Listener(shared)
    held.reads_of_the_follower()
    await held.reading.wait()
    await shared.append_events([new_event("a")])
    assert listener.keys == ["a"]
    held.go_on.set()
    await shared.append_events([new_event("b")])
    assert listener.keys == ["a", "b"]

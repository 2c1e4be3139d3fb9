"""Outside receivers on every store: one process carries, in order, and no crash loses an event."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from unittest import mock

import msgspec
import pytest

from hub import outlet as outlets
from hub.carrier import Carried
from hub.delivery import Failure, Record, Rules
from store.base import Store
from store.records import Event, Memo
from tests.support.outlets import AWAY, GONE, NAME, REFUSED, Member, Receiver
from tests.support.store_values import new_event
from tests.support.waiting import GUARD_S, eventually
from whatsapp.retry import RetryPolicy

MEMO = f"outlet:{NAME}"


@asynccontextmanager
async def working(
    store: Store, receiver: Receiver, owner: str = "me", **how: object
) -> AsyncIterator[Member]:
    member = await Member(store, receiver, owner, **how).start()  # type: ignore[arg-type]
    try:
        yield member
    finally:
        await member.stop()


@pytest.fixture(autouse=True)
def impatient() -> object:
    """Between two tries at the store, for a lease, and for what is under way at a stop."""
    with mock.patch.object(outlets, "_RETRY_S", 0.01), mock.patch.object(outlets, "_LAST_S", 0.05):
        yield


async def append(store: Store, *keys: str) -> None:
    await store.append_events([new_event(key) for key in keys])


def told(events: Sequence[Event]) -> list[tuple[str, object]]:
    """Name and reason of each."""
    bodies = [json.loads(event.body) for event in events]
    return [(body["event"], body["data"].get("reason")) for body in bodies]


# -- what comes --------------------------------------------------------------------------------------------


async def test_it_begins_at_the_head_and_gets_what_it_wants_in_order(store: Store) -> None:
    receiver = Receiver()
    await append(store, "before")
    async with working(store, receiver) as member:
        await append(store, "a", "unwanted-1", "b", "unwanted-2")
        await append(store, "c")
        assert await receiver.took(3) == ["a", "b", "c"]
        await member.caught_up()


async def test_what_comes_between_the_first_start_and_a_crash_is_not_lost(store: Store) -> None:
    """A cursor of 0 looks as if there were none: on an empty log, only the memo tells that it has begun."""
    receiver = Receiver()
    crashing = Member(store, receiver)
    crashing.store.fail("acquire_lease")
    await crashing.start()
    await append(store, "a")
    await crashing.crash()
    async with working(store, receiver):
        assert await receiver.took(1) == ["a"]


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("seed", range(6))
async def test_crashes_and_failures_at_any_moment_lose_nothing_and_keep_the_order(
    store: Store, seed: int, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(seed)
    receiver = Receiver()
    expected: list[str] = []

    def answer(events: Sequence[Event]) -> Carried:
        if rng.random() < 0.3:
            return Carried(rng.randrange(len(events)), AWAY)
        return Carried(len(events))

    receiver.answer = answer
    member = await Member(store, receiver, most=most).start()
    for life in range(8):
        fresh = [f"{life}-{n}" for n in range(rng.randint(0, 12))]
        expected += fresh
        await append(store, *(key for one in fresh for key in (one, f"unwanted-{one}")))
        if rng.random() < 0.7:
            await receiver.got(len(receiver.keys) + 1 if rng.random() < 0.5 and fresh else len(receiver.keys))
            await member.crash()
            member = await Member(store, receiver, most=most).start()
    await append(store, "the last")
    await receiver._until(receiver.taken, len(expected) + 1)
    while receiver.taken[-1] != "the last":
        await receiver.took(len(receiver.taken) + 1)
    await member.stop()
    firsts = list(dict.fromkeys(receiver.taken))
    assert firsts == [*expected, "the last"]
    # What came again, came again in order, from some place on.
    place = {key: n for n, key in enumerate(firsts)}
    for one, next_ in zip(receiver.taken, receiver.taken[1:], strict=False):
        assert place[next_] <= place[one] + 1
    caplog.clear()


async def test_a_stop_waits_for_the_answer_under_way_and_repeats_nothing(store: Store) -> None:
    receiver = Receiver()
    with mock.patch.object(outlets, "_LAST_S", GUARD_S):
        member = await Member(store, receiver).start()
        receiver.gate.clear()
        await append(store, "a", "b")
        await receiver.got(1)
        stopping = asyncio.create_task(member.stop())
        await asyncio.sleep(0)
        receiver.gate.set()
        await stopping
    async with working(store, receiver):
        assert await receiver.took(2) == ["a", "b"]
        assert receiver.keys == ["a", "b"]


# -- one of all --------------------------------------------------------------------------------------------


async def test_one_process_carries_and_another_goes_on_when_it_stops(store: Store) -> None:
    receiver = Receiver()
    first = await Member(store, receiver, "one").start()
    await append(store, "a")
    await receiver.took(1)
    async with working(store, receiver, "two"):
        await append(store, "b")
        await receiver.took(2)
        await first.stop()
        await append(store, "c")
        assert await receiver.took(3) == ["a", "b", "c"]


async def test_who_loses_the_lease_amid_a_delivery_stops_and_the_other_repeats_it(store: Store) -> None:
    receiver = Receiver()
    first = await Member(store, receiver, "one", ttl_ms=300).start()
    receiver.gate.clear()
    await append(store, "a", "b")
    await receiver.got(1)
    # It cannot renew, as if it slept.
    first.store.hold("acquire_lease")
    async with working(store, receiver, "two", ttl_ms=60_000):
        await receiver.got(2)
        first.store.heal()

        async def alone() -> bool:
            return not (await first.outlet.status()).here

        await eventually(alone)
        receiver.gate.set()
        await receiver.took(2)
        assert receiver.keys == ["a", "a", "b"]
        assert receiver.taken == ["a", "b"]
    await first.stop()


# -- persons -----------------------------------------------------------------------------------------------


async def test_a_word_in_one_process_reaches_the_one_that_carries_at_once(store: Store) -> None:
    receiver = Receiver()
    with mock.patch.object(outlets, "_LOOK_S", GUARD_S * 2):
        async with working(store, receiver, "one") as first, working(store, receiver, "two") as second:
            await append(store, "a")
            await receiver.took(1)
            idle = second if (await first.outlet.status()).here else first
            await idle.outlet.pause()
            await append(store, "b")
            assert (await idle.outlet.status()).state == "paused"
            await idle.outlet.replay(0)
            await idle.outlet.resume()
            assert await receiver.took(3) == ["a", "a", "b"]
            kinds = [name for name, _ in told(await idle.events())]
            assert kinds == ["hook.paused", "hook.replayed", "hook.resumed"]


async def test_a_word_whose_event_was_lost_is_found_in_the_memo(store: Store) -> None:
    receiver = Receiver()
    with mock.patch.object(outlets, "_LOOK_S", 0.02):
        async with working(store, receiver) as member:
            await append(store, "a")
            await receiver.took(1)
            await member.caught_up()
            memo = await store.find_memo(MEMO)
            assert memo is not None
            body = msgspec.json.encode(Record(go_to=0))
            assert await store.put_memo(Memo(MEMO, memo.version + 1, body))
            assert await receiver.took(2) == ["a", "a"]


async def test_of_many_words_at_once_none_is_lost(store: Store) -> None:
    receiver = Receiver()
    async with working(store, receiver, "one") as first, working(store, receiver, "two") as second:
        await append(store, "a")
        await receiver.took(1)
        await asyncio.gather(first.outlet.pause(), second.outlet.replay(0))
        assert (await first.outlet.status()).state == "paused"
        await second.outlet.resume()
        assert await receiver.took(2) == ["a", "a"]


async def test_who_refuses_before_there_is_anything_to_take_is_tried_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """As a server that closes with 1003 at the hello: there is no event that could be skipped."""
    receiver = Receiver()
    member = Member(store, receiver)
    looks = [REFUSED] * 5

    async def look(after: int) -> Failure | None:
        await asyncio.sleep(0.002)  # longer than a refusal is borne
        return looks.pop() if looks else None

    with (
        mock.patch.object(member.outlet.carrier, "look", look),
        mock.patch.object(member.outlet.carrier, "connected", False),
    ):
        await member.start()
        await eventually(lambda: _none_left(looks))
        await append(store, "a")
        assert await receiver.took(1) == ["a"]
        await member.stop()
    assert "failed after offset" not in caplog.text
    assert await member.events() == []


async def _none_left(found: list[Failure]) -> bool:
    return not found


async def test_a_resume_has_what_backs_off_tried_at_once(store: Store) -> None:
    receiver = Receiver()
    rules = Rules(RetryPolicy(base_s=3600, cap_s=3600))
    async with (
        working(store, receiver, "one", rules=rules),
        working(store, receiver, "two", rules=rules) as two,
    ):
        receiver.answer = lambda events: Carried(0, AWAY)
        await append(store, "a")
        await receiver.got(1)

        async def failing() -> bool:
            return (await two.outlet.status()).state == "failing"

        await eventually(failing)
        receiver.answer = lambda events: Carried(len(events))
        await two.outlet.resume()
        assert await receiver.took(1) == ["a"]


async def test_after_a_resume_the_waits_begin_anew(store: Store) -> None:
    receiver = Receiver()
    receiver.answer = lambda events: Carried(0, AWAY)
    rules = Rules(RetryPolicy(base_s=0.001, cap_s=0.002))
    async with working(store, receiver, rules=rules) as member:
        await append(store, "a")
        await receiver.got(10)
        await member.outlet.pause()
        await member.outlet.resume()
        tries = len(receiver.keys)
        await receiver.got(tries + 1)
        assert member.outlet._tries < tries


# -- what is not taken -------------------------------------------------------------------------------------


async def test_a_skip_that_a_crash_broke_off_is_told_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver()
    receiver.answer = lambda events: Carried(0, REFUSED) if events[0].key == "bad" else Carried(1)
    member = await Member(store, receiver).start()
    await member.caught_up()
    member.store.hold("save_cursor")
    await append(store, "bad", "b")
    await eventually(member.events)
    await member.crash()
    async with working(store, receiver) as again:
        assert await receiver.took(1) == ["b"]
        assert told(await again.events()) == [("hook.skipped", "refused")]
    caplog.clear()


async def test_a_pause_that_a_crash_broke_off_is_told_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver()
    receiver.answer = lambda events: Carried(0, GONE)
    member = await Member(store, receiver).start()
    await member.caught_up()
    member.store.hold("put_memo")
    await append(store, "a")
    await eventually(member.events)
    await member.crash()
    async with working(store, receiver) as again:

        async def really() -> bool:
            return (await again.outlet.status()).state == "paused"

        await eventually(really)
        assert told(await again.events()) == [("hook.paused", "gone")]
    assert [record.levelno for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()


async def test_how_long_it_has_failed_is_known_over_a_restart(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000_000
    receiver = Receiver()
    receiver.answer = lambda events: Carried(0, AWAY)
    rules = Rules(RetryPolicy(base_s=0.001, cap_s=0.002), pause_after_s=100)
    async with working(store, receiver, rules=rules, now_ms=lambda: now):
        await append(store, "a")
        await receiver.got(3)
    now += 100_000
    async with working(store, receiver, rules=rules, now_ms=lambda: now) as member:

        async def paused() -> bool:
            return (await member.outlet.status()).state == "paused"

        await eventually(paused)
        assert (await member.outlet.status()).record.reason == "failing"
    caplog.clear()

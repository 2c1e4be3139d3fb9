"""Answers kept for repetitions of their requests, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from store.base import Store
from store.records import AnswerRecord

MakeStore = Callable[[], Store]

NOW = 1_000_000
DAY = 86_400_000
HOLD = 15_000


async def claim(
    store: Store, holder: str = "me", *, key: str = "k", digest: str = "d", now: int = NOW
) -> AnswerRecord:
    return await store.claim_answer(key, digest, holder, now, hold_ms=HOLD, keep_ms=DAY)


async def test_the_first_claim_is_the_callers(store: Store) -> None:
    assert await claim(store) == AnswerRecord("k", "d", "me", NOW, NOW + HOLD)
    assert (await claim(store, "other", key="another")).holder == "other"


async def test_who_comes_while_another_works_on_it_sees_the_other(store: Store) -> None:
    await claim(store)
    assert await claim(store, "other", now=NOW + HOLD - 1) == AnswerRecord("k", "d", "me", NOW, NOW + HOLD)


async def test_a_holder_may_claim_again_and_keeps_its_first_time(store: Store) -> None:
    await claim(store)
    assert await claim(store, now=NOW + 5) == AnswerRecord("k", "d", "me", NOW, NOW + 5 + HOLD)


async def test_who_has_held_it_too_long_loses_it(store: Store) -> None:
    await claim(store)
    later = NOW + HOLD
    assert await claim(store, "other", now=later) == AnswerRecord("k", "d", "other", NOW, later + HOLD)
    assert (await claim(store, now=later)).holder == "other"


async def test_of_many_that_claim_at_once_one_has_it(store: Store) -> None:
    for now in (NOW, NOW + HOLD):
        records = await asyncio.gather(*(claim(store, f"{n}", now=now) for n in range(12)))
        assert len(set(records)) == 1
        assert records[0].until == now + HOLD


async def test_an_answer_is_told_to_all_who_claim_afterwards(store: Store) -> None:
    await claim(store)
    await store.keep_answer("k", 200, b'{"a":1}')
    for holder, now in (("me", NOW), ("other", NOW), ("other", NOW + DAY - 1)):
        found = await claim(store, holder, now=now)
        assert (found.status, found.body, found.holder, found.at) == (200, b'{"a":1}', "me", NOW)


async def test_the_first_answer_stays(store: Store) -> None:
    await claim(store)
    await store.keep_answer("k", 200, b"first")
    await store.keep_answer("k", 202, b"second")
    found = await claim(store)
    assert (found.status, found.body) == (200, b"first")


async def test_an_answer_without_a_claim_is_not_kept(store: Store) -> None:
    await store.keep_answer("k", 200, b"x")
    assert (await claim(store)).status == 0


async def test_another_request_under_a_key_never_gets_the_claim(store: Store) -> None:
    first = await claim(store)
    assert await claim(store, "other", digest="e", now=NOW + HOLD) == first
    assert await claim(store, digest="e") == first
    await store.release_answer("k", "me")
    assert (await claim(store, "other", digest="e")).digest == "d"


async def test_what_is_released_goes_to_the_next_at_once(store: Store) -> None:
    await claim(store)
    await store.release_answer("k", "other")
    assert (await claim(store, "other")).holder == "me"
    await store.release_answer("k", "me")
    assert await claim(store, "other") == AnswerRecord("k", "d", "other", NOW, NOW + HOLD)


async def test_an_answer_is_not_released(store: Store) -> None:
    await claim(store)
    await store.keep_answer("k", 200, b"x")
    await store.release_answer("k", "me")
    assert (await claim(store, "other", now=NOW + HOLD)).status == 200


async def test_a_record_kept_long_enough_gives_way_to_any_request(store: Store) -> None:
    await claim(store)
    await store.keep_answer("k", 200, b"x")
    later = NOW + DAY
    fresh = AnswerRecord("k", "e", "other", later, later + HOLD)
    assert await claim(store, "other", digest="e", now=later) == fresh
    assert await claim(store, "third", digest="e", now=later) == fresh


async def test_sweeping_removes_the_old_ones(store: Store) -> None:
    for n in range(6):
        await claim(store, key=f"old-{n}", now=NOW - 1)
    await claim(store, key="young")
    await store.keep_answer("old-0", 200, b"x")
    assert await store.sweep_answers(NOW) == 6
    assert await store.sweep_answers(NOW) == 0
    assert (await claim(store, "other", key="young")).holder == "me"
    assert (await claim(store, "other", key="old-0")).holder == "other"


async def test_sweeping_takes_any_number(store: Store) -> None:
    # Not all at once: a slow server would not answer the last of them in time.
    for start in range(0, 1001, 50):
        await asyncio.gather(*(claim(store, key=f"{n}") for n in range(start, min(start + 50, 1001))))
    assert await store.sweep_answers(NOW + 1) == 1001


async def test_an_answer_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    await claim(store)
    await store.keep_answer("k", 200, b"x")
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert (await claim(again)).body == b"x"
    finally:
        await again.close()

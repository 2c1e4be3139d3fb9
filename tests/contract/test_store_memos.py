"""Memos: what parts of the gateway keep of themselves, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from store.base import Store
from store.records import Memo

MakeStore = Callable[[], Store]

FIRST = Memo("hook:crm", 1, b'{"n":1}')
SECOND = Memo("hook:crm", 2, b'{"n":2}')


async def test_what_was_never_put_is_not_there(store: Store) -> None:
    assert await store.find_memo("hook:crm") is None
    assert not await store.put_memo(SECOND)
    assert await store.find_memo("hook:crm") is None


async def test_each_version_takes_the_place_of_the_one_before(store: Store) -> None:
    assert await store.put_memo(FIRST)
    assert await store.find_memo("hook:crm") == FIRST
    assert await store.put_memo(SECOND)
    assert await store.find_memo("hook:crm") == SECOND
    assert await store.find_memo("hook:other") is None


async def test_who_has_seen_an_older_version_changes_nothing(store: Store) -> None:
    await store.put_memo(FIRST)
    await store.put_memo(SECOND)
    assert not await store.put_memo(Memo("hook:crm", 1, b"{}"))
    assert not await store.put_memo(Memo("hook:crm", 2, b"{}"))
    assert not await store.put_memo(Memo("hook:crm", 4, b"{}"))
    assert await store.find_memo("hook:crm") == SECOND


async def test_the_repetition_of_a_write_whose_answer_was_lost_succeeds(store: Store) -> None:
    assert await store.put_memo(FIRST)
    assert await store.put_memo(FIRST)
    assert await store.put_memo(SECOND)
    assert await store.put_memo(SECOND)
    assert not await store.put_memo(FIRST)


async def test_of_many_at_once_one_succeeds(store: Store) -> None:
    await store.put_memo(FIRST)
    rivals = [Memo("hook:crm", 2, b"%d" % n) for n in range(10)]
    done = await asyncio.gather(*(store.put_memo(rival) for rival in rivals))
    assert sum(done) == 1
    assert await store.find_memo("hook:crm") == rivals[done.index(True)]


async def test_a_memo_survives_a_new_opening(store: Store, make_store: MakeStore) -> None:
    await store.put_memo(FIRST)
    await store.close()
    again = make_store()
    await again.open()
    try:
        assert await again.find_memo("hook:crm") == FIRST
    finally:
        await again.close()

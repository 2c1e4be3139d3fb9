"""A MongoDB that does little in the time of an answer: what is too much at once is done in portions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from store.errors import StoreUnavailable
from store.mongo import MongoStore
from store.records import Change
from store.states import State
from tests.support.mongod import Mongod, database_url
from tests.support.relay import Relay, relaying
from tests.support.store_values import add_task, new_row, new_task
from tests.support.waiting import GUARD_S

T = TypeVar("T")

MANY = 100
WITHIN_S = 2 * GUARD_S
"""What takes longer goes on for ever."""


@asynccontextmanager
async def behind_a_relay(mongod: Mongod) -> AsyncIterator[tuple[MongoStore, Relay]]:
    """A store whose server is behind a wire that a test can make thin."""
    async with relaying(urlsplit(mongod.url).port or 0) as relay:
        url = f"mongodb://127.0.0.1:{relay.port}/?directConnection=true"
        store = MongoStore(database_url(url, "slow"))
        await store.open()
        try:
            yield store, relay
        finally:
            relay.heal()
            await store.close()


async def until_taken(call: Callable[[], Awaitable[T]]) -> T:
    """As callers do who have nobody to give up to: at once again."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def test_moves_that_are_too_many_at_once_are_made_in_the_end(mongod: Mongod) -> None:
    async with behind_a_relay(mongod) as (store, relay), asyncio.timeout(WITHIN_S):
        ids = await add_task(store, "task", MANY)
        changes = [Change(row_id, State.CANCELLED, 1) for row_id in ids]
        relay.throttle(12_000)
        with pytest.raises(StoreUnavailable):
            await store.apply(changes)
        await until_taken(lambda: store.apply(changes))
        relay.heal()
        views = await until_taken(lambda: store.find_rows(ids))
        assert {view.row.state for view in views.values()} == {State.CANCELLED}


async def test_a_task_of_many_rows_is_stored_in_the_end(mongod: Mongod) -> None:
    async with behind_a_relay(mongod) as (store, relay), asyncio.timeout(WITHIN_S):
        rows = [new_row(n, payload=b'"%s"' % (b"x" * 2000)) for n in range(60)]
        relay.throttle(45_000)
        with pytest.raises(StoreUnavailable):
            await store.create_task(new_task("task", total=60), rows)
        await until_taken(lambda: store.create_task(new_task("task", total=60), rows))
        relay.heal()
        assert len(await until_taken(lambda: store.task_rows("task", -1, 1000))) == 60

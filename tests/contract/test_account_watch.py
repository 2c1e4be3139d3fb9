"""What stands against an account, over restarts and in several processes, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from store.base import Store
from tests.support.accounts import AT, AT_MS, BIZ, ban, restriction
from tests.support.waiting import eventually, until
from whatsapp.account_watch import AccountWatch


@asynccontextmanager
async def watching(store: Store) -> AsyncIterator[AccountWatch]:
    """That of a process."""
    watch = AccountWatch(store, now_ms=lambda: AT_MS + 60_000)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()


async def kept(store: Store, version: int) -> None:
    async def look() -> bool:
        memo = await store.find_memo("accounts")
        return memo is not None and memo.version >= version

    await eventually(look)


async def test_it_is_known_after_a_restart_until_it_is_lifted(store: Store) -> None:
    async with watching(store) as watch:
        watch.notice([restriction(BIZ)])
        assert "RESTRICTED_BIZ" in watch.trouble()[0]["why"]
        await kept(store, 1)
    async with watching(store) as watch:
        await until(lambda: len(watch.trouble()) == 1)
        watch.notice([ban("REINSTATE", AT + 1)])
        assert watch.trouble() == []
        await kept(store, 2)
    async with watching(store) as watch:
        watch.notice([restriction(BIZ), ban("DISABLE", AT + 2)])
        await kept(store, 3)
        (trouble,) = watch.trouble()
        assert "disabled" in trouble["why"], "the restriction is repeated, and was lifted"


async def test_several_processes_keep_what_each_has_heard(store: Store) -> None:
    async with watching(store) as one, watching(store) as other:
        one.notice([restriction(BIZ)])
        other.notice([ban("DISABLE")])
        await kept(store, 2)
    async with watching(store) as later:
        await until(lambda: len(later.trouble()) == 2)

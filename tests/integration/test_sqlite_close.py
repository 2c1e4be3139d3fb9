"""The end of the embedded store: the loop goes on while it waits for its threads, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from unittest import mock

from store.sqlite import SqliteStore
from store.sqlite_reads import Reads
from tests.support.store_values import new_event
from tests.support.waiting import GUARD_S


async def test_closing_waits_for_a_slow_read_without_holding_up_the_loop(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", lock_timeout_s=0)
    await store.open()
    begun, ending, may_end = asyncio.Event(), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    shutdown = store._reader_threads.shutdown

    def slow(reads: Reads) -> bool:
        loop.call_soon_threadsafe(begun.set)
        return may_end.wait(GUARD_S)

    def noted(wait: bool = True) -> None:
        loop.call_soon_threadsafe(ending.set)
        shutdown(wait=wait)

    reading = asyncio.create_task(store._read(slow))
    await begun.wait()
    writing = asyncio.create_task(store.append_events([new_event("1")]))
    # One turn of the loop, so that the write has begun.
    await asyncio.sleep(0)
    with mock.patch.object(store._reader_threads, "shutdown", noted):
        closing = asyncio.create_task(store.close())
        # A loop that stands still gets here once the read has given up.
        await ending.wait()
        may_end.set()
        assert await reading is True
        await closing
    assert len(await writing) == 1
    await store.close()

    again = SqliteStore(tmp_path / "store.db", lock_timeout_s=0)
    await again.open()
    assert len(await again.events_after(0, 10)) == 1
    await again.close()

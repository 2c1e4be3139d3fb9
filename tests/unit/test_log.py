"""The log with its newest part in memory, over the real embedded store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from store.log import Log
from store.records import Event, LogBounds
from store.sqlite import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import new_event
from tests.support.waiting import GUARD_S

OpenStore = Callable[[], SqliteStore]
ALL = 1000
BODY = b'{"data":{}}'


@pytest.fixture
def open_store(io_loop: IOLoop, tmp_path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Makes stores on one file, not yet open; all are closed at the end."""
    made: list[SqliteStore] = []

    def make() -> SqliteStore:
        made.append(SqliteStore(tmp_path / "store.db", lock_timeout_s=5))
        return made[-1]

    yield make
    for store in made:
        io_loop.run_sync(store.close)


async def opened(make: OpenStore, *, keep_bytes: int = 8 * 1024 * 1024) -> tuple[Log, FaultyStore]:
    """A log that has been started, and the store under it, whose reads are counted."""
    store = make()
    await store.open()
    counted = FaultyStore(store)
    log = Log(counted.as_store(), keep_bytes=keep_bytes)
    await log.start()
    return log, counted


async def fill(log: Log, *keys: str) -> list[Event]:
    """Append these one after another; what the log made of them."""
    return [event for key in keys for event in await log.append([new_event(key, body=BODY)])]


def at_once(log: Log, after: int, limit: int = ALL) -> list[Event]:
    """What a read gives without waiting for anything."""
    try:
        log.read(after, limit).send(None)
    except StopIteration as end:
        return list(end.value)
    raise AssertionError("it waited")


# -- reading -----------------------------------------------------------------------------------------------


async def test_memory_and_store_give_the_same_events(open_store: OpenStore) -> None:
    log, store = await opened(open_store, keep_bytes=3 * len(BODY))
    events = await fill(log, *"abcdefgh")
    for after in (0, *(event.offset for event in events)):
        for limit in (1, 2, ALL):
            assert list(await log.read(after, limit)) == await store.as_store().events_after(after, limit)


async def test_only_a_reader_that_is_behind_reads_the_store(open_store: OpenStore) -> None:
    log, store = await opened(open_store, keep_bytes=3 * len(BODY))
    events = await fill(log, *"abcdefgh")
    for event in events[4:]:  # the last three events are kept, so what is past the fifth is known
        assert at_once(log, event.offset) == [e for e in events if e.offset > event.offset]
    assert store.calls["events_after"] == 0
    assert list(await log.read(events[3].offset, ALL)) == events[4:]
    assert store.calls["events_after"] == 1


async def test_at_least_the_newest_event_is_kept_however_large(open_store: OpenStore) -> None:
    log, _ = await opened(open_store, keep_bytes=1)
    first, second = await fill(log, "a", "b")
    assert at_once(log, first.offset) == [second]


async def test_a_reader_pages_through_a_batch(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    events = await log.append([new_event(key) for key in "abcde"])
    seen: list[Event] = []
    while page := at_once(log, seen[-1].offset if seen else 0, 2):
        assert len(page) <= 2
        seen += page
    assert seen == events


@pytest.mark.parametrize("ahead", [0, 1, 1000])
async def test_at_the_head_and_beyond_there_is_nothing(open_store: OpenStore, ahead: int) -> None:
    log, _ = await opened(open_store)
    assert at_once(log, ahead) == []
    await fill(log, "a", "b")
    assert at_once(log, log.head + ahead) == []


async def test_duplicates_are_neither_returned_nor_told(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    told: list[Event] = []
    log.subscribe(told.extend)
    added = await log.append([new_event("a"), new_event("a")])
    assert [event.key for event in added] == ["a"]
    assert await log.append([new_event("a")]) == []
    assert told == added


# -- opening anew ------------------------------------------------------------------------------------------


async def test_after_a_restart_the_log_goes_on_from_its_head(open_store: OpenStore) -> None:
    log, store = await opened(open_store)
    before = await fill(log, "a", "b", "c")
    epoch, bounds = log.epoch, await log.bounds()
    await store.as_store().close()

    log, store = await opened(open_store)
    assert (log.epoch, log.head, await log.bounds()) == (epoch, before[-1].offset, bounds)
    assert bounds == LogBounds(0, before[-1].offset)
    assert at_once(log, log.head) == []
    assert list(await log.read(0, ALL)) == before  # nothing of it is in memory yet
    assert store.calls["events_after"] == 1
    (after,) = await fill(log, "d")
    assert after.prev == before[-1].offset
    assert at_once(log, before[-1].offset) == [after]
    assert list(await log.read(0, ALL)) == [*before, after]
    assert store.calls["events_after"] == 2


async def test_an_empty_log_begins_at_nothing(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    assert (log.head, await log.bounds()) == (0, LogBounds(0, 0))
    (first,) = await fill(log, "a")
    assert first.prev == 0
    assert at_once(log, 0) == [first]


async def test_events_that_come_in_while_it_starts_are_not_missed(open_store: OpenStore) -> None:
    store = open_store()
    await store.open()
    old = await store.append_events([new_event("old")])
    held = FaultyStore(store)
    held.hold("log_bounds")
    log = Log(held.as_store())
    starting = asyncio.create_task(log.start())
    await held.arrived("log_bounds")
    (new,) = await log.append([new_event("new")])
    held.heal()
    await asyncio.wait_for(starting, GUARD_S)
    assert log.head == new.offset
    assert at_once(log, old[0].offset) == [new]
    assert list(await log.read(0, ALL)) == [*old, new]


# -- waiting -----------------------------------------------------------------------------------------------


async def test_wait_returns_at_once_where_there_is_an_event(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    (event,) = await fill(log, "a")
    await asyncio.wait_for(log.wait(event.offset - 1), GUARD_S)


async def test_every_reader_that_waits_is_woken(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    head = log.head
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(log.wait(head)) for _ in range(3)]
        await asyncio.sleep(0)  # they have begun
        assert not any(reader.done() for reader in readers)
        await fill(log, "a")
    assert log.head > head


async def test_a_reader_waits_on_until_its_offset_is_passed(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    async with asyncio.timeout(GUARD_S), asyncio.TaskGroup() as tasks:
        (first,) = await fill(log, "a")
        reader = tasks.create_task(log.wait(first.offset + 1))
        (second,) = await fill(log, "b")
        assert second.offset == first.offset + 1
        assert not reader.done()
        await fill(log, "c")


# -- listeners ---------------------------------------------------------------------------------------------


async def test_listeners_get_each_batch_before_the_append_returns(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    told: list[list[str]] = []
    log.subscribe(lambda batch: told.append([event.key for event in batch]))
    await log.append([new_event("a"), new_event("b")])
    assert told == [["a", "b"]]
    await log.append([new_event("c")])
    assert told == [["a", "b"], ["c"]]


async def test_a_listener_finds_the_log_grown_already(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    heads: list[int] = []
    log.subscribe(lambda batch: heads.append(log.head - batch[-1].offset))
    await fill(log, "a", "b")
    assert heads == [0, 0]


async def test_after_the_undo_nothing_is_told_and_the_others_are(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    gone: list[Event] = []
    stays: list[Event] = []
    undo = log.subscribe(gone.extend)
    log.subscribe(stays.extend)
    first = await fill(log, "a")
    undo()
    undo()
    second = await fill(log, "b")
    assert (gone, stays) == (first, [*first, *second])


async def test_a_listener_may_leave_while_it_is_told(open_store: OpenStore) -> None:
    log, _ = await opened(open_store)
    told: list[str] = []
    undo: list[Callable[[], None]] = []

    def once(batch: Sequence[Event]) -> None:
        told.extend(event.key for event in batch)
        undo[0]()

    undo.append(log.subscribe(once))
    others: list[Event] = []
    log.subscribe(others.extend)
    added = await fill(log, "a", "b")
    assert told == ["a"]
    assert others == added


async def test_a_listener_that_fails_breaks_neither_the_append_nor_the_others(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    log, _ = await opened(open_store)

    def fails(batch: Sequence[Event]) -> None:
        raise ZeroDivisionError("a fault of the listener's")

    others: list[Event] = []
    log.subscribe(fails)
    log.subscribe(others.extend)
    added = await fill(log, "a")
    assert [event.key for event in added] == ["a"]
    assert others == added
    assert at_once(log, 0) == added
    assert [record.getMessage() for record in caplog.records] == ["a listener of the log failed"]
    caplog.clear()

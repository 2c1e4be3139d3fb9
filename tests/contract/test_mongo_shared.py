"""What the contract says of several processes: two stores on one MongoDB. And what is MongoDB's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import IndexModel, MongoClient
from tornado.ioloop import IOLoop

from store import mongo
from store.errors import LeaseLost, StoreError, StoreUnavailable
from store.mongo import MongoStore
from store.records import Alias, Change, Cursor, Lease, LogBounds
from store.states import State
from tests.support.mongod import Mongod
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
from tests.support.waiting import GUARD_S, eventually

Pair = tuple[MongoStore, MongoStore]


@pytest.fixture
def pair(io_loop: IOLoop, mongo_url: str) -> Iterator[Pair]:
    """Two stores on one database, as two processes have them."""
    stores = MongoStore(mongo_url, answer_s=GUARD_S), MongoStore(mongo_url, answer_s=GUARD_S)
    for store in stores:
        io_loop.run_sync(store.open)
    yield stores
    for store in stores:
        io_loop.run_sync(store.close)


def test_no_two_indexes_of_a_collection_have_the_same_fields() -> None:
    for name, indexes in mongo._INDEXES.items():
        fields = [tuple(index.document["key"].items()) for index in indexes]
        assert len(set(fields)) == len(fields), name


# -- log -----------------------------------------------------------------------------------------------


async def test_both_know_the_log_by_one_epoch(pair: Pair) -> None:
    assert pair[0].epoch == pair[1].epoch


async def test_appends_of_both_have_one_order_and_both_hear_all(pair: Pair) -> None:
    listeners = [Listener(store) for store in pair]

    async def append(place: int, writer: int) -> None:
        for n in range(6):
            added = await pair[place].append_events(
                [new_event(f"{place}-{writer}-{n}"), new_event(f"shared-{n}")]
            )
            assert all(event in listeners[place].events for event in added)

    await asyncio.gather(*(append(place, writer) for place in range(2) for writer in range(3)))
    events = await pair[0].events_after(0, 1000)
    assert len({event.key for event in events}) == len(events) == 2 * 3 * 6 + 6
    assert [event.prev for event in events] == [0, *(event.offset for event in events[:-1])]
    assert await pair[1].events_after(0, 1000) == events
    for listener in listeners:
        await listener.wait_for(len(events))
        assert listener.events == events


async def test_one_hears_of_what_the_other_appends(pair: Pair) -> None:
    listener = Listener(pair[1])
    added = await pair[0].append_events([new_event("a"), new_event("b")])
    await listener.wait_for(2)
    assert listener.events == added


async def test_one_drops_what_the_other_has_appended(pair: Pair) -> None:
    await pair[0].append_events([new_event("a"), new_event("b")])
    added = await pair[1].append_events([new_event("b"), new_event("c"), new_event("a")])
    assert [event.key for event in added] == ["c"]


async def test_one_that_is_far_behind_catches_up(pair: Pair, mongo_url: str) -> None:
    for n in range(150):
        await pair[0].append_events([new_event(f"{n}")])
    behind = MongoStore(mongo_url, answer_s=GUARD_S)
    listener = Listener(behind)
    await behind.open()
    try:
        for n in range(150, 300):
            await pair[0].append_events([new_event(f"{n}")])
        await behind.append_events([new_event("300")])
        assert listener.keys == [f"{n}" for n in range(150, 301)]
        assert await behind.log_bounds() == LogBounds(0, listener.events[-1].offset)
    finally:
        await behind.close()


async def test_a_call_too_large_for_one_document_is_appended_whole(pair: Pair) -> None:
    listener = Listener(pair[0])
    events = [new_event(f"{n}") for n in range(2500)]
    large = [new_event(f"large-{n}", body=b'"' + b"x" * 4_000_000 + b'"') for n in range(3)]
    added, added_large = await asyncio.gather(pair[0].append_events(events), pair[0].append_events(large))
    assert [event.key for event in added] == [event.key for event in events]
    assert listener.events == added + added_large
    assert await pair[1].append_events(events + large) == []
    for stored in added_large:
        assert (await pair[1].events_after(stored.prev, 10))[0] == stored


async def test_reading_begins_at_the_oldest_event_that_is_kept(pair: Pair, mongo_url: str) -> None:
    appended = []
    # Only what every process has read long ago is ever removed.
    listener = Listener(pair[1])
    for n in range(100):
        appended += await pair[0].append_events([new_event(f"{n}-{part}") for part in range(2)])
    assert (await pair[0].log_bounds()).floor == 0
    await listener.wait_for(200)
    with MongoClient[dict[str, object]](mongo_url) as client:
        client.get_default_database()["events"].delete_many({"_id": {"$lte": 80}})
    kept = appended[160:]
    assert await pair[1].events_after(0, 1000) == kept
    assert await pair[1].events_after(appended[100].offset, 5) == kept[:5]
    for store in pair:
        assert await store.log_bounds() == LogBounds(appended[159].offset, appended[-1].offset)
    (added,) = await pair[1].append_events([new_event("next")])
    assert added.prev == appended[-1].offset


# -- coordination --------------------------------------------------------------------------------------


async def test_a_lease_is_held_against_the_other(pair: Pair) -> None:
    lease = await lane_lease(pair[0], "a", "lane:1")
    assert await pair[1].acquire_lease("lane:1", "b", 60_000) is None
    await pair[0].release_lease(lease)
    assert await pair[1].acquire_lease("lane:1", "b", 60_000) == Lease("lane:1", "b", lease.term + 1)


async def test_a_lease_is_taken_from_the_other_when_it_has_run_out(pair: Pair) -> None:
    lease = await pair[0].acquire_lease("lane:1", "a", 30)
    assert lease is not None
    taken = await eventually(lambda: pair[1].acquire_lease("lane:1", "b", 60_000))
    assert taken == Lease("lane:1", "b", lease.term + 1)
    assert await pair[0].acquire_lease("lane:1", "a", 60_000) is None


async def test_of_both_asking_at_once_one_gets_the_lease(pair: Pair) -> None:
    for n in range(5):
        leases = await asyncio.gather(*(s.acquire_lease(f"lane:{n}", f"{s}", 60_000) for s in pair * 3))
        assert len({lease.owner for lease in leases if lease is not None}) == 1


async def test_a_former_owner_saves_no_cursor_after_the_new_one(pair: Pair) -> None:
    former = await lane_lease(pair[0], "a", "consumer:tracker")
    await pair[0].save_cursor(Cursor("tracker", 5), former)
    await pair[0].release_lease(former)
    latter = await lane_lease(pair[1], "b", "consumer:tracker")
    await pair[1].save_cursor(Cursor("tracker", 6), latter)
    with pytest.raises(LeaseLost):
        await pair[0].save_cursor(Cursor("tracker", 7), former)
    assert await pair[0].load_cursor("tracker") == 6


async def test_of_both_claiming_at_once_one_may(pair: Pair) -> None:
    for key in ("a", "b", "c"):
        answers = await asyncio.gather(*(s.claim_once(key, f"{n}", 1, 100) for n, s in enumerate(pair * 3)))
        assert answers.count(True) == 1


async def test_both_put_one_new_address_at_once(pair: Pair) -> None:
    await asyncio.gather(*(s.put_aliases([Alias("15550001", f"{n}")]) for n, s in enumerate(pair * 5)))
    assert (await pair[0].find_aliases(["15550001"]))["15550001"].contact in {f"{n}" for n in range(10)}


# -- outbox --------------------------------------------------------------------------------------------


async def test_of_both_storing_one_task_at_once_one_does(pair: Pair) -> None:
    for n in range(5):
        answers = await asyncio.gather(
            *(s.create_task(new_task(f"{n}"), [new_row()], [new_event(f"{n}")]) for s in pair * 2)
        )
        assert answers.count(True) == 1
    assert {row.id for row in await read_all(pair[0])} == {f"{n}-0" for n in range(5)}
    assert len(await pair[1].events_after(0, 100)) == 5


async def test_rows_stored_by_one_are_read_and_moved_by_the_other(pair: Pair) -> None:
    await add_task(pair[0], "task", 3)
    lease = await lane_lease(pair[1])
    rows = await read_all(pair[1])
    assert await pair[1].mark_sending(lease, rows) == {"task-0", "task-1", "task-2"}
    assert await read_all(pair[0]) == []
    assert (await view(pair[0], "task-0")).row.state is State.SENDING


async def test_a_row_moves_once_when_both_move_it(pair: Pair) -> None:
    ids = await add_task(pair[0], "task", 30)
    await bring(pair[0], await lane_lease(pair[0]), dict.fromkeys(ids, State.SENDING))
    changes = [Change(row_id, State.FAILED, 1, burn=True) for row_id in ids]
    first, second = await asyncio.gather(*(store.apply(changes) for store in pair))
    assert [a != b for a, b in zip(first, second, strict=True)] == [True] * 30
    assert {found.row.failures for found in (await pair[0].find_rows(ids)).values()} == {1}


async def test_a_new_owner_stops_the_marks_of_the_former(pair: Pair) -> None:
    await add_task(pair[0])
    former = await lane_lease(pair[0], "a")
    rows = await read_all(pair[0])
    await pair[0].release_lease(former)
    latter = await lane_lease(pair[1], "b")
    with pytest.raises(LeaseLost):
        await pair[0].mark_sending(former, rows)
    assert await pair[1].mark_sending(latter, rows) == {"task-0"}


async def test_adding_to_a_task_that_was_swept_away_is_refused(pair: Pair) -> None:
    await pair[0].create_task(new_task(created_at=1), [new_row()], ready=False)
    assert await pair[1].sweep_unready(1000) == 1
    with pytest.raises(StoreError, match="swept"):
        await pair[0].add_rows("task", [new_row(1)])
    with pytest.raises(StoreError, match="swept"):
        await pair[0].mark_ready("task", [new_event("created")])
    assert await pair[0].find_rows(["task-0", "task-1"]) == {}
    assert await pair[0].events_after(0, 10) == []


# -- opening -------------------------------------------------------------------------------------------


async def test_a_database_of_a_newer_gateway_is_refused_and_left_as_it_is(mongo_url: str) -> None:
    with MongoClient[dict[str, object]](mongo_url) as client:
        database = client.get_default_database()
        database["meta"].insert_one({"_id": "store", "version": 99, "epoch": "e"})
        with pytest.raises(StoreError, match="99"):
            await MongoStore(mongo_url, answer_s=GUARD_S).open()
        assert database.list_collection_names() == ["meta"]


@pytest.mark.parametrize("url", ["mongodb://", "http://127.0.0.1/", "mongodb://127.0.0.1:99999/db"])
async def test_an_address_that_says_nothing_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="address"):
        await MongoStore(url, answer_s=GUARD_S).open()


async def test_an_address_without_a_database_means_whatsapp_gateway(mongod: Mongod) -> None:
    store = MongoStore(mongod.url, answer_s=GUARD_S)
    await store.open()
    try:
        await store.append_events([new_event("a")])
    finally:
        await store.close()
    with MongoClient[dict[str, object]](mongod.url) as client:
        assert client["whatsapp_gateway"]["events"].count_documents({}) == 1


async def test_a_server_without_majority_reads_will_do(tmp_path: Path) -> None:
    server = Mongod(tmp_path / "mongod", "--standalone", "--enable-test-commands")
    server.start()
    store = MongoStore(server.url, answer_s=GUARD_S)
    try:
        with MongoClient[dict[str, object]](server.url) as client:
            # The answer to the first read, and to no other: read concern majority is not enabled.
            fault = {"failCommands": ["find"], "errorCode": 148}
            client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fault)
        await store.open()
        (added,) = await store.append_events([new_event("a")])
        assert await store.events_after(0, 10) == [added]
    finally:
        await store.close()
        server.kill()


# -- servers that will not do --------------------------------------------------------------------------


async def test_a_server_that_keeps_no_unique_keys_in_arrays_is_refused(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(mongo._INDEXES, mongo._PROBES, [IndexModel([("events.k", 1)], name="key")])
    store = MongoStore(mongo_url, answer_s=GUARD_S)
    with pytest.raises(StoreError, match="unique indexes") as refusal:
        await store.open()
    assert not isinstance(refusal.value, StoreUnavailable)


async def test_a_server_that_lacks_a_command_is_not_taken_for_one_that_is_away(pair: Pair) -> None:
    shared = pair[0]

    async def unknown_command() -> None:
        await shared._db["meta"].database.command("noSuchCommand")

    with pytest.raises(StoreError, match=r"MongoDB 4\.4") as refusal:
        await shared._db.call(unknown_command)
    assert not isinstance(refusal.value, StoreUnavailable)

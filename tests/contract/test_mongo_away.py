"""What the contract says of a database that is away: MongoDB stores whose server was stopped or killed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.erasing import Erasure, Mentions
from store.errors import StoreUnavailable
from store.mongo import MongoStore
from store.records import (
    Alias,
    Change,
    Cursor,
    KnownMedia,
    Lease,
    Memo,
    Place,
    Progress,
    Row,
    Suppression,
    TaskPlace,
    Window,
)
from store.states import State
from store.threads import Amended, Said, Thread, ThreadNews
from tests.support.mongod import Mongod, database_url
from tests.support.store_values import (
    LANE,
    START,
    Listener,
    add_task,
    bring,
    lane_lease,
    new_event,
    new_row,
    new_task,
)
from tests.support.waiting import GUARD_S, eventually

T = TypeVar("T")

ANSWER_S = 3.0
"""For a busy machine too: that a store keeps to its time is tested, not how long that is."""

LEASE = Lease("lane:100", "me", 1)
SAID = Said(5, "c", "100", 1, "in")
UNREAD = Thread("c", "100", heard_offset=5)
MEDIA = KnownMedia("100", "ab", "image/png", "1", 2)
ROW = Row("task-0", 1, "task", LANE, "c", 1, 1, b"{}", State.QUEUED, 0, 0, False, 0, "", 1)

CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "append_events": lambda store: store.append_events([new_event("a")]),
    "known_keys": lambda store: store.known_keys(["a"]),
    "events_after": lambda store: store.events_after(0, 10),
    "events_of": lambda store: store.events_of(["a"]),
    "find_events": lambda store: store.find_events(["a"], 10),
    "log_bounds": lambda store: store.log_bounds(),
    "count_past": lambda store: store.count_past([1]),
    "take_subscriber": lambda store: store.take_subscriber(
        "crm", "session", "me", 1, start=0, wanted=None, most=10
    ),
    "save_progress": lambda store: store.save_progress([Progress("crm", "session", 1)], 1),
    "find_subscribers": lambda store: store.find_subscribers(["crm"]),
    "list_subscribers": lambda store: store.list_subscribers(10),
    "remove_subscriber": lambda store: store.remove_subscriber("nobody"),
    "load_cursor": lambda store: store.load_cursor("tracker"),
    "save_cursor": lambda store: store.save_cursor(Cursor("tracker", 1)),
    "find_memo": lambda store: store.find_memo("memo"),
    "put_memo": lambda store: store.put_memo(Memo("memo", 1, b"{}")),
    "find_aliases": lambda store: store.find_aliases(["1555"]),
    "put_aliases": lambda store: store.put_aliases([Alias("1555", "c")]),
    "aliases_of": lambda store: store.aliases_of("c"),
    "note_threads": lambda store: store.note_threads(
        ThreadNews((SAID,), (Amended(5, b"{}"),)), Cursor("threads", 1), LEASE
    ),
    "said_of": lambda store: store.said_of("c", 10),
    "find_said": lambda store: store.find_said([5]),
    "threads_of": lambda store: store.threads_of("c"),
    "list_threads": lambda store: store.list_threads(["100"], 10, unread=True),
    "count_unread": lambda store: store.count_unread([UNREAD], 10),
    "note_inbound": lambda store: store.note_inbound([Window("100", "c", 1)]),
    "find_inbound": lambda store: store.find_inbound("100", ["c"]),
    "sweep_inbound": lambda store: store.sweep_inbound(1),
    "note_intake": lambda store: store.note_intake(1, 1),
    "put_suppressions": lambda store: store.put_suppressions([Suppression("c", 1)]),
    "find_suppressions": lambda store: store.find_suppressions(["c"]),
    "list_suppressions": lambda store: store.list_suppressions(10),
    "remember_media": lambda store: store.remember_media(MEDIA, 1),
    "find_media": lambda store: store.find_media("100", "ab", "image/png", 1),
    "create_task": lambda store: store.create_task(new_task("new"), [new_row()], [new_event("b")]),
    "add_rows": lambda store: store.add_rows("unready", [new_row(1)]),
    "mark_ready": lambda store: store.mark_ready("unready", [new_event("c")]),
    "sweep_unready": lambda store: store.sweep_unready(1),
    "read_ahead": lambda store: store.read_ahead(LANE, 1, START, 10_000, 10),
    "read_contact": lambda store: store.read_contact(LANE, 1, "c", Place(5, 5), 10_000, 10),
    "blocking_rows": lambda store: store.blocking_rows(LANE, 0, 10),
    "mark_sending": lambda store: store.mark_sending(LEASE, [ROW]),
    "apply": lambda store: store.apply(
        [Change("task-0", State.CANCELLED, 1)], [new_event("d")], Cursor("applied", 1)
    ),
    "find_rows": lambda store: store.find_rows(["task-0"]),
    "find_by_wamid": lambda store: store.find_by_wamid(["wamid"]),
    "undelivered": lambda store: store.undelivered(LANE, Place(0, 0), 10),
    "rows_in_state": lambda store: store.rows_in_state(LANE, State.QUEUED, 0, 10),
    "task_rows": lambda store: store.task_rows("task", -1, 10),
    "list_tasks": lambda store: store.list_tasks(10, kind="text"),
    "find_task": lambda store: store.find_task("task"),
    "finished_tasks": lambda store: store.finished_tasks(["task"]),
    "complete_tasks": lambda store: store.complete_tasks(["task"], 1),
    "depth": lambda store: store.depth(LANE),
    "dead_letters": lambda store: store.dead_letters(10),
    "count_dead": lambda store: store.count_dead(1, 10),
    "find_history": lambda store: store.find_history("task-0"),
    "list_cursors": lambda store: store.list_cursors(),
    "remove_events": lambda store: store.remove_events(1, 1, 10),
    "retire_tasks": lambda store: store.retire_tasks(1, TaskPlace(0, ""), 10),
    "remove_retired": lambda store: store.remove_retired(10),
    "remove_said": lambda store: store.remove_said(1, 10),
    "remove_claims": lambda store: store.remove_claims(1, 10),
    "put_erasure": lambda store: store.put_erasure(Erasure("one", 1, b"{}")),
    "find_erasure": lambda store: store.find_erasure("one"),
    "list_erasures": lambda store: store.list_erasures(1),
    "remove_erasures": lambda store: store.remove_erasures(1),
    "rewrite_events": lambda store: store.rewrite_events([new_event("z").placed(1, 0)]),
    "search_shelf": lambda store: store.search_shelf("rows", Mentions(["c"], ["1555"]), "", 10),
    "erase": lambda store: store.erase("claims", ["nobody"]),
    "forget_contacts": lambda store: store.forget_contacts(["nobody"]),
    "acquire_lease": lambda store: store.acquire_lease("lane:100", "me", 60_000),
    "release_lease": lambda store: store.release_lease(LEASE),
    "held_leases": lambda store: store.held_leases(),
    "claim_once": lambda store: store.claim_once("key", "token", 1, 1),
    "claim_answer": lambda store: store.claim_answer("key", "digest", "me", 1, hold_ms=1, keep_ms=1),
    "keep_answer": lambda store: store.keep_answer("key", 200, b"{}"),
    "release_answer": lambda store: store.release_answer("key", "me"),
    "sweep_answers": lambda store: store.sweep_answers(1),
}


def test_every_method_that_asks_the_database_is_tried() -> None:
    methods = {name for name, _ in inspect.getmembers(Store, inspect.iscoroutinefunction)}
    # What is removed from MongoDB needs no purge.
    assert CALLS.keys() == methods - {"open", "close", "purge"}


@contextmanager
def opened(io_loop: IOLoop, server: Mongod, answer_s: float) -> Iterator[MongoStore]:
    store = MongoStore(database_url(server.url, "away"), answer_s=answer_s)
    io_loop.run_sync(store.open)
    yield store
    server.resume_or_start()
    io_loop.run_sync(store.close)


@pytest.fixture
def store(io_loop: IOLoop, mongod: Mongod) -> Iterator[MongoStore]:
    """An open store with a server of its own, which a test may stop or kill."""
    with opened(io_loop, mongod, ANSWER_S) as store:
        yield store


async def everything_is_refused(store: Store) -> None:
    async with asyncio.timeout(GUARD_S):
        answers = await asyncio.gather(*(call(store) for call in CALLS.values()), return_exceptions=True)
    kinds = {name: type(answer) for name, answer in zip(CALLS, answers, strict=True)}
    assert kinds == dict.fromkeys(CALLS, StoreUnavailable)


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    """As callers do: again, until it is taken."""

    async def taken() -> tuple[T] | None:
        try:
            return (await call(),)
        except StoreUnavailable:
            return None

    return (await eventually(taken))[0]


async def with_old_rows(store: Store) -> None:
    await add_task(store)
    await store.create_task(new_task("unready", total=2), [new_row()], ready=False)
    assert await lane_lease(store) == LEASE


async def test_while_the_server_is_stopped_every_call_is_refused_and_afterwards_answered(
    store: MongoStore, mongod: Mongod
) -> None:
    await with_old_rows(store)
    mongod.pause()
    await everything_is_refused(store)
    mongod.resume()
    for call in CALLS.values():
        await repeated(partial(call, store))


async def test_while_the_server_is_dead_every_call_is_refused_and_afterwards_answered(
    store: MongoStore, mongod: Mongod
) -> None:
    await with_old_rows(store)
    listener = Listener(store)
    await store.append_events([new_event("before")])
    mongod.kill()
    await everything_is_refused(store)
    mongod.start()
    for call in CALLS.values():
        await repeated(partial(call, store))
    assert listener.keys[0] == "before"
    assert listener.events == await store.events_after(0, 100)


async def test_the_log_is_followed_again_when_the_server_is_back(store: MongoStore, mongod: Mongod) -> None:
    listener = Listener(store)
    mongod.kill()
    with pytest.raises(StoreUnavailable):
        await store.append_events([new_event("lost")])
    mongod.start()
    other = MongoStore(database_url(mongod.url, "away"), answer_s=ANSWER_S)
    await other.open()
    try:
        await repeated(lambda: other.append_events([new_event("of another")]))
        await listener.wait_for(1)
        assert listener.keys == ["of another"]
    finally:
        await other.close()


async def test_an_append_that_was_refused_can_be_repeated(store: MongoStore, mongod: Mongod) -> None:
    listener = Listener(store)
    mongod.pause()
    with pytest.raises(StoreUnavailable):
        await store.append_events([new_event("a"), new_event("b")])
    mongod.resume()
    await repeated(lambda: store.append_events([new_event("a"), new_event("b"), new_event("c")]))
    await listener.wait_for(3)
    assert [event.key for event in await store.events_after(0, 10)] == ["a", "b", "c"]
    assert listener.keys == ["a", "b", "c"]


async def test_what_was_answered_survives_the_death_of_the_server(store: MongoStore, mongod: Mongod) -> None:
    events = await store.append_events([new_event("a"), new_event("b")])
    ids = await add_task(store, "task", 3)
    await bring(store, await lane_lease(store), {ids[0]: State.SENT, ids[1]: State.UNKNOWN})
    await store.apply([Change(ids[0], State.READ, 5, wamid="w")])
    before = await store.find_rows(ids)
    mongod.kill()
    mongod.start()
    await repeated(store.ping)
    assert await store.events_after(0, 10) == events
    assert await store.find_rows(ids) == before
    assert await store.find_by_wamid(["w"]) == {"w": ids[0]}


async def test_a_store_closes_while_its_server_is_stopped(store: MongoStore, mongod: Mongod) -> None:
    mongod.pause()
    write = asyncio.ensure_future(store.append_events([new_event("a")]))
    await asyncio.sleep(0)
    async with asyncio.timeout(GUARD_S):
        await store.close()
    with pytest.raises(StoreUnavailable):
        await write


async def test_a_store_does_not_open_where_no_server_is(tmp_path: Path) -> None:
    nobody = Mongod(tmp_path)
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(StoreUnavailable):
            await MongoStore(nobody.url).open()


# -- a server that answers, and is not the one to write to ---------------------------------------------------

DATA_COMMANDS = ["aggregate", "count", "delete", "find", "findAndModify", "getMore", "insert", "update"]
WRITE_COMMANDS = ["delete", "findAndModify", "insert", "update"]
STEPPED_DOWN = (10107, 13435, 11602, 91)
"""NotWritablePrimary, NotPrimaryNoSecondaryOk, InterruptedDueToReplStateChange, ShutdownInProgress."""
WITHOUT_WRITES = frozenset(
    {"events_after", "log_bounds", "load_cursor", "sweep_unready", "sweep_answers", "read_ahead"}
    | {"read_contact", "blocking_rows", "undelivered", "rows_in_state", "task_rows", "list_tasks", "depth"}
    | {"count_dead", "dead_letters", "sweep_inbound", "list_suppressions"}
    | {"count_past", "list_subscribers", "known_keys", "aliases_of", "count_unread"}
    | {"list_threads", "threads_of", "said_of", "events_of"}
    | {"list_cursors", "retire_tasks", "remove_events", "remove_retired", "remove_said", "remove_claims"}
    | {"list_erasures", "search_shelf"}
    | {name for name in CALLS if name.startswith(("find", "held", "finished"))}
)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Mongod]:
    """A server that fails on demand as a member of a replica set does amid an election."""
    server = Mongod(tmp_path / "replica", "--enable-test-commands")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def on_replica(io_loop: IOLoop, replica: Mongod) -> Iterator[MongoStore]:
    with opened(io_loop, replica, ANSWER_S) as store:
        yield store


@pytest.fixture
def patient(io_loop: IOLoop, replica: Mongod) -> Iterator[MongoStore]:
    """One that refuses nothing because a busy machine is late."""
    with opened(io_loop, replica, GUARD_S) as store:
        yield store


async def test_while_the_server_is_no_primary_every_call_is_refused_and_afterwards_answered(
    on_replica: MongoStore, replica: Mongod
) -> None:
    await with_old_rows(on_replica)
    faults: list[dict[str, object]] = [{"errorCode": code} for code in STEPPED_DOWN]
    # What a step down does to connections.
    for fault in [*faults, {"closeConnection": True}]:
        replica.refuse(failCommands=DATA_COMMANDS, **fault)
        await everything_is_refused(on_replica)
        replica.behave()
        await repeated(on_replica.ping)
    for call in CALLS.values():
        await repeated(partial(call, on_replica))


async def test_what_no_majority_has_is_not_answered_and_its_repetition_has_its_effect_once(
    patient: MongoStore, replica: Mongod
) -> None:
    # The server has it, and may yet lose it to the next primary.
    await with_old_rows(patient)
    listener = Listener(patient)
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    replica.refuse(failCommands=WRITE_COMMANDS, writeConcernError=concern)
    answers = await asyncio.gather(*(call(patient) for call in CALLS.values()), return_exceptions=True)
    kinds = dict(zip(CALLS, map(type, answers), strict=True))
    taken = {name for name, kind in kinds.items() if kind is not StoreUnavailable}
    assert taken == WITHOUT_WRITES
    replica.behave()
    for call in CALLS.values():
        await repeated(partial(call, patient))
    keys = [event.key for event in await patient.events_after(0, 100)]
    assert sorted(keys) == sorted(set(keys)) and set("abcd") <= set(keys)
    await listener.wait_for(len(keys))
    assert listener.keys == keys

"""Subscribers with a name, on every store: where they go on, whose a name is, and what a crash forgets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from unittest import mock

import pytest
from tornado.ioloop import IOLoop

from hub import names
from hub.frames import hello_frame
from hub.hub import Hub
from hub.names import BadName, Names, TooManyNames
from hub.replay import Start
from hub.subscription import REMOVED, TAKEN_OVER, TOO_SLOW, Filter, State, Subscription
from store.base import Store
from store.errors import StoreUnavailable
from store.log import Log
from store.mongo import MongoStore
from store.records import Event, Progress
from tests.support.fake_transport import FakeTransport
from tests.support.store_values import new_event
from tests.support.waiting import GUARD_S, eventually

MakeStore = Callable[[], Store]
SESSIONS = count()


class Room:
    """A process: its log, its hub and its names."""

    def __init__(self, store: Store, owner: str, most: int) -> None:
        self.store = store
        self.owner = owner
        self.log = Log(store)
        self.hub: Hub
        self.names: Names
        self._most = most

    @classmethod
    async def make(cls, store: Store, owner: str = "p1", *, most: int = 10) -> Room:
        room = cls(store, owner, most)
        await room.log.start()
        room.hub = Hub(room.log)
        room.names = Names(
            store,
            room.hub,
            room.log,
            owner=owner,
            most=most,
            now_ms=lambda: 1000,
            new_session=lambda: f"{owner}-{next(SESSIONS)}",
        )
        return room

    async def append(self, *keys: str) -> list[Event]:
        return await self.log.append([new_event(key) for key in keys])

    def connect(self) -> Client:
        return Client(self)

    async def take(
        self, name: str = "crm", since: str | int | None = None, given: Filter | None = None
    ) -> Client:
        client = self.connect()
        await client.take(name, since, given)
        return client

    async def offset(self, name: str = "crm") -> int:
        """As the store has it."""
        return (await self.store.find_subscribers([name]))[name].offset


class Client:
    """A connection that a test sees through."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.transport = FakeTransport()
        self.subscription = Subscription(self.transport)
        assert room.hub.register(self.subscription) is None
        self.start = Start(-1, False)
        self.wanted = Filter()

    async def take(
        self, name: str = "crm", since: str | int | None = None, given: Filter | None = None
    ) -> None:
        self.start, self.wanted = await self.room.names.take(self.subscription, name, since, given)
        self.room.hub.subscribe(self.subscription, self.wanted, self.start)
        if self.subscription.replay is not None:
            await asyncio.wait({self.subscription.replay})

    def acknowledge(self, event: Event) -> None:
        self.room.names.acknowledge(self.subscription, event.offset)

    def go(self) -> None:
        """As its handler does once the connection is over."""
        self.room.hub.unregister(self.subscription)
        self.room.names.release(self.subscription)


# -- where it goes on ----------------------------------------------------------------------------------


async def test_a_new_name_begins_now_or_where_it_says(store: Store) -> None:
    room = await Room.make(store)
    first, second = await room.append("a", "b")
    now, from_first = await room.take("now"), await room.take("from", first.offset)
    everything = await room.take("all", f"{store.epoch}:0")
    assert [client.start for client in (now, from_first, everything)] == [
        Start(second.offset, True),
        Start(first.offset, True),
        Start(0, True),
    ]
    assert everything.transport.offsets == [first.offset, second.offset]


async def test_a_name_goes_on_where_it_acknowledged_last_whatever_it_asks_for(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    first, second, third = await room.append("a", "b", "c")
    client.acknowledge(second)
    client.acknowledge(first)
    client.go()
    again = await room.take("crm", since=0)
    assert again.start == Start(second.offset, True)
    assert again.transport.offsets == [third.offset]
    assert again.transport.sent[0] == hello_frame(store.epoch, second.offset, True, (), "crm")


async def test_a_place_survives_a_new_start(store: Store, make_store: MakeStore) -> None:
    room = await Room.make(store)
    client = await room.take()
    first, _ = await room.append("a", "b")
    client.acknowledge(first)
    await room.names.close()
    await store.close()
    reopened = make_store()
    await reopened.open()
    try:
        again = await (await Room.make(reopened)).take()
        assert again.start == Start(first.offset, True)
    finally:
        await reopened.close()


async def test_a_crash_forgets_no_more_than_what_was_not_saved(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    first, second = await room.append("a", "b")
    client.acknowledge(first)
    await room.names.save()
    client.acknowledge(second)
    # Another process, as after a kill: the first one never says goodbye.
    again = await (await Room.make(store, "p2")).take()
    assert again.start == Start(first.offset, True)


async def test_a_place_that_the_log_has_no_more_begins_at_the_oldest(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take("crm", 10**9)
    assert client.start == Start(0, False)


async def test_a_filter_is_kept_until_another_is_given(store: Store) -> None:
    room = await Room.make(store)
    wanted = Filter.of(["message.*", "task.created"], phone_number_id="100", contact="c1")
    for given, expected in ((wanted, wanted), (None, wanted), (Filter.of(["*"]), Filter()), (None, Filter())):
        client = await room.take("crm", None, given)
        assert client.wanted == expected
        client.go()


# -- acknowledging -------------------------------------------------------------------------------------


async def test_thousands_of_acknowledgements_are_one_write(store: Store) -> None:
    room = await Room.make(store)
    clients = [await room.take(f"n{n}") for n in range(5)]
    events = await room.append(*(f"{n}" for n in range(1000)))
    with mock.patch.object(store, "save_progress", wraps=store.save_progress) as save:
        for event in events:
            for client in clients:
                client.acknowledge(event)
        await room.names.save()
        await room.names.save()
    assert save.call_count == 1
    assert [await room.offset(f"n{n}") for n in range(5)] == [events[-1].offset] * 5


async def test_what_could_not_be_saved_is_saved_later(store: Store) -> None:
    room = await Room.make(store)
    client, other = await room.take(), await room.take("erp")
    first, second = await room.append("a", "b")
    client.acknowledge(first)
    other.acknowledge(first)
    other.go()
    with (
        mock.patch.object(store, "save_progress", side_effect=StoreUnavailable("away")),
        pytest.raises(StoreUnavailable),
    ):
        await room.names.save()
    assert await room.offset() == 0
    client.acknowledge(second)
    await room.names.save()
    assert (await room.offset(), await room.offset("erp")) == (second.offset, first.offset)
    assert (await store.find_subscribers(["erp"]))["erp"].holder == ""


async def test_saving_goes_on_while_it_runs_and_outlives_a_store_that_is_away(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    (event,) = await room.append("a")
    failing = mock.AsyncMock(side_effect=StoreUnavailable("away"))
    with mock.patch.object(names, "_SAVE_S", 0.001), mock.patch.object(names, "_LOOK_S", 0.001):
        running = asyncio.ensure_future(room.names.run())
        with mock.patch.object(store, "save_progress", failing):
            client.acknowledge(event)

            async def failed() -> bool | None:
                return failing.called or None

            await eventually(failed)

        async def saved() -> bool | None:
            return await room.offset() == event.offset or None

        await eventually(saved)
        running.cancel()
        await asyncio.wait({running})
    assert client.subscription.state is State.LIVE


async def test_who_has_no_name_acknowledges_into_nothing(store: Store) -> None:
    room = await Room.make(store)
    client = room.connect()
    (event,) = await room.append("a")
    client.acknowledge(event)
    await room.names.save()
    assert await store.list_subscribers(10) == []


# -- whose it is ---------------------------------------------------------------------------------------


async def test_the_newer_connection_takes_the_name_over_and_goes_on_where_the_older_was(store: Store) -> None:
    room = await Room.make(store)
    older = await room.take()
    first, second = await room.append("a", "b")
    older.acknowledge(first)
    newer = await room.take()
    assert older.transport.closed_with == TAKEN_OVER
    assert newer.start == Start(first.offset, True)
    older.acknowledge(second)
    older.go()
    await room.names.save()
    assert await room.offset() == first.offset
    newer.acknowledge(second)
    await room.names.save()
    assert await room.offset() == second.offset
    assert newer.transport.closed_with is None


async def test_a_connection_may_take_its_own_name_again_and_another(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    (event,) = await room.append("a")
    client.acknowledge(event)
    await client.take()
    assert client.start == Start(event.offset, True)
    await client.take("erp")
    await room.names.save()
    await room.names.look()
    assert client.transport.closed_with is None
    assert [(each.name, each.holder) for each in await store.list_subscribers(10)] == [
        ("crm", ""),
        ("erp", "p1"),
    ]


async def test_of_connections_that_come_at_once_one_stays(store: Store) -> None:
    room = await Room.make(store)
    clients = await asyncio.gather(*(room.take() for _ in range(20)))
    await room.names.save()
    await room.names.look()
    (staying,) = [client for client in clients if client.transport.closed_with is None]
    (event,) = await room.append("a")
    staying.acknowledge(event)
    await room.names.save()
    assert await room.offset() == event.offset


async def test_a_name_whose_connection_ended_while_it_was_taken_is_free(store: Store) -> None:
    room = await Room.make(store)
    client = room.connect()
    taking = asyncio.ensure_future(room.names.take(client.subscription, "crm", None, None))
    await asyncio.sleep(0)
    client.go()
    await taking
    await room.names.save()
    assert (await store.find_subscribers(["crm"]))["crm"].holder == ""
    assert room.names.held("crm") is None
    assert client.start == Start(-1, False)


async def test_a_name_whose_connection_is_being_closed_is_not_connected(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    (event,) = await room.append("a")
    client.acknowledge(event)
    assert room.names.held("crm") == (client.subscription, event.offset)
    room.hub.close(client.subscription, TOO_SLOW)
    assert room.names.held("crm") == (None, event.offset)
    client.go()
    await room.names.save()
    assert room.names.held("crm") is None
    assert await room.offset() == event.offset


async def test_a_removed_name_is_closed_and_forgotten(store: Store) -> None:
    room = await Room.make(store)
    client = await room.take()
    (event,) = await room.append("a")
    client.acknowledge(event)
    assert await room.names.remove("crm") is True
    assert client.transport.closed_with == REMOVED
    await room.names.save()
    assert await store.list_subscribers(10) == []
    assert await room.names.remove("crm") is False


async def test_no_more_names_than_may_be(store: Store) -> None:
    room = await Room.make(store, most=2)
    for name in ("a", "b"):
        (await room.take(name)).go()
    with pytest.raises(TooManyNames, match="2 names"):
        await room.take("c")
    await room.take("a")


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", "a/b", "a\n"])
async def test_what_can_be_no_name_is_refused(store: Store, name: str) -> None:
    room = await Room.make(store)
    with pytest.raises(BadName):
        await room.take(name)


async def test_ten_thousand_connections_under_one_name_leave_one(store: Store) -> None:
    room = await Room.make(store)
    turns = 10_000 if store.atomic else 200
    for _ in range(turns // 100):
        clients: Sequence[Client] = await asyncio.gather(*(room.take() for _ in range(100)))
        for client in clients:
            if client.transport.closed_with is not None:
                client.go()
    assert room.hub.stats.subscribers == 1
    assert len(room.names._by_name) == len(room.names._of) == 1
    assert len(room.names._unsaved) <= 1
    assert len(await store.list_subscribers(10)) == 1


# -- over processes ------------------------------------------------------------------------------------


@pytest.fixture
def pair(io_loop: IOLoop, mongo_url: str) -> Iterator[Sequence[MongoStore]]:
    """Two processes' stores on one database."""
    stores = [MongoStore(mongo_url, answer_s=GUARD_S) for _ in range(2)]
    for store in stores:
        io_loop.run_sync(store.open)
    yield stores
    for store in stores:
        io_loop.run_sync(store.close)


async def test_a_name_goes_on_at_another_process(pair: Sequence[MongoStore]) -> None:
    here, there = await Room.make(pair[0], "p1"), await Room.make(pair[1], "p2")
    client = await here.take()
    first, second = await here.append("a", "b")
    client.acknowledge(first)
    await here.names.save()
    again = await there.take()
    assert again.start == Start(first.offset, True)
    assert again.transport.offsets == [second.offset]
    await here.names.look()
    assert client.transport.closed_with == TAKEN_OVER
    await there.names.look()
    assert again.transport.closed_with is None


async def test_an_older_connection_that_acknowledges_is_told_at_once(pair: Sequence[MongoStore]) -> None:
    here, there = await Room.make(pair[0], "p1"), await Room.make(pair[1], "p2")
    client = await here.take()
    (event,) = await here.append("a")
    again = await there.take()
    client.acknowledge(event)
    await here.names.save()
    assert client.transport.closed_with == TAKEN_OVER
    assert await there.offset() == again.start.offset


async def test_a_name_that_another_process_removed_is_closed(pair: Sequence[MongoStore]) -> None:
    here, there = await Room.make(pair[0], "p1"), await Room.make(pair[1], "p2")
    client = await here.take()
    assert await there.names.remove("crm") is True
    (event,) = await here.append("a")
    client.acknowledge(event)
    await here.names.save()
    assert client.transport.closed_with == REMOVED
    assert await pair[0].list_subscribers(10) == []


async def test_progress_of_a_former_process_is_refused(pair: Sequence[MongoStore]) -> None:
    here, there = await Room.make(pair[0], "p1"), await Room.make(pair[1], "p2")
    client = await here.take()
    session = (await pair[0].find_subscribers(["crm"]))["crm"].session
    await there.take()
    assert await pair[0].save_progress([Progress("crm", session, 5)], 1) == {session}
    assert client.transport.closed_with is None


# -- whatever happens ----------------------------------------------------------------------------------


class Chaos:
    """Two processes, one name, and all that may happen to it in any order."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.rooms: list[Room] = []
        self.clients: list[Client] = []
        self.acknowledged = 0
        """The most by any connection while it was not closed."""
        self.kept = 0
        self._n = 0

    async def run(self, steps: int) -> None:
        self.rooms = [await Room.make(self.store, f"p{n}") for n in range(2)]
        often = [self.come, self.acknowledge, self.acknowledge, self.save, self.append]
        for _ in range(steps):
            step = self.rng.choice([*often, *often, self.look, self.go, self.crash])
            await step()
            await self.check()

    async def append(self) -> None:
        self._n += 1
        await self.rng.choice(self.rooms).append(f"{self._n}")

    async def come(self) -> None:
        client = await self.rng.choice(self.rooms).take("crm", 0)
        assert client.start.recovered and client.start.offset == await client.room.offset()
        self.clients.append(client)

    async def acknowledge(self) -> None:
        open = [client for client in self.clients if client.transport.closed_with is None]
        if open:
            client = self.rng.choice(open)
            offset = self.rng.randint(0, client.room.hub.place_of(client.subscription))
            client.room.names.acknowledge(client.subscription, offset)
            self.acknowledged = max(self.acknowledged, offset)

    async def save(self) -> None:
        await self.rng.choice(self.rooms).names.save()

    async def look(self) -> None:
        await self.rng.choice(self.rooms).names.look()

    async def go(self) -> None:
        if self.clients:
            self.clients.pop(self.rng.randrange(len(self.clients))).go()

    async def crash(self) -> None:
        """The process ends without a word, and another is started."""
        which = self.rng.randrange(len(self.rooms))
        gone = self.rooms[which]
        self.clients = [client for client in self.clients if client.room is not gone]
        self.rooms[which] = await Room.make(self.store, f"{gone.owner}'")

    async def check(self) -> None:
        found = (await self.store.find_subscribers(["crm"])).get("crm")
        if found is not None:
            assert self.kept <= found.offset <= self.acknowledged, "back, or past what was acknowledged"
            self.kept = found.offset

    async def settle(self) -> None:
        for room in self.rooms:
            await room.names.save()
            await room.names.look()
        open = [client for client in self.clients if client.transport.closed_with is None]
        assert len(open) <= 1, "two hold one name"
        if open:
            (client,) = open
            (event,) = await client.room.append("last")
            client.acknowledge(event)
            await client.room.names.save()
            assert await client.room.offset() == event.offset


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_a_place_goes_forward_and_one_connection_has_it(
    store: Store, seed: int
) -> None:
    chaos = Chaos(store, random.Random(seed))
    await chaos.run(400 if store.atomic else 100)
    await chaos.settle()

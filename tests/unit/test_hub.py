"""Who gets what, who is closed and why, and what the hub counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from unittest import mock

import pytest

from hub.frames import WEBSOCKET, Batch, Wire, event_frame, server_sent
from hub.hub import Hub
from hub.replay import Start
from hub.subscription import FULL, BadFilter, Close, Filter, State, Subscription
from store.errors import StoreUnavailable
from store.log import Log
from store.records import Event
from tests.support.fake_transport import FakeTransport, read_frames
from tests.support.memory_log import MemoryLogStore, new_event, started_log
from tests.support.waiting import GUARD_S


class Room:
    """A hub on a log in memory, and clients of it."""

    def __init__(self, store: MemoryLogStore, log: Log, hub: Hub) -> None:
        self.store = store
        self.log = log
        self.hub = hub

    @classmethod
    async def make(
        cls,
        *,
        kept: int = 0,
        keep_bytes: int = 8 * 1024 * 1024,
        buffer_bytes: int = 1024 * 1024,
        max_subscribers: int = 100,
        position_s: float = 10.0,
    ) -> Room:
        """With ``kept`` events in the log from before this process."""
        store = MemoryLogStore()
        store.store([new_event(n) for n in range(1, kept + 1)])
        log = await started_log(store, keep_bytes=keep_bytes)
        hub = Hub(log, buffer_bytes=buffer_bytes, max_subscribers=max_subscribers, position_s=position_s)
        store.tell()
        return cls(store, log, hub)

    def connect(self, wanted: Filter | None = None, start: Start | None = None) -> Client:
        client = Client(self.hub)
        assert self.hub.register(client.subscription) is None
        self.hub.subscribe(client.subscription, wanted or Filter(), start)
        return client

    async def append(self, *types: str, size: int = 0) -> None:
        await self.log.append(
            [new_event(self.log.head + n, type, size=size) for n, type in enumerate(types, start=1)]
        )


class Client:
    """A subscription with a connection that a test sees through."""

    def __init__(self, hub: Hub, wire: Wire = WEBSOCKET) -> None:
        self.hub = hub
        self.transport = FakeTransport()
        self.subscription = Subscription(self.transport, wire)

    @property
    def state(self) -> State:
        return self.subscription.state

    async def caught_up(self) -> None:
        """Return once its replay has ended, well or not."""
        if self.subscription.replay is not None:
            await asyncio.wait_for(asyncio.wait({self.subscription.replay}), GUARD_S)


# -- filters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ((), {"message.sent", "message.read", "task.created", "messages"}),
        (["*", "task.created"], {"message.sent", "message.read", "task.created", "messages"}),
        (["message.*"], {"message.sent", "message.read"}),
        (["message.sent", "task.*"], {"message.sent", "task.created"}),
        (["message"], set()),
    ],
)
def test_types_are_names_or_groups(types: Iterable[str], wanted: set[str]) -> None:
    filter = Filter.of(types)
    names = ["message.sent", "message.read", "task.created", "messages"]
    events = [Event(1, 0, "k", name, 0, b"{}") for name in names]
    assert {event.type for event in events if filter.matches(event)} == wanted


@pytest.mark.parametrize(
    ("filter", "matches"),
    [
        (Filter.of(phone_number_id="1"), True),
        (Filter.of(phone_number_id="2"), False),
        (Filter.of(contact="c"), True),
        (Filter.of(contact="d"), False),
        (Filter.of(["t"], phone_number_id="1", contact="c"), True),
        (Filter.of(["u"], phone_number_id="1", contact="c"), False),
    ],
)
def test_all_parts_of_a_filter_must_match(filter: Filter, matches: bool) -> None:
    assert filter.matches(Event(1, 0, "k", "t", 0, b"{}", "1", "c")) is matches


def test_filters_that_mean_the_same_are_equal() -> None:
    assert Filter.of(["b.*", "a", "a.*"]) == Filter.of(["a", "a.*", "b.*", "a"])
    assert Filter.of(["a", "*"]).is_open
    assert not Filter.of(["a"]).is_open


@pytest.mark.parametrize("types", [["message*"], ["a b"], [""], [".*x"], ["x" * 65], ["a"] * 51])
def test_a_filter_that_cannot_be_is_refused_by_name(types: list[str]) -> None:
    with pytest.raises(BadFilter, match=r"^types: "):
        Filter.of(types)


# -- live ------------------------------------------------------------------------------------------------


async def test_live_client_gets_what_comes_after_its_hello() -> None:
    room = await Room.make(kept=2)
    client = room.connect()
    await room.append("a", "b")
    await room.append("c")
    hello, *events = client.transport.frames
    assert hello == {"type": "hello", "epoch": "e1", "offset": 2, "recovered": True}
    assert [(e["offset"], e["prev"], e["event"]) for e in events] == [(3, 2, "a"), (4, 3, "b"), (5, 4, "c")]


async def test_one_write_brings_a_client_all_events_of_a_batch() -> None:
    room = await Room.make()
    client = room.connect(Filter.of(["a"]))
    await room.append("a", "b", "a")
    assert [len(read_frames(data)) for data in client.transport.sent] == [1, 2]


async def test_an_event_is_encoded_once_for_all_clients_and_filters() -> None:
    room = await Room.make()
    for n in range(50):
        room.connect(Filter() if n % 2 else Filter.of(["a"]))
    build = mock.Mock(side_effect=event_frame)
    with mock.patch("hub.hub.Batch", lambda events, _: Batch(events, build)):
        await room.append("a", "b", "a")
    assert [call.args[0].offset for call in build.call_args_list] == [1, 3, 2]
    assert room.hub.stats.deliveries == 25 * 2 + 25 * 3


async def test_nothing_is_encoded_for_nobody() -> None:
    room = await Room.make()
    room.connect(Filter.of(["b"]))
    build = mock.Mock(side_effect=event_frame)
    with mock.patch("hub.hub.Batch", lambda events, _: Batch(events, build)):
        await room.append("a")
    build.assert_not_called()


async def test_registering_and_unregistering_twice_is_once() -> None:
    room = await Room.make()
    client = room.connect()
    assert room.hub.register(client.subscription) is None
    assert room.hub.stats.subscribers == 1
    room.hub.unregister(client.subscription)
    room.hub.unregister(client.subscription)
    await room.append("a")
    assert (room.hub.stats.subscribers, client.state) == (0, State.CLOSED)
    assert client.transport.offsets == []
    room.hub.subscribe(client.subscription, Filter())
    assert len(client.transport.frames) == 1, "one that is gone is not taken back"


async def test_no_more_clients_than_may_be() -> None:
    room = await Room.make(max_subscribers=1)
    first = room.connect()
    second = Client(room.hub)
    assert room.hub.register(second.subscription) == FULL == Close(1013, FULL.reason)
    assert room.hub.stats.refused == 1
    room.hub.unregister(first.subscription)
    assert room.hub.register(second.subscription) is None


async def test_stopping_closes_everybody_and_takes_nobody() -> None:
    room = await Room.make(kept=1)
    live, behind = room.connect(), room.connect(start=Start(0, True))
    late, task = Client(room.hub), behind.subscription.replay
    room.hub.close_all()
    room.hub.close_all()
    refusal = room.hub.register(late.subscription)
    assert refusal is not None and refusal.code == 1001
    await room.append("a")
    for client in (live, behind):
        assert client.transport.closed_with is not None and client.transport.closed_with[0] == 1001
        assert client.transport.offsets == []
    assert (room.hub.stats.subscribers, room.hub.stats.replaying) == (0, 0)
    assert task is not None
    await asyncio.wait({task})
    assert task.cancelled()


# -- too slow --------------------------------------------------------------------------------------------


async def test_slow_client_is_closed_and_others_get_everything() -> None:
    room = await Room.make(buffer_bytes=1000)
    slow, quick = room.connect(), room.connect()
    slow.transport.shut()
    for _ in range(20):
        await room.append("a", size=300)
    assert slow.transport.closed_with is not None and slow.transport.closed_with[0] == 4008
    assert slow.transport.offsets == [1, 2], "all that was sent is without a gap"
    assert quick.transport.offsets == list(range(1, 21))
    assert (room.hub.stats.slow_closed, room.hub.stats.subscribers) == (1, 1)
    assert room.hub.stats.deliveries == 22


async def test_a_batch_larger_than_the_bound_reaches_who_has_taken_everything() -> None:
    """Else the client would ask for that batch again, for ever."""
    room = await Room.make(buffer_bytes=1000)
    client = room.connect()
    client.transport.shut()
    await room.append("a", "a", size=1000)
    assert (client.state, client.transport.offsets) == (State.LIVE, [1, 2])


async def test_answers_count_like_events() -> None:
    """A client that asks and never reads is bounded too."""
    room = await Room.make(buffer_bytes=100)
    client = room.connect()
    client.transport.shut()
    assert room.hub.send(client.subscription, b"x" * 60)
    assert not room.hub.send(client.subscription, b"x" * 60)
    assert client.transport.closed_with is not None and client.transport.closed_with[0] == 4008


# -- replay ----------------------------------------------------------------------------------------------


async def test_replay_then_live() -> None:
    room = await Room.make(kept=250)
    client = room.connect(start=Start(10, True))
    assert (client.state, room.hub.stats.replaying) == (State.REPLAYING, 1)
    await client.caught_up()
    assert client.state is State.LIVE
    await room.append("a")
    assert client.transport.offsets == list(range(11, 252))
    assert room.hub.stats.replaying == 0


async def test_replay_waits_for_its_reader_and_does_not_close_it() -> None:
    room = await Room.make(kept=50, buffer_bytes=1000)
    client = room.connect(start=Start(0, True))
    client.transport.shut()
    await client.transport.waited.wait()
    for _ in range(30):
        await room.append("a", size=900)
    assert 0 < client.transport.buffered <= 1000, "no more than the bound is kept"
    client.transport.reopen()
    await client.caught_up()
    assert client.state is State.LIVE
    assert client.transport.offsets == list(range(1, 81))


async def test_replay_from_memory_lets_others_have_a_turn() -> None:
    room = await Room.make(kept=1000)
    client = room.connect(start=Start(0, True))
    turns = 0
    while client.state is State.REPLAYING:
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 10


async def test_subscribing_again_ends_what_ran_before() -> None:
    room = await Room.make(kept=5, keep_bytes=1)
    room.store.hold_reads()
    client = room.connect(start=Start(0, True))
    first = client.subscription.replay
    await room.store.reading.wait()
    room.hub.subscribe(client.subscription, Filter.of(["b"]), Start(3, False))
    assert first is not None
    await asyncio.wait({first})
    assert first.cancelled()
    room.store.release_reads()
    await client.caught_up()
    await room.append("a", "b")
    hellos = [frame for frame in client.transport.frames if frame["type"] == "hello"]
    assert [(hello["offset"], hello["recovered"]) for hello in hellos] == [(0, True), (3, False)]
    assert client.transport.offsets == [7]
    room.hub.subscribe(client.subscription, Filter())
    await room.append("a")
    assert client.transport.offsets == [7, 8]
    assert room.hub.stats.replaying == 0


async def test_leaving_in_the_middle_of_a_replay_ends_it() -> None:
    room = await Room.make(kept=5, keep_bytes=1)
    room.store.hold_reads()
    client = room.connect(start=Start(0, True))
    task = client.subscription.replay
    await room.store.reading.wait()
    room.hub.unregister(client.subscription)
    assert task is not None
    await asyncio.wait({task})
    assert task.cancelled()
    assert client.transport.offsets == []
    assert room.hub.stats.replaying == 0


async def test_store_that_is_away_closes_the_replaying_client(caplog: pytest.LogCaptureFixture) -> None:
    room = await Room.make(kept=5, keep_bytes=1)
    room.store.fault = StoreUnavailable("the database does not answer")
    client = room.connect(start=Start(0, True))
    await client.caught_up()
    assert client.transport.closed_with is not None and client.transport.closed_with[0] == 1011
    assert "the database does not answer" in caplog.text


async def test_fault_in_a_replay_is_logged_and_closes_the_client(caplog: pytest.LogCaptureFixture) -> None:
    room = await Room.make(kept=5, keep_bytes=1)
    room.store.fault = RuntimeError("no such thing")
    client = room.connect(start=Start(0, True))
    await client.caught_up()
    assert client.transport.closed_with is not None and client.transport.closed_with[0] == 1011
    assert (client.state, room.hub.stats.replaying) == (State.CLOSED, 0)
    assert "no such thing" in caplog.text
    caplog.clear()


async def test_events_removed_before_a_slow_replay_got_them_are_told_of() -> None:
    room = await Room.make(kept=20, keep_bytes=1)
    room.store.hold_reads()
    client = room.connect(Filter.of(["message.*"]), Start(5, True))
    await room.store.reading.wait()
    room.store.remove_through(12)
    room.store.release_reads()
    await client.caught_up()
    hellos = [frame for frame in client.transport.frames if frame["type"] == "hello"]
    assert [(hello["offset"], hello["recovered"]) for hello in hellos] == [(5, True), (12, False)]
    assert client.transport.offsets == list(range(13, 21))


async def test_log_emptied_before_a_slow_replay_got_it_is_told_of() -> None:
    room = await Room.make(kept=20, keep_bytes=1)
    room.store.hold_reads()
    client = room.connect(start=Start(5, True))
    await room.store.reading.wait()
    room.store.remove_through(20)
    room.store.release_reads()
    await client.caught_up()
    await room.append("a")
    hellos = [frame for frame in client.transport.frames if frame["type"] == "hello"]
    assert [(hello["offset"], hello["recovered"]) for hello in hellos] == [(5, True), (20, False)]
    assert client.transport.offsets == [21]


async def test_client_ahead_of_this_process_waits_for_it() -> None:
    """It was told by another process of events that this one has not heard of."""
    room = await Room.make()
    room.store.store([new_event(n) for n in range(1, 6)])
    client = room.connect(start=Start(3, True))
    room.store.tell()
    await client.caught_up()
    await room.append("a")
    assert client.transport.offsets == [4, 5, 6]


# -- places ----------------------------------------------------------------------------------------------


async def test_filtered_clients_are_told_their_place() -> None:
    room = await Room.make(kept=3)
    filtered, unfiltered = room.connect(Filter.of(["b"])), room.connect()
    behind = room.connect(Filter.of(["b"]), Start(1, True))
    await room.append("a", "a")
    await room.hub.send_positions()
    assert filtered.transport.frames[1:] == [{"type": "position", "offset": 5}]
    assert [frame["type"] for frame in unfiltered.transport.frames] == ["hello", "event", "event"]
    assert behind.transport.frames[1:] == [{"type": "position", "offset": 1}]
    await behind.caught_up()
    assert room.hub.place_of(behind.subscription) == 5


async def test_a_replaying_client_that_does_not_read_is_not_told_more() -> None:
    room = await Room.make(kept=3)
    client = room.connect(Filter.of(["message.*"]), Start(0, True))
    client.transport.shut()
    await client.transport.waited.wait()
    before = len(client.transport.frames)
    await room.hub.send_positions()
    assert len(client.transport.frames) == before
    assert room.hub.place_of(client.subscription) == 3
    client.transport.reopen()
    await client.caught_up()


async def test_clients_of_another_kind_get_the_same_in_their_own_form() -> None:
    room = await Room.make(kept=2)
    sse = server_sent("e1", 1000)
    frames, streams = room.connect(), [Client(room.hub, sse) for _ in range(3)]
    for client in streams:
        assert room.hub.register(client.subscription) is None
        room.hub.subscribe(client.subscription, Filter(), Start(0, True))
        await client.caught_up()
    build = mock.Mock(side_effect=sse.event)
    with mock.patch(
        "hub.hub.Batch", lambda events, made: Batch(events, build if made is sse.event else made)
    ):
        await room.append("a")
    assert build.call_count == 1
    assert frames.transport.offsets == [3]
    for client in streams:
        text = b"".join(client.transport.sent)
        assert [line for line in text.split(b"\n") if line.startswith(b"id:")] == [
            b"id: e1:%d" % offset for offset in (0, 1, 2, 3)
        ]
    await room.hub.send_positions()
    assert all(client.transport.sent[-1] == sse.idle for client in streams)
    assert len(frames.transport.frames) == 2, "a socket has its own pings"


async def test_connections_are_numbered_as_they_come() -> None:
    room = await Room.make(max_subscribers=3)
    clients = [room.connect() for _ in range(3)]
    assert room.hub.refusal() is FULL
    room.hub.unregister(clients[1].subscription)
    assert room.hub.refusal() is None
    last = room.connect()
    assert [member.number for member in room.hub.members()] == [1, 3, 4]
    assert list(room.hub.members(after=3)) == [last.subscription]
    assert room.hub.register(last.subscription) is None
    assert last.subscription.number == 4


async def test_many_that_are_behind_read_the_store_a_few_at_a_time() -> None:
    room = await Room.make(kept=50)
    room.store.hold_reads()
    clients = [room.connect(start=Start(0, True)) for _ in range(20)]
    await asyncio.wait_for(room.store.reading.wait(), GUARD_S)
    for _ in range(10):
        await asyncio.sleep(0)
    assert room.store.waiting == 4
    room.store.release_reads()
    for client in clients:
        await client.caught_up()
        assert client.transport.offsets == list(range(1, 51))


async def test_places_are_told_while_it_runs() -> None:
    room = await Room.make(position_s=0.001)
    client = room.connect(Filter.of(["b"]))
    told = asyncio.Event()

    def send(data: bytes, bound: int) -> bool:
        told.set()
        return True

    with mock.patch.object(client.transport, "send", send):
        task = asyncio.ensure_future(room.hub.run())
        await asyncio.wait_for(told.wait(), GUARD_S)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()

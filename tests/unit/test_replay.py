"""Past and live join: whatever happens in whatever order, each event comes once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.frames import event_frame
from hub.hub import Hub
from hub.replay import BadPosition, Position, Start, Step, next_step, parse_position, portions, resume
from hub.subscription import Filter, Subscription
from store.records import Event, LogBounds
from tests.support.fake_transport import FakeTransport, read_frames
from tests.support.memory_log import MemoryLogStore, new_event, started_log
from tests.support.waiting import GUARD_S

BOUNDS = LogBounds(floor=10, head=20)
MAX = 2**53 - 1


def event(offset: int, prev: int, type: str = "a", size: int = 0) -> Event:
    return Event(offset=offset, prev=prev, **msgspec.structs.asdict(new_event(offset, type, size=size)))


# -- positions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "position"),
    [
        ("0", Position("", 0)),
        (12, Position("", 12)),
        ("e1:12", Position("e1", 12)),
        ("a:b:7", Position("a:b", 7)),
        (str(MAX), Position("", MAX)),
    ],
)
def test_position_is_an_offset_with_or_without_its_epoch(since: str | int, position: Position) -> None:
    assert parse_position(since) == position


@pytest.mark.parametrize(
    "since",
    [
        "",
        ":",
        ":1",
        "e1:",
        "e:-1",
        "-1",
        "1.0",
        " 1",
        "1e3",
        "\u0661",
        "\u00b2",
        str(MAX + 1),
        "9" * 99,
        -1,
        MAX + 1,
    ],
)
def test_what_is_no_position_is_refused_by_name(since: str | int) -> None:
    with pytest.raises(BadPosition, match=r"^since: "):
        parse_position(since)
    with pytest.raises(BadPosition, match=r"^after: "):
        parse_position(since, "after")


@given(st.text() | st.integers())
def test_anything_is_a_position_or_a_documented_error(since: str | int) -> None:
    try:
        position = parse_position(since)
    except BadPosition:
        return
    assert 0 <= position.offset <= MAX


@pytest.mark.parametrize(
    ("since", "start"),
    [
        (None, Start(20, True)),
        ("10", Start(10, True)),
        ("e1:15", Start(15, True)),
        (20, Start(20, True)),
        ("9", Start(10, False)),
        ("21", Start(10, False)),
        ("e2:15", Start(10, False)),
    ],
    ids=["live", "oldest kept", "between", "head", "removed", "past the head", "another log"],
)
def test_where_reading_starts(since: str | int | None, start: Start) -> None:
    assert resume(since, "e1", BOUNDS) == start


def test_an_empty_log_is_resumed_from_its_start() -> None:
    assert resume("e1:0", "e1", LogBounds(0, 0)) == Start(0, True)


# -- the join --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "place", "head", "step"),
    [
        ([event(6, 5)], 5, 6, Step.SEND),
        ([event(9, 4)], 5, 9, Step.SEND),
        ([event(9, 7)], 5, 9, Step.LOST),
        ([], 6, 6, Step.LIVE),
        ([], 7, 6, Step.WAIT),
        ([], 5, 6, Step.LOOK),
    ],
    ids=["next", "next, numbered with gaps", "removed between", "caught up", "ahead", "grown or emptied"],
)
def test_next_step(page: Sequence[Event], place: int, head: int, step: Step) -> None:
    assert next_step(page, place, head) is step


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300)), max_size=30),
    st.integers(1, 2000),
)
def test_portions_hold_what_is_wanted_in_order_within_their_bound(
    items: list[tuple[str, int]], max_bytes: int
) -> None:
    page = [event(n, n - 1, type, size) for n, (type, size) in enumerate(items, start=1)]
    cut = list(portions(page, Filter.of(["a"]).matches, event_frame, max_bytes))
    wanted = [event for event in page if event.type == "a"]
    assert b"".join(portion.data for portion in cut) == b"".join(map(event_frame, wanted))
    assert sum(portion.events for portion in cut) == len(wanted)
    assert all(len(portion.data) <= max_bytes or portion.events == 1 for portion in cut)
    for portion in cut:
        assert all(frame["offset"] <= portion.place for frame in read_frames(portion.data))
    assert [portion.place for portion in cut][-1:] == [event.offset for event in page][-1:]


class World:
    """A log with clients, moved by steps in any order."""

    FILTERS = (Filter(), Filter.of(["a"]), Filter.of(["b.*"]), Filter.of(["a"], phone_number_id="1"))
    TYPES = ("a", "b.c", "b.d")

    def __init__(self, store: MemoryLogStore, hub: Hub) -> None:
        self.store = store
        self.hub = hub
        self.clients: list[tuple[FakeTransport, int, Filter]] = []
        self.subscriptions: list[Subscription] = []
        self.appended = 0

    async def step(self, name: str, n: int) -> None:
        if name == "append":
            self.keep(n)
            self.store.tell()
        elif name == "keep":
            self.keep(n)
        elif name == "tell":
            self.store.tell()
        elif name == "connect":
            self.connect(n)
        elif name == "hold reads":
            self.store.hold_reads()
        elif name == "release reads":
            self.store.release_reads()
        elif name == "turn":
            for _ in range(n):
                await asyncio.sleep(0)
        elif self.clients:
            transport = self.clients[n % len(self.clients)][0]
            transport.shut() if name == "shut" else transport.reopen()

    def keep(self, n: int) -> None:
        """Let the store have 1 to 3 events that this process has not heard of."""
        for _ in range(1 + n % 3):
            self.appended += 1
            type = self.TYPES[(self.appended + n) % 3]
            self.store.store([new_event(self.appended, type, phone_number_id=str(n % 2))])

    def connect(self, n: int) -> None:
        offsets = [0, *(event.offset for event in self.store.events)]
        since, wanted = offsets[-1 - n % len(offsets)], self.FILTERS[n % 4]
        transport = FakeTransport()
        self.hub.register(subscription := Subscription(transport))
        self.hub.subscribe(subscription, wanted, Start(since, True))
        self.clients.append((transport, since, wanted))
        self.subscriptions.append(subscription)

    async def settle(self) -> None:
        """Let everything through, and wait until every client is live."""
        self.store.tell()
        self.store.release_reads()
        for transport, _, _ in self.clients:
            transport.reopen()
        replays = [task for subscription in self.subscriptions if (task := subscription.replay) is not None]
        await asyncio.wait_for(asyncio.gather(*replays), GUARD_S)


STEPS = st.tuples(
    st.sampled_from(
        ["append", "keep", "tell", "connect", "hold reads", "release reads", "turn", "shut", "reopen"]
    ),
    st.integers(0, 9),
)


@settings(max_examples=300)
@given(
    steps=st.lists(STEPS, min_size=20, max_size=80),
    stride=st.integers(1, 3),
    keep_bytes=st.sampled_from([1, 1000, 10**6]),
)
def test_every_event_comes_once_in_order_whatever_happens_meanwhile(
    steps: list[tuple[str, int]], stride: int, keep_bytes: int
) -> None:
    async def play() -> World:
        store = MemoryLogStore(stride=stride)
        world = World(store, Hub(await started_log(store, keep_bytes=keep_bytes), buffer_bytes=10**9))
        for name, n in steps:
            await world.step(name, n)
        await world.settle()
        await world.step("append", 2)
        return world

    with mock.patch("hub.hub._PAGE_EVENTS", 2):
        world = asyncio.run(play())
    assert world.hub.stats.replaying == 0
    for transport, since, wanted in world.clients:
        hello, *frames = transport.frames
        assert hello == {"type": "hello", "epoch": "e1", "offset": since, "recovered": True}
        due = [event for event in world.store.events if event.offset > since and wanted.matches(event)]
        assert [(frame["offset"], frame["prev"]) for frame in frames] == [(e.offset, e.prev) for e in due]
        assert transport.closed_with is None
    assert world.hub.stats.deliveries == sum(len(transport.offsets) for transport, _, _ in world.clients)

"""A consumer of the log: where it begins, what it repeats, and when it leaves the work to another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from store.base import Store
from store.consumer import Consumer, OnSkip
from store.errors import StoreError, StoreUnavailable
from store.log import Log
from store.records import Cursor, Event, Lease
from store.sqlite import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.store_values import new_event
from tests.support.waiting import GUARD_S

NAME = "tracker"
LEASE = f"consumer:{NAME}"
TTL_MS = 60_000


class WatchedLog(Log):
    """Tells when it is read: a consumer that has moved reads on from there."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._reading = asyncio.Event()

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        self._reading.set()
        self._reading = asyncio.Event()
        return await super().read(after, limit)

    async def wait_read(self) -> None:
        """Return when somebody reads next."""
        await self._reading.wait()


class Rig:
    """A store whose clock the test sets, the log over it, and a handler that notes what it gets."""

    def __init__(self, path: Path) -> None:
        self.now_ms = 1_000_000
        self.real = SqliteStore(path, lock_timeout_s=5, now_ms=lambda: self.now_ms)
        self.store = FaultyStore(self.real)
        self.log = WatchedLog(self.store.as_store())
        self.faults: list[Exception] = []
        """Raised by the handler, one a batch, before it has any effect."""
        self.refused = ""
        """Keys that the handler fails of."""
        self.batches: list[list[str]] = []
        """Keys of each batch that the handler got, those that it failed of too."""
        self.done: list[str] = []
        """Keys of those that it handled."""
        self.gate = asyncio.Event()
        self.gate.set()
        self._grown = asyncio.Event()

    async def open(self) -> None:
        await self.real.open()
        await self.log.start()

    async def close(self) -> None:
        await self.real.close()

    async def fill(self, keys: str) -> list[Event]:
        """Append an event for each of these letters, as one batch."""
        return await self.log.append([new_event(key) for key in keys])

    async def handle(self, batch: Sequence[Event], cursor: Cursor, lease: Lease) -> None:
        """As the consumer's contract asks: the work, then the cursor under the lease."""
        self.batches.append([event.key for event in batch])
        self._grown.set()
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if any(event.key in self.refused for event in batch):
            raise ZeroDivisionError("not this one")
        assert cursor == Cursor(NAME, batch[-1].offset)
        await self.store.as_store().save_cursor(cursor, lease)
        self.done += [event.key for event in batch]

    async def handled(self, count: int) -> None:
        """Return once the handler has got so many batches."""
        async with asyncio.timeout(GUARD_S):
            while len(self.batches) < count:
                self._grown.clear()
                await self._grown.wait()

    async def passed(self, consumer: Consumer, offset: int) -> None:
        """Return once this consumer has done with every event up to ``offset``."""
        async with asyncio.timeout(GUARD_S):
            while consumer.offset < offset:
                await self.log.wait_read()

    def consumer(
        self,
        owner: str = "me",
        *,
        batch: int = 500,
        ttl_ms: int = TTL_MS,
        on_skip: OnSkip | None = None,
        gather_s: float = 0.0,
    ) -> Consumer:
        return Consumer(
            NAME,
            self.handle,
            store=self.store.as_store(),
            log=self.log,
            owner=owner,
            lease_ttl_ms=ttl_ms,
            batch=batch,
            gather_s=gather_s,
            retry_s=0.001,
            on_skip=on_skip,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def rigs(io_loop: IOLoop, path: Path) -> Iterator[Callable[[], Rig]]:
    """Makes rigs on one file, not yet open; all are closed at the end."""
    made: list[Rig] = []

    def make() -> Rig:
        made.append(Rig(path))
        return made[-1]

    yield make
    for rig in made:
        io_loop.run_sync(rig.close)


@pytest.fixture
def rig(io_loop: IOLoop, rigs: Callable[[], Rig]) -> Rig:
    opened = rigs()
    io_loop.run_sync(opened.open)
    return opened


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel it once, and see that it ends by that."""
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=GUARD_S)
    assert done, "it went on after it was cancelled"
    assert task.cancelled()


@contextmanager
def running(consumer: Consumer) -> Iterator[asyncio.Task[None]]:
    """The consumer at work; it is cancelled with the test where the test has not stopped it."""
    task = asyncio.create_task(consumer.run())
    try:
        yield task
    finally:
        task.cancel()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged as an error, which is thereby expected."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# -- what it takes at once ---------------------------------------------------------------------------------


async def test_one_that_may_be_late_takes_together_what_came_meanwhile(rig: Rig) -> None:
    with running(rig.consumer(gather_s=0.01)):
        await rig.fill("a")
        await rig.handled(1)
        rig.gate.clear()
        await rig.fill("b")
        await rig.handled(2)
        # While it works, and then while it lets them gather.
        await rig.fill("c")
        await rig.fill("d")
        rig.gate.set()
        await rig.handled(3)
    assert rig.batches == [["a"], ["b"], ["c", "d"]]


async def test_one_that_may_be_late_does_not_dawdle_while_it_is_behind(rig: Rig) -> None:
    await rig.fill("abcdef")
    with running(rig.consumer(batch=2, gather_s=1000.0)):
        await rig.handled(3)
    assert rig.batches == [["a", "b"], ["c", "d"], ["e", "f"]]


async def test_one_that_lets_events_gather_ends_at_once_when_it_is_stopped(rig: Rig) -> None:
    with running(rig.consumer(gather_s=1000.0)) as task:
        last = (await rig.fill("a"))[-1]
        await rig.handled(1)
        await rig.fill("b")
        await stop(task)
    assert rig.done == ["a"]
    assert await rig.store.as_store().load_cursor(NAME) == last.offset


# -- where it begins ---------------------------------------------------------------------------------------


async def test_it_takes_what_is_there_and_what_comes(rig: Rig) -> None:
    there = await rig.fill("ab")
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, there[-1].offset)
        came = await rig.fill("c")
        await rig.passed(consumer, came[-1].offset)
        assert rig.batches == [["a", "b"], ["c"]]
        assert await rig.real.load_cursor(NAME) == consumer.offset == came[-1].offset
        await stop(task)


async def test_no_batch_is_larger_than_asked_for(rig: Rig) -> None:
    events = await rig.fill("abcde")
    consumer = rig.consumer(batch=2)
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a", "b"], ["c", "d"], ["e"]]
        await stop(task)


async def test_after_a_restart_it_goes_on_from_its_cursor(rigs: Callable[[], Rig]) -> None:
    before = rigs()
    await before.open()
    events = await before.fill("abc")
    consumer = before.consumer()
    with running(consumer) as task:
        await before.passed(consumer, events[-1].offset)
        await stop(task)
    await before.fill("d")
    await before.close()

    after = rigs()
    await after.open()
    consumer = after.consumer("its successor")
    with running(consumer) as task:
        await after.passed(consumer, after.log.head)
        assert after.batches == [["d"]]
        await stop(task)


async def test_what_was_handled_without_a_saved_cursor_is_handled_again(rig: Rig) -> None:
    # As a crash between the two leaves it.
    events = await rig.fill("ab")
    rig.store.hold("save_cursor")
    with running(rig.consumer()) as task:
        await rig.store.arrived("save_cursor")
        await stop(task)
    rig.store.heal()
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a", "b"], ["a", "b"]]
        await stop(task)


# -- faults ------------------------------------------------------------------------------------------------


async def test_a_batch_that_failed_comes_again_by_halves(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    events = await rig.fill("abcdefgh")
    rig.faults = [ZeroDivisionError("no"), ZeroDivisionError("still no")]
    consumer = rig.consumer(batch=8)
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [[*"abcdefgh"], [*"abcd"], [*"ab"], [*"cde"], [*"fgh"]]
        await stop(task)
    assert errors(caplog) == [f"consumer {NAME} failed at an event after offset 0"] * 2


async def test_an_event_that_cannot_be_handled_is_stepped_over_after_three_tries(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("abcd")
    rig.refused = "b"
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [[*"abcd"], [*"ab"], ["a"], [*"bc"], ["b"], ["b"], ["b"], ["c"], ["d"]]
        assert rig.done == [*"acd"]
        assert (consumer.skipped, consumer.last_skipped) == (1, events[1].offset)
        assert consumer.fault == ""
        await stop(task)
    told = f"stepped over the event at offset {events[1].offset} (message.received) after 3 tries"
    (record,) = [record for record in caplog.records if told in record.getMessage()]
    assert record.getMessage().startswith(f"consumer {NAME} ")
    assert record.exc_info and isinstance(record.exc_info[1], ZeroDivisionError)
    assert len(errors(caplog)) == 6


async def test_of_several_that_cannot_be_handled_each_has_its_own_tries(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("abcd")
    rig.refused = "bc"
    consumer = rig.consumer(batch=1)
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a"], *[["b"]] * 3, *[["c"]] * 3, ["d"]]
        assert (consumer.skipped, consumer.last_skipped) == (2, events[2].offset)
        await stop(task)
    assert len(errors(caplog)) == 6


async def test_the_place_past_an_event_that_was_stepped_over_is_kept(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("a")
    rig.refused = "a"
    rig.store.fail("save_cursor")
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.store.arrived("save_cursor", 2)  # it was not, and is tried again
        assert (consumer.offset, consumer.skipped) == (0, 0)
        rig.store.heal()
        await rig.passed(consumer, events[0].offset)
        assert await rig.real.load_cursor(NAME) == events[0].offset
        assert consumer.skipped == 1
        await stop(task)
    assert rig.done == []
    assert len(errors(caplog)) == 3


async def test_what_follows_from_stepping_over_is_kept_before_the_place_is(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("ab")
    rig.refused = "a"
    away = [StoreUnavailable("the store is away")]
    told: list[tuple[str, int]] = []

    async def on_skip(event: Event) -> None:
        told.append((event.key, await rig.real.load_cursor(NAME)))
        if away:
            raise away.pop()

    consumer = rig.consumer(batch=1, on_skip=on_skip)
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        # The first time it was not kept, so the event was not passed.
        assert told == [("a", 0), ("a", 0)]
        assert (consumer.skipped, rig.done) == (1, ["b"])
        await stop(task)
    assert errors(caplog)


async def test_nothing_is_stepped_over_without_the_lease(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.fill("a")
    rig.refused = "a"
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.handled(2)
        rig.gate.clear()
        await rig.handled(3)
        rig.now_ms += TTL_MS + 1
        assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is not None
        rig.store.calls["acquire_lease"] = 0
        rig.gate.set()
        await rig.store.arrived("acquire_lease", 2)
        assert (consumer.offset, consumer.skipped, consumer.fault) == (0, 0, "")
        assert await rig.real.load_cursor(NAME) == 0
        await stop(task)
    assert len(errors(caplog)) == 2


async def test_tries_are_counted_over_a_lease_that_is_taken_anew(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("a")
    rig.refused = "a"
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.handled(2)
        rig.now_ms += TTL_MS + 1  # it ran out
        await rig.passed(consumer, events[0].offset)
        assert len(rig.batches) == 3
        await stop(task)
    assert len(errors(caplog)) == 3


async def test_after_a_restart_the_tries_begin_anew(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    events = await rig.fill("a")
    rig.refused = "a"
    with running(rig.consumer()) as task:
        await rig.handled(2)
        rig.gate.clear()
        await rig.handled(3)
        await stop(task)  # at its third
    rig.gate.set()
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, events[0].offset)
        assert len(rig.batches) == 6
        assert consumer.skipped == 1
        await stop(task)
    assert len(errors(caplog)) == 5


async def test_what_the_store_failed_of_is_no_try(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    events = await rig.fill("a")
    ours, away = ZeroDivisionError("no"), StoreUnavailable("the store is away")
    rig.faults = [ours, away, away, away, ours, away]
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, events[0].offset)
        assert rig.done == ["a"]
        assert (consumer.skipped, consumer.last_skipped) == (0, 0)
        await stop(task)
    assert len(errors(caplog)) == 2


async def test_what_the_store_can_never_take_of_an_event_is_a_try(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("a")
    rig.faults = [StoreError("too large")] * 3
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.handled(2)
        assert consumer.fault == "StoreError: too large"
        await rig.passed(consumer, events[0].offset)
        assert (consumer.skipped, rig.done) == (1, [])
        await stop(task)
    assert len(errors(caplog)) == 3


async def test_a_store_that_goes_away_is_told_in_place_of_an_older_fault(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.fill("a")
    rig.faults = [ZeroDivisionError("no"), StoreUnavailable("the store is away")]
    consumer = rig.consumer()
    rig.gate.clear()
    with running(consumer) as task:
        await rig.handled(1)
        rig.gate.set()
        rig.gate = asyncio.Event()
        await rig.handled(2)
        assert consumer.fault == "ZeroDivisionError: no"
        rig.gate.set()
        rig.gate = asyncio.Event()
        await rig.handled(3)
        assert consumer.fault == ""
        await stop(task)
    assert len(errors(caplog)) == 1


async def test_the_fault_is_told_while_it_lasts(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    events = await rig.fill("a")
    rig.faults = [ZeroDivisionError("no")]
    consumer = rig.consumer()
    assert consumer.fault == ""
    rig.gate.clear()
    with running(consumer) as task:
        await rig.handled(1)
        rig.gate.set()
        rig.gate = asyncio.Event()  # the second attempt waits
        await rig.handled(2)
        assert consumer.fault == "ZeroDivisionError: no"
        assert consumer.offset == 0
        rig.gate.set()
        await rig.passed(consumer, events[-1].offset)
        assert consumer.fault == ""
        await stop(task)
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("call", ["acquire_lease", "load_cursor", "save_cursor"])
async def test_a_store_that_is_away_is_waited_for(
    rig: Rig, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    events = await rig.fill("ab")
    rig.store.fail(call, StoreUnavailable("the store is away"))
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.store.arrived(call, 3)
        assert consumer.offset == 0
        rig.store.heal()
        await rig.passed(consumer, events[-1].offset)
        assert await rig.real.load_cursor(NAME) == events[-1].offset
        await stop(task)
    assert set(warnings(caplog)) == {"store away, consumer waits: the store is away"}
    assert consumer.fault == ""


# -- the lease ---------------------------------------------------------------------------------------------


async def test_while_another_holds_the_lease_it_waits(rig: Rig) -> None:
    events = await rig.fill("a")
    other = await rig.real.acquire_lease(LEASE, "another", TTL_MS)
    assert other is not None
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.store.arrived("acquire_lease", 3)
        assert rig.batches == []
        await rig.real.release_lease(other)
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a"]]
        await stop(task)


async def test_of_two_one_works_and_the_other_takes_over(rig: Rig) -> None:
    first, second = rig.consumer("first"), rig.consumer("second")
    with running(first) as one, running(second) as two:
        events = await rig.fill("a")
        both = [asyncio.create_task(rig.passed(consumer, events[-1].offset)) for consumer in (first, second)]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        works, waits = (first, second) if first.offset else (second, first)
        assert waits.offset == 0
        await stop(one if works is first else two)
        await asyncio.gather(*both)  # by the cursor alone
        assert rig.batches == [["a"]]
        more = await rig.fill("b")
        await rig.passed(waits, more[-1].offset)
        assert rig.batches == [["a"], ["b"]]
        await stop(two if works is first else one)


async def test_a_lease_lost_at_work_leaves_the_batch_to_its_next_owner(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    events = await rig.fill("a")
    rig.gate.clear()
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.handled(1)
        rig.now_ms += TTL_MS + 1
        other = await rig.real.acquire_lease(LEASE, "another", TTL_MS)
        assert other is not None
        rig.store.calls["acquire_lease"] = 0
        rig.gate.set()
        await rig.store.arrived("acquire_lease", 2)
        assert warnings(caplog) == ["lease lost, another process goes on"]
        assert (consumer.offset, await rig.real.load_cursor(NAME)) == (0, 0)
        assert rig.batches == [["a"]]
        await rig.real.release_lease(other)
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a"], ["a"]]
        await stop(task)


async def test_the_lease_is_renewed_while_nothing_happens(rig: Rig) -> None:
    consumer = rig.consumer(ttl_ms=30)
    with running(consumer) as task:
        await rig.store.arrived("load_cursor")
        held = await rig.real.acquire_lease(LEASE, "me", 30)
        await rig.store.arrived("acquire_lease", 4)
        assert await rig.real.acquire_lease(LEASE, "me", 30) == held  # the term is the same
        assert rig.store.calls["load_cursor"] == 1
        await stop(task)


async def test_the_lease_is_renewed_while_a_batch_takes_longer_than_it_lasts(rig: Rig) -> None:
    events = await rig.fill("a")
    rig.gate.clear()
    consumer = rig.consumer(ttl_ms=30)
    with running(consumer) as task:
        await rig.handled(1)
        for _ in range(3):
            # Each time nearly all that it lasts; a renewal comes in between.
            rig.now_ms += 29
            rig.store.calls["acquire_lease"] = 0
            await rig.store.arrived("acquire_lease", 2)
        assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is None
        rig.gate.set()
        await rig.passed(consumer, events[-1].offset)
        assert rig.batches == [["a"]]
        await stop(task)


async def test_a_renewal_that_the_store_refuses_is_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = rig.consumer(ttl_ms=30)
    with running(consumer) as task:
        await rig.log.wait_read()
        rig.store.fail("acquire_lease")
        await rig.store.arrived("acquire_lease", 2)
        rig.store.heal()
        events = await rig.fill("a")
        await rig.passed(consumer, events[-1].offset)
        assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is None
        await stop(task)
    assert all("could not be renewed" in warning for warning in warnings(caplog))


async def test_a_lease_lost_at_rest_is_noticed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    consumer = rig.consumer(ttl_ms=30)
    with running(consumer) as task:
        await rig.store.arrived("load_cursor")
        rig.store.hold("acquire_lease")
        await rig.store.arrived("acquire_lease")  # the renewal, too late
        rig.now_ms += 31
        assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is not None
        rig.store.heal()
        rig.store.calls["acquire_lease"] = 0
        await rig.store.arrived("acquire_lease", 2)
        assert warnings(caplog) == ["lease lost, another process goes on"]
        await rig.fill("a")
        rig.store.calls["acquire_lease"] = 0
        await rig.store.arrived("acquire_lease", 2)
        assert rig.batches == []
        await stop(task)


async def test_a_lease_of_a_newer_term_is_not_gone_on_with(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = rig.consumer(ttl_ms=30)
    with running(consumer) as task:
        await rig.store.arrived("load_cursor")
        rig.now_ms += 31  # it ran out, and is taken again under a new term: others may have worked meanwhile
        await rig.store.arrived("load_cursor", 2)
        await stop(task)
    assert warnings(caplog) == ["lease lost, another process goes on"]


async def test_it_gives_the_lease_back_when_it_is_stopped(rig: Rig) -> None:
    with running(rig.consumer()) as task:
        await rig.store.arrived("load_cursor")
        assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is None
        await stop(task)
    assert await rig.real.acquire_lease(LEASE, "another", TTL_MS) is not None


async def test_a_store_that_is_away_does_not_keep_it_from_stopping(rig: Rig) -> None:
    events = await rig.fill("a")
    consumer = rig.consumer()
    with running(consumer) as task:
        await rig.passed(consumer, events[-1].offset)
        rig.store.fail_all()
        await stop(task)
    assert rig.store.calls["release_lease"] == 1

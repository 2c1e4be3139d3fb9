"""Fan-out: every event of the log to every client that wants it.

Owns the set of subscriptions and who of them is live. Publishing never waits for a client: what a client's
connection does not take at once is kept for it up to ``buffer_bytes``, and a client that falls further behind
is closed with 4008 and resumes from its position, so nobody ever misses an event without knowing. A client
that asks for the past is brought up to the head by a task of its own, which waits for that client alone.

All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from hub.frames import Batch, Wire
from hub.replay import Start, Step, next_step, portions
from hub.subscription import (
    FAULT,
    FULL,
    GOING_AWAY,
    TOO_SLOW,
    Close,
    Filter,
    State,
    Subscription,
    Transport,
)
from store.errors import StoreError
from store.log import Log
from store.records import Event

__all__ = ["Hub", "HubStats"]

_log = logging.getLogger(__name__)

_PAGE_EVENTS = 100
_PORTION_BYTES = 256 * 1024
_STORE_READS = 4
"""At a time."""
_BREATHE_EVERY = 200
"""Clients that are told their place before the loop may do something else; about a millisecond."""


class HubStats(msgspec.Struct, frozen=True):
    """Figures for a status page; counts are since the start."""

    subscribers: int
    """Connections, those that have not asked for anything yet among them."""
    replaying: int
    """Those that are being brought up to the log's head."""
    events: int
    """Events published live."""
    deliveries: int
    """Event frames handed to clients' connections."""
    slow_closed: int
    """Clients closed with 4008."""
    refused: int
    """Connections not taken because there were as many as may be."""
    most: int
    """How many may be at once."""


class Hub:
    """One per process. Gets every batch of ``log`` from its making until :meth:`close_all`."""

    def __init__(
        self,
        log: Log,
        *,
        buffer_bytes: int = 1024 * 1024,
        max_subscribers: int = 20_000,
        position_s: float = 10.0,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """``buffer_bytes``: kept for one client. ``position_s``: how often filtered ones get their place."""
        self._log = log
        self._buffer_bytes = buffer_bytes
        self._max_subscribers = max_subscribers
        self._position_s = position_s
        self._portion_bytes = min(_PORTION_BYTES, buffer_bytes)
        self._now_ms = now_ms
        self._members: dict[Subscription, None] = {}
        """In the order of their coming."""
        self._came = 0
        self._live: dict[Wire, dict[Filter, dict[Transport, Subscription]]] = {}
        self._store_reads = asyncio.Semaphore(_STORE_READS)
        self._closing: Close | None = None
        self._replaying = 0
        self._events = 0
        self._deliveries = 0
        self._slow_closed = 0
        self._refused = 0
        self._unsubscribe_log = log.subscribe(self._publish)

    @property
    def stats(self) -> HubStats:
        """How things stand."""
        return HubStats(
            subscribers=len(self._members),
            replaying=self._replaying,
            events=self._events,
            deliveries=self._deliveries,
            slow_closed=self._slow_closed,
            refused=self._refused,
            most=self._max_subscribers,
        )

    # -- coming and going --------------------------------------------------------------------------------

    def register(self, subscription: Subscription) -> Close | None:
        """Take a new connection; or how to close it, when it is not taken. Twice is once."""
        if subscription in self._members:
            return None
        refusal = self.refusal()
        if refusal is None:
            self._came += 1
            subscription.number, subscription.since = self._came, self._now_ms()
            self._members[subscription] = None
        return refusal

    def refusal(self) -> Close | None:
        """How a connection would be closed that came now, which is counted; None: it would be taken."""
        if self._closing is None and len(self._members) >= self._max_subscribers:
            self._refused += 1
            return FULL
        return self._closing

    def unregister(self, subscription: Subscription) -> None:
        """Forget a connection that is gone. Twice is once, and unknown is nothing."""
        self._stop_events(subscription)
        subscription.state = State.CLOSED
        self._members.pop(subscription, None)

    def members(self, after: int = 0) -> Iterator[Subscription]:
        """The connections, in the order of their numbers, past this one."""
        return (subscription for subscription in self._members if subscription.number > after)

    def subscribe(
        self,
        subscription: Subscription,
        wanted: Filter,
        start: Start | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Begin, or begin again, to hand events over: a hello first, then all that is wanted past ``start``.

        ``start`` None: from now on. ``warnings`` go into the hello. Nothing happens where the connection is
        not registered (any more).
        """
        if subscription not in self._members:
            return
        self._stop_events(subscription)
        if start is None:
            start = Start(self._log.head, True)
        subscription.wanted = wanted
        subscription.place = start.offset
        if not self._greet(subscription, start, warnings):
            return
        if start.offset == self._log.head:
            self._go_live(subscription)
        else:
            self._start_replay(subscription)

    def _greet(self, subscription: Subscription, start: Start, warnings: Sequence[str] = ()) -> bool:
        hello = subscription.wire.hello
        return self.send(
            subscription, hello(self._log.epoch, start.offset, start.recovered, warnings, subscription.name)
        )

    def place_of(self, subscription: Subscription) -> int:
        """Offset up to which the client has been given, or spared, everything."""
        return self._log.head if subscription.state is State.LIVE else subscription.place

    def send(self, subscription: Subscription, frame: bytes) -> bool:
        """Send one client something of its own, under the same bound as events; False if it is closed."""
        if subscription.state is State.CLOSED:
            return False
        if subscription.transport.send(frame, self._buffer_bytes):
            return True
        self._close_slow(subscription)
        return False

    def close(self, subscription: Subscription, close: Close) -> None:
        """Close one client's connection, and forget it."""
        if subscription.state is not State.CLOSED:
            self.unregister(subscription)
            subscription.transport.close(*close)

    @property
    def closing(self) -> bool:
        """Whether :meth:`close_all` was called."""
        return self._closing is not None

    def close_all(self, code: int = GOING_AWAY.code) -> None:
        """Close every connection, and each that still comes; leave the log alone. Twice is once."""
        self._closing = Close(code, GOING_AWAY.reason)
        self._unsubscribe_log()
        for subscription in tuple(self._members):
            self.close(subscription, self._closing)

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """As ``Log.read``, for whoever is behind: they share a few reads of the store at a time, so that
        thousands of them keep nobody else's waiting. Raises StoreError."""
        if self._log.has_in_memory(after):
            return await self._log.read(after, limit)
        async with self._store_reads:
            return await self._log.read(after, limit)

    # -- live --------------------------------------------------------------------------------------------

    def _publish(self, events: Sequence[Event]) -> None:
        self._events += len(events)
        for wire, groups in self._live.items():
            batch = Batch(events, wire.event)
            for wanted, members in tuple(groups.items()):
                data, count = batch.joined(None if wanted.is_open else wanted.matches)
                if count:
                    self._deliveries += count * self._fan_out(members, data)

    def _fan_out(self, members: Mapping[Transport, Subscription], data: bytes) -> int:
        """Send to each; how many took it.

        A delivery costs the system call and, beside it, a cache miss for every object of a client that is
        touched: so only its transport is, and in the order of arrival, which is about that of memory.
        """
        bound = self._buffer_bytes
        delivered = 0
        slow = []
        for transport in members:
            if transport.send(data, bound):
                delivered += 1
            else:
                slow.append(transport)
        for transport in slow:
            self._close_slow(members[transport])
        return delivered

    def _close_slow(self, subscription: Subscription) -> None:
        self._slow_closed += 1
        self.close(subscription, TOO_SLOW)

    def _go_live(self, subscription: Subscription) -> None:
        subscription.state = State.LIVE
        groups = self._live.setdefault(subscription.wire, {})
        groups.setdefault(subscription.wanted, {})[subscription.transport] = subscription

    def _stop_events(self, subscription: Subscription) -> None:
        """Take a subscription out of what it is in the middle of; it is idle then."""
        if subscription.state is State.LIVE:
            groups = self._live[subscription.wire]
            members = groups[subscription.wanted]
            members.pop(subscription.transport, None)
            if not members:
                del groups[subscription.wanted]
        elif subscription.state is State.REPLAYING:
            self._end_replay(subscription)
        if subscription.state is not State.CLOSED:
            subscription.state = State.IDLE

    # -- replay ------------------------------------------------------------------------------------------

    def _start_replay(self, subscription: Subscription) -> None:
        subscription.state = State.REPLAYING
        self._replaying += 1
        work = self._replay(subscription)
        subscription.replay = asyncio.get_running_loop().create_task(work, name="replay")

    def _end_replay(self, subscription: Subscription) -> None:
        task, subscription.replay = subscription.replay, None
        self._replaying -= 1
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _replay(self, subscription: Subscription) -> None:
        try:
            await self._catch_up(subscription)
        except StoreError as error:
            _log.warning("store away, replay ended: %s", error.message, extra={"place": subscription.place})
            self.close(subscription, FAULT)
        except Exception:  # noqa: BLE001 - whatever it is, this client must not wait for ever
            _log.exception("replay failed, client closed", extra={"place": subscription.place})
            self.close(subscription, FAULT)

    async def _catch_up(self, subscription: Subscription) -> None:
        while subscription.state is State.REPLAYING:
            # Before the read, so that a slow reader holds neither a page nor, once live, a part of its past.
            await subscription.transport.drained()
            page = await self.read(subscription.place, _PAGE_EVENTS)
            # No await from here to the switch: the head cannot move in between.
            step = next_step(page, subscription.place, self._log.head)
            if step is Step.LIVE:
                self._end_replay(subscription)
                self._go_live(subscription)
            elif step is Step.WAIT:
                await self._log.wait(subscription.place - 1)
            elif step is Step.LOOK:
                await self._look(subscription)
            elif step is Step.LOST:
                self._skip_to(subscription, page[0].prev)
            else:
                await self._send_page(subscription, page)

    async def _send_page(self, subscription: Subscription, page: Sequence[Event]) -> None:
        wanted, frame_of = subscription.wanted.matches, subscription.wire.event
        for portion in portions(page, wanted, frame_of, self._portion_bytes):
            await subscription.transport.drained()
            if portion.data:
                subscription.transport.send(portion.data, self._buffer_bytes)
            self._deliveries += portion.events
            subscription.place = portion.place
            # What is read from memory and taken by the network at once never waits: let others have a turn.
            await asyncio.sleep(0)

    async def _look(self, subscription: Subscription) -> None:
        bounds = await self._log.bounds()
        if bounds.floor > subscription.place:
            self._skip_to(subscription, bounds.floor)
        await asyncio.sleep(0)

    def _skip_to(self, subscription: Subscription, offset: int) -> None:
        subscription.place = offset
        self._greet(subscription, Start(offset, False))

    # -- places ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell filtered clients their place, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._position_s)
            await self.send_positions()

    async def send_positions(self) -> None:
        """Tell every filtered client up to where it has been given everything of its own, and others that
        they are thought of."""
        for n, subscription in enumerate(tuple(self._members)):
            if n % _BREATHE_EVERY == _BREATHE_EVERY - 1:
                await asyncio.sleep(0)
            if not self._may_be_told(subscription):
                continue
            if not subscription.wanted.is_open:
                self.send(subscription, subscription.wire.position(self.place_of(subscription)))
            elif subscription.wire.idle:
                self.send(subscription, subscription.wire.idle)

    @staticmethod
    def _may_be_told(subscription: Subscription) -> bool:
        # A replay takes the time that its client needs: nothing is put on top of what it has not taken yet.
        if subscription.state is State.REPLAYING:
            return not subscription.transport.buffered
        return subscription.state is State.LIVE

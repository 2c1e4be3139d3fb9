"""``/api/events`` and ``/api/events/stream``: the event log by page, and as server-sent events (contract.md,
Events).

Owns what the two read from their requests, and how a page waits for what is to come. What a page holds is
decided in ``hub/pages.py``; what a stream is sent, and when it is too slow, is the hub's.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

import msgspec
from tornado.iostream import IOStream, StreamClosedError

from handlers.base import BaseHandler, Busy
from handlers.pages import query_of
from handlers.parameters import EventFields, EventsQuery, StreamQuery
from handlers.socket import ResolveContact, type_warnings
from handlers.socket_transport import SocketTransport
from hub.frames import Wire, closing_text, event_json
from hub.hub import Hub
from hub.pages import Page, read_page
from hub.replay import Start, resume
from hub.subscription import FULL, Filter, Subscription
from store.log import Log
from whatsapp.failures import Draining

__all__ = ["EventPage", "EventStream"]

MAX_WAITING: Final = 100
"""Requests for pages that may be waiting for events; others are answered at once."""
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Before what came is looked at: where much is written and little of it wanted, not for each of it."""
_LINGER_S = 5.0
_SILENT_MS = 60_000
"""How long what was sent may stay unacknowledged by the other side's network."""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)
"""Not in chunks, which would have to be framed for each client; the end of the connection ends it."""


class _EventHandler(BaseHandler):
    """What both share."""

    hub: Hub
    log: Log
    resolve_contact: ResolveContact

    async def filter_of(self, asked: EventFields) -> tuple[Filter, list[str]]:
        """Which events are wanted, and what of that can never come. Raises BadFilter."""
        contact = await self.resolve_contact(asked.contact) if asked.contact else ""
        types = [name for part in asked.types.split(",") if (name := part.strip())]
        wanted = Filter.of(types, phone_number_id=asked.phone_number_id, contact=contact)
        return wanted, type_warnings(types)


class EventPage(_EventHandler):
    """``GET /api/events``."""

    waiting: set[asyncio.Future[None]]
    _wait: asyncio.Future[None] | None = None
    _gone = False

    async def get(self) -> None:
        """200 with a page, which may be empty and yet not the last: ``next`` is where to go on."""
        query = query_of(self, EventsQuery, ["limit", "wait"], lists=["types"])
        wanted, warnings = await self.filter_of(query)
        start = resume(query.after or 0, self.log.epoch, await self.log.bounds(), "after")
        if not query.after:
            # From the oldest kept, which is no loss to who names no place.
            start = Start(start.offset, True)
        until = asyncio.get_running_loop().time() + query.wait
        page = await read_page(self.hub.read, start, wanted, query.limit)
        pauses = iter(_PAUSES_S)
        while not page.events and page.place >= self.log.head and await self._grows(page.place, until):
            await asyncio.sleep(next(pauses, _PAUSES_S[-1]))
            page = await read_page(self.hub.read, Start(page.place, page.recovered), wanted, query.limit)
        self._answer_page(page, warnings)

    async def _grows(self, place: int, until: float) -> bool:
        """Whether there is something past this place before that time."""
        left = until - asyncio.get_running_loop().time()
        if left <= 0 or len(self.waiting) >= MAX_WAITING or self.hub.closing or self._gone:
            return False
        growth = asyncio.Task(self.log.wait(place), name="page-wait")
        self._wait = growth
        self.waiting.add(growth)
        try:
            await asyncio.wait({growth}, timeout=left)
            return growth.done() and not growth.cancelled()
        finally:
            growth.cancel()
            self.waiting.discard(growth)

    def on_connection_close(self) -> None:
        """Wait for nothing more."""
        self._gone = True
        if self._wait is not None:
            self._wait.cancel()

    def _answer_page(self, page: Page, warnings: list[str]) -> None:
        answer = {
            "events": [msgspec.Raw(event_json(event)) for event in page.events],
            "next": f"{self.log.epoch}:{page.place}",
            "more": page.place < self.log.head,
            "recovered": page.recovered,
        }
        self.answer({**answer, "warnings": warnings} if warnings else answer)


class EventStream(_EventHandler):
    """``GET /api/events/stream``. ``wire`` is that of all its clients."""

    wire: Wire

    def admit(self) -> None:
        """A page's EventSource can give a key in the address only."""
        token = self.get_query_argument("token", "")
        # Whatever is logged of this request from here on must not tell the key.
        self.request.uri = self.request.path
        self._access.check(self.request, token)

    async def get(self) -> None:
        """200 and the stream, which ends only where the client or the gateway ends it."""
        query = query_of(self, StreamQuery, [], lists=["types"])
        wanted, warnings = await self.filter_of(query)
        last = self.request.headers.get("Last-Event-ID")
        called = "Last-Event-ID" if last else "since"
        start = resume(last or query.since or None, self.log.epoch, await self.log.bounds(), called)
        refusal = self.hub.refusal()
        if refusal is not None:
            raise (
                Busy("too many connections, try again later")
                if refusal is FULL
                else Draining("the gateway is stopping, try again in a moment")
            )
        stream = self.detach()
        if stream.closed():
            # The client went while the store was asked.
            return
        client = _Client(stream, self.hub, self.wire)
        self.hub.subscribe(client.subscription, wanted, start, warnings)


class _Client:
    """A connection that is given events and says nothing any more."""

    def __init__(self, stream: IOStream, hub: Hub, wire: Wire) -> None:
        self._stream = cast("Any", stream)
        self._hub = hub
        stream.set_nodelay(True)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Nobody answers pings here: without it, one that vanished would be held for a quarter of an hour.
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
        _unless_closed(stream, _HEAD)
        self._transport = SocketTransport(stream, self._close)
        self.subscription = Subscription(self._transport, wire)
        hub.register(self.subscription)
        stream.set_close_callback(self._gone)
        if stream.closed():
            # The head could not be written, and nobody will call back any more.
            self._gone()
        else:
            # What it says is not taken, and not kept: it is closed.
            self._stream.read_bytes(1, partial=True).add_done_callback(self._spoke)

    def _spoke(self, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._stream.close()

    def _close(self, code: int, reason: str) -> None:
        written = _unless_closed(self._stream, closing_text(code, reason))
        if written is None:
            return
        timer = asyncio.get_running_loop().call_later(_LINGER_S, self._stream.close)

        def close(_: asyncio.Future[None]) -> None:
            timer.cancel()
            self._stream.close()

        written.add_done_callback(close)

    def _gone(self) -> None:
        self._hub.unregister(self.subscription)
        self._transport.release()


def _unless_closed(stream: IOStream, data: bytes) -> asyncio.Future[None] | None:
    try:
        return stream.write(data)
    except StreamClosedError:
        return None

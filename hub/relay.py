"""Events to an outside WebSocket server: the gateway is the client there, and says what ``/ws`` says.

Owns one connection: the hello that opens it, the frames, and when they count as taken. A WebSocket
acknowledges nothing by itself, so there are two ways, between which the operator chooses:

- without ``ack``: a ping follows the frames, and they are taken once it is answered. The other side's
  WebSocket has then read them; whether the program behind it has done anything with them, nobody knows.
- with ``ack``: they are taken once the other side says ``{"op": "ack", "offset": n}``, for all up to n.

When to connect again is decided in ``delivery.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import aiohttp
import msgspec

from hub.carrier import Carried
from hub.delivery import Failure, Fault, failure_of
from hub.frames import event_json, hello_json
from hub.subscription import GOING_AWAY
from store.records import Event
from whatsapp.outside import outside_session, reason_of

__all__ = ["Relay"]

_MOST_EVENTS = 100
_MOST_HEARD = 64 * 1024
"""Of one frame from the other side."""
_PING_S = 25.0
_REFUSALS = frozenset({1003, 1007, 1009})
"""With these a server says that it cannot take what it was sent: its kind, its content, its size (RFC 6455,
7.4.1)."""
_CLOSE_S = 1.0


class _Ack(msgspec.Struct):
    op: Literal["ack"]
    offset: int


class _Broken(Exception):
    """The connection is of no use, or there is none."""

    def __init__(self, why: str, fault: Fault = Fault.AWAY) -> None:
        super().__init__(why)
        self.failure = Failure(fault, why)


class _Line:
    """A connection that stands."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, answer_timeout_s: float) -> None:
        self._socket = socket
        self._answer_timeout_s = answer_timeout_s
        self._pinged = self._ponged = 0
        self._sent = 0
        self._why = ""
        self._fault = Fault.AWAY
        self._heard = asyncio.Event()
        self.acked = 0
        self.ended = asyncio.Event()
        self._listening = asyncio.Task(self._listen(), name="relay-listen")

    async def send(self, text: bytes, offset: int = 0) -> None:
        """One text frame; of an event, its offset. Raises _Broken."""
        self._sent = max(self._sent, offset)
        await self._in_time(self._socket.send_frame(text, aiohttp.WSMsgType.TEXT), "it does not read")

    async def ping(self) -> None:
        """Return once the other side has read all that was sent. Raises _Broken."""
        self._pinged += 1
        number = self._pinged
        await self._in_time(self._socket.ping(b"%d" % number), "it does not read")
        await self._in_time(self._until(lambda: self._ponged >= number), "a ping was not answered")

    async def acknowledged(self, before: int) -> None:
        """Return once more than this is acknowledged. Raises _Broken."""
        await self._in_time(self._until(lambda: self.acked > before), "the events were not acknowledged")

    async def close(self) -> None:
        """End it, and say so, if the other side reads that within a second."""
        self._listening.cancel()
        await asyncio.wait({self._listening})
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_CLOSE_S):
                await self._socket.close(code=GOING_AWAY.code)

    async def _in_time(self, work: Awaitable[None], else_why: str) -> None:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                await work
        except TimeoutError:
            raise _Broken(f"{else_why} within {self._answer_timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(f"the connection broke: {reason_of(error)}") from error

    def _broken(self, why: str) -> _Broken:
        return _Broken(self._why or why, self._fault)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            if self.ended.is_set():
                raise self._broken("the connection broke")
            self._heard.clear()
            await self._heard.wait()

    async def _listen(self) -> None:
        try:
            while not self._why:
                await self._take(await self._socket.receive())
                self._heard.set()
        except (aiohttp.ClientError, OSError) as error:
            self._why = f"the connection broke: {reason_of(error)}"
        finally:
            self.ended.set()
            self._heard.set()

    async def _take(self, message: aiohttp.WSMessage) -> None:
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                self._take_text(message.data)
            case aiohttp.WSMsgType.PING:
                await self._socket.pong(message.data)
            case aiohttp.WSMsgType.PONG:
                if message.data.isdigit() and int(message.data[:18]) <= self._pinged:
                    self._ponged = max(self._ponged, int(message.data))
            case aiohttp.WSMsgType.BINARY:
                pass
            case _:
                code = self._socket.close_code
                if code in _REFUSALS:
                    self._fault = Fault.REFUSED
                self._why = f"it closed the connection{f' with {code}' if code else ''}"

    def _take_text(self, text: str) -> None:
        """An acknowledgement; what else it has to say is its own business."""
        try:
            offset = msgspec.json.decode(text, type=_Ack).offset
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        if offset > self._sent:
            self._why = f"it acknowledged offset {offset}, which it was not given"
        self.acked = max(self.acked, min(offset, self._sent))


class Relay:
    """The carrier to one server."""

    kind = "websocket"
    most = _MOST_EVENTS

    def __init__(
        self,
        url: str,
        *,
        address: str,
        headers: Mapping[str, str],
        ack: bool,
        connect_timeout_s: float,
        answer_timeout_s: float,
        epoch: Callable[[], str],
        now_ms: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        """``answer_timeout_s``: for a ping's answer, or for the next acknowledgement."""
        self.address = address
        self._url = url
        self._headers = headers
        self._ack = ack
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._epoch = epoch
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._session: aiohttp.ClientSession | None = None
        self._line: _Line | None = None
        self._seen_at = 0.0

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._line is not None and not self._line.ended.is_set()

    async def look(self, after: int) -> Failure | None:
        """Connect where there is no connection; ask one that has been quiet whether it lives."""
        try:
            line = await self._connected(after)
            if self._monotonic() - self._seen_at >= _PING_S:
                await line.ping()
                self._seen_at = self._monotonic()
        except _Broken as error:
            await self._hang_up()
            return error.failure
        return None

    async def carry(self, events: Sequence[Event], after: int) -> Carried:
        """A frame for each."""
        acked = 0
        try:
            line = await self._connected(after)
            for event in events:
                await line.send(event_json(event), event.offset)
            if self._ack:
                while (acked := line.acked) < events[-1].offset:
                    await line.acknowledged(acked)
            else:
                await line.ping()
            self._seen_at = self._monotonic()
        except _Broken as error:
            taken = sum(event.offset <= acked for event in events)
            await self._hang_up()
            return Carried(taken, error.failure)
        return Carried(len(events))

    async def parted(self) -> None:
        """The other side hung up, or the connection broke."""
        await (self._line.ended if self._line else asyncio.Event()).wait()

    async def close(self) -> None:
        """Say goodbye."""
        await self._hang_up()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    async def _connected(self, after: int) -> _Line:
        if not self.connected:
            await self._hang_up()
        if self._line is None:
            self._line = _Line(await self._connect(), self._answer_timeout_s)
            self._seen_at = self._monotonic()
            await self._line.send(hello_json(self._epoch(), after, recovered=True))
        return self._line

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        if self._session is None:
            self._session = outside_session()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await self._session.ws_connect(
                    self._url,
                    headers=self._headers,
                    autoping=False,
                    max_msg_size=_MOST_HEARD,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            broken = _Broken(f"HTTP {error.status} in place of a WebSocket")
            if found := failure_of(error.status, error.headers or {}, self._now_ms()):
                broken.failure = broken.failure._replace(retry_after_s=found.retry_after_s)
            raise broken from error
        except TimeoutError:
            raise _Broken(f"no connection within {self._connect_timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _Broken(f"no connection: {reason_of(error)}") from error

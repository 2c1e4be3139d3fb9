"""The least that speaks HTTP and WebSocket to a server under load, so that the load is not what is measured.

Requests are bytes made beforehand. A connection has one request on the way; the next leaves in the
callback in which the answer came, or when it is due. Also here: single calls for what is not under load,
and a subscriber of ``/ws`` that counts.
"""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tests.bench.measure import BenchError

__all__ = ["Load", "Subscriber", "call", "drive", "drive_steadily", "request", "subscribe", "upgrade"]

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PLACE = re.compile(rb'\{"type":"event","offset":(\d+),"prev":(\d+),"event":"([a-z.]+)"')
_PONG = bytes((0x8A, 0x80, 0, 0, 0, 0))
_MOST_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What driving a server gave."""

    seconds: float
    """From the first request to the last answer."""
    latencies_s: tuple[float, ...]
    cpu_share: float
    """Part of its core that the load itself used."""


def request(method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A whole request to a server on loopback."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + _HEAD_END + body


def upgrade(path: str) -> bytes:
    """The request that makes a WebSocket of its connection."""
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Sec-WebSocket-Version", "13"),
    ]
    return request("GET", path, headers=headers)


async def drive(port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """Send all of these over so many kept-alive connections. BenchError unless each is answered 200."""
    crew = _Rush(iter(requests), connections)
    clients = await _connect(port, crew, connections)
    cpu, start = time.process_time(), time.perf_counter()
    try:
        async with asyncio.timeout(_MOST_S):
            for client in clients:
                crew.free(client)
            await crew.ended
    except TimeoutError:
        raise BenchError(f"{len(requests)} requests took more than {_MOST_S:g} seconds") from None
    finally:
        _close(clients)
    return crew.load(cpu, start)


async def drive_steadily(
    port: int,
    requests: Sequence[bytes],
    *,
    per_second: float,
    connections: int,
    until: asyncio.Future[Any],
) -> Load:
    """Send these at a steady rate over so many kept-alive connections until a future ends; return once what
    was sent is answered.

    Each is due at its time, answered or not what was sent before, and its latency counts from then: what it
    waits for a free connection, or for this process, is in it. Raises BenchError where one is not answered
    200, or they are too few.
    """
    crew = _Steady()
    clients = await _connect(port, crew, connections)
    cpu, start = time.process_time(), time.perf_counter()
    try:
        async with asyncio.timeout(_MOST_S):
            for client in clients:
                crew.free(client)
            for n, data in enumerate(requests):
                due = start + n / per_second
                await asyncio.sleep(due - time.perf_counter())
                if until.done():
                    break
                (await crew.idle()).send(data, due)
            else:
                raise BenchError(f"{len(requests)} requests were too few")
            for _ in clients:
                await crew.idle()
    except TimeoutError:
        raise BenchError(f"a steady load went on for more than {_MOST_S:g} seconds") from None
    finally:
        _close(clients)
    return crew.load(cpu, start)


class _Crew(ABC):
    """What the connections of one load share."""

    def __init__(self) -> None:
        self.latencies: list[float] = []

    @abstractmethod
    def free(self, client: _Client) -> None:
        """A connection has nothing on the way."""

    @abstractmethod
    def fail(self, why: str) -> None:
        """The load means nothing."""

    def load(self, cpu: float, start: float) -> Load:
        """What it gave, since it began at this time with so much processor time used by this process."""
        seconds = time.perf_counter() - start
        return Load(seconds, tuple(self.latencies), (time.process_time() - cpu) / seconds)


class _Rush(_Crew):
    """The next request leaves at once, until there are no more."""

    def __init__(self, requests: Iterator[bytes], connections: int) -> None:
        super().__init__()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._at_work = connections

    def free(self, client: _Client) -> None:
        data = next(self._requests, None)
        if data is not None:
            client.send(data, time.perf_counter())
            return
        self._at_work -= 1
        if not self._at_work and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(BenchError(why))


class _Steady(_Crew):
    """The next request leaves when it is due, by the connection that has been free for longest."""

    def __init__(self) -> None:
        super().__init__()
        self._idle: asyncio.Queue[_Client | BenchError] = asyncio.Queue()

    def free(self, client: _Client) -> None:
        self._idle.put_nowait(client)

    def fail(self, why: str) -> None:
        self._idle.put_nowait(BenchError(why))

    async def idle(self) -> _Client:
        """A free connection, which is to be used."""
        found = await self._idle.get()
        if isinstance(found, BenchError):
            raise found
        return found


class _Client(asyncio.Protocol):
    def __init__(self, crew: _Crew) -> None:
        self._crew = crew
        self._transport: asyncio.Transport | None = None
        self._since = 0.0
        self._kept = b""
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closing:
            self._crew.fail("the server closed a connection under load")

    def send(self, data: bytes, since: float) -> None:
        assert self._transport is not None
        self._since = since
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._kept:
            data = self._kept + data
        if not _is_whole(data):
            self._kept = data
            return
        self._kept = b""
        if not data.startswith(b"HTTP/1.1 200 "):
            self._crew.fail(f"a request was answered: {data[:300]!r}")
            return
        self._crew.latencies.append(time.perf_counter() - self._since)
        self._crew.free(self)

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.close()


async def _connect(port: int, crew: _Crew, connections: int) -> list[_Client]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Client(crew), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]


def _close(clients: Sequence[_Client]) -> None:
    for client in clients:
        client.close()


def _is_whole(answer: bytes) -> bool:
    end = answer.find(_HEAD_END)
    if end < 0:
        return False
    found = _LENGTH.search(answer, 0, end)
    if found is None:
        raise BenchError(f"an answer without a length: {answer[:300]!r}")
    return len(answer) >= end + len(_HEAD_END) + int(found[1])


async def call(port: int, data: bytes) -> bytes:
    """The body of the answer to one request. Raises BenchError unless it is a 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(_MOST_S):
            head = await reader.readuntil(_HEAD_END)
            found = _LENGTH.search(head)
            body = await reader.readexactly(int(found[1])) if found else b""
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"{data[:60]!r} was answered {head[:60]!r} {body[:300]!r}")
    return body


class Subscriber(asyncio.Protocol):
    """A client of ``/ws`` that counts events and checks that each continues where the one before ended.

    With filters (``chained`` False) events of other clients are left out, so only the count is kept.
    """

    def __init__(self, path: str, *, chained: bool) -> None:
        self._path = path
        self._chained = chained
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._upgraded = False
        self._place: int | None = None
        self._wanted = 0
        self._reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with the hello."""
        self.counts: dict[str, int] = {}
        """Events by their name."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(upgrade(self._path))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the server closed the connection of the subscriber")

    async def received(self, events: int, timeout_s: float) -> None:
        """Return once so many events have come in all. Raises BenchError where they do not come in time."""
        self._wanted = events
        self._look()
        try:
            async with asyncio.timeout(timeout_s):
                await self._reached
        except TimeoutError:
            total = sum(self.counts.values())
            raise BenchError(f"the subscriber got {total} events where {events} were to come") from None

    def close(self) -> None:
        """Go away."""
        if not self._reached.done():
            self._reached.cancel()
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            end = buffer.find(_HEAD_END)
            if end < 0:
                self._buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101 "):
                self._fail(f"/ws was answered {buffer[:300]!r}")
                return
            self._upgraded = True
            buffer = buffer[end + len(_HEAD_END) :]
        self._buffer = self._read_frames(buffer)
        self._look()

    def _read_frames(self, buffer: bytes) -> bytes:
        at, size = 0, len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            if size < start + length:
                break
            self._frame(buffer[at], buffer, start, start + length)
            at = start + length
        return buffer[at:]

    def _frame(self, head: int, buffer: bytes, start: int, end: int) -> None:
        if head == 0x89 and self._transport is not None:
            self._transport.write(_PONG)
        found = _PLACE.match(buffer, start, end)
        if found is not None:
            self._event(int(found[1]), int(found[2]), found[3].decode())
        elif not self.ready.done() and buffer.startswith(b'{"type":"hello"', start):
            self.ready.set_result(None)

    def _event(self, offset: int, prev: int, name: str) -> None:
        if self._chained and self._place is not None and prev != self._place:
            self._fail(f"the subscriber was given {offset} after {self._place}: there is a gap")
        self._place = offset
        self.counts[name] = self.counts.get(name, 0) + 1

    def _look(self) -> None:
        if self._wanted and sum(self.counts.values()) >= self._wanted and not self._reached.done():
            self._reached.set_result(None)

    def _fail(self, why: str) -> None:
        for future in (self.ready, self._reached):
            if not future.done():
                future.set_exception(BenchError(why))
                future.exception()


async def subscribe(port: int, path: str = "/ws", *, chained: bool = True) -> Subscriber:
    """A subscriber that has had its hello."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: Subscriber(path, chained=chained), "127.0.0.1", port)
    async with asyncio.timeout(_MOST_S):
        await protocol.ready
    return protocol

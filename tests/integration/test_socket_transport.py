"""Over real sockets: bytes leave in order, whoever writes them, and what has to wait is counted."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from tornado.iostream import IOStream

from handlers.socket_transport import SocketTransport
from tests.support.waiting import GUARD_S

_SMALL = 4096
_MORE_THAN_THE_NETWORK_TAKES = 4 * 1024 * 1024
BOUND = 2 * _MORE_THAN_THE_NETWORK_TAKES


class _Subclass(IOStream):
    """Not a plain stream, as one with TLS is none."""


class _Sealed:
    """A stream of a Tornado that keeps its buffer elsewhere: only what is public."""

    def __init__(self, stream: IOStream) -> None:
        self.close = stream.close
        self.closed = stream.closed
        self.socket = stream.socket
        self.write = stream.write
        self.writing = stream.writing


class Wire:
    """A transport, the stream below it, and the other end."""

    def __init__(self, kind: str) -> None:
        ours, self.peer = socket.socketpair()
        for end in (ours, self.peer):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL)
        self.stream = _Subclass(ours) if kind == "subclass" else IOStream(ours)
        self.closed_with: list[tuple[int, str]] = []
        stream: Any = _Sealed(self.stream) if kind == "sealed" else self.stream
        self.transport = SocketTransport(stream, lambda code, reason: self.closed_with.append((code, reason)))

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes from the other end."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            data += await asyncio.wait_for(loop.sock_recv(self.peer, size - len(data)), GUARD_S)
        return data

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


KINDS = pytest.mark.parametrize("kind", ["plain", "subclass", "sealed"])


@KINDS
async def test_what_the_network_takes_leaves_at_once(io_loop: object, kind: str) -> None:
    wire = Wire(kind)
    assert wire.transport.send(b"one", BOUND)
    assert wire.transport.send(b"two", BOUND)
    assert wire.peer.recv(100) == b"onetwo"
    await wire.transport.drained()
    await asyncio.sleep(0)
    assert wire.transport.buffered == 0
    wire.close()


@KINDS
async def test_order_is_kept_when_the_network_takes_a_part(io_loop: object, kind: str) -> None:
    """Tornado's pings go through the stream; a frame may neither overtake one nor be cut in two by it."""
    wire = Wire(kind)
    frames = [bytes([65 + n]) * (20_000 + n) for n in range(10)]
    for n, frame in enumerate(frames):
        if n % 3 == 0:
            wire.stream.write(frame)
        else:
            assert wire.transport.send(frame, BOUND)
    assert wire.transport.buffered > 0
    waiting = asyncio.ensure_future(wire.transport.drained())
    assert await wire.read(sum(map(len, frames))) == b"".join(frames)
    await asyncio.wait_for(waiting, GUARD_S)
    await asyncio.sleep(0)
    assert wire.transport.buffered == 0
    assert wire.transport.send(b"again", BOUND)
    assert await wire.read(5) == b"again"
    wire.close()


@KINDS
async def test_a_frame_does_not_overtake_what_tornado_could_not_send(io_loop: object, kind: str) -> None:
    """The network has room again, and the loop has not had its turn to send what is held back."""
    wire = Wire(kind)
    wire.stream.write(b"a" * _MORE_THAN_THE_NETWORK_TAKES)
    read = wire.peer.recv(_MORE_THAN_THE_NETWORK_TAKES)
    assert wire.transport.send(b"b", BOUND)
    read += await wire.read(_MORE_THAN_THE_NETWORK_TAKES + 1 - len(read))
    assert read.index(b"b") == _MORE_THAN_THE_NETWORK_TAKES
    wire.close()


@KINDS
async def test_more_than_the_bound_is_not_kept(io_loop: object, kind: str) -> None:
    wire = Wire(kind)
    assert wire.transport.send(bytes(_MORE_THAN_THE_NETWORK_TAKES), 1), "who has taken everything is not slow"
    held = wire.transport.buffered
    assert not wire.transport.send(b"xx", held + 1)
    assert wire.transport.buffered == held
    assert wire.transport.send(b"xx", held + 2)
    wire.close()


@KINDS
async def test_what_waits_is_counted(io_loop: object, kind: str) -> None:
    wire = Wire(kind)
    assert wire.transport.send(bytes(_MORE_THAN_THE_NETWORK_TAKES), BOUND)
    first = wire.transport.buffered
    assert wire.transport.send(bytes(1000), BOUND)
    assert wire.transport.buffered == first + 1000
    assert 0 < first <= _MORE_THAN_THE_NETWORK_TAKES
    wire.close()


@KINDS
@pytest.mark.parametrize("side", ["ours", "peer"])
async def test_a_connection_that_is_gone_swallows_everything(io_loop: object, kind: str, side: str) -> None:
    wire = Wire(kind)
    assert wire.transport.send(bytes(_MORE_THAN_THE_NETWORK_TAKES), BOUND)
    waiting = asyncio.ensure_future(wire.transport.drained())
    await asyncio.sleep(0)
    if side == "ours":
        wire.stream.close()
    else:
        wire.peer.close()
    await asyncio.wait_for(waiting, GUARD_S)
    for _ in range(3):
        assert wire.transport.send(b"x", BOUND)
    await asyncio.sleep(0)
    assert wire.transport.buffered == 0
    assert wire.stream.closed()
    wire.close()


async def test_the_first_to_see_that_the_peer_is_gone_closes_the_stream(io_loop: object) -> None:
    wire = Wire("plain")
    wire.peer.close()
    assert wire.transport.send(b"x", BOUND)
    assert wire.stream.closed()


@KINDS
async def test_a_released_connection_ties_nothing_and_swallows_everything(io_loop: object, kind: str) -> None:
    wire = Wire(kind)
    wire.transport.release()
    assert "write" not in vars(wire.stream)
    assert wire.transport.send(b"x", BOUND)
    with pytest.raises(BlockingIOError):
        wire.peer.recv(1)
    wire.close()


async def test_closing_is_begun_once_and_ends_sending(io_loop: object) -> None:
    wire = Wire("plain")
    wire.transport.close(4008, "slow")
    wire.transport.close(1001, "stop")
    assert wire.transport.send(b"x", BOUND)
    assert wire.closed_with == [(4008, "slow")]
    with pytest.raises(BlockingIOError):
        wire.peer.recv(1)
    wire.close()

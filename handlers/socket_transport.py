"""A WebSocket connection as the hub sees it: bytes go out in order and without waiting.

Owns the shortest way from a finished frame to the network, and everything here that leans on Tornado's
inside. Knows no events and no subscriptions.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from tornado.iostream import IOStream, StreamClosedError

__all__ = ["SocketTransport"]


class SocketTransport:
    """Writes to the socket of a Tornado stream itself, as long as the stream holds nothing back.

    Tornado writes to the same stream (pings, pongs, the close frame). The order is kept because either all
    goes through the stream (it holds something) or the socket takes a frame at once; what it does not take of
    one goes through the stream, and so does all that follows until the stream is empty again. Works on any
    asyncio loop, uvloop too: Tornado only asks the loop whether the socket is ready, the socket stays its
    own. A stream that is not a plain TCP one (TLS) gets every frame by its ``write``.

    Tried with Tornado 6.6.1. To know of what Tornado writes without asking before every frame, it stands in
    front of the stream's ``write``, on that one object; where that cannot be, every frame goes through the
    stream. Of the stream's inside it reads ``_write_buffer`` (its length is what is held back; None once
    closed); where there is none, it counts by the futures that ``write`` returns.
    """

    __slots__ = (
        "_close",
        "_counted",
        "_has_buffer",
        "_is_behind",
        "_is_closed",
        "_socket",
        "_stream",
        "_write",
    )

    def __init__(self, stream: IOStream, close: Callable[[int, str], None]) -> None:
        """``close`` begins the WebSocket's closing handshake."""
        # Any, since one of its methods is replaced below.
        self._stream = cast("Any", stream)
        self._close = close
        self._is_closed = False
        self._has_buffer = hasattr(stream, "_write_buffer")
        self._counted = 0
        self._write: Callable[[bytes | memoryview], asyncio.Future[None]] = stream.write
        self._socket: socket.socket | None = stream.socket if type(stream) is IOStream else None
        """None: every frame goes through the stream, or nothing goes any more."""
        try:
            self._stream.write = self._write_and_look
        except AttributeError:
            self._socket = None
        self._is_behind = self._socket is None or self._stream.writing()
        """Whether frames must go through the stream; may stay True for a while after it has become empty."""

    def send(self, data: bytes, bound: int) -> bool:
        """As :class:`hub.subscription.Transport` says."""
        if self._is_behind or self._socket is None:
            return self._queue(data, bound)
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            # Ends the reader's wait, through which Tornado tells the handler. Of no effect if it is closed.
            self._stream.close(exc_info=error)
            return True
        if sent < len(data):
            self._keep(memoryview(data)[sent:])
        return True

    @property
    def buffered(self) -> int:
        """Bytes that the stream holds back, Tornado's own frames among them."""
        if not self._has_buffer:
            return self._counted
        buffer = self._stream._write_buffer
        return len(buffer) if buffer else 0

    def close(self, code: int, reason: str) -> None:
        """Begin to close: what is held back goes out first, then the close frame. Tornado allows it 5 s."""
        if not self._is_closed:
            self._is_closed = self._is_behind = True
            self._close(code, reason)

    def release(self) -> None:
        """Let go of the stream once it is closed: else the two would hold each other until a collection."""
        self._is_closed = self._is_behind = True
        getattr(self._stream, "__dict__", {}).pop("write", None)

    async def drained(self) -> None:
        """Return once the stream holds nothing back, or is closed."""
        while self._stream.writing():
            try:
                # Its future is Tornado's: a replay that is given up may not cancel it.
                await asyncio.shield(self._stream.write(b""))
            except StreamClosedError:
                return

    def _queue(self, data: bytes, bound: int) -> bool:
        if self._is_closed:
            return True
        if self._socket is not None and not self._stream.writing():
            self._is_behind = False
            return self.send(data, bound)
        held = self.buffered
        if held and held + len(data) > bound:
            return False
        self._keep(data)
        return True

    def _keep(self, data: bytes | memoryview) -> None:
        try:
            future = self._write_and_look(data)
        except StreamClosedError:
            return
        if not self._has_buffer:
            self._count(len(data), future)

    def _write_and_look(self, data: bytes | memoryview) -> asyncio.Future[None]:
        future = self._write(data)
        self._is_behind = self._is_behind or self._stream.writing()
        return future

    def _count(self, size: int, future: asyncio.Future[None]) -> None:
        def written(_: asyncio.Future[None]) -> None:
            self._counted -= size

        self._counted += size
        future.add_done_callback(written)

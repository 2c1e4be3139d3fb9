"""A TCP relay in front of a real server: it passes bytes on, and can be slow, stand still, or cut the line.

Owns nothing of what it passes on. With several targets it spreads connections over them in turn, as a
balancer does that asks nobody how they are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

__all__ = ["Relay", "relaying"]

_CHUNK = 64 * 1024


class Relay:
    """Use within :func:`relaying`."""

    def __init__(self, targets: Sequence[int]) -> None:
        """``targets``: ports on loopback."""
        self.port = 0
        self.connections = 0
        """How many there have been."""
        self._targets = tuple(targets)
        self._delay_s = 0.0
        self._second_of = math.inf
        self._cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def delay(self, seconds: float) -> None:
        """Hold every piece of what is said, in either direction, for so long."""
        self._delay_s = seconds

    def throttle(self, bytes_a_second: float) -> None:
        """Let no more through on a connection in either direction. What is on its way when the end that said
        it is gone does not arrive."""
        self._second_of = bytes_a_second

    def stall(self) -> None:
        """Pass nothing on; connections stay, and new ones are taken."""
        self._flowing.clear()

    def cut(self) -> None:
        """Break all connections, and every new one at once."""
        self._cut = True
        self.reset()

    def reset(self) -> None:
        """Break all connections there are; new ones are as good as ever."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """Be as a wire again."""
        self._delay_s, self._second_of, self._cut = 0.0, math.inf, False
        self._flowing.set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        target = self._targets[self.connections % len(self._targets)]
        self.connections += 1
        if self._cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, far_writer)
        self._writers.update(ends)
        self._pump(reader, far_writer, ends)
        self._pump(far_reader, writer, ends)

    async def end(self) -> None:
        """Let go of everything."""
        self.reset()
        self._flowing.set()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def _pump(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, ends: Sequence[asyncio.StreamWriter]
    ) -> None:
        task = asyncio.create_task(self._pass_on(reader, to, ends))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pass_on(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, ends: Sequence[asyncio.StreamWriter]
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if pause_s := self._delay_s + len(chunk) / self._second_of:
                    await asyncio.sleep(pause_s)
                if self._second_of < math.inf and reader.at_eof():
                    break
                await self._flowing.wait()
                to.write(chunk)
                await to.drain()
        for writer in ends:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def relaying(*targets: int) -> AsyncIterator[Relay]:
    """A relay to these ports of loopback, on a free port of its own."""
    relay = Relay(targets)
    server = await asyncio.start_server(relay.take, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.end()

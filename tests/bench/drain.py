"""A thousand subscribers that only empty their sockets and count bytes.

Not on an event loop: what receives must cost so little that it never holds the sender up. Between two
looks it sleeps a millisecond, so that it takes in many sockets at a time and the sender need not wake it
for each.
"""

from __future__ import annotations

import select
import socket
import time

from tests.bench.http import upgrade
from tests.bench.measure import BenchError

__all__ = ["Drain"]

_NAP_S = 0.001
_BUFFER = 1 << 18
_HANDSHAKE_S = 10.0
_HELLO_END = b"}"


class Drain:
    """Connections to one port on loopback. Close it at the end."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._buffer = bytearray(_BUFFER)
        self.kept = bytearray()
        """All that the first connection was sent since :meth:`take`."""

    def connect(self, port: int, connections: int) -> None:
        """Plain connections."""
        for _ in range(connections):
            self._sockets.append(socket.create_connection(("127.0.0.1", port), timeout=_HANDSHAKE_S))

    def subscribe(self, port: int, connections: int) -> None:
        """Subscribers of ``/ws``, each past its hello."""
        asked = upgrade("/ws")
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port), timeout=_HANDSHAKE_S)
            self._sockets.append(client)
            client.sendall(asked)
            answer = b""
            while not (b'"hello"' in answer and answer.endswith(_HELLO_END)):
                data = client.recv(4096)
                if not data:
                    raise BenchError(f"a subscriber was not taken: {answer[:300]!r}")
                answer += data

    def take(self, size: int, timeout_s: float) -> float:
        """Read until every connection was sent so many bytes; the part of its core that this used.

        Raises BenchError where one was sent more, was closed, or time ran out.
        """
        poll = select.epoll()
        left: dict[int, int] = {}
        clients = {client.fileno(): client for client in self._sockets}
        for number, client in clients.items():
            client.setblocking(False)
            poll.register(number, select.EPOLLIN)
            left[number] = size
        try:
            return self._empty(poll, clients, left, timeout_s)
        finally:
            poll.close()

    def close(self) -> None:
        """Let go of all."""
        for client in self._sockets:
            client.close()

    def _empty(
        self, poll: select.epoll, clients: dict[int, socket.socket], left: dict[int, int], timeout_s: float
    ) -> float:
        buffer, first = self._buffer, self._sockets[0].fileno()
        waiting = len(clients)
        start, cpu = time.perf_counter(), time.process_time()
        while waiting:
            if time.perf_counter() - start > timeout_s:
                raise BenchError(f"{waiting} subscribers did not get everything in {timeout_s:g} seconds")
            for number, _ in poll.poll(1.0):
                taken = clients[number].recv_into(buffer)
                if number == first:
                    self.kept += buffer[:taken]
                missing = left[number] = left[number] - taken
                if not taken or missing < 0:
                    raise BenchError("a subscriber was closed, or was sent more than was to come")
                if not missing:
                    waiting -= 1
            time.sleep(_NAP_S)
        return (time.process_time() - cpu) / (time.perf_counter() - start)

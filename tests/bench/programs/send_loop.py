"""Peer of fan-out: a plain loop of ``socket.send`` of the same bytes over connected sockets.

Takes how many connections to wait for, how many events, and how many bytes each has as JSON. Greets with
its address; once all are connected it says ``ready``, waits for a line on its standard input, and sends
one event after the other to all.
"""

from __future__ import annotations

import socket
import sys

from tests.bench.events import frame_of

__all__ = ["main"]


def main(connections: str, events: str, size: str) -> None:
    """The process entry."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        print(f"send loop on http://127.0.0.1:{server.getsockname()[1]}", flush=True)
        sockets = [server.accept()[0] for _ in range(int(connections))]
    for client in sockets:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
    frame = frame_of(1, int(size))
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(events)):
        for client in sockets:
            _send(client, frame)
    sys.stdin.readline()


def _send(client: socket.socket, frame: bytes) -> None:
    try:
        sent = client.send(frame)
    except BlockingIOError:
        sent = 0
    if sent < len(frame):
        client.setblocking(True)
        client.sendall(frame[sent:])
        client.setblocking(False)


if __name__ == "__main__":
    main(*sys.argv[1:])

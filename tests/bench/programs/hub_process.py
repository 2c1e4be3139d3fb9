"""The hub with its real log and socket handler in a process, publishing events that no webhook brought.

For the cost of fan-out alone: behind a webhook each event would also pay for its parsing and its fsync,
and the row would measure intake once more. The store behind the log is a stand-in that hands events over
and keeps nothing; from there on (``Log`` to ``Hub`` to ``SocketHandler`` to socket) it is the code that
runs in the gateway.

Takes how many events, and how many bytes each has as JSON. Greets with its address, waits for a line on
its standard input, and publishes one event at a time, a turn of the loop each.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import cast

import uvloop
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from handlers.access import Access
from handlers.socket import APPLICATION_SETTINGS, socket_routes
from hub.hub import Hub
from store.base import Store
from store.log import Log
from store.records import Event, LogBounds
from tests.bench.events import event_of

__all__ = ["Source", "serve"]

_SETTINGS = {**APPLICATION_SETTINGS, "websocket_ping_interval": 0}
"""Without pings, so that a client's bytes are events and nothing else."""


class Source:
    """As much of a store as a log needs whose readers never fall behind."""

    epoch = "bench"

    def __init__(self) -> None:
        self._head = 0
        self._callback: Callable[[Sequence[Event]], None] = lambda events: None

    def on_events(self, callback: Callable[[Sequence[Event]], None]) -> None:
        """As in the store's contract."""
        self._callback = callback

    async def log_bounds(self) -> LogBounds:
        """As in the store's contract."""
        return LogBounds(0, self._head)

    def publish(self, size: int) -> None:
        """One more event, as the store tells of it after a commit."""
        self._head += 1
        self._callback([event_of(self._head, size)])


async def serve(events: int, size: int) -> None:
    """Until the standard input ends, or the process is."""
    source = Source()
    log = Log(cast("Store", source))
    await log.start()
    hub = Hub(log)
    routes = socket_routes(hub=hub, log=log, access=Access("", []), resolve_contact=_nobody)
    application = Application(routes, log_function=lambda handler: None, **_SETTINGS)
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    HTTPServer(application).add_sockets(sockets)
    print(f"hub on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(events):
        source.publish(size)
        await asyncio.sleep(0)
    await asyncio.to_thread(sys.stdin.read)


async def _nobody(text: str) -> str:
    return ""


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(*map(int, sys.argv[1:])))

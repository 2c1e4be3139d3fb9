"""Peer of webhook intake: a bare Tornado handler that reads the body and answers 200.

Checks nothing, stores nothing, logs nothing. Greets with its address.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

__all__ = ["Webhook", "serve"]


class Webhook(RequestHandler):
    """``POST /webhook``."""

    def post(self) -> None:
        """The body is here already when this is called."""
        _ = self.request.body
        self.finish(b"ok")


async def serve() -> None:
    """Until the standard input ends, or the process is."""
    application = Application([(r"/webhook", Webhook)], log_function=lambda handler: None)
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(application).add_sockets(sockets)
    print(f"bare handler on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())

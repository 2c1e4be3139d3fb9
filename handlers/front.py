"""The first to see a request: bounds its body and its time, and takes Meta's webhooks past everything that
they do not need.

Stands in front of the Tornado application. A webhook is a POST of which one header and the body matter,
thousands of times a second, so it is read and answered here on Tornado's connection itself; a
``RequestHandler`` would cost twice as much. What a webhook means and what it is answered is in
``webhook.py``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import NamedTuple

import msgspec
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from handlers.base import error_answer
from whatsapp.media_rules import FILE_LIMIT

__all__ = ["Front", "Reply"]

WEBHOOK_LIMIT = 4 * 1024 * 1024
"""Meta's bodies stay under 3 MB (CLOUD_API.md 3)."""
UPLOAD_LIMIT = FILE_LIMIT + 64 * 1024
"""The largest file that Meta takes, and the form around it."""
_UPLOAD_S = 900.0
"""For the body of an upload; others have the server's own limit."""
_DISCARD_FACTOR = 8
"""A body up to so many times its limit is read to its end and thrown away, so that the caller gets to read
the answer."""
_UPLOAD_DISCARD_FACTOR = 2


class Reply(NamedTuple):
    """What is answered; the body is JSON."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Respond = Callable[[HTTPHeaders, bytes], Awaitable[Reply]]


class Front(HTTPServerConnectionDelegate):
    """``webhook`` answers ``POST /webhook``; everything else goes to ``application``."""

    def __init__(
        self,
        application: HTTPServerConnectionDelegate,
        webhook: Respond,
        *,
        max_body_bytes: int,
        errors: Counter[str],
    ) -> None:
        self.application = application
        self.webhook = webhook
        self.max_body_bytes = max_body_bytes
        self.errors = errors
        self.answering: set[asyncio.Task[None]] = set()

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        return _Request(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)


class _Request(HTTPMessageDelegate):
    """One request until it is known whose it is, then its body."""

    def __init__(self, front: Front, server_conn: object, connection: HTTPConnection) -> None:
        self._front = front
        self._server_conn = server_conn
        self._connection = connection
        self._inner: HTTPMessageDelegate | None = None
        self._headers = HTTPHeaders()
        self._limit = WEBHOOK_LIMIT
        self._size = 0
        self._too_large = False
        self._chunks: list[bytes] = []

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, RequestStartLine)
        self._headers = headers
        posted_to = start_line.path.partition("?")[0] if start_line.method == "POST" else ""
        is_webhook = posted_to == "/webhook"
        factor = _DISCARD_FACTOR
        if posted_to == "/api/media":
            # It passes through in chunks, see upload_form.py.
            self._limit, factor = UPLOAD_LIMIT, _UPLOAD_DISCARD_FACTOR
            self._connection.set_body_timeout(_UPLOAD_S)  # type: ignore[attr-defined]
        elif not is_webhook:
            self._limit = self._front.max_body_bytes
        most = self._limit * factor
        self._connection.set_max_body_size(most)  # type: ignore[attr-defined]
        declared = headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared[:20]) > most:
            # Tornado closes the connection after an answer that comes before the end of the body.
            self._refuse_size()
            return None
        self._too_large = declared.isdecimal() and int(declared) > self._limit
        if not is_webhook and not self._too_large:
            self._inner = self._front.application.start_request(self._server_conn, self._connection)
        if self._inner is not None:
            return self._inner.headers_received(start_line, headers)
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._size += len(chunk)
        if self._size > self._limit:
            self._too_large = True
            self._chunks.clear()
            if self._inner is not None:
                # It will not see the end, and lets go of what it has.
                self._inner.on_connection_close()
                self._inner = None
        if self._too_large:
            return None
        if self._inner is not None:
            return self._inner.data_received(chunk)
        self._chunks.append(chunk)
        return None

    def finish(self) -> None:
        if self._too_large:
            self._refuse_size()
        elif self._inner is not None:
            self._inner.finish()
        else:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            task = asyncio.Task(self._answer(body), name="webhook")
            self._front.answering.add(task)
            task.add_done_callback(self._front.answering.discard)

    def on_connection_close(self) -> None:
        if self._inner is not None:
            self._inner.on_connection_close()

    async def _answer(self, body: bytes) -> None:
        self._write(await self._front.webhook(self._headers, body))

    def _refuse_size(self) -> None:
        self._front.errors["too_large"] += 1
        message = f"the body is larger than {self._limit} bytes"
        self._write(Reply(413, msgspec.json.encode(error_answer("too_large", message))))

    def _write(self, reply: Reply) -> None:
        headers = HTTPHeaders()
        headers["Content-Type"] = "application/json; charset=utf-8"
        headers["Content-Length"] = str(len(reply.body))
        for name, value in reply.headers:
            headers[name] = value
        start_line = ResponseStartLine("HTTP/1.1", reply.status, responses[reply.status])
        # Nothing to wait for: a client that is gone does not matter any more, the event is in the log.
        future = self._connection.write_headers(start_line, headers, reply.body)
        future.add_done_callback(_forget)
        self._connection.finish()


def _forget(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()

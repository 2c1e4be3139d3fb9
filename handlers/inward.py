"""Requests that never leave the process: what a frame of ``/ws`` asks for is done as the REST API does it.

Owns the way from the fields of an op ``send`` to the handler of ``POST /api/send-message`` (where there is a
``phone``) or ``POST /api/messages``, and from its answer back. Whoever sent the frame was let in before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

from handlers.access import Access
from handlers.idempotency import check_key
from handlers.parameters import KEY_HEADER
from whatsapp.failures import InvalidRequest

__all__ = ["SEND_OWN", "SEND_TEXT", "LetIn", "SendFrames"]

SEND_TEXT: Final = "/api/send-message"
SEND_OWN: Final = "/api/messages"
_KEY_FIELD = "idempotency_key"


class LetIn(Access):
    """Lets everybody in: for requests that were let in elsewhere."""

    def __init__(self) -> None:
        super().__init__("")

    def check(self, request: HTTPServerRequest, token: str | None = None) -> None:
        """Return."""


class SendFrames:
    """A :data:`~handlers.socket_sends.SendOp`. ``routes``: of the two paths, made with :class:`LetIn`."""

    def __init__(self, routes: Sequence[Any]) -> None:
        self._application = Application(list(routes), log_function=lambda handler: None)

    async def __call__(self, fields: dict[str, Any]) -> Mapping[str, Any]:
        """The answer. Raises InvalidRequest."""
        key = fields.pop(_KEY_FIELD, None)
        headers = HTTPHeaders({"Host": "localhost", "Content-Type": "application/json"})
        if key is not None:
            if not isinstance(key, str):
                raise InvalidRequest(f"{_KEY_FIELD}: must be text", [(_KEY_FIELD, "must be text")])
            check_key(key, _KEY_FIELD)
            headers[KEY_HEADER] = key
        path = SEND_TEXT if "phone" in fields else SEND_OWN
        caught = _Caught()
        request = HTTPServerRequest(
            connection=caught,
            start_line=RequestStartLine("POST", path, "HTTP/1.1"),
            headers=headers,
            body=msgspec.json.encode(fields),
        )
        self._application(request)
        return msgspec.json.decode(await caught.answer, type=dict[str, Any])


class _Caught(HTTPConnection):
    """A connection whose answer is kept."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._body = b""

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        self._body += chunk
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def finish(self) -> None:
        if not self.answer.done():
            self.answer.set_result(self._body)

    def set_close_callback(self, callback: object) -> None:
        """Nobody closes it."""

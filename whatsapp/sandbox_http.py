"""The sandbox's HTTP edge: Graph's paths as Meta has them, and ``/sandbox/...`` for who runs it.

Owns how bytes on a connection become calls of the account, and answers. Any version is taken (CLOUD_API.md
0.2). ``POST /{version}/{phone-number-id}/messages`` and ``.../marketing_messages`` go past Tornado's request
handlers, which cost as much again as all the rest of a send (GOALS.md); every other path is an ordinary
handler.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import Any, NamedTuple, cast

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application, HTTPError, RequestHandler

from whatsapp.sandbox_account import Account, Answer
from whatsapp.sandbox_rules import Refused, SandboxError
from whatsapp.sandbox_templates import template_page

__all__ = ["Desk", "GraphServer"]

_PAGE = 1000
_PAGE_LIMIT = 10_000
_JSON = "application/json; charset=UTF-8"


class Desk(NamedTuple):
    """What the handlers work with."""

    account: Account
    base_url: Callable[[], str]
    webhook_stats: Callable[[], dict[str, int]]


class GraphServer(HTTPServerConnectionDelegate):
    """What a Tornado ``HTTPServer`` is given to serve the sandbox."""

    def __init__(self, desk: Desk) -> None:
        self.account = desk.account
        self.rest = _application(desk)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """One request is about to come in."""
        return _Exchange(self, server_conn, request_conn)


class _Exchange(HTTPMessageDelegate):
    """One request: a send, or whatever the application makes of it."""

    def __init__(self, server: GraphServer, server_conn: object, connection: HTTPConnection) -> None:
        self._server = server
        self._server_conn = server_conn
        self._connection = connection
        self._rest: HTTPMessageDelegate | None = None
        self._number = ""
        self._marketing = False
        self._authorization: str | None = None
        self._body: list[bytes] = []
        self._closed = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        start = cast(RequestStartLine, start_line)
        parts = start.path.partition("?")[0].split("/")
        if start.method == "POST" and len(parts) == 4 and parts[3] in ("messages", "marketing_messages"):
            self._number = parts[2]
            self._marketing = parts[3] != "messages"
            self._authorization = headers.get("Authorization")
            return None
        self._rest = self._server.rest.start_request(self._server_conn, self._connection)
        return self._rest.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._rest is not None:
            return self._rest.data_received(chunk)
        self._body.append(chunk)
        return None

    def finish(self) -> None:
        if self._rest is not None:
            self._rest.finish()
            return
        loop = asyncio.get_running_loop()
        account = self._server.account
        answer = account.messages(
            self._number,
            self._authorization,
            b"".join(self._body),
            loop.time(),
            time.time(),
            marketing=self._marketing,
        )
        if delay_ms := account.faults.now.delay_ms:
            cast(HTTP1Connection, self._connection).set_close_callback(self.on_connection_close)
            loop.call_later(delay_ms / 1000, self._answer, answer)
        else:
            self._answer(answer)

    def on_connection_close(self) -> None:
        self._closed = True
        if self._rest is not None:
            self._rest.on_connection_close()

    def _answer(self, answer: Answer) -> None:
        if self._closed:
            return
        if answer.dropped:
            cast(HTTP1Connection, self._connection).close()
            return
        headers = HTTPHeaders()
        headers["Content-Type"] = "text/html; charset=utf-8" if answer.html else _JSON
        headers["Content-Length"] = str(len(answer.body))
        if (used := self._server.account.faults.now.app_usage) is not None:
            headers["X-App-Usage"] = f'{{"call_count":{used:g},"total_cputime":0,"total_time":0}}'
        start_line = ResponseStartLine("HTTP/1.1", answer.http, responses.get(answer.http, "Unknown"))
        self._connection.write_headers(start_line, headers, answer.body)
        self._connection.finish()


def _application(desk: Desk) -> Application:
    version = r"/v[0-9]+\.[0-9]+"
    with_desk = {"desk": desk}
    return Application(
        [
            (rf"{version}/([0-9]+)/media", _Uploads, with_desk),
            (rf"{version}/([0-9]+)/phone_numbers", _Numbers, with_desk),
            (rf"{version}/([0-9]+)/message_templates", _Templates, with_desk),
            (rf"{version}/([^/]+)", _Node, with_desk),
            (r"/media/([0-9]+)", _Download, with_desk),
            (r"/sandbox/inbound", _Inbound, with_desk),
            (r"/sandbox/webhook", _Webhook, with_desk),
            (r"/sandbox/faults", _FaultsResource, with_desk),
            (r"/sandbox/accepted", _AcceptedResource, with_desk),
            (r"/sandbox/stats", _Stats, with_desk),
        ],
        default_handler_class=_Unknown,
        default_handler_args=with_desk,
        log_function=lambda handler: None,
    )


class _Handler(RequestHandler):
    def initialize(self, desk: Desk) -> None:
        self.desk = desk
        self.account = desk.account

    def answer(self, value: Any) -> None:
        self.set_header("Content-Type", _JSON)
        self.finish(msgspec.json.encode(value))


# -- Graph -------------------------------------------------------------------------------------------------


class _Graph(_Handler):
    """A path of Meta's: needs the token, and answers errors in Meta's shape."""

    async def prepare(self) -> None:
        if delay_ms := self.account.faults.now.delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        self.account.check_token(self.request.headers.get("Authorization"))

    def log_exception(self, *error: Any) -> None:
        if not isinstance(error[1], Refused):
            super().log_exception(*error)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, Refused):
            if isinstance(error, HTTPError):
                problem = f"{self.request.method} {self.request.path} cannot be done: {error}."
                error = Refused(100, problem, http=status_code)
            else:
                error = Refused(131000, "The sandbox failed; its log says how.")
        self.set_status(error.http)
        self.set_header("Content-Type", _JSON)
        self.finish(self.account.refuse(error))


class _Unknown(_Graph):
    async def prepare(self) -> None:
        raise Refused(100, f"Unknown path: {self.request.path}.", http=404, title="Unknown path components")


class _Node(_Graph):
    """One object by its id: a number, or an upload."""

    def get(self, id: str) -> None:
        if self.account.owns(id):
            self.answer(self.account.number_info(id, self.get_query_argument("fields", "")))
            return
        media = self.account.media.get(id, self.get_query_argument("phone_number_id", ""))
        self.answer(media.info(self.desk.base_url(), time.time()))

    def delete(self, id: str) -> None:
        self.account.media.remove(id, self.get_query_argument("phone_number_id", ""))
        self.answer({"success": True})


class _Numbers(_Graph):
    def get(self, waba_id: str) -> None:
        self.answer(self.account.numbers(waba_id, self.get_query_argument("fields", "")))


class _Templates(_Graph):
    def get(self, waba_id: str) -> None:
        self.account.require_account(waba_id)
        asked = {name: self.get_query_argument(name, "") for name in ("fields", "limit", "after")}
        self.answer(template_page(f"{self.desk.base_url()}{self.request.path}", **asked))


class _Uploads(_Graph):
    def post(self, number: str) -> None:
        self.account.require_number(number)
        if self.get_body_argument("messaging_product", "") != "whatsapp":
            raise Refused(100, "messaging_product must be 'whatsapp'.")
        files = self.request.files.get("file", [])
        if len(files) != 1:
            raise Refused(100, "file must be one file.")
        mime_type = self.get_body_argument("type", "") or files[0].content_type
        self.answer({"id": self.account.media.put(number, mime_type, files[0].body).id})


class _Download(_Graph):
    def get(self, id: str) -> None:
        media = self.account.media.get(id)
        until = self.get_query_argument("ext", "")
        if not until.isdecimal() or int(until) < time.time():
            raise Refused(100, "This URL is too old; ask for a new one.", http=404, title="Expired")
        self.set_header("Content-Type", media.mime_type)
        self.finish(media.content)


# -- for who runs the sandbox ------------------------------------------------------------------------------


class _InboundBody(msgspec.Struct, forbid_unknown_fields=True):
    sender: str | int = msgspec.field(name="from", default="")
    text: str | None = None
    message: dict[str, Any] | None = None
    name: str = ""
    phone_number_id: str = ""


class _Control(_Handler):
    def log_exception(self, *error: Any) -> None:
        if not isinstance(error[1], SandboxError):
            super().log_exception(*error)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        known = isinstance(error, SandboxError)
        self.set_status(400 if known else status_code)
        self.answer({"success": False, "error": error.message if known else self._reason})


class _Inbound(_Control):
    def post(self) -> None:
        try:
            body = msgspec.json.decode(self.request.body, type=_InboundBody)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SandboxError(f"Inbound message refused: {error}.") from error
        now = asyncio.get_running_loop().time()
        told = self.account.inbound(
            str(body.sender),
            body.text,
            body.message,
            name=body.name,
            number=body.phone_number_id,
            now=now,
            at=time.time(),
        )
        self.answer({"success": True, **told})


class _WebhookBody(msgspec.Struct, forbid_unknown_fields=True):
    field: str
    value: dict[str, Any]


class _Webhook(_Control):
    def post(self) -> None:
        try:
            body = msgspec.json.decode(self.request.body, type=_WebhookBody)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SandboxError(f"Webhook refused: {error}.") from error
        self.account.tell(body.field, body.value, time.time())
        self.answer({"success": True})


class _FaultsResource(_Control):
    def get(self) -> None:
        self.answer(self.account.faults.now)

    def post(self) -> None:
        try:
            wanted = msgspec.json.decode(self.request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SandboxError(f"Faults must be a JSON object: {error}.") from error
        self.answer(self.account.faults.change(wanted))


class _AcceptedResource(_Control):
    def get(self) -> None:
        after = self._number("after", 0)
        limit = min(self._number("limit", _PAGE), _PAGE_LIMIT)
        self.answer(self.account.accepted(after, limit))

    def _number(self, name: str, default: int) -> int:
        text = self.get_query_argument(name, str(default))
        if not (text.isascii() and text.isdecimal()):
            raise SandboxError(f"{name} must be a whole number, not {text!r}.")
        return int(text)


class _Stats(_Control):
    def get(self) -> None:
        self.answer(self.account.stats() | {"webhooks": self.desk.webhook_stats()})

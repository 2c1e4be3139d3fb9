"""What all REST handlers share: authorisation, reading a body, and the one table from errors to HTTP answers.

An answer that refuses has the shape of contract.md, Answers:
``{"success": false, "error", "code", "details"?, "meta"?}``.
Errors that the gateway did not expect are logged with their trace and answered without it.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections import Counter
from collections.abc import Awaitable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
from tornado.web import HTTPError, RequestHandler

from handlers.access import Access, AccessDenied, KeyRequired, check_same_site
from handlers.idempotency import REPLAYED, Idempotency, IdempotencyMismatch, Work
from handlers.parameters import KEY_HEADER
from hub.replay import BadPosition
from hub.subscription import BadFilter
from store.errors import GatewayError, StoreError, StoreUnavailable
from whatsapp.failures import (
    Draining,
    InvalidRequest,
    MetaFailed,
    MetaRefused,
    NoAnswer,
    NoSuchMedia,
    NotSent,
    OptedOut,
    SendError,
)
from whatsapp.webhook import BadPayload

__all__ = [
    "BadForm",
    "BaseHandler",
    "Busy",
    "NotFound",
    "NotJson",
    "UnsupportedMedia",
    "bare_refusal",
    "error_answer",
    "methods_of",
    "status_of",
]

_log = logging.getLogger(__name__)

MAX_DETAILS = 100
RETRY_AFTER_S = "2"
_NO_OBJECT = "the body must be a JSON object"


class NotJson(GatewayError):
    """The body is no JSON, or does not say that it is."""

    code = "not_json"


class BadForm(GatewayError):
    """The body is no form, or breaks off."""

    code = "bad_form"


class Busy(GatewayError):
    """Too much of this kind is under way."""

    code = "busy"


class UnsupportedMedia(GatewayError):
    """The body is of a type that the path does not take."""

    code = "unsupported_media_type"


class NotFound(GatewayError):
    """There is nothing at this path, or what it names does not exist."""

    code = "not_found"


STATUS_OF: dict[type[GatewayError], int] = {
    NotJson: 400,
    BadForm: 400,
    InvalidRequest: 400,
    OptedOut: 400,
    MetaRefused: 400,
    BadPayload: 400,
    BadPosition: 400,
    BadFilter: 400,
    KeyRequired: 401,
    AccessDenied: 403,
    NotFound: 404,
    NoSuchMedia: 404,
    UnsupportedMedia: 415,
    IdempotencyMismatch: 422,
    MetaFailed: 502,
    NoAnswer: 502,
    SendError: 502,
    NotSent: 503,
    Busy: 503,
    Draining: 503,
    StoreUnavailable: 503,
    StoreError: 500,
    GatewayError: 500,
}
"""The HTTP status of every kind of error; a kind that is not here has that of its nearest base."""


def status_of(error: GatewayError) -> int:
    """The HTTP status that this error is answered with."""
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def error_answer(code: str, message: str, details: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """The body of a refusal."""
    answer: dict[str, Any] = {"success": False, "error": message, "code": code}
    if details:
        answer["details"] = [{"path": path, "problem": problem} for path, problem in details[:MAX_DETAILS]]
    return answer


def methods_of(handler: type[RequestHandler]) -> list[str]:
    """The methods that a handler takes, in Tornado's order."""
    names = {method: method.lower() for method in handler.SUPPORTED_METHODS}
    return [
        method
        for method, name in names.items()
        if getattr(handler, name) is not getattr(RequestHandler, name)
    ]


def bare_refusal(status: int, method: str, allowed: Iterable[str]) -> tuple[str, str]:
    """Code and sentence of what Tornado refuses by itself. ``allowed``: the methods that the path takes."""
    if status >= 500:
        return "internal", "the gateway failed at this, its log says why"
    code = HTTPStatus(status).name.lower()
    if status == 405:
        return code, f"the method {method[:20]} is not allowed here; this path takes {' and '.join(allowed)}"
    if status == 400:
        return code, "the path, the query or the form of this request cannot be read"
    return code, f"the request cannot be served: {HTTPStatus(status).phrase}"


def _why_not_json(body: bytes, error: Exception) -> str:
    if not body:
        return "the body is empty: send a JSON object"
    try:
        body.decode()
    except UnicodeDecodeError as broken:
        # Not the decoder's own sentence: that one counts from the beginning of the text that the byte is in.
        at = broken.start
        return f"the body is not valid UTF-8: byte {at} of it, 0x{body[at]:02x}, is no part of a character"
    return f"the body is not valid JSON: {error}"


class BaseHandler(RequestHandler):
    """One REST resource. ``errors`` counts every refusal by its code."""

    public = False
    """Whether the path may be called without a key, from anywhere."""
    taken_before: tuple[str, ...] = ()
    """Methods of the path that are answered before the request gets here."""
    idempotency: Idempotency | None = None
    """Who knows the answers to POSTs with a key of their caller's."""
    task_id = ""
    """The id for a task that this request stores, so that its repetition stores no other; empty: any."""
    _work: Work | None = None
    _ending = False

    def initialize(self, *, access: Access, errors: Counter[str], **collaborators: Any) -> None:
        """Take the collaborators; each handler names its own and keeps them as attributes."""
        self._access = access
        self._errors = errors
        for name, collaborator in collaborators.items():
            setattr(self, name, collaborator)

    def prepare(self) -> Awaitable[None] | None:
        """Let in who may come in; answer a repetition as before."""
        self.admit()
        return self.begin_once()

    def begin_once(self) -> Awaitable[None] | None:
        """Answer a repetition as before, which finishes the request; else it is the first of its key, or has
        none."""
        key = self.request.headers.get(KEY_HEADER) if self.request.method == "POST" else None
        if key is None or self.idempotency is None or "POST" not in methods_of(type(self)):
            return None
        return self._begin(key, self.idempotency) if self.request.path.startswith("/api/") else None

    def admit(self) -> None:
        """Return if the caller may come in. Raises KeyRequired, AccessDenied."""
        if not self.public:
            self._access.check(self.request)
            if self.request.method == "POST" and not self._says_json():
                check_same_site(self.request)

    def sameness(self) -> bytes:
        """What two requests with the same key must have in common."""
        return self.request.body

    async def _begin(self, key: str, idempotency: Idempotency) -> None:
        found = await idempotency.begin(self.request.path, key, self.sameness())
        if isinstance(found, Work):
            self._work, self.task_id = found, found.task_id
            return
        self.set_header(REPLAYED, "true")
        self.set_status(found.status)
        self.finish(found.body)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the request; of one with a key once its answer is kept."""
        if self._work is None or self.idempotency is None:
            return super().finish(chunk)
        if not self._ending:
            self._ending, self._auto_finish = True, False
            kept = chunk if isinstance(chunk, bytes) else None
            status = self.get_status()
            self.idempotency.end(self._work, status, kept, partial(self._finish_now, chunk, status))
        # Tornado asks again where an answer of ours to an error has not ended the request yet.
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _finish_now(self, chunk: str | bytes | dict[str, Any] | None, status: int) -> None:
        # What failed in the handler after it had answered changes nothing.
        self.set_status(status)
        super().finish(chunk)

    def set_default_headers(self) -> None:
        """Answers are JSON unless a handler says otherwise."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.clear_header("Server")

    def read_json(self) -> dict[str, Any]:
        """The body, which must be a JSON object and say so. Raises NotJson, UnsupportedMedia."""
        self._check_type()
        body = self.decode(self.request.body)
        if not isinstance(body, dict):
            raise NotJson(_NO_OBJECT)
        return body

    def read_raw(self) -> dict[str, msgspec.Raw]:
        """As :meth:`read_json`, with the values undecoded: for what is too large to be decoded at once."""
        self._check_type()
        try:
            return msgspec.json.decode(self.request.body, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError:
            raise NotJson(_NO_OBJECT) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotJson(_why_not_json(self.request.body, error)) from error

    def decode(self, raw: bytes | msgspec.Raw) -> Any:
        """A part of the body, or all. Raises NotJson."""
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotJson(_why_not_json(self.request.body, error)) from error

    def _check_type(self) -> None:
        """Raise UnsupportedMedia where the body does not say that it is JSON."""
        if not self._says_json():
            raise UnsupportedMedia("send the body as JSON, with the header Content-Type: application/json")

    def _says_json(self) -> bool:
        """Whether a web page may send this to another site only if that allows it: anything else, and no body
        at all, it may send without asking."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0]
        return kind.strip().lower() == "application/json"

    def answer(self, body: object, status: int = 200) -> None:
        """End the request with a JSON answer."""
        self.set_status(status)
        self.finish(msgspec.json.encode(body))

    def refuse(self, error: GatewayError) -> None:
        """End the request with what an error says to its caller."""
        self._errors[error.code] += 1
        status = status_of(error)
        if status == 503:
            self.set_header("Retry-After", RETRY_AFTER_S)
        answer = error_answer(error.code, error.message, error.details)
        if isinstance(error, MetaRefused) and error.meta is not None:
            answer["meta"] = error.meta
        self.answer(answer, status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's way to tell of what a handler raised."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, GatewayError):
            self.refuse(error)
            return
        allowed = (*methods_of(type(self)), *self.taken_before)
        if status_code == 405:
            # RFC 9110, 15.5.6
            self.set_header("Allow", ", ".join(allowed))
        code, sentence = bare_refusal(status_code, self.request.method or "", allowed)
        self._errors[code] += 1
        self.answer(error_answer(code, sentence), status_code)

    def log_exception(self, *exc_info: Any) -> None:
        """Only what nobody expected is worth a trace."""
        error = exc_info[1]
        if isinstance(error, HTTPError) or (isinstance(error, GatewayError) and status_of(error) != 500):
            return
        _log.error("request failed: %s %s", self.request.method, self.request.path, exc_info=exc_info)


class NothingHere(BaseHandler):
    """Every path that is none."""

    def prepare(self) -> None:
        """Whatever the method; only who may call at all learns that there is nothing."""
        self.admit()
        raise self._not_found()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A method that Tornado does not know is refused before :meth:`prepare`."""
        if status_code == 405:
            self.refuse(self._not_found())
        else:
            super().write_error(status_code, **kwargs)

    def _not_found(self) -> NotFound:
        return NotFound(f"there is nothing at {self.request.path[:200]}")

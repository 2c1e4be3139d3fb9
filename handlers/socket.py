"""``/ws``: the event log as a stream (contract.md, Events).

Owns one connection's conversation: who may come in, what the client's frames ask for, and when it is told to
leave. What it is sent, in which order and from where, is the hub's.

Close codes of its own, beside those of ``hub/subscription.py``: 4400 after the third bad frame, 4401 for a
missing or wrong key. Both are the client's to mend before it connects again.

A client that says much is read no faster than some thousand frames a second; the rest waits in the network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.websocket import WebSocketHandler

from handlers.access import Access, AccessDenied, KeyRequired
from handlers.base import bare_refusal, error_answer, methods_of
from handlers.socket_frames import Ack, Auth, BadFrame, Ping, Request, Send, Subscribe, decode
from handlers.socket_sends import SendDesk, SendOp
from handlers.socket_transport import SocketTransport
from hub.frames import error_frame, pong_frame
from hub.hub import Hub
from hub.names import Names, check_name
from hub.replay import Start, parse_position, resume
from hub.subscription import FAULT, FULL, Close, Filter, State, Subscription
from store.errors import GatewayError, StoreError
from store.log import Log
from whatsapp.events import unknown_types

__all__ = [
    "APPLICATION_SETTINGS",
    "BAD_FRAMES",
    "BAD_TOKEN",
    "ResolveContact",
    "SocketHandler",
    "SocketSettings",
    "socket_routes",
    "type_warnings",
]

_log = logging.getLogger(__name__)

ResolveContact = Callable[[str], Awaitable[str]]
"""The key under which events of the contact with this phone, user id or key are logged; empty where nobody is
known by it. May raise GatewayError."""

APPLICATION_SETTINGS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "websocket_ping_interval": 25,
        "websocket_ping_timeout": 10,
        "websocket_max_message_size": 64 * 1024,
    }
)
"""For the ``tornado.web.Application`` that serves the routes; seconds, seconds, bytes."""

BAD_FRAMES = Close(4400, "too many bad frames")
BAD_TOKEN = Close(4401, "a valid API key is required")
_BAD_REQUEST = Close(4400, "the request cannot be served, see the error before")
_STORE_AWAY = Close(1013, "the store is away, try again later")

_QUERY = ("token", "since", "subscriber", "types", "phone_number_id", "contact")
_REST_EVERY = 50
"""Frames of a client, or so many times _FRAME_BYTES, after which it is not read for _REST_S."""
_FRAME_BYTES = 1024
_REST_S = 0.005


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """What an operator may set."""

    allowed_origins: frozenset[str] = frozenset()
    """Origins (``https://app.example.com``) whose pages may connect, beside this host's and loopback's."""
    auth_timeout_s: float = 5.0
    """How long a client may take to give its key in a frame."""
    max_bad_frames: int = 3
    max_sends: int = 32
    """Sends of one client that may be under way."""
    max_unauthorised: int = 100
    """Connections, of all, that may be waiting to give their key."""


@dataclass(slots=True)
class _Shared:
    """What the connections of one server have in common."""

    desk: SendDesk
    unauthorised: set[SocketHandler] = field(default_factory=set)


def socket_routes(
    *,
    hub: Hub,
    log: Log,
    access: Access,
    resolve_contact: ResolveContact,
    names: Names | None = None,
    send_op: SendOp | None = None,
    settings: SocketSettings | None = None,
) -> list[tuple[str, type[SocketHandler], dict[str, Any]]]:
    """Routes for a ``tornado.web.Application`` made with :data:`APPLICATION_SETTINGS`. ``names`` None: nobody
    may have one."""
    settings = settings or SocketSettings()
    collaborators = {
        "hub": hub,
        "log": log,
        "access": access,
        "resolve_contact": resolve_contact,
        "names": names,
        "settings": settings,
        "shared": _Shared(SendDesk(hub, send_op, settings.max_sends)),
    }
    return [(r"/ws", SocketHandler, collaborators)]


class SocketHandler(WebSocketHandler):
    """One client, from its request to the end of its connection."""

    def initialize(
        self,
        *,
        hub: Hub,
        log: Log,
        access: Access,
        resolve_contact: ResolveContact,
        names: Names | None,
        settings: SocketSettings,
        shared: _Shared,
    ) -> None:
        """Take the collaborators."""
        self._hub = hub
        self._events = log
        self._access = access
        self._resolve_contact = resolve_contact
        self._names = names
        self._options = settings
        self._shared = shared
        self._asked = Subscribe()
        self._refused_key = False
        self._subscription: Subscription | None = None
        self._transport: SocketTransport | None = None
        self._key_timer: asyncio.TimerHandle | None = None
        self._needs_key = False
        self._bad_frames = 0
        self._read = 0

    # -- before the upgrade ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Authorise and read the query; answers 403 or 400 where that fails.

        A key that is wrong or missing is dealt with after the upgrade: a browser tells its page nothing of an
        answer before it.
        """
        # Whatever is logged of this request from here on must not tell the key.
        self.request.uri = self.request.path
        token = self.get_query_argument("token", "")
        origin = self.request.headers.get("Origin")
        if origin is not None and not _host_of(origin):
            # Tornado would fail on some of these.
            self._refuse(403, AccessDenied("Origin: pages from there may not connect"))
            return
        try:
            self._access.check(self.request, token)
        except AccessDenied as error:
            self._refuse(403, error)
            return
        except KeyRequired:
            self._needs_key = True
            self._refused_key = bool(token) or _has_key_header(self.request.headers)
        try:
            self._asked = self._read_query()
        except GatewayError as error:
            self._refuse(400, error)

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade; a request that asks for no WebSocket is told so in the API's shape."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            self._refuse(400, BadFrame("this path speaks WebSocket: connect with a WebSocket client"))
            return
        await super().get(*args, **kwargs)

    def check_origin(self, origin: str) -> bool:
        """Whether a page from there may connect: from this host, from loopback, or from an allowed origin."""
        if origin in self._options.allowed_origins:
            return True
        host = _host_of(origin)
        return bool(host) and (host == self.request.host_name.strip("[]").lower() or _is_loopback(host))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's own refusals, in the API's shape."""
        allowed = methods_of(type(self))
        if status_code == 405:
            self.set_header("Allow", ", ".join(allowed))
        code, sentence = bare_refusal(status_code, self.request.method or "", allowed)
        self.finish(error_answer(code, sentence))

    def _refuse(self, status: int, error: GatewayError) -> None:
        self.set_status(status)
        self.finish({"success": False, "error": error.message, "code": error.code})

    def _read_query(self) -> Subscribe:
        for name in self.request.query_arguments:
            if name not in _QUERY:
                raise BadFrame(f"{name[:80]} is no parameter of /ws; it takes {', '.join(_QUERY)}")
        asked = Subscribe(
            types=",".join(self.get_query_arguments("types")),
            phone_number_id=self.get_query_argument("phone_number_id", ""),
            contact=self.get_query_argument("contact", ""),
            since=self.get_query_argument("since", "") or None,
            subscriber=self.get_query_argument("subscriber", None),
        )
        _check(asked)
        return asked

    # -- the connection's life ---------------------------------------------------------------------------

    async def open(self, *args: str, **kwargs: str) -> None:
        """Take the client in: at once, or once it has given its key."""
        assert self.ws_connection is not None and self.ws_connection.stream is not None
        self.set_nodelay(True)
        self._transport = SocketTransport(self.ws_connection.stream, self.close)
        subscription = Subscription(self._transport)
        refusal = self._hub.register(subscription)
        if refusal is not None:
            subscription.transport.close(*refusal)
            return
        self._subscription = subscription
        if self._refused_key:
            self._hub.close(subscription, BAD_TOKEN)
        elif not self._needs_key:
            await self._begin(subscription)
        elif len(self._shared.unauthorised) >= self._options.max_unauthorised:
            self._hub.close(subscription, FULL)
        else:
            self._wait_for_key(subscription)

    def on_close(self) -> None:
        """Let go of everything that this connection held."""
        self._stop_waiting_for_key()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._hub.unregister(subscription)
            if self._names is not None:
                self._names.release(subscription)
        if self._transport is not None:
            self._transport.release()

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Do what a client's frame asks for. Tornado reads the next one when this has ended."""
        work = self._take(message)
        self._read += 1 + len(message) // _FRAME_BYTES
        if self._read < _REST_EVERY:
            return work
        self._read = 0
        return _rest_after(work)

    def _take(self, message: str | bytes) -> Awaitable[None] | None:
        subscription = self._subscription
        if subscription is None or subscription.state is State.CLOSED:
            return None
        try:
            request = decode(message)
            if self._needs_key and not isinstance(request, Auth):
                self._hub.close(subscription, BAD_TOKEN)
                return None
            return self._do(subscription, request)
        except GatewayError as error:
            self._reject(subscription, error)
            return None

    # -- the key -----------------------------------------------------------------------------------------

    def _wait_for_key(self, subscription: Subscription) -> None:
        self._shared.unauthorised.add(self)
        self._key_timer = asyncio.get_running_loop().call_later(
            self._options.auth_timeout_s, self._hub.close, subscription, BAD_TOKEN
        )

    def _stop_waiting_for_key(self) -> None:
        self._shared.unauthorised.discard(self)
        if self._key_timer is not None:
            self._key_timer.cancel()
            self._key_timer = None

    def _authorise(self, subscription: Subscription, token: str) -> Awaitable[None] | None:
        """Let the client in. One that is in already is heard too: a wrong key is wrong at any time."""
        try:
            self._access.check(self.request, token)
        except (KeyRequired, AccessDenied):
            self._hub.close(subscription, BAD_TOKEN)
            return None
        if not self._needs_key:
            return None
        self._needs_key = False
        self._stop_waiting_for_key()
        return self._begin(subscription)

    # -- what clients ask for ----------------------------------------------------------------------------

    def _do(self, subscription: Subscription, request: Request) -> Awaitable[None] | None:
        match request:
            case Ping():
                self._hub.send(subscription, pong_frame())
            case Ack(offset):
                self._acknowledge(subscription, offset)
            case Auth(token):
                return self._authorise(subscription, token)
            case Subscribe():
                return self._subscribe_again(subscription, request)
            case Send():
                self._shared.desk.start(subscription, request)
        return None

    def _reject(self, subscription: Subscription, error: GatewayError) -> None:
        self._hub.send(subscription, error_frame(error.code, error.message, error.details))
        self._bad_frames += 1
        if self._bad_frames >= self._options.max_bad_frames or self._needs_key:
            self._hub.close(subscription, BAD_TOKEN if self._needs_key else BAD_FRAMES)

    def _acknowledge(self, subscription: Subscription, offset: int) -> None:
        place = self._hub.place_of(subscription)
        if not 0 <= offset <= place:
            raise BadFrame(f"ack: offset {offset} was not given to you yet, the last is {place}")
        if self._names is not None:
            self._names.acknowledge(subscription, offset)

    async def _begin(self, subscription: Subscription) -> None:
        try:
            await self._subscribe(subscription, self._asked)
        except GatewayError as error:
            self._hub.send(subscription, error_frame(error.code, error.message, error.details))
            self._hub.close(subscription, _STORE_AWAY if isinstance(error, StoreError) else _BAD_REQUEST)
        except Exception:  # noqa: BLE001 - Tornado does not call on_close when open fails
            _log.exception("subscribing failed, client closed")
            self._hub.close(subscription, FAULT)

    async def _subscribe_again(self, subscription: Subscription, asked: Subscribe) -> None:
        try:
            _check(asked)
            await self._subscribe(subscription, asked)
        except StoreError as error:
            self._hub.send(subscription, error_frame(error.code, error.message))
        except GatewayError as error:
            self._reject(subscription, error)

    async def _subscribe(self, subscription: Subscription, asked: Subscribe) -> None:
        contact = await self._resolve_contact(asked.contact) if asked.contact else ""
        if asked.contact and not contact:
            raise BadFrame("contact: nobody is known by this phone, user id or key")
        wanted = Filter.of(asked.type_names, phone_number_id=asked.phone_number_id or "", contact=contact)
        start = None
        if asked.subscriber is not None:
            start, wanted = await self._take_name(subscription, asked, wanted)
        elif asked.since is not None:
            start = resume(asked.since, self._events.epoch, await self._events.bounds())
        if not asked.subscriber and self._names is not None:
            self._names.release(subscription)
        self._hub.subscribe(subscription, wanted, start, type_warnings(asked.type_names))

    async def _take_name(
        self, subscription: Subscription, asked: Subscribe, wanted: Filter
    ) -> tuple[Start, Filter]:
        if self._names is None:
            raise BadFrame("subscriber: names are not kept here")
        given = wanted if asked.filters else None
        return await self._names.take(subscription, asked.subscriber or "", asked.since, given)


async def _rest_after(work: Awaitable[None] | None) -> None:
    if work is not None:
        await work
    await asyncio.sleep(_REST_S)


def _check(asked: Subscribe) -> None:
    """Raises GatewayError for what cannot be right whatever the store holds."""
    Filter.of(asked.type_names)
    if asked.subscriber is not None:
        check_name(asked.subscriber)
    if asked.since is not None:
        parse_position(asked.since)


def type_warnings(types: Iterable[str]) -> list[str]:
    """An event of no known name is waited for in vain, and yet may come with a later version."""
    return [f"types: {name} is no event of this version" for name in unknown_types(types)]


def _has_key_header(headers: Mapping[str, str]) -> bool:
    return bool(headers.get("X-API-Key")) or headers.get("Authorization", "").lower().startswith("bearer ")


def _host_of(origin: str) -> str:
    """The host that an Origin names; empty where it names none."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""One client of the hub: what it wants, how far it has come, and the connection behind it.

Owns the values; who gets what and when is decided in ``hub.py`` and ``replay.py``. Knows no sockets: a
connection is anything that keeps the :class:`Transport` protocol.

Close codes, and what a client should do then:

======  ===========================================  =============================================
1001    the server stops                             connect again, with its position
1011    a fault of the server's                      connect again, with its position
1013    as many subscribers as may be                connect again, later
4008    the client reads too slowly                  connect again, with its position
4400    the client is at fault (``handlers``)        not connect again before that is mended
4401    its key is missing or wrong (``handlers``)   not connect again without the right one
4409    another connection has taken its name        not connect again under that name
4410    its name was removed                         not connect again under that name, unless to begin anew
======  ===========================================  =============================================
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from hub.frames import WEBSOCKET, Wire
from store.errors import GatewayError
from store.records import Event

__all__ = [
    "FAULT",
    "FULL",
    "GOING_AWAY",
    "REMOVED",
    "TAKEN_OVER",
    "TOO_SLOW",
    "BadFilter",
    "Close",
    "Filter",
    "State",
    "Subscription",
    "Transport",
]

_MAX_TYPES = 50
_TYPE = re.compile(r"[A-Za-z0-9_.]{1,64}|(?:[A-Za-z0-9_.]{1,63}\.)?\*", re.ASCII)


class BadFilter(GatewayError):
    """A filter that cannot be."""

    code = "bad_filter"


class Close(NamedTuple):
    """Why a connection is closed, as the client sees it."""

    code: int
    reason: str
    """At most 123 bytes (RFC 6455, section 5.5)."""


GOING_AWAY = Close(1001, "the server stops, connect again")
FAULT = Close(1011, "a fault of the server, connect again with your position")
FULL = Close(1013, "too many connections, try again later")
TOO_SLOW = Close(4008, "too slow, connect again with your position")
TAKEN_OVER = Close(4409, "another connection has taken this name")
REMOVED = Close(4410, "this name was removed, with its position")


class Filter(msgspec.Struct, frozen=True):
    """Which events a client wants; equal filters share their frames. What is empty does not filter."""

    types: frozenset[str] = frozenset()
    """Names of events."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of names, sorted; each counts like a name in ``types``."""
    phone_number_id: str = ""
    contact: str = ""
    """Key of a contact."""

    @classmethod
    def of(cls, types: Iterable[str] = (), *, phone_number_id: str = "", contact: str = "") -> Filter:
        """A filter from types as clients write them: a name, ``message.*`` for all that begin so, or ``*``.

        Raises BadFilter for more than 50 types or one that is not written like this.
        """
        entries = list(types)
        if len(entries) > _MAX_TYPES:
            raise BadFilter(f"types: at most {_MAX_TYPES} may be given")
        for entry in entries:
            if not _TYPE.fullmatch(entry):
                what = f"types: {entry[:80]!r} is neither an event's name nor a group like message.*"
                raise BadFilter(what)
        if "*" in entries:
            entries = []
        names = frozenset(entry for entry in entries if not entry.endswith("*"))
        prefixes = {entry[:-1] for entry in entries if entry.endswith("*")}
        return cls(names, tuple(sorted(prefixes)), phone_number_id, contact)

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return not (self.types or self.prefixes or self.phone_number_id or self.contact)

    def matches(self, event: Event) -> bool:
        """Whether the client wants this event."""
        if self.phone_number_id and event.phone_number_id != self.phone_number_id:
            return False
        if self.contact and event.contact != self.contact:
            return False
        if not (self.types or self.prefixes):
            return True
        return event.type in self.types or event.type.startswith(self.prefixes)


class Transport(Protocol):
    """A client's connection, as far as the hub sees it. Compared by identity."""

    def send(self, data: bytes, bound: int) -> bool:
        """Send, and keep what the network does not take yet; False, and nothing is sent, if that is too much.

        Too much is more than ``bound`` bytes kept. Who has taken everything until now is not slow, however
        large ``data`` is, and closing it would make it ask for the same again: it is sent all. Never waits or
        raises. Once closed it swallows everything, and says True.
        """
        ...

    @property
    def buffered(self) -> int:
        """Bytes kept back because the network did not take them yet."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin to close; nothing is sent afterwards. Never raises, and may be called twice."""
        ...

    async def drained(self) -> None:
        """Return once nothing is kept back, or the connection is gone."""
        ...


class State(Enum):
    """Where a subscription stands."""

    IDLE = "idle"
    """Connected; nothing asked for yet. Leaves by ``Hub.subscribe``."""
    REPLAYING = "replaying"
    """Behind the log; its task reads pages until it has caught up, then makes it live."""
    LIVE = "live"
    """At the log's head; gets every batch as it is published."""
    CLOSED = "closed"
    """Gone, or being closed. Final."""


class Subscription:
    """One client. Only the hub changes it."""

    __slots__ = ("name", "number", "place", "replay", "since", "state", "transport", "wanted", "wire")

    def __init__(self, transport: Transport, wire: Wire = WEBSOCKET) -> None:
        self.transport = transport
        self.wire = wire
        self.number = 0
        """Of the connection, in the order of their coming."""
        self.since = 0
        """When it came; milliseconds since 1970."""
        self.name = ""
        """Under which its place is kept; empty: it is not kept."""
        self.wanted = Filter()
        self.state = State.IDLE
        self.place = 0
        """Offset of the last event sent or skipped, while replaying; while live it is the log's head."""
        self.replay: asyncio.Task[None] | None = None
        """What brings it up to the log's head, while it is replaying."""

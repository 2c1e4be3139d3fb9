"""``/api/subscribers``: who reads the log, and how far each has come (contract.md, Events)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from handlers.base import BaseHandler, NotFound
from handlers.pages import cursor_of, foreign_cursor, place_of_cursor, query_of
from handlers.parameters import SubscribersQuery
from hub.frames import WEBSOCKET
from hub.hub import Hub
from hub.names import Names, filter_of
from hub.subscription import Filter, Subscription
from store.base import Store
from store.log import Log
from store.presence import living
from store.records import Subscriber
from whatsapp.events import rfc3339

__all__ = ["RemoveSubscriber", "SubscriberList"]

Told = dict[str, Any]


class _SubscriberHandler(BaseHandler):
    """What both share."""

    hub: Hub
    log: Log
    names: Names
    store: Store


class SubscriberList(_SubscriberHandler):
    """``GET /api/subscribers``."""

    async def get(self) -> None:
        """200 with a page: first the names, of all processes, then the connections here that have none."""
        query = query_of(self, SubscribersQuery, ["limit"])
        part, after = _parts_of(query.cursor)
        told: list[Told] = []
        if part == 0:
            told = await self._names_past(after, query.limit + 1)
        if len(told) <= query.limit:
            least = int(after) if part == 1 else 0
            told += self._connections_past(least, query.limit + 1 - len(told))
        page = told[: query.limit]
        await self._count(page)
        more = len(told) > len(page)
        last = page[-1] if page else {}
        place = (0, last.get("name")) if last.get("name") else (1, str(last.get("number", 0)))
        self.answer({"subscribers": page, "next": cursor_of(*place) if more else None})

    async def _names_past(self, after: str, limit: int) -> list[Told]:
        found = await self.store.list_subscribers(limit, after)
        alive = living(await self.store.held_leases()) if found else set()
        return [self._name(subscriber, alive) for subscriber in found]

    def _name(self, subscriber: Subscriber, alive: set[str]) -> Told:
        held = self.names.held(subscriber.name)
        here = held.subscription if held else None
        # Of a process that was killed the name is still there, until somebody else takes it.
        elsewhere = subscriber.holder != self.names.owner and subscriber.holder in alive
        told: Told = {
            "name": subscriber.name,
            "connected": here is not None or elsewhere,
            "number": None,
            "kind": WEBSOCKET.kind,
            "state": None,
            "since": None,
            "process": subscriber.holder if elsewhere else None,
            "buffer_bytes": None,
        }
        if here is not None:
            told |= self._connection(here)
        told["cursor"] = max(subscriber.offset, held.acknowledged if held else 0)
        told["created_at"], told["seen_at"] = rfc3339(subscriber.created_at), rfc3339(subscriber.seen_at)
        return {**told, "filters": _filters(filter_of(subscriber))}

    def _connections_past(self, number: int, limit: int) -> list[Told]:
        unnamed = (member for member in self.hub.members(number) if not member.name)
        return [
            {
                "name": None,
                "connected": True,
                **self._connection(member),
                "cursor": self.hub.place_of(member),
                "created_at": None,
                "seen_at": None,
                "filters": _filters(member.wanted),
            }
            for member in islice(unnamed, limit)
        ]

    def _connection(self, member: Subscription) -> Told:
        return {
            "number": member.number,
            "kind": member.wire.kind,
            "state": member.state.value,
            "since": rfc3339(member.since),
            "process": self.names.owner,
            "buffer_bytes": member.transport.buffered,
        }

    async def _count(self, page: Iterable[Told]) -> None:
        """Add how far each is behind."""
        behind = {told["cursor"] for told in page if told["cursor"] < self.log.head}
        past = await self.store.count_past(behind) if behind else {}
        for told in page:
            told["lag"] = past.get(told["cursor"], 0)


class RemoveSubscriber(_SubscriberHandler):
    """``DELETE /api/subscribers/<name>``."""

    async def delete(self, name: str) -> None:
        """200 once the name and its place are forgotten; its connection is closed with 4410."""
        if not await self.names.remove(name):
            raise NotFound(f"there is no subscriber of the name {name[:100]}")
        self.answer({"success": True})


def _parts_of(cursor: str) -> tuple[int, str]:
    """Whether a page begins among the names (0) or the other connections (1), and past which."""
    if not cursor:
        return 0, ""
    part, after = place_of_cursor(cursor)
    if part not in (0, 1) or (part == 1 and not (after.isascii() and after.isdecimal() and len(after) < 18)):
        raise foreign_cursor()
    return part, after


def _filters(wanted: Filter) -> Told:
    types = sorted(wanted.types) + [f"{prefix}*" for prefix in wanted.prefixes]
    return {
        "types": types,
        "phone_number_id": wanted.phone_number_id or None,
        "contact": wanted.contact or None,
    }

"""Subscribers with a name: whose connection a name is, and how far it has come.

Owns the names of this process and what they have acknowledged; the store keeps both. A name belongs to its
newest connection, in whichever process: the older one is closed with 4409, at once where both are here, else
when this process next saves or looks. Acknowledgements are collected and saved together, so that thousands a
second cost one write; a crash forgets those of the last moment, and their events are given again.

All methods belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from hub.hub import Hub
from hub.replay import Start, resume
from hub.subscription import REMOVED, TAKEN_OVER, Close, Filter, State, Subscription
from store.base import Store
from store.errors import GatewayError, StoreError
from store.log import Log
from store.records import Progress, Subscriber

__all__ = ["BadName", "Names", "TooManyNames", "check_name", "filter_of"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,64}", re.ASCII)
_SAVE_S = 0.25
_LOOK_S = 2.0
_TOGETHER = 500
"""Names in one call of the store."""


class BadName(GatewayError):
    """A name that no subscriber can have."""

    code = "bad_subscriber"


class TooManyNames(GatewayError):
    """There are as many names as may be."""

    code = "too_many_subscribers"


class Held(NamedTuple):
    """A name that is connected here, or was until a moment ago."""

    subscription: Subscription | None
    """None once it is over."""
    acknowledged: int
    """Everything up to here."""


class _Holding:
    """One connection under a name, from its taking until its end is saved."""

    __slots__ = ("acknowledged", "leaves", "name", "session", "subscription")

    def __init__(self, name: str, session: str, subscription: Subscription, acknowledged: int) -> None:
        self.name = name
        self.session = session
        self.subscription = subscription
        self.acknowledged = acknowledged
        self.leaves = False

    @property
    def progress(self) -> Progress:
        return Progress(self.name, self.session, self.acknowledged, self.leaves)


def check_name(name: str) -> None:
    """Raises BadName for what can be none."""
    if not _NAME.fullmatch(name):
        raise BadName("subscriber: a name is 1 to 64 letters, digits and _ . : @ -")


def filter_of(subscriber: Subscriber) -> Filter:
    """The filter that is kept of a subscriber."""
    return msgspec.json.decode(subscriber.wanted, type=Filter) if subscriber.wanted else Filter()


class Names:
    """One per process, which ``owner`` names. ``most``: names in the whole store."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        log: Log,
        *,
        owner: str,
        most: int,
        now_ms: Callable[[], int],
        new_session: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.owner = owner
        self._store = store
        self._hub = hub
        self._events = log
        self._most = most
        self._now_ms = now_ms
        self._new_session = new_session
        self._by_name: dict[str, _Holding] = {}
        self._of: dict[Subscription, _Holding] = {}
        self._unsaved: dict[str, _Holding] = {}
        """By session."""
        self._saving = asyncio.Lock()

    # -- taking and letting go ---------------------------------------------------------------------------

    async def take(
        self, subscription: Subscription, name: str, since: str | int | None, given: Filter | None
    ) -> tuple[Start, Filter]:
        """Give a name to this connection: where it goes on, and its filter.

        A name that is new begins past ``since`` (None: from now on), another where it acknowledged last.
        ``given``: its filter from now on; None: the one that it had. Raises BadName, TooManyNames,
        BadPosition, StoreError.
        """
        check_name(name)
        if name in self._by_name:
            # Where the older one has come to is where this one begins.
            await self.save()
        first = resume(since, self._events.epoch, await self._events.bounds())
        session = self._new_session()
        taken = await self._store.take_subscriber(
            name,
            session,
            self.owner,
            self._now_ms(),
            start=first.offset,
            wanted=None if given is None else msgspec.json.encode(given),
            most=self._most,
        )
        if taken is None:
            raise TooManyNames(
                f"subscriber: there are {self._most} names already: DELETE /api/subscribers/<name> ends one"
            )
        found, is_new = taken
        self._hold(_Holding(name, session, subscription, found.offset))
        if not is_new:
            # The bounds of now: another process may have acknowledged more than there was a moment ago.
            first = resume(found.offset, self._events.epoch, await self._events.bounds())
        return first, filter_of(found)

    def acknowledge(self, subscription: Subscription, offset: int) -> None:
        """Note that a connection is done with everything up to here; nothing where it has no name."""
        holding = self._of.get(subscription)
        if holding is not None and offset > holding.acknowledged:
            holding.acknowledged = offset
            self._unsaved[holding.session] = holding

    def release(self, subscription: Subscription) -> None:
        """Note that a connection is over, or wants its name no longer. Twice is once."""
        holding = self._of.pop(subscription, None)
        if holding is not None:
            subscription.name = ""
            holding.leaves = True
            self._unsaved[holding.session] = holding

    async def remove(self, name: str) -> bool:
        """Forget a name and its place, and close its connection with 4410; whether there was such a one."""
        removed = await self._store.remove_subscriber(name)
        if (holding := self._by_name.get(name)) is not None:
            self._end(holding, None)
        return removed

    def held(self, name: str) -> Held | None:
        """What is known here of a name, and not in the store yet; None: nothing."""
        holding = self._by_name.get(name)
        if holding is None:
            return None
        is_over = holding.leaves or holding.subscription.state is State.CLOSED
        return Held(None if is_over else holding.subscription, holding.acknowledged)

    def _hold(self, holding: _Holding) -> None:
        subscription = holding.subscription
        self.release(subscription)
        before = self._by_name.get(holding.name)
        self._by_name[holding.name] = self._of[subscription] = holding
        subscription.name = holding.name
        if before is not None:
            self._unsaved.pop(before.session, None)
            if before.subscription is not subscription:
                self._close(before, TAKEN_OVER)
        if subscription.state is State.CLOSED:
            # It went while the store was asked, and nobody will say so again.
            self.release(subscription)

    # -- saving and looking ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Save what was acknowledged, and look whose the names are, until cancelled."""
        loop = asyncio.get_running_loop()
        look_at = loop.time() + _LOOK_S
        while True:
            await asyncio.sleep(_SAVE_S)
            try:
                await self.save()
                if loop.time() >= look_at:
                    look_at = loop.time() + _LOOK_S
                    await self.look()
            except StoreError as error:
                _log.info("what subscribers acknowledged is kept later: %s", error.message)

    async def save(self) -> None:
        """Return once everything acknowledged so far is durable. Raises StoreError; it is kept for later."""
        async with self._saving:
            waiting, self._unsaved = list(self._unsaved.values()), {}
            try:
                while waiting:
                    await self._save(waiting[:_TOGETHER])
                    del waiting[:_TOGETHER]
            finally:
                for holding in waiting:
                    self._unsaved.setdefault(holding.session, holding)

    async def _save(self, holdings: Sequence[_Holding]) -> None:
        progress = [holding.progress for holding in holdings]
        lost = await self._store.save_progress(progress, self._now_ms())
        for holding, saved in zip(holdings, progress, strict=True):
            if saved.leaves and self._by_name.get(holding.name) is holding:
                del self._by_name[holding.name]
        names = [each.name for each in progress if each.session in lost and not each.leaves]
        if names:
            await self._look(names)

    async def look(self) -> None:
        """Close connections here whose names were taken in another process, or removed there."""
        names = list(self._by_name)
        for n in range(0, len(names), _TOGETHER):
            await self._look(names[n : n + _TOGETHER])

    async def _look(self, names: Sequence[str]) -> None:
        before = {name: self._by_name[name] for name in names if name in self._by_name}
        found: Mapping[str, Subscriber] = await self._store.find_subscribers(list(before))
        for name, holding in before.items():
            subscriber = found.get(name)
            if subscriber is None or subscriber.session != holding.session:
                self._end(holding, subscriber)

    def _end(self, holding: _Holding, subscriber: Subscriber | None) -> None:
        """A name is no longer this connection's; None: nobody's."""
        if self._by_name.get(holding.name) is holding:
            del self._by_name[holding.name]
        self._unsaved.pop(holding.session, None)
        self._close(holding, REMOVED if subscriber is None else TAKEN_OVER)

    def _close(self, holding: _Holding, close: Close) -> None:
        subscription = holding.subscription
        if self._of.get(subscription) is holding:
            del self._of[subscription]
        self._hub.close(subscription, close)

    async def close(self) -> None:
        """Let go of all names, and save how far each has come, as far as the store takes it."""
        for subscription in tuple(self._of):
            self.release(subscription)
        try:
            await self.save()
        except StoreError as error:
            _log.warning("what subscribers acknowledged last is not kept: %s", error.message)

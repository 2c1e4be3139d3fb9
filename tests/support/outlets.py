"""Outlets over a real store, each as if in a process of its own, with a scripted receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hub.carrier import Carried
from hub.delivery import NOWHERE, Failure, Fault, Rules
from hub.outlet import Outlet
from hub.outlets import Outlets
from store.base import Store
from store.log import Log
from store.records import Event
from tests.support.faulty_store import FaultyStore
from tests.support.waiting import GUARD_S, eventually
from whatsapp.retry import RetryPolicy

__all__ = ["AWAY", "GONE", "NAME", "REFUSED", "Member", "Receiver"]

NAME = "crm"
AWAY = Failure(Fault.AWAY, "HTTP 503")
REFUSED = Failure(Fault.REFUSED, "HTTP 400")
GONE = Failure(Fault.GONE, "HTTP 410")
_RULES = Rules(RetryPolicy(base_s=0.001, cap_s=0.002), max_age_s=0.001)


class Receiver:
    """Where events go, whichever process carries them; takes all but what :attr:`answer` says."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        """Of all that came, whatever became of it."""
        self.taken: list[str] = []
        self.answer: Callable[[Sequence[Event]], Carried] = lambda events: Carried(len(events))
        self.gate = asyncio.Event()
        self.gate.set()
        self._grown = asyncio.Condition()

    async def took(self, count: int) -> list[str]:
        """Keys of what it has taken, once there were so many."""
        return await self._until(self.taken, count)

    async def got(self, count: int) -> list[str]:
        """The same of all that came."""
        return await self._until(self.keys, count)

    async def take(self, events: Sequence[Event]) -> Carried:
        """Some events at once."""
        self.keys += [event.key for event in events]
        await self._tell()
        await self.gate.wait()
        done = self.answer(events)
        self.taken += [event.key for event in events[: done.taken]]
        await self._tell()
        return done

    async def _until(self, keys: list[str], count: int) -> list[str]:
        try:
            async with asyncio.timeout(GUARD_S), self._grown:
                await self._grown.wait_for(lambda: len(keys) >= count)
        except TimeoutError:
            raise AssertionError(f"{count} did not come, but {keys}") from None
        return keys

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()


class _Carrier:
    kind = "webhook"
    address = "http://127.0.0.1"
    connected = None

    def __init__(self, receiver: Receiver, most: int) -> None:
        self.most = most
        self._receiver = receiver

    async def look(self, after: int) -> Failure | None:
        return None

    async def carry(self, events: Sequence[Event], after: int) -> Carried:
        return await self._receiver.take(events)

    async def parted(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


class Member:
    """A process with this outlet. Its store fails when the test says so."""

    def __init__(
        self,
        store: Store,
        receiver: Receiver,
        owner: str = "me",
        *,
        ttl_ms: int = 60_000,
        most: int = 1,
        rules: Rules = _RULES,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self.store = FaultyStore(store)
        self.log = Log(self.store.as_store())
        loop = asyncio.get_running_loop()
        self.outlet = Outlet(
            NAME,
            _Carrier(receiver, most),
            lambda event: not event.key.startswith("unwanted") and not event.key.startswith("hook:"),
            rules,
            store=self.store.as_store(),
            log=self.log,
            owner=owner,
            lease_ttl_ms=ttl_ms,
            now_ms=now_ms or (lambda: int(loop.time() * 1000) + 1),
            monotonic=loop.time,
            random=lambda: 0.5,
        )
        self._outlets = Outlets([self.outlet])
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Member:
        """Begin, and work as far as the lease allows."""
        await self.log.start()
        self.log.subscribe(self._outlets.notice)
        await self._outlets.begin()
        self._task = asyncio.create_task(self.outlet.run())
        return self

    async def stop(self) -> None:
        """In good order."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def crash(self) -> None:
        """Nothing that it does from here on reaches the store."""
        self.store.fail_all()
        await self.stop()

    async def caught_up(self) -> None:
        """Return once it has begun, and its cursor is saved at the head."""

        async def look() -> bool:
            begun = (await self.outlet.status()).record.go_to == NOWHERE
            return begun and await self.store.load_cursor(f"outlet:{NAME}") >= self.log.head

        await eventually(look)

    async def events(self) -> list[Any]:
        """All events about the outlet."""
        found = await self.store.events_after(0, 10_000)
        return [event for event in found if event.key.startswith("hook:")]

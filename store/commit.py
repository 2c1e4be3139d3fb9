"""Group commit: many callers, one write.

Owns the queue in front of a commit function. While one commit is under way, whatever arrives collects and
goes into the next, so the cost of a durable write (an fsync, a round trip) is shared by all who wait for it,
and a lone caller waits for nobody. Knows nothing of what is committed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from store.deadline import CALL_S
from store.errors import StoreUnavailable

__all__ = ["GroupCommit", "Portion"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiting(NamedTuple, Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]
    weight: int


class Portion:
    """How much is asked of a store at once: half as much where it was unavailable for what was asked, since a
    disk with little room, or a slow server, may do that; and a fourth more with each success."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = most
        """What may be asked now."""

    def refused(self, asked: int) -> None:
        """So much was too much. One alone cannot be asked in smaller parts, and says nothing of more."""
        if asked > 1:
            self.size = max(1, min(self.size, asked) // 2)

    def taken(self) -> None:
        """What was asked was done."""
        self.size = min(self._most, self.size + self.size // 4 + 1)


class GroupCommit(Generic[Item, Result]):
    """Collects items and commits them in the order of :meth:`submit`, up to ``max_weight`` of them at once.

    An item weighs as much as it brings: one, or the number of events and rows in it. One that is heavier than
    a commit has one of its own. What waits weighs at most ``max_waiting``, and one item.

    ``commit`` gets the items and returns, for each, its result or the exception to raise to its caller; an
    exception that it raises goes to the callers of the whole batch. Only one commit runs at a time. A caller
    hears within ``timeout_s`` seconds, if only that the store is unavailable: its item is then withdrawn,
    unless its commit has begun, which may still succeed.

    Batches are smaller for a while where the store was unavailable to all of one (:class:`Portion`) that had
    more than one item.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_weight: int = 500,
        max_waiting: int = 50_000,
        timeout_s: float = CALL_S,
    ) -> None:
        self._commit = commit
        self._portion = Portion(max_weight)
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._weight = 0
        self._deadlines: deque[tuple[float, asyncio.Future[Result]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def submit(self, item: Item, weight: int = 1) -> asyncio.Future[Result]:
        """Queue an item; the future ends when its commit has. Cancelling it withdraws the item as a timeout
        does.

        Raises StoreUnavailable when more wait than the bound allows: the database is slower than the callers.
        """
        if self._weight >= self._max_waiting:
            raise StoreUnavailable("the store is behind: too many writes are waiting, try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Waiting(item, future, weight))
        self._weight += weight
        self._deadlines.append((loop.time() + self._timeout_s, future))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout_s, self._expire)
        if self._running() is None:
            self._task = asyncio.Task(self._run(), name="group-commit")
        return future

    async def flush(self) -> None:
        """Return once everything submitted so far has been committed or refused."""
        while (task := self._running()) is not None:
            await asyncio.wait({task})

    def _running(self) -> asyncio.Task[None] | None:
        # One that was cancelled, as at the end of a loop, has not said so itself.
        return None if self._task is None or self._task.done() else self._task

    async def _run(self) -> None:
        # One turn of the loop, so that callers that are ready together share the first commit too.
        await asyncio.sleep(0)
        while batch := self._next_batch():
            try:
                results = await self._commit([waiting.item for waiting in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is its callers' to handle
                results = [error] * len(batch)
            self._adapt(batch, results)
            for waiting, result in zip(batch, results, strict=True):
                _settle(waiting.future, result)
        # No await between the last look at the queue and this line, so no item can be stranded.
        self._task = None

    def _adapt(self, batch: Sequence[_Waiting[Item, Result]], results: Sequence[Result | Exception]) -> None:
        if not all(isinstance(result, StoreUnavailable) for result in results):
            self._portion.taken()
        elif len(batch) > 1:
            # A lone item would not have been committed in smaller parts, whatever it weighs.
            self._portion.refused(sum(waiting.weight for waiting in batch))

    def _next_batch(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        weight = 0
        while self._waiting and (not batch or weight + self._waiting[0].weight <= self._portion.size):
            waiting = self._waiting.popleft()
            self._weight -= waiting.weight
            if not waiting.future.done():
                weight += waiting.weight
                batch.append(waiting)
        return batch

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        while self._deadlines:
            deadline, future = self._deadlines[0]
            if not future.done():
                if deadline > now:
                    self._timer = loop.call_at(deadline, self._expire)
                    return
                future.set_exception(StoreUnavailable("the store did not answer in time"))
            self._deadlines.popleft()


def _settle(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)

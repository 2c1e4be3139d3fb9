"""The MongoDB store's way to the server: one client, calls bounded in time, the driver's errors translated.

Owns the client, the two-second rule and the order of small writes. Knows no collection's meaning. Motor's own
defaults wait for a server for as long as it is away; what holds instead was found by killing and stopping
one:

- ``pymongo.timeout`` around the call, since it counts from the call and not from when a thread takes it;
- ``asyncio.wait`` with a little more, and never a cancellation: a cancelled call leaves the driver in
  disorder. What is late goes on in its thread, at most until the timeout above, and its result is dropped;
- more threads than a stopped server can hold up in that time. Motor makes its pool when it is imported and
  reads the size from the environment, so ``MOTOR_MAX_WORKERS`` is set here just before, unless the operator
  has set it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from store.commit import GroupCommit
from store.errors import StoreError, StoreUnavailable

os.environ.setdefault("MOTOR_MAX_WORKERS", "128")

# Only after the line above; see the docstring.
import pymongo
from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
)
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern

__all__ = ["DUPLICATE_KEY", "Collection", "Connection", "Document", "InOrder", "LongCommit"]

_log = logging.getLogger(__name__)

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
Document = dict[str, Any]
Collection = AsyncIOMotorCollection[Document]

DUPLICATE_KEY = 11000
DEFAULT_DATABASE = "whatsapp_gateway"

_UNKNOWN_TO_IT = frozenset({59, 115, 238})
"""CommandNotFound, CommandNotSupported, NotImplemented: what will not be there at the next try either."""
_LATE_S = 0.4
"""What is left of a call's time once the driver itself has given up."""
_LONGEST_S = 20.0
_WATCHING_MS = {"heartbeatFrequencyMS": 2000, "connectTimeoutMS": 3000}
"""The driver's own 10 and 20 seconds are for how long it may hold on to a primary that is gone in silence, or
that says that it is none, and refuse all calls."""
_BUILD_S = 20.0
"""For the building of indexes at :meth:`Connection.build`, after the server has shown that it answers."""


class Connection:
    """A client and its database. ``url`` names both; without a database it is ``whatsapp_gateway``.

    ``answer_s``: how long a call may take.
    """

    def __init__(self, url: str, answer_s: float) -> None:
        self._url = url
        self.answer_s = answer_s
        self._client: AsyncIOMotorClient[Document] | None = None
        self._database: AsyncIOMotorDatabase[Document] | None = None
        self._collections: dict[str, Collection] = {}
        self._read_concern = ReadConcern("majority")
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Make the client and reach the server. Raises StoreUnavailable, or StoreError for a senseless URL.

        Reads ask for what a majority has, unless the server cannot say that; a single one may not.
        """
        # Those of a client that was closed since an earlier try.
        self._collections.clear()
        try:
            # A failed write is reported, never repeated behind our back: a repeated insert would meet its own
            # keys in the log and take its events for another's.
            self._client = AsyncIOMotorClient(
                self._url,
                io_loop=asyncio.get_running_loop(),
                retryWrites=False,
                appname="whatsapp-gateway",
                **_watching(self._url),
            )
            self._database = self._client.get_default_database(DEFAULT_DATABASE)
        except (ConfigurationError, ValueError) as error:
            raise StoreError(f"the address of the database cannot be used: {error}") from error
        if not await self.call(self._knows_majority):
            self._read_concern = ReadConcern()
            self._collections.clear()

    async def close(self) -> None:
        """Wait for what still runs, which is soon over, and let go. Idempotent."""
        if self._running:
            await asyncio.wait(self._running, timeout=self.answer_s)
        client, self._client = self._client, None
        if client is None:
            return
        try:
            # It tells the server about the sessions that end, so it may block.
            await self.call(lambda: asyncio.to_thread(client.close))
        except StoreUnavailable:
            _log.info("the database was away when its client was closed")

    def __getitem__(self, name: str) -> Collection:
        """A collection whose writes are durable when they return, and whose reads see only what is."""
        found = self._collections.get(name)
        if found is None:
            assert self._database is not None, "the store is not open"
            found = self._collections[name] = self._database.get_collection(
                name,
                read_preference=ReadPreference.PRIMARY,
                read_concern=self._read_concern,
                write_concern=WriteConcern(w="majority", j=True),
            )
        return found

    async def call(self, work: Callable[[], Awaitable[T]], *, answer_s: float | None = None) -> T:
        """Do what ``work`` asks of the server, all of it within the time of one answer.

        Raises StoreUnavailable; ``work`` may go on for a moment after that, and have its effect.
        """

        within_s = answer_s or self.answer_s

        async def run() -> T:
            with pymongo.timeout(within_s - _LATE_S):
                return await work()

        task = asyncio.Task(run(), name="mongo-call")
        self._running.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=within_s)
        if not done:
            raise StoreUnavailable("the database did not answer in time")
        try:
            return task.result()
        except (PyMongoError, TimeoutError) as error:
            if isinstance(error, OperationFailure) and error.code in _UNKNOWN_TO_IT:
                raise StoreError(
                    f"the database in STORE_URL lacks what the gateway needs, use MongoDB 4.4 or later:"
                    f" {_first_line(error)}"
                ) from error
            raise StoreUnavailable(f"the database is away or refused: {_first_line(error)}") from error

    async def build(self, work: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`call`, with the time that making an index may take."""
        return await self.call(work, answer_s=max(self.answer_s, _BUILD_S))

    async def find(
        self,
        name: str,
        where: Mapping[str, Any],
        fields: Mapping[str, Any] | None = None,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[Document]:
        """Documents of a collection; ``limit`` 0 means all, so ``where`` must bound them."""

        async def read() -> list[Document]:
            cursor = self[name].find(where, fields, limit=limit)
            if sort:
                cursor = cursor.sort(list(sort))
            return await cursor.to_list(None)

        return await self.call(read)

    async def find_one(
        self, name: str, where: Mapping[str, Any], fields: Mapping[str, Any] | None = None
    ) -> Document | None:
        """The only document, or any, that fits."""
        found = await self.find(name, where, fields, limit=1)
        return found[0] if found else None

    async def aggregate(self, name: str, *stages: Mapping[str, Any]) -> list[Document]:
        """The documents that come out of a pipeline."""
        return await self.call(lambda: self[name].aggregate(list(stages)).to_list(None))

    async def insert_new(self, name: str, documents: Sequence[Document]) -> set[int]:
        """Insert those whose ``_id`` is not there yet; places of the others in ``documents``."""
        if not documents:
            return set()

        async def insert() -> set[int]:
            try:
                await self[name].insert_many(documents, ordered=False)
            except BulkWriteError as error:
                faults = error.details["writeErrors"]
                if error.details["writeConcernErrors"] or any(f["code"] != DUPLICATE_KEY for f in faults):
                    raise
                return {fault["index"] for fault in faults}
            return set()

        return await self.call(insert)

    async def _knows_majority(self) -> bool:
        try:
            await self["meta"].find_one({})
        except ExecutionTimeout:
            raise
        except OperationFailure:
            return False
        return True

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        _look_at(task)


class LongCommit(Generic[Item, Result]):
    """A group commit whose callers wait for as long as it gets on, and ``answer_s`` when it does not.

    A commit of several steps may rightly take long where the server is slow. It calls :meth:`gets_on` after
    each answer of the server's; callers give up when the last one, and their own call, are too long ago.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        answer_s: float,
        max_weight: int = 500,
    ) -> None:
        self._commit = commit
        self._answer_s = answer_s
        # The group keeps its futures until their time is over; so what they hold is nothing, and results have
        # futures of their own.
        self._group: GroupCommit[tuple[Item, asyncio.Future[Result]], None] = GroupCommit(
            self._commit_group, max_weight=max_weight, timeout_s=max(answer_s, _LONGEST_S)
        )
        self._answered_at = 0.0

    async def submit(self, item: Item, weight: int = 1) -> Result:
        """The result of the item's commit. Items are committed in the order of the calls."""
        loop = asyncio.get_running_loop()
        called_at = loop.time()
        outcome: asyncio.Future[Result] = loop.create_future()
        outcome.add_done_callback(_look_at)
        place = self._group.submit((item, outcome), weight)
        place.add_done_callback(partial(_fail_with, outcome))
        while not outcome.done():
            left = max(called_at, self._answered_at) + self._answer_s - loop.time()
            if left <= 0:
                # Withdraws the item, unless its commit has begun.
                outcome.cancel()
                place.cancel()
                raise StoreUnavailable("the database did not answer in time")
            await asyncio.wait({outcome}, timeout=left)
        return outcome.result()

    def gets_on(self) -> None:
        """To be called by the commit: the server has answered."""
        self._answered_at = asyncio.get_running_loop().time()

    async def flush(self) -> None:
        """Return once everything submitted so far has been committed or refused."""
        await self._group.flush()

    async def _commit_group(self, waiting: Sequence[tuple[Item, asyncio.Future[Result]]]) -> list[None]:
        results: Sequence[Result | Exception]
        try:
            results = await self._commit([item for item, _ in waiting])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
            results = [error] * len(waiting)
        for (_, outcome), result in zip(waiting, results, strict=True):
            if outcome.done():
                continue
            if isinstance(result, Exception):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)
        return [None] * len(waiting)


class InOrder:
    """Small writes, those of one key in the order of their coming, those of different keys side by side."""

    def __init__(self, answer_s: float) -> None:
        self._group: GroupCommit[tuple[str, Callable[[], Awaitable[Any]]], Any] = GroupCommit(
            self._commit, timeout_s=answer_s
        )

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, or its exception; StoreUnavailable if its turn does not come in time."""
        result: T = await self._group.submit((key, work))
        return result

    async def flush(self) -> None:
        """Return once all that was asked for has been done or refused."""
        await self._group.flush()

    async def _commit(self, items: Sequence[tuple[str, Callable[[], Awaitable[Any]]]]) -> list[Any]:
        results: list[Any] = [None] * len(items)
        queues: dict[str, list[int]] = {}
        for place, (key, _) in enumerate(items):
            queues.setdefault(key, []).append(place)

        async def work_off(places: list[int]) -> None:
            for place in places:
                try:
                    results[place] = await items[place][1]()
                except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this caller
                    results[place] = error

        await asyncio.gather(*(work_off(places) for places in queues.values()))
        return results


def _watching(url: str) -> dict[str, Any]:
    """How closely the driver watches the servers, as far as the operator does not say."""
    return {name: ms for name, ms in _WATCHING_MS.items() if f"{name.lower()}=" not in url.lower()}


def _look_at(future: asyncio.Future[Any]) -> None:
    """So that nobody complains of an error that came after its caller had gone."""
    if not future.cancelled():
        future.exception()


def _fail_with(outcome: asyncio.Future[Any], place: asyncio.Future[None]) -> None:
    """Have an item fail whose place in the queue was lost."""
    error = None if place.cancelled() else place.exception()
    if error is not None and not outcome.done():
        outcome.set_exception(error)


def _first_line(error: BaseException) -> str:
    # The driver appends its whole view of the servers to many messages.
    return str(error).split(", Timeout:", 1)[0].split("\n", 1)[0][:300]

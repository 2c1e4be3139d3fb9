"""A store that is slow, and slower, stands still, and loses connections, under load: nothing is lost by it.

MongoDB is a real server behind a relay that holds what is said; SQLite's file is locked by another program
for a while, again and again.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest

from tests.support.follower import following
from tests.support.load import KEYWORD, LEASED, UNDER_LOAD, Load, Record
from tests.support.mongod import Mongod, database_url
from tests.support.process import Installation, running_sandbox
from tests.support.proof import check_completed, check_direct, check_replies, prove
from tests.support.relay import Relay, relaying
from tests.support.settling import settled
from tests.support.waiting import GUARD_S, eventually

_LITTLE = 10
"""Answers, or refusals, that are waited for under each trouble."""


class _Slow(Protocol):
    settings: Mapping[str, object]
    """Which store it is; none: the file that an installation has anyway."""
    troubles: tuple[str, ...]
    """In turn, each the name of what refuses some, or of what lets some through."""

    async def begin(self, trouble: str) -> None:
        """Be so from now on."""
        ...

    async def end(self) -> None:
        """Be as quick as ever."""
        ...


class _Wire:
    """The way to a MongoDB server."""

    troubles = ("slow", "slower", "still", "slow", "broken", "slower")

    def __init__(self, url: str, relay: Relay) -> None:
        self.settings: Mapping[str, object] = {"STORE_URL": url}
        self._relay = relay

    async def begin(self, trouble: str) -> None:
        if trouble == "slow":
            self._relay.delay(0.1)
        elif trouble == "slower":
            # There and back is more than a call may take.
            self._relay.delay(0.8)
        elif trouble == "still":
            self._relay.stall()
        else:
            self._relay.cut()

    async def end(self) -> None:
        self._relay.heal()


class _File:
    """An SQLite file that another program writes to as well."""

    settings: Mapping[str, object] = {}
    troubles = ("slow", "slower", "slow", "still", "slower")
    _HOLDS_S: Mapping[str, float] = {"slow": 0.2, "slower": 1.8, "still": 60.0}
    """How long it keeps the file to itself; a statement waits for 1.4 s."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ending = threading.Event()
        self._holding: asyncio.Task[None] | None = None

    async def begin(self, trouble: str) -> None:
        self._ending.clear()
        self._holding = asyncio.create_task(asyncio.to_thread(self._hold, self._HOLDS_S[trouble]))

    async def end(self) -> None:
        self._ending.set()
        if self._holding is not None:
            await self._holding
            self._holding = None

    def _hold(self, seconds: float) -> None:
        # In one thread: to close a connection while another one works on it ends the process.
        with closing(sqlite3.connect(self._path, timeout=GUARD_S, isolation_level=None)) as connection:
            while not self._ending.is_set():
                connection.execute("BEGIN IMMEDIATE")
                self._ending.wait(seconds)
                connection.execute("ROLLBACK")
                self._ending.wait(0.05)


@asynccontextmanager
async def _wire(folder: Path) -> AsyncIterator[_Wire]:
    server = Mongod(folder / "mongo")
    server.start()
    try:
        async with relaying(urlsplit(server.url).port or 0) as relay:
            # Else the driver goes to the address that the server calls its own.
            url = f"mongodb://127.0.0.1:{relay.port}/?directConnection=true"
            yield _Wire(database_url(url, "slow"), relay)
    finally:
        server.kill()


@asynccontextmanager
async def _file(folder: Path) -> AsyncIterator[_File]:
    file = _File(folder / "gateway.db")
    try:
        yield file
    finally:
        await file.end()


async def _meet(trouble: str, record: Record) -> None:
    """Return once the callers have felt it: some of them are answered all the same, or refused."""
    if trouble == "slow":
        await record.further(_LITTLE)
        return
    refused = record.refused + _LITTLE

    async def felt() -> bool:
        return record.refused >= refused

    await eventually(felt, f"{_LITTLE} further refusals by a store that is {trouble}")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["sqlite", "mongo"])
async def test_under_a_store_that_is_slow_in_every_way_nothing_is_lost_and_all_goes_on(
    kind: str, tmp_path: Path
) -> None:
    storing: AbstractAsyncContextManager[_Slow] = _file(tmp_path) if kind == "sqlite" else _wire(tmp_path)
    async with storing as store:
        installation = Installation(
            tmp_path, **{**UNDER_LOAD, **LEASED, **store.settings, "LANE_CONCURRENCY": 16}
        )
        async with (
            running_sandbox(tmp_path, installation.port, "--no-limits", "--status-delays", "1,2,3") as meta,
            following(installation.socket_url) as follower,
        ):
            installation.send_to(meta.base_url)
            await meta.faults(delay_ms=20)
            load = Load(installation.url, random.Random(f"slow {kind}"), callers=2, most=5)
            process = await installation.start()
            try:
                async with asyncio.TaskGroup() as tasks:
                    loading = tasks.create_task(load.run())
                    for trouble in store.troubles:
                        await load.record.further(_LITTLE)
                        await store.begin(trouble)
                        await _meet(trouble, load.record)
                        await store.end()
                    await load.record.further(_LITTLE)
                    load.end()
                    await loading
                await settled(installation, load.record.sends, follower, meta)
                # The subscriber stayed through all of it.
                assert process.runs and follower.connections == 1 and follower.closes == []
            finally:
                await process.kill()
            accepted = await meta.accepted()
            installation.check_logs()

    log = follower.events
    count = prove(log, load.record, accepted)
    check_direct(load.record.direct, accepted)
    check_completed(log)
    check_replies(log, load.record.webhooks, KEYWORD, "autoreply:greeting")
    sys.stdout.write(
        f"\n{kind}: {len(load.record.webhooks)} webhooks, {len(load.record.sends)} sends acknowledged,"
        f" {load.record.refused} requests refused, {load.record.broken} broken, {count}, {len(log)} events\n"
    )

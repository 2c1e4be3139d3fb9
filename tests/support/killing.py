"""``kill -9`` again and again, under load, and the counting after it.

Owns one trial: the real process under load of every kind, killed at some moment and started at once, so
many times, while Meta (the sandbox, a process that lives on) repeats its webhooks and callers ask again.
Then it is counted: what was answered with success against the log and against what Meta took. How hard and
how often is said by who starts it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.follower import Follower, following, read_log
from tests.support.load import KEYWORD, LEASED, UNDER_LOAD, Load, Record
from tests.support.mongod import database_url, shared_mongod
from tests.support.process import Installation, Process, running_sandbox
from tests.support.proof import Count, check_replies, check_threads, prove
from tests.support.settling import settled
from tests.support.threads import read_threads
from tests.support.waiting import GUARD_S

__all__ = ["STORES", "TRIALS", "Counted", "Trial", "installed", "kill_and_count"]


class Trial(NamedTuple):
    """How hard a store is tried."""

    kills: int
    callers: int
    most: int
    answers: int
    """At most so many between two kills."""
    moments: tuple[str, ...]
    """When a life ends, in turn. ``starting``: before it listens; ``listening``: as soon as it does;
    ``anywhen``: so long after its start, by chance; ``answers``: amid answers; ``recovering``: when it has
    found what the one before it left; ``resending``: when it sends again what may have been sent."""
    dropped: float
    """Part of the sends whose answer Meta loses."""
    statuses: str
    """When Meta tells its statuses: late enough for some rows to be sent again before."""
    settings: dict[str, object]


TRIALS = {
    "sqlite": Trial(
        kills=24,
        callers=6,
        most=20,
        answers=200,
        moments=("starting", "answers", "listening", "answers", "recovering", "resending"),
        dropped=0.03,
        statuses="3,4,5",
        settings={},
    ),
    "mongo": Trial(
        kills=10,
        callers=1,
        most=5,
        answers=60,
        moments=("starting", "answers", "listening", "recovering", "answers"),
        dropped=0.1,
        statuses="8,9,10",
        settings=LEASED,
    ),
}

STORES = tuple(TRIALS)
_ANYWHEN_S = 2.5
_PATIENCE_S = 4 * GUARD_S
"""Until the moment of a kill comes: a life may begin with a long past, on a busy machine."""


class Counted(NamedTuple):
    """What a trial came to, in which nothing was lost."""

    kills: int
    webhooks: int
    """Inbound messages that were acknowledged."""
    repeated: int
    """Webhooks that were posted again after that."""
    sends: int
    """Requests to send that were acknowledged."""
    messages: int
    """Recipients in them."""
    count: Count
    events: int
    connections: int
    """Times that the subscriber came back."""
    broken: int
    """Requests that got no answer."""


@contextmanager
def installed(folder: Path, store: str, settings: Mapping[str, object]) -> Iterator[Installation]:
    """A gateway on this store (of :data:`STORES`), with a database of its own, and these settings."""
    if store == "sqlite":
        yield Installation(folder, **settings)
        return
    with shared_mongod(folder / "mongo") as server:
        yield Installation(folder, STORE_URL=database_url(server, "crash"), **settings)


class _Killer:
    """Starts the gateway, kills it at some moment, and starts it again, so many times. The last one lives."""

    def __init__(
        self,
        trial: Trial,
        installation: Installation,
        record: Record,
        follower: Follower,
        rng: random.Random,
    ) -> None:
        self._trial = trial
        self._installation = installation
        self._record = record
        self._follower = follower
        self._rng = rng

    async def run(self) -> Process:
        """The process that is left."""
        process = await self._installation.spawn()
        try:
            for number in range(self._trial.kills):
                moment = self._trial.moments[number % len(self._trial.moments)]
                await process.outlives(self._wait_for(moment, process))
                await process.kill()
                process = await self._installation.spawn()
            await self._installation.greeted(process)
        except BaseException:
            await process.kill()
            raise
        return process

    async def _wait_for(self, moment: str, process: Process) -> None:
        if moment == "starting":
            return
        if moment == "anywhen":
            await asyncio.sleep(self._rng.uniform(0, _ANYWHEN_S))
            return
        await self._installation.greeted(process)
        if moment == "answers":
            await self._record.further(self._rng.randint(1, self._trial.answers), _PATIENCE_S)
        elif moment == "recovering":
            await self._see("message.unknown", self._rng.randint(1, 5))
        elif moment == "resending":
            await self._see("message.retrying", self._rng.randint(1, 5))

    async def _see(self, type: str, times: int) -> None:
        """Return after so many further events of this type."""
        wanted = self._follower.count(type) + times
        await self._follower.until(
            lambda: self._follower.count(type) >= wanted, lambda: f"{times} {type}", _PATIENCE_S
        )


async def kill_and_count(folder: Path, store: str, trial: Trial, seed: str) -> Counted:
    """One trial in this folder. Fails where anything that was acknowledged is lost, or is there twice and not
    counted as such, or where the gateway hangs, ends by itself or logs a traceback.

    ``seed`` fixes what the callers and the killer choose; what is under way at a kill, nothing can fix.
    """
    rng = random.Random(seed)
    with installed(folder, store, UNDER_LOAD | trial.settings) as installation:
        async with (
            running_sandbox(
                folder, installation.port, "--no-limits", "--status-delays", trial.statuses
            ) as meta,
            following(installation.socket_url) as follower,
        ):
            installation.send_to(meta.base_url)
            await meta.faults(
                delay_ms=20, drop_answers=trial.dropped, duplicate_webhooks=0.02, reorder_webhooks=0.05
            )
            load = Load(installation.url, rng, callers=trial.callers, most=trial.most)
            async with asyncio.TaskGroup() as tasks:
                loading = tasks.create_task(load.run())
                process = await _Killer(trial, installation, load.record, follower, rng).run()
                try:
                    load.end()
                    await loading
                    await settled(installation, load.record.sends, follower, meta)
                    head = follower.events[-1]["offset"]
                    log = await read_log(installation.socket_url, head)
                    threads = await read_threads(head, installation.url)
                finally:
                    await process.kill()
            installation.check_logs()
            count = _prove(load.record, log, follower, await meta.accepted())
            check_threads(log, threads)
    return _counted(trial.kills, load.record, follower, log, count)


def _prove(
    record: Record, log: list[dict[str, Any]], follower: Follower, accepted: list[dict[str, Any]]
) -> Count:
    count = prove(log, record, accepted)
    assert follower.events == log, "who stayed through the kills saw another log than who comes now"
    assert check_replies(log, record.webhooks, KEYWORD, "autoreply:greeting") > 0
    return count


def _counted(
    kills: int, record: Record, follower: Follower, log: Sequence[dict[str, Any]], count: Count
) -> Counted:
    return Counted(
        kills=kills,
        webhooks=len(record.webhooks),
        repeated=record.repeated,
        sends=len(record.sends),
        messages=sum(map(len, record.sends.values())),
        count=count,
        events=len(log),
        connections=follower.connections,
        broken=record.broken,
    )

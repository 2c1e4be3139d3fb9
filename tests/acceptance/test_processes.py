"""Several processes on one MongoDB: they share the numbers and the log, and any of them may die or sleep.

Three real processes, one database, and one Meta (the sandbox), which reaches them through a balancer.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.follower import Follower, following, read_log
from tests.support.load import KEYWORD, LEASED, UNDER_LOAD, Load, Record
from tests.support.mongod import Mongod, database_url
from tests.support.process import NUMBER, Installation, Process, SandboxProcess, running_sandbox
from tests.support.proof import check_completed, check_direct, check_replies, check_threads, prove
from tests.support.relay import relaying
from tests.support.settling import settled
from tests.support.threads import read_threads
from tests.support.waiting import GUARD_S, eventually

_NUMBERS = (NUMBER, "106540352242923", "106540352242924", "106540352242925")
_DISPLAYS = ("15550783882", "15550783883", "15550783884")
_SHARES = [1, 1, 2]


class Member:
    """One of the processes, over its lives."""

    def __init__(self, installation: Installation, session: aiohttp.ClientSession) -> None:
        self.installation = installation
        self._session = session
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The one that lives now."""
        assert self._process is not None
        return self._process

    async def start(self) -> None:
        """Return when it listens."""
        self._process = await self.installation.spawn()
        await self.installation.greeted(self._process)

    async def die(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            await self._process.kill()

    async def lanes(self) -> set[str]:
        """The numbers that it works."""
        async with self._session.get(f"{self.installation.url}/api/status") as answer:
            status: dict[str, Any] = await answer.json()
        return {lane["phone_number_id"] for lane in status["lanes"] if lane["state"] != "elsewhere"}

    async def send(self, number: str, phone: str, *, use_queue: bool) -> dict[str, Any]:
        """A message from this number, accepted here, whoever works it."""
        text = {"phone": phone, "message": "hello", "phone_number_id": number, "use_queue": use_queue}
        async with self._session.post(f"{self.installation.url}/api/send-message", json=text) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 200, (answer.status, body)
            return body


class Together:
    """The processes, and what is around them."""

    def __init__(
        self,
        members: Sequence[Member],
        followers: Sequence[Follower],
        meta: SandboxProcess,
        server: Mongod,
    ) -> None:
        self.server = server
        self.members = tuple(members)
        self.followers = tuple(followers)
        self.meta = meta

    async def shared_out(self) -> dict[Member, set[str]]:
        """Who works which numbers, once all have their shares."""

        async def look() -> dict[Member, set[str]] | None:
            lanes = {member: await member.lanes() for member in self.members}
            together = Counter(number for held in lanes.values() for number in held)
            even = sorted(map(len, lanes.values())) == _SHARES and set(together.values()) == {1}
            return lanes if even and together.keys() == set(_NUMBERS) else None

        return await eventually(look, "even shares of the numbers")

    async def worked_by(self, *members: Member) -> None:
        """Return once these work all numbers among them."""

        async def look() -> bool:
            return set(_NUMBERS) == set().union(*[await member.lanes() for member in members])

        await eventually(look, "the numbers of those who are gone")

    async def settled(self, task_ids: Sequence[str]) -> list[dict[str, Any]]:
        """The log, once all has come to its end; the subscribers of all processes have seen the same."""
        first, *others = (member.installation for member in self.members)
        await settled(first, task_ids, self.followers[0], self.meta, others)
        log = await read_log(first.socket_url, self.followers[0].events[-1]["offset"])
        for follower in self.followers:
            await follower.until(lambda f=follower: len(f.events) >= len(log), lambda: "the whole log")
            assert follower.events == log, "who stayed with one process saw another log than who comes now"
        urls = [member.installation.url for member in self.members]
        check_threads(log, await read_threads(log[-1]["offset"], *urls))
        return log


@asynccontextmanager
async def together(folder: Path, statuses: str, settings: dict[str, object]) -> AsyncIterator[Together]:
    """Three processes that listen; gone at the end. ``statuses``: when Meta tells them."""
    numbers = "".join(f'[[whatsapp.numbers]]\nphone_number_id = "{number}"\n' for number in _NUMBERS[1:])
    async with AsyncExitStack() as stack:
        server = Mongod(folder / "mongo")
        stack.callback(server.kill)
        server.start()
        store = {"STORE_URL": database_url(server.url, "processes")}
        installations = []
        for name in ("one", "two", "three"):
            place = folder / name
            place.mkdir()
            (place / "config.toml").write_text(numbers)
            installations.append(Installation(place, **UNDER_LOAD | LEASED | settings | store))
        balancer = await stack.enter_async_context(relaying(*(i.port for i in installations)))
        more = [option for pair in zip(_NUMBERS[1:], _DISPLAYS, strict=True) for option in _options(*pair)]
        meta = await stack.enter_async_context(
            running_sandbox(folder, balancer.port, "--no-limits", "--status-delays", statuses, *more)
        )
        timeout = aiohttp.ClientTimeout(total=GUARD_S)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        followers = [
            await stack.enter_async_context(following(installation.socket_url))
            for installation in installations
        ]
        members = [Member(installation, session) for installation in installations]
        for member in members:
            member.installation.send_to(meta.base_url)
            stack.push_async_callback(member.die)
        await asyncio.gather(*(member.start() for member in members))
        yield Together(members, followers, meta, server)
        for member in members:
            member.process.signal(signal.SIGCONT)
            member.installation.check_logs()


def _options(number: str, display: str) -> tuple[str, ...]:
    return "--phone-number-id", number, "--display-phone-number", display


# -- one after the other -------------------------------------------------------------------------------


@pytest.mark.timeout(300)
async def test_numbers_are_shared_handed_over_and_taken_over_and_any_process_takes_their_sends(
    tmp_path: Path,
) -> None:
    async with together(tmp_path, "0.05,0.1,0.2", {"DIRECT_TIMEOUT_S": 20}) as those:
        people = (f"4915155{n:06d}" for n in range(100))
        lanes = await those.shared_out()
        record = Record()

        async def send(member: Member, number: str, phone: str) -> None:
            answer = await member.send(number, phone, use_queue=False)
            record.direct[answer["task_id"]] = answer["data"]["messages"][0]["id"]
            queued = await member.send(number, phone, use_queue=True)
            record.sends |= {task["task_id"]: [phone] for task in (answer, queued)}

        # Everywhere for every number: Meta's answer comes to who asked, and it is the owner that calls.
        await asyncio.gather(*(send(m, n, next(people)) for m in those.members for n in _NUMBERS))

        dead = max(those.members, key=lambda member: len(lanes[member]))
        living = [member for member in those.members if member is not dead]
        await dead.die()
        # Nobody works its numbers yet; whoever sends from them waits for the next owner, no longer.
        await asyncio.gather(*(send(m, n, next(people)) for m in living for n in _NUMBERS))
        await those.worked_by(*living)

        # Who comes back is handed its share, by draining.
        await dead.start()
        lanes = await those.shared_out()
        await asyncio.gather(*(send(m, n, next(people)) for m in those.members for n in _NUMBERS))

        # Who stops hands over at once.
        leaver = living[0]
        leaver.process.signal(signal.SIGTERM)
        assert await leaver.process.ended() == 0
        rest = [member for member in those.members if member is not leaver]
        await those.worked_by(*rest)
        await asyncio.gather(*(send(m, n, next(people)) for m in rest for n in _NUMBERS))
        await leaver.start()
        await those.shared_out()

        log = await those.settled(list(record.sends))
        accepted = await those.meta.accepted()
    assert prove(log, record, accepted).doubles == 0
    check_direct(record.direct, accepted)
    check_completed(log)


# -- all at once ---------------------------------------------------------------------------------------

_ROUNDS = ("kill", "sleep", "both", "store", "kill twice")


class _Misfortunes:
    """What befalls the processes, and their store, under load, one round after the other."""

    def __init__(self, those: Together, record: Record, rng: random.Random) -> None:
        self._those = those
        self._record = record
        self._rng = rng
        self.lost_sleep = 0
        """How many slept past a lease that they had."""

    async def run(self) -> None:
        """All of them; at the end all processes live."""
        for what in _ROUNDS:
            await self._record.further(self._rng.randint(5, 25))
            victim, other = self._rng.sample(self._those.members, 2)
            if what == "store":
                await self._kill_store()
            elif what.startswith("kill"):
                await self._kill(victim, twice=what == "kill twice")
            else:
                await self._sleep(victim, other if what == "both" else None)

    async def _kill(self, victim: Member, *, twice: bool = False) -> None:
        await victim.die()
        if twice:
            # Before it listens.
            process = await victim.installation.spawn()
            await process.kill()
        await victim.start()

    async def _kill_store(self) -> None:
        """And have it back once all have felt it."""
        refused = self._record.refused + 5
        self._those.server.kill()

        async def felt() -> bool:
            return self._record.refused >= refused

        await eventually(felt, "refusals for want of a store")
        await asyncio.to_thread(self._those.server.start)

    async def _sleep(self, sleeper: Member, dying: Member | None) -> None:
        """Until all that it held has another owner, who may have died meanwhile; then it goes on."""
        # One that has just started has its share of the lanes a moment later.
        await eventually(sleeper.lanes)
        self.lost_sleep += bool(await sleeper.lanes())
        sleeper.process.signal(signal.SIGSTOP)
        try:
            if dying is not None:
                await self._kill(dying)
            others = [member for member in self._those.members if member is not sleeper]
            await self._those.worked_by(*others)
            await self._record.further(self._rng.randint(1, 10))
        finally:
            sleeper.process.signal(signal.SIGCONT)


@pytest.mark.timeout(600)
async def test_kills_and_sleeps_of_any_process_under_load_lose_nothing_and_double_nothing_silently(
    tmp_path: Path,
) -> None:
    rng = random.Random("processes")
    async with together(tmp_path, "6,7,8", {}) as those:
        await those.meta.faults(
            delay_ms=20, drop_answers=0.05, duplicate_webhooks=0.02, reorder_webhooks=0.05
        )
        urls = [member.installation.url for member in those.members]
        load = Load(urls, rng, callers=1, most=5, numbers=_NUMBERS, patience_s=8.0)
        misfortunes = _Misfortunes(those, load.record, rng)
        async with asyncio.TaskGroup() as tasks:
            loading = tasks.create_task(load.run())
            await misfortunes.run()
            load.end()
            await loading
        await those.shared_out()
        log = await those.settled(list(load.record.sends))
        accepted = await those.meta.accepted()
    count = prove(log, load.record, accepted)
    check_direct(load.record.direct, accepted)
    check_completed(log)
    assert check_replies(log, load.record.webhooks, KEYWORD, "autoreply:greeting") > 0
    # Else nothing of this was tried.
    assert count.unknowns and misfortunes.lost_sleep
    messages = sum(map(len, load.record.sends.values()))
    sys.stdout.write(
        f"\n{len(_ROUNDS)} rounds, {len(load.record.webhooks)} webhooks acknowledged,"
        f" {len(load.record.sends)} sends ({messages} messages, {len(load.record.direct)} direct),"
        f" {count}, {len(log)} events, {load.record.broken} requests broken, {load.record.refused} refused\n"
    )

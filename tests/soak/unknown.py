"""A run of many sends whose answers get lost, with the process killed at random: what became of each.

Meta takes every send, loses a part of its answers, and says of others that something went wrong. Lives differ
in how long they wait for word: after the short grace a message is sent again that had arrived, after the long
one a status has come first. At the end each row is settled, each recipient has each message, and who has one
twice is told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from tests.support.follower import Follower, following
from tests.support.killing import installed
from tests.support.load import Caller, Record
from tests.support.process import Installation, Process, SandboxProcess, running_sandbox
from tests.support.proof import prove
from tests.support.settling import settled
from tests.support.waiting import GUARD_S, eventually

__all__ = ["DROPPED", "Wanted", "lose_answers"]

DROPPED = 0.05
"""Part of the sends whose answer Meta loses."""
_IN_DOUBT = 131000
"""Something went wrong (CLOUD_API.md 2): the message may have been sent, and is sent again."""
_CALM = 3
"""In one of so many lives it does: a message that meets it three times is given up."""
_AT_ONCE = 250
"""Recipients of one request."""
_GRACES_S = (1, 1, 6)
_STATUSES = "2.5,3,3.5"
_SETTINGS: dict[str, object] = {
    # Slow enough that a life lasts some seconds: as long as a grace, and as it takes Meta to tell a status.
    "LANE_RATE": 200,
    "LANE_PAIR_BURST": 10_000,
    "RETRY_MAX_ATTEMPTS": 100,
    "LEASE_TTL_S": 2,
}
_LONG_S = 20 * GUARD_S


class Wanted(NamedTuple):
    """How much of it."""

    store: str
    sends: int
    kills: int


async def lose_answers(folder: Path, wanted: Wanted, seed: str) -> dict[str, Any]:
    """One run in this folder; what it came to. Fails where a row is not settled, a recipient is without a
    message, or a double is not told of a row that was in doubt."""
    rng = random.Random(seed)
    with installed(folder, wanted.store, _SETTINGS) as installation:
        async with (
            running_sandbox(folder, installation.port, "--no-limits", "--status-delays", _STATUSES) as meta,
            following(installation.socket_url) as follower,
        ):
            installation.send_to(meta.base_url)
            await meta.faults(drop_answers=DROPPED, delay_ms=20)
            record = Record()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_send(installation.url, record, wanted.sends, rng))
                process = await _kill_at_random(installation, meta, follower, wanted, rng)
                try:
                    await eventually(lambda: _all_taken(record, wanted), "all requests", _LONG_S)
                    await settled(installation, record.sends, follower, meta)
                    states = await _states(installation.url, record.sends)
                finally:
                    await process.kill()
            installation.check_logs()
            found = _prove(record, follower.events, await meta.accepted(), await meta.stats())
    return {
        "store": wanted.store,
        "sends": wanted.sends,
        "kills": wanted.kills,
        "states": states,
        **found,
    }


async def _send(url: str, record: Record, sends: int, rng: random.Random) -> None:
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        caller = Caller(url, session, record)
        for start in range(0, sends, _AT_ONCE):
            # Fewer people than messages: some get several, one after another.
            count = min(_AT_ONCE, sends - start)
            people = [f"4915166{n:06d}" for n in rng.sample(range(max(count, sends // 2)), count)]
            texts = [{"phone": phone, "message": f"message {start + n}"} for n, phone in enumerate(people)]
            await caller.send("/api/send-bulk", {"recipients": texts}, people)


async def _all_taken(record: Record, wanted: Wanted) -> bool:
    return sum(map(len, record.sends.values())) == wanted.sends


async def _kill_at_random(
    installation: Installation, meta: SandboxProcess, follower: Follower, wanted: Wanted, rng: random.Random
) -> Process:
    """The process that is left. Each life ends after some share of the messages, by chance."""
    each = max(1, wanted.sends // wanted.kills)
    process = await installation.spawn(UNKNOWN_GRACE_S=rng.choice(_GRACES_S))
    try:
        for life in range(wanted.kills):
            if life % _CALM == 0:
                await meta.faults(error={"code": _IN_DOUBT, "count": rng.randint(1, 5)})
            await process.outlives(_live(installation, process, meta, follower, rng, each))
            await process.kill()
            print(f"{life + 1} of {wanted.kills} kills, {follower.count('message.sent'):,} sent", flush=True)
            process = await installation.spawn(UNKNOWN_GRACE_S=rng.choice(_GRACES_S))
        await installation.greeted(process)
    except BaseException:
        await process.kill()
        raise
    return process


async def _live(
    installation: Installation,
    process: Process,
    meta: SandboxProcess,
    follower: Follower,
    rng: random.Random,
    each: int,
) -> None:
    await installation.greeted(process)
    # Half of what is sent on an average, so that there is something left for every life.
    taken = (await meta.stats())["accepted"] + rng.randint(1, each)

    async def enough() -> bool:
        return bool((await meta.stats())["accepted"] >= taken)

    await eventually(enough, f"{each} further sends", _LONG_S)


async def _states(url: str, task_ids: Sequence[str]) -> dict[str, int]:
    """How many rows of these tasks are in each state."""
    states: dict[str, int] = {}
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=GUARD_S)) as session:
        for task_id in task_ids:
            async with session.get(f"/api/task-status/{task_id}") as answer:
                assert answer.status == 200, await answer.text()
                counts = (await answer.json())["counts"]
            for state, number in counts.items():
                states[state] = states.get(state, 0) + number
    return {state: number for state, number in states.items() if number}


def _prove(
    record: Record, events: Sequence[dict[str, Any]], accepted: list[dict[str, Any]], stats: dict[str, Any]
) -> dict[str, Any]:
    count = prove(events, record, accepted)
    return {
        **count._asdict(),
        "maybe_sent": sum(_is_in_doubt(event) for event in events),
        "dropped": stats["dropped_answers"],
        "events": len(events),
        "broken": record.broken,
    }


def _is_in_doubt(event: dict[str, Any]) -> bool:
    return event["event"] == "message.retrying" and event["data"]["error"].get("code") == _IN_DOUBT

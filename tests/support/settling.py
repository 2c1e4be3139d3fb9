"""When a trial is over: all that was begun has come to its end, and the log has been read to its head."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import aiohttp

from tests.support.follower import Follower
from tests.support.process import Installation, SandboxProcess
from tests.support.waiting import GUARD_S, eventually

__all__ = ["settled"]


async def settled(
    installation: Installation,
    task_ids: Collection[str],
    follower: Follower,
    meta: SandboxProcess,
    others: Sequence[Installation] = (),
) -> None:
    """Return once these tasks are sent, all others that the log tells of have ended too, Meta has told all
    that it had to tell, and the follower has read the log to its head. Fails where that takes too long.

    ``others``: processes that share the store with the installation.
    """
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    urls = [other.url for other in others]
    async with aiohttp.ClientSession(installation.url, timeout=timeout) as session:
        for task_id in task_ids:
            assert await _ended(session, task_id), f"the task {task_id} is not known"

        async def all_ended() -> bool:
            if not (await meta.quiet() and await _is_idle(session, follower, urls)):
                return False
            still = _tasks(follower, "task.created") - _tasks(follower, "task.completed")
            return not any([await _ended(session, task_id) for task_id in still])

        await eventually(all_ended, "the end of everything", 5 * GUARD_S)


async def _is_idle(session: aiohttp.ClientSession, follower: Follower, others: Sequence[str]) -> bool:
    """Whether the gateway has nothing left to do, and the follower has seen all that it did."""
    found = [await _status(session, url) for url in ("", *others)]
    if any(status["depth"] is None for status in found):
        # The store took too long, which a slow one may.
        return False
    queued = [number for states in found[0]["depth"].values() for number in states.values()]
    # A consumer runs in one of the processes.
    lags = [
        min(lag) for lag in zip(*([c["lag"] for c in status["consumers"]] for status in found), strict=True)
    ]
    heads = {status["store"]["head"] for status in found}
    return not any(queued + lags) and heads == {follower.events[-1]["offset"]}


async def _status(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/api/status") as answer:
        status: dict[str, Any] = await answer.json()
        return status


async def _ended(session: aiohttp.ClientSession, task_id: str) -> bool:
    """True once all of the task was sent; False where there is none: it broke off while it was stored."""

    async def look() -> int:
        async with session.get(f"/api/task-status/{task_id}") as answer:
            status = await answer.json()
        if answer.status == 503:
            # The store took too long, which a slow one may.
            return 0
        assert answer.status == 404 or status["status"] != "FAILURE", status
        done = answer.status == 404 or (status["status"] == "SUCCESS" and status["completed_at"])
        return answer.status if done else 0

    return await eventually(look, f"the end of the task {task_id}", 5 * GUARD_S) == 200


def _tasks(follower: Follower, type: str) -> set[str]:
    return {event["data"]["task_id"] for event in follower.events if event["event"] == type}

"""SIGTERM drains: what is under way is settled, what waits stays queued, and the next process goes on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.follower import following
from tests.support.load import post_webhook
from tests.support.ports import free_port
from tests.support.process import Installation, Process, SandboxProcess, running_sandbox
from tests.support.waiting import GUARD_S, eventually

_IN_FLIGHT = 5
_QUEUED = 20
_LATE_MS = 6000


def _phone(number: int) -> str:
    return f"4915155{number:06d}"


async def _queue(session: aiohttp.ClientSession, url: str, phone: str) -> str:
    body = {"phone": phone, "message": "hello", "use_queue": True}
    async with session.post(f"{url}/api/send-message", json=body) as answer:
        assert answer.status == 200, await answer.text()
        task_id: str = (await answer.json())["task_id"]
        return task_id


async def _send_directly(session: aiohttp.ClientSession, url: str, phone: str) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{url}/api/send-message", json={"phone": phone, "message": "hello"}) as answer:
        return answer.status, await answer.json()


async def _refused_send(session: aiohttp.ClientSession, url: str) -> bool:
    body = {"phone": _phone(999), "message": "too late", "use_queue": True}
    async with session.post(f"{url}/api/send-message", json=body) as answer:
        if answer.status == 200:
            return False
        assert answer.status == 503 and answer.headers["Retry-After"], answer
        return bool((await answer.json())["code"] == "draining")


async def _counts(session: aiohttp.ClientSession, url: str, task_id: str) -> dict[str, int]:
    async with session.get(f"{url}/api/task-status/{task_id}") as answer:
        assert answer.status == 200, await answer.text()
        counts: dict[str, int] = (await answer.json())["counts"]
        return {state: number for state, number in counts.items() if number}


async def _taken(meta: SandboxProcess, calls: int) -> bool:
    return len(await meta.accepted()) >= calls


async def test_sigterm_settles_what_is_under_way_and_leaves_the_rest_for_the_next_start(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path, LANE_CONCURRENCY=_IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with (
        running_sandbox(tmp_path, installation.port, "--status-delays", "none") as meta,
        aiohttp.ClientSession(timeout=timeout) as session,
        following(installation.socket_url) as follower,
        asyncio.TaskGroup() as callers,
    ):
        installation.send_to(meta.base_url)
        await meta.faults(delay_ms=_LATE_MS)
        process = await installation.start()
        try:
            answered = callers.create_task(_send_directly(session, installation.url, _phone(0)))
            await eventually(lambda: _taken(meta, 1), "the direct send at Meta")
            queued = [await _queue(session, installation.url, _phone(n)) for n in range(1, _QUEUED)]
            await eventually(lambda: _taken(meta, _IN_FLIGHT), f"{_IN_FLIGHT} calls at Meta")
            behind = callers.create_task(_send_directly(session, installation.url, _phone(_QUEUED)))
            await follower.until(
                lambda: follower.count("task.created") == _QUEUED + 1, lambda: "all tasks in the log"
            )

            process.signal(signal.SIGTERM)
            await eventually(lambda: _refused_send(session, installation.url), "the refusal of a send")
            late = await post_webhook(session, installation.url, [("wamid.late", _phone(1), "too late")])
            assert late.status == 503 and late.headers["Retry-After"]
            assert await process.ended() == 0, process.errors
        finally:
            await process.kill()

        # Who waited for an outcome got it, or the task to ask for later.
        status, answer = await answered
        assert status == 200 and answer["data"]["messages"][0]["id"], answer
        status, answer = await behind
        assert status == 202 and answer["task_id"], answer
        queued.append(answer["task_id"])
        # Who comes again before the port is closed is sent away again.
        await follower.until(lambda: bool(follower.closes), lambda: "the end of the connection")
        assert follower.closes[0] == 1001
        calls = [item["callback"] for item in await meta.accepted()]
        assert len(calls) == _IN_FLIGHT

        await meta.faults(reset=True)
        process = await installation.start()
        try:
            # More than the tasks of this test: a send that was taken before the refusal is one, too.
            await follower.until(
                lambda: follower.count("task.completed") == follower.count("task.created"),
                lambda: "the end of every task",
            )
            for task_id in queued:
                assert await _counts(session, installation.url, task_id) == {"sent": 1}
        finally:
            await process.kill()

        accepted = [item["callback"] for item in await meta.accepted()]
        assert accepted[:_IN_FLIGHT] == calls
        assert len(accepted) == len({callback.rpartition(".")[0] for callback in accepted})
        assert {f"{task_id}-0" for task_id in queued} <= {
            callback.rpartition(".")[0] for callback in accepted
        }
        assert follower.count("message.sent") == len(accepted)
        assert follower.count("message.unknown") == follower.count("message.retrying") == 0


async def test_calls_that_outlast_the_drain_are_unknown_after_the_next_start(tmp_path: Path) -> None:
    installation = Installation(tmp_path, UNKNOWN_GRACE_S=30, DRAIN_TIMEOUT_S=0.2)
    timeout = aiohttp.ClientTimeout(total=GUARD_S)
    async with (
        running_sandbox(tmp_path, installation.port, "--status-delays", "8,8,8") as meta,
        aiohttp.ClientSession(timeout=timeout) as session,
        following(installation.socket_url) as follower,
    ):
        installation.send_to(meta.base_url)
        await meta.faults(delay_ms=60_000)
        process = await installation.start()
        try:
            task_id = await _queue(session, installation.url, _phone(1))
            await eventually(lambda: _taken(meta, 1), "the call at Meta")
            process.signal(signal.SIGTERM)
            assert await process.ended() == 0, process.errors
        finally:
            await process.kill()

        process = await installation.start()
        try:
            # Meta's word for it comes with the statuses, within the grace.
            await follower.until(lambda: follower.count("message.read") == 1, lambda: "the statuses")
            await follower.until(lambda: follower.count("task.completed") == 1, lambda: "the end of the task")
            assert await _counts(session, installation.url, task_id) == {"read": 1}
        finally:
            await process.kill()
        assert follower.count("message.unknown") == follower.count("message.sent") == 1
        assert len(await meta.accepted()) == 1


async def test_a_second_process_waits_for_the_store_and_takes_over(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    first = await installation.start()
    # Behind a proxy; on the port of the first it would be refused at once.
    port = free_port()
    second = await installation.spawn(PORT=port)
    try:
        await eventually(lambda: _says(second, "waiting up to"), "the second process at the store's door")
        first.signal(signal.SIGTERM)
        assert await first.ended() == 0, first.errors
        await installation.greeted(second)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            taken = await post_webhook(session, url, [("wamid.1", _phone(1), "hello")])
            assert taken.status == 200
    finally:
        await first.kill()
        await second.kill()


async def test_a_second_process_gives_up_with_one_line_when_the_store_stays_taken(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    first = await installation.start()
    try:
        second = await installation.spawn(DRAIN_TIMEOUT_S=0.3, PORT=free_port())
        assert await second.ended() == 1
        refusals = [line for line in second.errors.splitlines() if line.startswith("cannot start: ")]
        assert len(refusals) == 1 and str(installation.database) in refusals[0], second.errors
        assert "Traceback" not in second.errors
        assert first.runs
    finally:
        await first.kill()


async def _says(process: Process, text: str) -> bool:
    assert process.runs, process.errors
    return text in process.errors

"""Tasks over HTTP: listed, looked into, cancelled and retried (contract.md, Tasks)."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest

from handlers.parameters import StateName, TaskKind
from handlers.sends import MANY, ONE
from store.states import State
from tests.support.gateway import Harness, serving
from whatsapp.payloads import KINDS
from whatsapp.sandbox import SandboxSettings
from whatsapp.task_messages import CSV_HEAD

PHONE = "5215550001111"
NO_TASK = "0a1b2c3d-0000-4000-8000-000000000001"
FOR_GOOD = {"error": {"code": 131047, "http": 400, "count": 1_000_000}}
"""Meta refuses everything, and for good."""


def people(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"phone": str(5215560000000 + first + n), "message": f"m{n}"} for n in range(count)]


async def bulk(gateway: Harness, count: int, **fields: object) -> str:
    task_id: str = (await gateway.bulk(people(count), **fields)).ok["task_id"]
    return task_id


async def ended(gateway: Harness, task_id: str) -> dict[str, Any]:
    return await gateway.task_when(task_id, lambda task: task["completed_at"] is not None)


async def messages(gateway: Harness, task_id: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.get(f"/api/tasks/{task_id}/messages{query}")).ok["messages"]
    return found


# -- lists -------------------------------------------------------------------------------------------------


async def test_tasks_are_listed_newest_first_as_task_status_answers_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.get("/api/tasks")).ok == {"tasks": [], "next": None}
        ids = [await gateway.queue(PHONE) for _ in range(3)]
        for task_id in ids:
            await ended(gateway, task_id)
        await gateway.consumed("tracker")
        page = (await gateway.get("/api/tasks")).ok
        assert {task["task_id"] for task in page["tasks"]} == set(ids)
        times = [task["created_at"] for task in page["tasks"]]
        assert times == sorted(times, reverse=True)
        alone = await gateway.task(page["tasks"][0]["task_id"])
        assert page["tasks"][0]["result"] == alone["result"]
        assert page["tasks"][0].keys() == alone.keys()
        assert page["next"] is None
        same = (await gateway.get(f"/api/tasks/{ids[0]}")).ok
        assert same.keys() == alone.keys() and same["task_id"] == ids[0]


async def test_lists_of_tasks_are_paged_and_filtered(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=SandboxSettings(enforce_limits=False)) as gateway:
        done = [await gateway.queue(PHONE) for _ in range(4)]
        for task_id in done:
            await ended(gateway, task_id)
        gateway.sandbox.set_faults({"delay_ms": 60_000})
        waits = await gateway.queue(PHONE)
        whole = (await gateway.get("/api/tasks")).ok["tasks"]
        found, path = [], "/api/tasks?limit=2"
        while True:
            page = (await gateway.get(path)).ok
            assert len(page["tasks"]) in (1, 2)
            found += [task["task_id"] for task in page["tasks"]]
            if page["next"] is None:
                break
            path = f"/api/tasks?limit=2&cursor={page['next']}"
        assert found == [task["task_id"] for task in whole]
        assert sorted(found) == sorted([*done, waits])

        async def ids(query: str) -> set[str]:
            return {task["task_id"] for task in (await gateway.get(f"/api/tasks?{query}")).ok["tasks"]}

        assert await ids("status=open") == {waits}
        assert await ids("status=done") == set(done)
        assert await ids("kind=text&source=api") == {*done, waits}
        assert await ids("kind=template") == await ids("source=autoreply:x") == set()
        # So that the call under way ends, and nobody waits for it.
        await gateway.sandbox.stop()
        await gateway.start_sandbox()


@pytest.mark.parametrize(
    ("query", "path", "problem"),
    [
        ("limit=0", "limit", "1"),
        ("limit=201", "limit", "200"),
        ("limit=many", "limit", "whole number"),
        ("status=SUCCESS", "status", "must be one of open, done"),
        ("cursor=~~~", "cursor", "is none that this path has given"),
        ("cursor=bm90aGluZw", "cursor", "is none that this path has given"),
        ("cursor=eDp5", "cursor", "is none that this path has given"),
        ("kinds=text", "kinds", "did you mean `kind`?"),
        ("kind=texts", "kind", "must be one of text, template, interactive, list"),
        ("source=apis", "source", "must be api, or autoreply: and the name of a rule"),
    ],
)
async def test_a_bad_query_is_refused(tmp_path: Path, query: str, path: str, problem: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get(f"/api/tasks?{query}")
        assert (answer.status, answer.body["code"]) == (400, "invalid_request")
        (detail,) = answer.body["details"]
        assert detail["path"] == path and problem in detail["problem"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/messages"),
        ("GET", "/messages?after=3"),
        ("GET", "/messages?format=csv"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
    ],
)
async def test_an_unknown_task_is_404(tmp_path: Path, method: str, path: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.request(method, f"/api/tasks/{NO_TASK}{path}")
        assert (answer.status, answer.body["code"]) == (404, "not_found")
        assert NO_TASK in answer.body["error"]


# -- messages ----------------------------------------------------------------------------------------------


async def test_each_message_is_told_with_what_became_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        recipients = [{"phone": PHONE, "message": "a"}, {"phone": "5215599131047", "message": "b"}]
        task_id = (await gateway.bulk(recipients)).ok["task_id"]
        await ended(gateway, task_id)
        await gateway.task_when(task_id, lambda task: task["counts"]["read"] == 1)
        read, failed = await messages(gateway, task_id)
        (taken,) = gateway.sandbox.accepted()["items"]
        for name in ("created_at", "sent_at", "delivered_at", "read_at"):
            assert read.pop(name).endswith("Z")
        assert read.pop("pricing")["category"] == "service"
        assert read == {
            "n": 0,
            "message_id": f"{task_id}-0",
            "to": {"contact": PHONE, "address": f"+{PHONE}"},
            "state": "read",
            "attempt": 1,
            "wamids": [taken["wamid"]],
            "error": None,
            "ended_at": None,
            "callback_data": None,
            "fallback": False,
            "played_at": None,
        }
        assert (failed["n"], failed["state"], failed["error"]["code"]) == (1, "failed", 131047)
        assert failed["ended_at"] and failed["sent_at"] is None
        assert [row["n"] for row in await messages(gateway, task_id, "?state=failed")] == [1]
        assert await messages(gateway, task_id, "?state=expired") == []


async def test_messages_are_paged(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = await bulk(gateway, 7)
        await ended(gateway, task_id)
        path, found = f"/api/tasks/{task_id}/messages", []
        after: int | None = -1
        while after is not None:
            page = (await gateway.get(f"{path}?limit=3&after={after}")).ok
            assert page["task_id"] == task_id
            found.append([row["n"] for row in page["messages"]])
            after = page["next"]
        assert found == [[0, 1, 2], [3, 4, 5], [6]]
        assert (await gateway.get(f"{path}?after=6")).ok["messages"] == []


async def test_all_messages_come_as_lines(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = await bulk(gateway, 1203)
        await ended(gateway, task_id)
        path = f"/api/tasks/{task_id}/messages"
        lines = await gateway.get(path, Accept="application/x-ndjson; q=1, */*")
        assert lines.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
        rows = [json.loads(line) for line in lines.ok.splitlines()]
        assert [row["n"] for row in rows] == list(range(1203))
        assert rows[:100] == await messages(gateway, task_id, "?limit=100")
        assert (await gateway.get(f"{path}?format=ndjson&state=failed")).ok == ""

        for answer in (await gateway.get(path, Accept="text/csv"), await gateway.get(f"{path}?format=csv")):
            assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert f"task-{task_id}.csv" in answer.headers["Content-Disposition"]
            table = list(csv.DictReader(io.StringIO(answer.ok)))
            assert [int(row["n"]) for row in table] == list(range(1203))
            assert list(table[0]) == list(CSV_HEAD)
            assert table[5]["address"] == "'+5215560000005" and table[5]["contact"] == "5215560000005"
        assert (await gateway.get(path, Accept="text/html, application/json, text/csv")).ok["messages"]


@pytest.mark.parametrize(
    ("query", "path", "problem"),
    [
        ("limit=501", "limit", "500"),
        ("after=-2", "after", "-1"),
        ("after=x", "after", "whole number"),
        ("state=done", "state", "must be one of queued, sending"),
        ("format=xml", "format", "must be one of json, ndjson, csv"),
        ("format=csv&limit=3", "limit", "is for JSON only"),
    ],
)
async def test_a_bad_query_for_messages_is_refused(
    tmp_path: Path, query: str, path: str, problem: str
) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get(f"/api/tasks/{NO_TASK}/messages?{query}")
        assert answer.status == 400
        assert answer.body["details"][0]["path"] == path and problem in answer.body["details"][0]["problem"]


def test_every_state_can_be_asked_for() -> None:
    assert get_args(StateName) == tuple(state.value for state in State)


def test_every_kind_of_a_task_may_be_asked_for() -> None:
    kinds = {send.kind for send in (*ONE.values(), *MANY.values())} | set(KINDS)
    assert set(get_args(TaskKind)) == kinds


async def test_a_list_that_breaks_off_does_not_pass_for_the_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = await bulk(gateway, 501)
        await ended(gateway, task_id)
        gateway.store.hold("task_rows")
        asking = asyncio.ensure_future(gateway.get(f"/api/tasks/{task_id}/messages?format=ndjson"))
        await gateway.store.arrived("task_rows")
        # The first read goes through, and the next one does not.
        gate = gateway.store._gates["task_rows"]
        gateway.store.hold("task_rows")
        gate.set()
        await gateway.store.arrived("task_rows")
        gate = gateway.store._gates.pop("task_rows")
        gateway.store.fail("task_rows")
        gate.set()
        with pytest.raises(aiohttp.ClientError):
            await asking
        gateway.store.heal()
        assert len(await messages(gateway, task_id)) == 100


async def test_a_store_that_is_away_is_told_before_the_first_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("task_rows")
        answer = await gateway.get(f"/api/tasks/{NO_TASK}/messages?format=csv")
        assert (answer.status, answer.body["code"]) == (503, "store_unavailable")


async def test_who_stops_reading_a_list_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = await bulk(gateway, 501)
        await ended(gateway, task_id)
        gateway.store.hold("task_rows")
        asking = asyncio.ensure_future(gateway.get(f"/api/tasks/{task_id}/messages?format=csv"))
        await gateway.store.arrived("task_rows")
        asking.cancel()
        gateway.store.heal()
        assert len(await messages(gateway, task_id)) == 100


# -- cancel ------------------------------------------------------------------------------------------------


async def test_a_task_is_cancelled_while_it_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"rate": 100.0}) as gateway:
        task_id = await bulk(gateway, 1500)
        await gateway.calls.wait(20)
        done = (await gateway.post(f"/api/tasks/{task_id}/cancel", {})).ok
        assert done["success"] is True and done["task_id"] == task_id
        assert done["cancelled"] > 1000 and done["cancelled"] + done["too_late"] == 1500
        task = await ended(gateway, task_id)
        assert task["counts"]["cancelled"] == done["cancelled"]
        assert task["counts"]["queued"] == task["counts"]["sending"] == 0
        assert task["result"]["sent"] == done["too_late"] == len(gateway.calls.taken)
        cancelled = gateway.events.of("message.cancelled")
        assert len(cancelled) == done["cancelled"]
        assert {row["task_id"] for row in cancelled} == {task_id}
        (completed,) = await gateway.events.wait("task.completed")
        assert completed["counts"]["cancelled"] == done["cancelled"]

        again = (await gateway.post(f"/api/tasks/{task_id}/cancel", {})).ok
        assert (again["cancelled"], again["too_late"]) == (done["cancelled"], done["too_late"])
        assert gateway.events.counts["message.cancelled"] == done["cancelled"]
        assert len(await messages(gateway, task_id, "?state=cancelled&limit=500")) == 500
        # The lane goes on at once with what comes next.
        await gateway.send(PHONE)
        assert gateway.calls.taken[-1].to == f"+{PHONE}"


async def test_a_cancel_that_broke_off_is_made_good_by_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.steal_lane()
        await gateway.lane_when(lambda lane: lane["state"] != "running")
        task_id = await bulk(gateway, 600)
        gateway.store.fail("apply")
        answer = await gateway.post(f"/api/tasks/{task_id}/cancel", {})
        assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
        gateway.store.heal()
        assert (await gateway.post(f"/api/tasks/{task_id}/cancel", {})).ok["cancelled"] == 600
        assert (await ended(gateway, task_id))["status"] == "REVOKED"


# -- retry -------------------------------------------------------------------------------------------------


async def test_what_failed_is_sent_again_and_the_task_completes_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        task_id = await bulk(gateway, 40)
        task = await ended(gateway, task_id)
        assert (task["status"], task["counts"]["failed"]) == ("FAILURE", 40)
        gateway.sandbox.set_faults({"reset": True})

        answer = (await gateway.request("POST", f"/api/tasks/{task_id}/retry")).ok
        assert answer == {
            "success": True,
            "message": "40 messages are queued again",
            "task_id": task_id,
            "retried": 40,
            "not_failed": 0,
        }
        (retried,) = gateway.events.of("task.retried")
        assert retried == {"task_id": task_id, "count": 40}
        first, second = await gateway.events.wait("task.completed", 2)
        assert (first["counts"], second["task_id"]) == ({"failed": 40}, task_id)
        task = await ended(gateway, task_id)
        assert (task["status"], task["result"]["sent"], task["result"]["failed"]) == ("SUCCESS", 40, 0)
        assert gateway.events.counts["message.retrying"] == 40
        assert gateway.events.counts["message.sent"] == 40
        rows = await messages(gateway, task_id)
        assert {row["attempt"] for row in rows} == {2}

        nothing = (await gateway.post(f"/api/tasks/{task_id}/retry", {})).ok
        assert nothing["retried"] == 0
        assert gateway.events.counts["task.retried"] == 1
        assert gateway.events.counts["task.completed"] == 2


async def test_a_large_task_is_sent_again_while_other_messages_leave(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        task_id = await bulk(gateway, 1200, priority="high")
        await ended(gateway, task_id)
        gateway.sandbox.set_faults({"reset": True})
        retrying = asyncio.ensure_future(gateway.post(f"/api/tasks/{task_id}/retry", {}))
        # With these the lane reads past the time at which the retry began.
        others = [await gateway.queue(str(5215570000000 + n)) for n in range(30)]
        assert (await retrying).ok["retried"] == 1200
        assert (await ended(gateway, task_id))["result"] == {"total": 1200, "sent": 1200, "failed": 0}
        for other in others:
            assert (await ended(gateway, other))["status"] == "SUCCESS"
        assert len(gateway.calls.taken) == 1230


async def test_a_retry_that_fails_can_be_retried(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 2, "base_s": 0.01, "cap_s": 0.02}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 4}})
        task_id = await bulk(gateway, 1)
        assert (await ended(gateway, task_id))["counts"]["failed"] == 1
        for turn in (2, 3):
            assert (await gateway.post(f"/api/tasks/{task_id}/retry", {})).ok["retried"] == 1
            told = await gateway.events.wait("task.completed", turn)
            assert len(told) == turn
        task = await ended(gateway, task_id)
        # Two attempts each, since the limit counts anew; the fifth goes through.
        assert (task["status"], len(gateway.calls.all)) == ("SUCCESS", 5)


async def test_a_message_that_failed_after_it_was_taken_is_told_as_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        # Taken, and failed by a status a moment later, whenever it is sent.
        task_id = await gateway.queue("5215577131026")
        await gateway.task_when(task_id, lambda task: task["counts"]["failed"] == 1)
        await gateway.consumed("tracker")
        assert (await gateway.post(f"/api/tasks/{task_id}/retry", {})).ok["retried"] == 1
        await gateway.events.wait("message.sent", 2)
        await gateway.calls.wait(2)
        await gateway.task_when(task_id, lambda task: task["counts"]["failed"] == 1)
        await gateway.events.wait("task.completed", 2)
        await gateway.consumed("tracker")
        # It has two ids of Meta's by right.
        assert gateway.events.counts["message.doubled"] == 0
        assert [len(row["wamids"]) for row in await messages(gateway, task_id)] == [2]


async def test_some_of_what_failed_is_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        task_id = await bulk(gateway, 5)
        await ended(gateway, task_id)
        gateway.sandbox.set_faults({"reset": True})
        some = {"message_ids": [f"{task_id}-1", f"{task_id}-3", f"{task_id}-3", f"{task_id}-99"]}
        answer = (await gateway.post(f"/api/tasks/{task_id}/retry", some)).ok
        assert (answer["retried"], answer["not_failed"]) == (2, 1)
        await gateway.events.wait("task.completed", 2)
        states = [row["state"] for row in await messages(gateway, task_id)]
        assert [state == "failed" for state in states] == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"message_ids": []}, "message_ids"),
        ({"message_ids": "all"}, "message_ids"),
        ({"message_ids": [3]}, "message_ids[0]"),
        ({"message_ids": ["another-1"]}, "message_ids[0]"),
        ({"messages": []}, "messages"),
    ],
)
async def test_a_bad_retry_is_refused(tmp_path: Path, body: dict[str, Any], path: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(f"/api/tasks/{NO_TASK}/retry", body)
        assert (answer.status, answer.body["details"][0]["path"]) == (400, path)


# -- skipped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_queue", [True, False])
async def test_recipients_that_were_skipped_count_as_failed(tmp_path: Path, use_queue: bool) -> None:
    async with serving(tmp_path) as gateway:
        wrong = [{"phone": "12", "message": ""}, {"phone": "x"}]
        recipients = [*people(3), *wrong]
        answer = (await gateway.bulk(recipients, use_queue=use_queue, on_invalid="skip")).ok
        task = await ended(gateway, answer["task_id"])
        assert task["result"] == {"total": 5, "sent": 3, "failed": 2}
        assert (task["progress"], sum(task["counts"].values())) == (1.0, 3)

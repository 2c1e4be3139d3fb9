"""Dead letters over HTTP: listed, looked into, told, and sent anew (contract.md, Dead letters)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.records import DeadFilter
from tests.support.gateway import NUMBER, Harness, serving
from whatsapp import dead_letters, errors
from whatsapp.events import rfc3339

PHONE = "5215550001111"
REFUSED = "5215599131026"
"""Refused by the sandbox at each attempt, with 131026."""
CLOSED = "5215599131047"
FAILED_LATER = "5215577131026"
"""Taken, and failed by a status a moment later."""
NOBODY = "0a1b2c3d-0000-4000-8000-000000000001-0"
FOR_GOOD = {"error": {"code": 131047, "http": 400, "count": 1_000_000}}
Json = dict[str, Any]


async def dies(gateway: Harness, phone: str, **fields: object) -> str:
    """The id of a message to this phone, once it is told as dead."""
    task_id = await gateway.queue(phone, **fields)
    ((dead),) = await gateway.events.wait("message.dead", task_id=task_id)
    message_id: str = dead["message_id"]
    return message_id


async def listed(gateway: Harness, query: str = "") -> list[str]:
    page = (await gateway.get(f"/api/dead-letters{query}")).ok
    return [letter["message_id"] for letter in page["dead_letters"]]


async def details(gateway: Harness, message_id: str) -> Json:
    found: Json = (await gateway.get(f"/api/dead-letters/{message_id}")).ok
    return found


# -- lists -------------------------------------------------------------------------------------------------


async def test_what_failed_is_listed_the_last_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.get("/api/dead-letters")).ok == {"dead_letters": [], "next": None}
        first = await dies(gateway, REFUSED, callback_data="order 7")
        second = await dies(gateway, FAILED_LATER)
        await gateway.send(PHONE)
        page = (await gateway.get("/api/dead-letters")).ok
        assert [letter["message_id"] for letter in page["dead_letters"]] == [second, first]
        letter = page["dead_letters"][1]
        assert letter["error"]["code"] == 131026 and letter["error"]["advice"]
        assert letter["failed_at"].endswith("Z") and letter["created_at"].endswith("Z")
        told = {name: letter[name] for name in letter if name not in ("error", "failed_at", "created_at")}
        assert told == {
            "message_id": first,
            "task_id": first.rpartition("-")[0],
            "phone_number_id": NUMBER,
            "to": {"contact": REFUSED, "address": f"+{REFUSED}"},
            "state": "failed",
            "attempt": 1,
            "wamids": [],
            "sent_at": None,
            "delivered_at": None,
            "read_at": None,
            "callback_data": "order 7",
            "fallback": False,
            "played_at": None,
            "pricing": None,
            "retried": 0,
            "doubt": False,
        }


async def test_lists_of_dead_letters_are_paged_and_filtered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        dead = [await dies(gateway, phone) for phone in (REFUSED, CLOSED, FAILED_LATER, REFUSED)][::-1]
        found, path = [], "?limit=1"
        while True:
            page = (await gateway.get(f"/api/dead-letters{path}")).ok
            found += [letter["message_id"] for letter in page["dead_letters"]]
            if page["next"] is None:
                break
            path = f"?limit=1&cursor={page['next']}"
        assert found == dead
        assert await listed(gateway, "?code=131047") == [dead[2]]
        assert await listed(gateway, "?name=undeliverable") == [dead[0], dead[1], dead[3]]
        assert await listed(gateway, f"?contact=%2B{REFUSED}") == [dead[0], dead[3]]
        assert await listed(gateway, f"?contact={REFUSED}&code=131047") == []
        assert await listed(gateway, f"?task_id={dead[1][:36]}") == [dead[1]]
        assert await listed(gateway, f"?phone_number_id={NUMBER}&limit=2") == dead[:2]
        assert await listed(gateway, "?phone_number_id=7") == []
        at = (await details(gateway, dead[1]))["failed_at"]
        earlier, later = await listed(gateway, f"?until={at}"), await listed(gateway, f"?since={at}")
        assert later + earlier == dead and dead[1] in later


@pytest.mark.parametrize(
    ("query", "path", "problem"),
    [
        ("limit=0", "limit", "1"),
        ("limit=201", "limit", "200"),
        ("code=x", "code", "whole number"),
        ("code=0", "code", "1"),
        ("since=yesterday", "since", "RFC 3339"),
        ("until=2026-13-01T00:00:00Z", "until", "is no time that there is"),
        ("cursor=~~~", "cursor", "is none that this path has given"),
        ("cursor=MTp4", "cursor", "is none that this path has given"),
        ("names=x", "names", "did you mean `name`?"),
        ("name=undeliverabel", "name", "did you mean `undeliverable`? The names are access_denied, "),
        ("name=~", "name", "is the name of no error. The names are "),
        ("name=http_", "name", "and http_ with the status"),
    ],
)
async def test_a_bad_query_is_refused(tmp_path: Path, query: str, path: str, problem: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.get(f"/api/dead-letters?{query}")
        assert (answer.status, answer.body["code"]) == (400, "invalid_request")
        (detail,) = answer.body["details"]
        assert detail["path"] == path and problem in detail["problem"]


# -- one ---------------------------------------------------------------------------------------------------


async def test_one_is_told_with_all_of_its_attempts(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 3, "base_s": 0.01, "cap_s": 0.02}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 1_000}})
        message_id = await dies(gateway, PHONE, message="hello Ana")
        found = await details(gateway, message_id)
        assert found["message"]["text"]["body"] == "hello Ana"
        assert found["advice"] == found["error"]["advice"] + dead_letters._DOUBT
        assert (found["doubt"], found["attempts_left_out"]) == (True, 0)
        attempts = found["attempts"]
        assert [(one["attempt"], one["outcome"]) for one in attempts] == [
            (1, "retrying"),
            (2, "retrying"),
            (3, "failed"),
        ]
        times = [one[name] for one in attempts for name in ("started_at", "ended_at")]
        assert times == sorted(times)
        assert all(one["burnt"] and one["doubt"] for one in attempts)
        assert all(one["error"]["code"] == 131016 and one["error"]["fbtrace_id"] for one in attempts)
        assert [one["retry_in_ms"] is None for one in attempts] == [False, False, True]


async def test_many_attempts_are_told_by_the_first_and_the_last(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 13, "base_s": 0.001, "cap_s": 0.002}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 1_000}})
        found = await details(gateway, await dies(gateway, PHONE))
        assert found["attempts_left_out"] == 3
        assert [one["attempt"] for one in found["attempts"]] == [1, 2, *range(6, 14)]


async def test_a_message_that_a_status_fails_is_a_dead_letter_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        message_id = await dies(gateway, FAILED_LATER)
        (failed,) = gateway.events.of("message.failed", message_id=message_id)
        (dead,) = gateway.events.of("message.dead")
        assert failed["error"] == dead["error"] and dead["attempts"] == 1
        assert dead["error"]["name"] == "undeliverable" and dead["error"]["advice"]
        found = await details(gateway, message_id)
        (attempt,) = found["attempts"]
        assert (attempt["outcome"], attempt["error"]) == ("failed", dead["error"])
        assert attempt["wamid"] == found["wamids"][0] == dead["wamid"]


async def test_a_message_that_was_sent_can_be_looked_into_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = (await gateway.send(PHONE)).ok["task_id"]
        found = await details(gateway, f"{task_id}-0")
        assert found["state"] in ("sent", "delivered", "read")
        assert (found["failed_at"], found["advice"]) == (None, None)
        (attempt,) = found["attempts"]
        assert (attempt["attempt"], attempt["outcome"], attempt["wamid"]) == (1, "sent", found["wamids"][0])
        assert attempt["started_at"] <= attempt["ended_at"]
        assert await listed(gateway) == []


@pytest.mark.parametrize("message_id", [NOBODY, "nothing", "%20", "x-y"])
async def test_an_unknown_message_is_404(tmp_path: Path, message_id: str) -> None:
    async with serving(tmp_path) as gateway:
        for method, path in (("GET", ""), ("POST", "/retry")):
            answer = await gateway.request(method, f"/api/dead-letters/{message_id}{path}")
            assert (answer.status, answer.body["code"]) == (404, "not_found")


# -- retry -------------------------------------------------------------------------------------------------


async def test_one_is_sent_anew_and_keeps_its_history(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        message_id = await dies(gateway, PHONE)
        gateway.sandbox.set_faults({"reset": True})
        answer = (await gateway.request("POST", f"/api/dead-letters/{message_id}/retry")).ok
        assert answer == {
            "success": True,
            "message": "1 message is queued again",
            "retried": 1,
            "skipped": {},
        }
        await gateway.events.wait("message.sent")
        assert gateway.events.of("task.retried") == [{"task_id": message_id[:36], "count": 1}]
        found = await details(gateway, message_id)
        assert (found["retried"], found["failed_at"]) == (1, None)
        assert [(one["attempt"], one["outcome"]) for one in found["attempts"]] == [
            (1, "failed"),
            (1, "retried"),
            (2, "sent"),
        ]
        assert await listed(gateway) == []
        again = (await gateway.request("POST", f"/api/dead-letters/{message_id}/retry")).ok
        assert (again["retried"], again["skipped"]) == (0, {"not_failed": 1})


async def test_a_retry_that_fails_dies_again_after_as_many_attempts(tmp_path: Path) -> None:
    async with serving(tmp_path, retry={"max_attempts": 2, "base_s": 0.001, "cap_s": 0.002}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131016, "http": 500, "count": 1_000}})
        message_id = await dies(gateway, PHONE)
        assert (await gateway.request("POST", f"/api/dead-letters/{message_id}/retry")).ok["retried"] == 1
        dead = await gateway.events.wait("message.dead", 2)
        assert [(one["attempts"], one["retried"]) for one in dead] == [(2, 0), (4, 1)]
        assert len(gateway.calls.all) == 4
        assert await listed(gateway) == [message_id]


async def test_some_are_sent_anew_and_the_others_are_told_by_their_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        dead = [await dies(gateway, PHONE) for _ in range(3)]
        gateway.sandbox.set_faults({"reset": True})
        sent = f"{(await gateway.send(PHONE)).ok['task_id']}-0"
        body = {"message_ids": [dead[0], dead[2], dead[2], sent, NOBODY, "nothing"]}
        answer = (await gateway.post("/api/dead-letters/retry", body)).ok
        assert answer == {
            "success": True,
            "message": "2 messages are queued again",
            "retried": 2,
            "skipped": {"not_found": 2, "not_failed": 1},
            "more": False,
        }
        await gateway.events.wait("message.sent", 3)
        assert await listed(gateway) == [dead[1]]


async def test_messages_whose_time_has_passed_are_not_sent_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "PORTION", 1)
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        store = gateway.store.as_store()
        first = await dies(gateway, PHONE)
        at = (await store.find_rows([first]))[first].ended_at
        late = [await dies(gateway, PHONE, expires_at=rfc3339(at + 3_600_000)) for _ in range(2)]
        control = dead_letters.DeadLetters(store, now_ms=lambda: at + 3_600_001)
        assert await control.retry(late) == (0, {"expired": 2}, False)
        # Each is met once, though none of them leaves the list.
        only = DeadFilter(since=at + 1)
        assert await control.retry_all(only, 10) == (0, {"expired": 2}, False)
        assert await listed(gateway) == [*late[::-1], first]


async def test_those_that_a_filter_fits_are_sent_anew_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "PORTION", 10)
    async with serving(tmp_path) as gateway:
        other = await dies(gateway, REFUSED)
        gateway.sandbox.set_faults(FOR_GOOD)
        people = [{"phone": str(5215560000000 + n), "message": f"m{n}"} for n in range(45)]
        task_id = (await gateway.bulk(people)).ok["task_id"]
        await gateway.events.wait("message.dead", 46)
        gateway.sandbox.set_faults({"reset": True})
        gateway.store.calls.clear()
        only = {"name": "window_closed", "task_id": task_id, "phone_number_id": NUMBER}
        body: Json = {"filter": only, "limit": 25}
        first = (await gateway.post("/api/dead-letters/retry", body)).ok
        assert (first["retried"], first["skipped"], first["more"]) == (25, {}, True)
        assert gateway.store.calls["dead_letters"] == 4
        second = (await gateway.post("/api/dead-letters/retry", {"filter": only})).ok
        assert (second["retried"], second["skipped"], second["more"]) == (20, {}, False)
        await gateway.events.wait("message.sent", 45)
        assert await listed(gateway) == [other]
        assert Counter(call.status for call in gateway.calls.all)[200] == 45


async def test_a_filter_for_all_is_an_empty_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for phone in (REFUSED, CLOSED):
            await dies(gateway, phone)
        done = (await gateway.post("/api/dead-letters/retry", {"filter": {}})).ok
        assert (done["retried"], done["more"]) == (2, False)
        await gateway.events.wait("message.dead", 4)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "message_ids"),
        ({"message_ids": [NOBODY], "filter": {}}, "message_ids"),
        ({"message_ids": []}, "message_ids"),
        ({"message_ids": [7]}, "message_ids[0]"),
        ({"message_ids": [NOBODY], "limit": 5}, "limit"),
        ({"filter": {}, "limit": 0}, "limit"),
        ({"filter": {}, "limit": 10_001}, "limit"),
        ({"filter": {"name": 7}}, "filter.name"),
        ({"filter": {"name": "template_pausd"}}, "filter.name"),
        ({"filter": {"since": "now"}}, "filter.since"),
        ({"filter": {"until": "2026-13-01T00:00:00Z"}}, "filter.until"),
        ({"filter": {"names": "x"}}, "filter.names"),
    ],
)
async def test_a_bad_retry_is_refused(tmp_path: Path, body: Json, path: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post("/api/dead-letters/retry", body)
        assert (answer.status, answer.body["code"]) == (400, "invalid_request")
        assert answer.body["details"][0]["path"] == path


async def test_a_retry_that_is_repeated_under_its_key_has_its_effect_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        message_id = await dies(gateway, REFUSED)
        body, key = {"message_ids": [message_id]}, {"Idempotency-Key": "k"}
        first = await gateway.post("/api/dead-letters/retry", body, **key)
        assert first.ok["retried"] == 1
        await gateway.events.wait("message.dead", 2)
        again = await gateway.post("/api/dead-letters/retry", body, **key)
        assert again.body == first.body and len(gateway.calls.all) == 2


async def test_a_retry_that_broke_off_has_its_rows_sent_and_is_made_good_by_the_next(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults(FOR_GOOD)
        dead = [await dies(gateway, PHONE) for _ in range(2)]
        gateway.sandbox.set_faults({"reset": True})
        gateway.store.fail("apply")
        answer = await gateway.post("/api/dead-letters/retry", {"message_ids": dead})
        assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
        gateway.store.heal()
        assert (await gateway.post("/api/dead-letters/retry", {"message_ids": dead})).ok["retried"] == 2
        await gateway.events.wait("message.sent", 2)


# -- the status page ---------------------------------------------------------------------------------------


async def test_the_status_page_counts_dead_letters(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.status())["dead_letters"] == {"total": 0, "last_day": {}}
        for phone in (REFUSED, CLOSED, FAILED_LATER):
            await dies(gateway, phone)
        expected = {"total": 3, "last_day": {"undeliverable": 2, "window_closed": 1}}
        assert (await gateway.status())["dead_letters"] == expected
        gateway.store.fail("count_dead")
        assert (await gateway.status())["dead_letters"] is None


# -- nothing is tried for ever -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "http", "burnt"),
    [
        pytest.param(131000, 500, [True, True], id="Meta fails"),
        pytest.param(131016, 503, [True, True], id="Meta is overloaded"),
        pytest.param(999_999, 500, [True, True], id="nobody knows the code"),
        pytest.param(131048, 400, [True, True], id="people complain"),
        pytest.param(130429, 429, [False, True, True], id="the number is too fast"),
        pytest.param(4, 429, [False, True, True], id="the app is too fast"),
        pytest.param(190, 401, [False, True, True], id="the token is refused, and the probe is not"),
    ],
)
async def test_what_meta_refuses_for_ever_ends_as_a_dead_letter(
    tmp_path: Path,
    code: int,
    http: int,
    burnt: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    without_brake_waits(monkeypatch)
    retry = {"max_attempts": 2, "max_spared": 1, "base_s": 0.001, "cap_s": 0.002}
    async with serving(tmp_path, retry=retry) as gateway:
        gateway.sandbox.set_faults({"error": {"code": code, "http": http, "count": 1_000_000}})
        # Of high priority: what holds broadcasts back holds nothing of this.
        found = await details(gateway, await dies(gateway, PHONE))
        assert [one["burnt"] for one in found["attempts"]] == burnt
        assert [one["outcome"] for one in found["attempts"]] == ["retrying"] * (len(burnt) - 1) + ["failed"]
        assert len(gateway.calls.all) == len(burnt)
        gateway.sandbox.set_faults({"reset": True})
        await gateway.send(PHONE)
    assert ("is parked" in caplog.text) == (code == 190)
    caplog.clear()


async def test_what_meta_refuses_for_the_pair_for_ever_ends_as_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_brake_waits(monkeypatch)
    async with serving(tmp_path, retry={"max_attempts": 1, "max_spared": 1}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131056, "http": 400, "count": 1_000_000}})
        found = await details(gateway, await dies(gateway, PHONE))
        assert [one["burnt"] for one in found["attempts"]] == [False, True]


def without_brake_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's own waits, of up to hours, are left out."""
    verdict_of = errors._verdict
    monkeypatch.setattr(
        errors, "_verdict", lambda *args: msgspec.structs.replace(verdict_of(*args), delay_s=0.01)
    )

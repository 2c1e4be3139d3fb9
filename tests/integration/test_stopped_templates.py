"""A template that Meta stops, over real sockets: its messages wait, all else goes on, and what lets it go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.support.gateway import NUMBER, Harness, serving
from tests.support.webhooks import template_update
from whatsapp import template_holds
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
OTHER = "5215550002222"


@contextmanager
def trials_after(seconds: float) -> Iterator[None]:
    with mock.patch.dict(template_holds._FIRST_S, {132015: seconds}):
        yield


async def template(gateway: Harness, phone: str, name: str = "promo", language: str = "es") -> str:
    body = {"phone": phone, "template_name": name, "language": language, "use_queue": True}
    task_id: str = (await gateway.post("/api/send-template", body)).ok["task_id"]
    return task_id


async def pause(gateway: Harness, *, later: bool = False) -> str:
    """Meta refuses a message for its template; the task of that one."""
    gateway.sandbox.set_faults({"error": {"code": 132015, "later": later}})
    task_id = await template(gateway, PHONE)
    await gateway.events.wait("message.failed")
    return task_id


async def held(gateway: Harness) -> list[dict[str, Any]]:
    lane = await gateway.lane_when(lambda lane: bool(lane.get("templates")))
    found: list[dict[str, Any]] = lane["templates"]
    return found


async def hold(gateway: Harness, event: str = "PAUSED") -> None:
    """Meta tells the lane, which must be there to hear it, that the template is stopped."""
    await gateway.lane_when(lambda lane: lane["state"] == "running")
    assert (await gateway.webhook(template_update(event))).status == 200
    await held(gateway)


def sent(gateway: Harness) -> list[str]:
    """What Meta took, in order: names of templates, and texts."""
    messages = [call.message for call in gateway.calls.taken]
    return [m["template"]["name"] if "template" in m else m["text"]["body"] for m in messages]


@pytest.mark.parametrize("later", [False, True])
async def test_its_messages_wait_and_all_else_goes_on(tmp_path: Path, later: bool) -> None:
    async with serving(tmp_path) as gateway:
        first = await pause(gateway, later=later)
        (hold,) = await held(gateway)
        assert (hold["name"], hold["language"]) == ("promo", "es")
        assert "paused" in hold["why"]
        assert hold["trial_in_s"] > 3600
        calls = len(gateway.calls.all)
        waiting = [await template(gateway, phone) for phone in (PHONE, OTHER)]
        # To the same people, with the same priority, behind it.
        for phone in (PHONE, OTHER):
            await gateway.queue(phone, "text")
            await template(gateway, phone, "other")
            await template(gateway, phone, "promo", "en")
        await gateway.calls.wait(calls + 6)
        assert sorted(sent(gateway)[-6:]) == ["other", "other", "promo", "promo", "text", "text"]
        for task_id in waiting:
            task = await gateway.task(task_id)
            assert task["counts"]["queued"] == 1
            (row,) = (await gateway.store.as_store().task_rows(task_id, -1, 1))[:1]
            assert (row.row.attempt, row.row.failures) == (0, 0)
        assert (await gateway.lane())["state"] == "running"
        await gateway.task_when(first, lambda task: task["counts"]["failed"] == 1)


async def test_metas_word_lets_them_go_in_their_order(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"concurrency": 1}) as gateway:
        await hold(gateway, "PAUSED")
        phones = [str(5215560000000 + n) for n in range(20)]
        for phone in phones:
            await template(gateway, phone)
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent")
        assert sent(gateway) == ["text"]
        # Word of an older time, which comes late, is none.
        await gateway.webhook(template_update("APPROVED", at=1_600_000_000))
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent", 2)
        assert sent(gateway) == ["text", "text"]
        await gateway.webhook(template_update("APPROVED", at=1_700_000_001))
        calls = await gateway.calls.wait(22)
        assert [call.to.lstrip("+") for call in calls[2:]] == phones
        assert (await gateway.lane())["templates"] == []


async def test_a_message_that_is_tried_and_taken_lets_the_others_go(tmp_path: Path) -> None:
    with trials_after(0.2):
        async with serving(tmp_path) as gateway:
            await pause(gateway)
            tasks = [await template(gateway, str(5215560000000 + n)) for n in range(5)]
            for task_id in tasks:
                await gateway.events.wait("message.delivered", task_id=task_id)
            assert len(gateway.calls.all) == 6
            assert (await gateway.lane())["templates"] == []


async def test_a_list_that_has_it_as_approved_lets_them_go(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp={"waba_id": SandboxSettings().waba_id}) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 132016}})
        await template(gateway, PHONE, "hello_world")
        await gateway.events.wait("message.failed")
        await held(gateway)
        # News of any template have the list read anew, by the next send.
        await gateway.webhook(template_update("FLAGGED", "other"))
        task_id = await template(gateway, OTHER, "hello_world")
        await gateway.events.wait("message.delivered", task_id=task_id)
        assert (await gateway.lane())["templates"] == []


async def test_a_message_that_is_tried_in_vain_fails_alone(tmp_path: Path) -> None:
    with trials_after(0.2):
        async with serving(tmp_path) as gateway:
            gateway.sandbox.set_faults({"error": {"code": 132015, "count": 2}})
            for n in range(5):
                await template(gateway, str(5215560000000 + n))
            await gateway.events.wait("message.failed", 2)
            await gateway.events.wait("message.delivered", 3)
            assert len(gateway.calls.all) == 5


async def test_what_has_waited_too_long_fails_and_says_why(tmp_path: Path) -> None:
    # Rows that wait are looked through every half minute; here more often.
    with mock.patch("whatsapp.lane._TIDY_S", 0.1):
        async with serving(tmp_path, lane={"template_hold_s": 0.3}) as gateway:
            await hold(gateway, "DISABLED")
            task_id = await template(gateway, PHONE)
            (data,) = await gateway.events.wait("message.failed", task_id=task_id)
            task = await gateway.task(task_id)
            assert task["counts"]["failed"] == 1
            assert gateway.calls.all == []
        assert data["error"]["code"] == 132016
        assert data["error"]["name"] == "template_disabled"
        assert data["error"]["advice"]
        assert data["attempt"] == 0


async def test_one_person_with_many_that_wait_still_gets_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await hold(gateway, "PAUSED")
        for _ in range(30):
            await template(gateway, PHONE)
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent")
        assert sent(gateway) == ["text"]


async def test_throttled_by_meta_it_waits_for_its_hour_and_holds_nobody_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 132069}})
        task_id = await template(gateway, PHONE)
        await gateway.events.wait("message.retrying", task_id=task_id)
        await held(gateway)
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent")
        assert (await gateway.task(task_id))["counts"]["queued"] == 1


# -- what a person says ------------------------------------------------------------------------------------


async def resume(gateway: Harness, **fields: str) -> list[str]:
    answer = (await gateway.post("/api/templates/resume", {"template_name": "promo", **fields})).ok
    found: list[str] = answer["phone_number_ids"]
    return found


@pytest.mark.parametrize("event", ["PAUSED", "DISABLED"])
async def test_a_person_lets_them_go_once_one_was_taken(tmp_path: Path, event: str) -> None:
    async with serving(tmp_path) as gateway:
        await hold(gateway, event)
        tasks = [await template(gateway, str(5215560000000 + n)) for n in range(5)]
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent")
        assert await resume(gateway) == [NUMBER]
        for task_id in tasks:
            await gateway.events.wait("message.delivered", task_id=task_id)
        assert (await gateway.lane())["templates"] == []
        assert gateway.events.of("template.resumed") == [{"name": "promo", "language": "es"}]


async def test_where_a_person_was_wrong_one_message_fails_and_the_others_wait_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await hold(gateway)
        tasks = [await template(gateway, str(5215560000000 + n)) for n in range(3)]
        await gateway.queue(PHONE, "text")
        await gateway.events.wait("message.sent")
        gateway.sandbox.set_faults({"error": {"code": 132015, "count": 5}})
        await resume(gateway, language="es")
        await gateway.events.wait("message.failed")
        await gateway.lane_when(lambda lane: lane["templates"][0]["trial_in_s"] > 3600)
        assert [(await gateway.task(task_id))["counts"]["failed"] for task_id in tasks] == [1, 0, 0]


async def test_a_template_that_none_waits_for_is_let_go_and_one_that_nobody_holds_is_told_as_such(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as gateway:
        await hold(gateway)
        assert await resume(gateway, template_name="other") == await resume(gateway, language="en") == []
        assert await resume(gateway) == [NUMBER]
        assert (await gateway.lane())["templates"] == []
        assert await resume(gateway) == []


async def test_a_repeated_word_is_told_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        body = {"template_name": "promo"}
        for _ in range(2):
            assert (await gateway.post("/api/templates/resume", body, Idempotency_Key="k")).status == 200
        assert gateway.events.counts["template.resumed"] == 1


@pytest.mark.parametrize(
    ("event", "what"), [("PAUSED", "wait until the pause ends"), ("DISABLED", "make a new one")]
)
async def test_a_template_that_is_held_is_trouble_with_what_to_do_until_it_is_let_go(
    tmp_path: Path, event: str, what: str
) -> None:
    async with serving(tmp_path) as gateway:
        await hold(gateway, event)
        status = await gateway.status()
        (trouble,) = status["trouble"]
        why = trouble.pop("why")
        assert trouble == {"what": "template", "phone_number_id": NUMBER, "name": "promo", "language": "es"}
        assert what in why and "/api/templates/resume" in why
        # Numbers that send all else are well.
        assert (status["status"], status["services"]["whatsapp_service"]) == ("degraded", True)
        assert (await gateway.get("/api/ready")).status == 200
        await gateway.webhook(template_update("APPROVED", at=1_700_000_001))
        status = await gateway.status()
        assert (status["status"], status["trouble"]) == ("healthy", [])


async def test_a_person_ends_the_pause_of_broadcasts(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"error": {"code": 131048}})
        refused = await gateway.queue(PHONE)
        await gateway.events.wait("message.retrying", task_id=refused)
        assert (await gateway.lane())["broadcasts_paused_s"] > 3600
        (trouble,) = (await gateway.status())["trouble"]
        assert trouble["what"] == "broadcasts" and "blocked or reported" in trouble["why"]
        waits = await gateway.queue(OTHER, priority="low")
        await gateway.queue(str(5215560000000), "text")
        await gateway.events.wait("message.sent")
        assert (await gateway.task(waits))["counts"]["queued"] == 1
        assert (await gateway.post("/api/numbers/resume", {"phone_number_id": NUMBER})).ok[
            "phone_number_ids"
        ] == [NUMBER]
        await gateway.events.wait("message.sent", task_id=waits)
        assert (await gateway.lane())["broadcasts_paused_s"] == 0
        assert (await gateway.status())["trouble"] == []


async def test_a_person_has_a_parked_number_probed_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, lane={"probe_s": 600.0}) as gateway:
        gateway.sandbox.set_faults({"bad_token": True})
        task_id = await gateway.queue(PHONE)
        await gateway.lane_when(lambda lane: lane["state"] == "parked")
        gateway.sandbox.set_faults({"bad_token": None})
        assert (await gateway.post("/api/numbers/resume", b"")).ok["phone_number_ids"] == [NUMBER]
        await gateway.events.wait("message.sent", task_id=task_id)
        caplog.clear()


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("templates", {}, "template_name"),
        ("templates", {"template_name": ""}, "template_name"),
        ("templates", {"template_name": "promo", "languages": "es"}, "languages"),
        ("numbers", {"phone_number_id": "7"}, "phone_number_id"),
        ("numbers", {"number": NUMBER}, "number"),
    ],
)
async def test_what_names_nothing_that_there_is_is_refused(
    tmp_path: Path, path: str, body: dict[str, Any], field: str
) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(f"/api/{path}/resume", body)
        assert (answer.status, answer.body["code"]) == (400, "invalid_request")
        assert answer.body["details"][0]["path"] == field

"""``POST /api/messages``: Meta's own object, of every kind, to one and to many, and marks of reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import NUMBER, Answer, Client, Harness, serving, serving_on_its_sandbox
from tests.support.payloads import INTERACTIVE, MESSAGES, TEMPLATES, interactive
from tests.support.waiting import eventually
from whatsapp import sandbox_account
from whatsapp.sandbox import SandboxSettings

PATH = "/api/messages"
PHONE = "+5215550001111"
USER = "US.13491208655302741918"
GROUP = "Y2FwaV9ncm91cA=="
TEXT: dict[str, Any] = {"type": "text", "text": {"body": "hello"}}
TEMPLATE: dict[str, Any] = {
    "type": "template",
    "template": {"name": "hello_world", "language": {"code": "es"}},
}
LOCATION: dict[str, Any] = {"type": "location", "location": {"latitude": 1, "longitude": 2}}
READ = {"status": "read", "message_id": "wamid.HBg"}

EVERY = [
    *MESSAGES.items(),
    *((f"interactive {name}", interactive(content)) for name, content in INTERACTIVE.items()),
    *((f"template {name}", content) for name, content in TEMPLATES.items()),
]


def as_sent(call: Any) -> dict[str, Any]:
    """The object that Meta got, without our reference."""
    return {name: value for name, value in call.message.items() if name != "biz_opaque_callback_data"}


def details(answer: Answer) -> list[tuple[str, str]]:
    assert answer.status == 400 and answer.body["code"] == "invalid_request", answer
    return [(told["path"], told["problem"]) for told in answer.body["details"]]


async def nothing_stored(gateway: Harness) -> None:
    assert gateway.calls.all == [] and gateway.events.counts["task.created"] == 0


async def test_every_kind_goes_to_meta_as_it_came(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for number, (name, message) in enumerate(EVERY):
            answer = await gateway.post(PATH, message)
            assert answer.status == 200, (name, answer)
            assert "warnings" not in answer.body, (name, answer)
            assert answer.body["data"]["messages"][0]["id"]
            assert as_sent(gateway.calls.all[number]) == message, name
            assert not gateway.calls.all[number].marketing
        kinds = [task["kind"] for task in await gateway.events.wait("task.created", len(EVERY))]
        assert kinds == [message["type"] for _, message in EVERY]


async def test_the_envelope_is_filled_in_and_the_options_are_ours(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        options = {"use_queue": True, "priority": "low", "callback_data": "mine", "phone_number_id": NUMBER}
        task_id = (await gateway.post(PATH, {"to": "52 1555 000 1111", **TEXT, **options})).ok["task_id"]
        (sent,) = await gateway.events.wait("message.sent")
        assert (sent["task_id"], sent["callback_data"]) == (task_id, "mine")
        envelope = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": PHONE}
        assert as_sent(gateway.calls.all[0]) == {**envelope, **TEXT}

        later = await gateway.post(PATH, {"to": PHONE, **TEXT, "send_at": "2126-01-01T00:00:00Z"})
        assert details(later) == [("send_at", "is more than 30 days away")]


async def test_a_user_id_is_taken_in_either_field(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for name in ("to", "recipient"):
            assert (await gateway.post(PATH, {name: USER, **TEXT})).status == 200
        both = await gateway.post(PATH, {"to": PHONE, "recipient": USER, **TEXT})
        assert both.status == 200
        first, second, third = map(as_sent, gateway.calls.all)
        assert first == second and first["recipient"] == USER and "to" not in first
        assert (third["to"], third["recipient"]) == (PHONE, USER)


async def test_faults_are_told_at_once_by_their_paths_in_metas_object(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        bad = {
            "to": "12",
            "type": "interactive",
            "interactive": {
                "type": "button",
                "body": {"text": "x"},
                "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "x" * 21}}]},
            },
            "context": {"message_id": ""},
            "priority": "urgent",
        }
        answer = await gateway.post(PATH, bad)
        assert dict(details(answer)) == {
            "priority": "must be one of high, normal, low",
            "interactive.action.buttons[0].reply.title": "21 characters, at most 20",
            "context.message_id": "must not be empty",
            "to": "must be a phone in international digits, or a user id",
        }
        await nothing_stored(gateway)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (TEXT, "to"),
        ({"to": PHONE, "type": "text"}, "text"),
        ({"to": PHONE, "type": "hologram", "hologram": {}}, "type"),
        ({"to": PHONE, **TEXT, "biz_opaque_callback_data": "mine"}, "biz_opaque_callback_data"),
        ({"to": PHONE, **TEXT, "messaging_product": "sms"}, "messaging_product"),
        ({"to": PHONE, **TEXT, "recipient_type": "crowd"}, "recipient_type"),
        ({"to": PHONE, **TEXT, "on_invalid": "skip"}, "on_invalid"),
        ({"to": PHONE, **TEXT, "phone_number_id": "7"}, "phone_number_id"),
        ({"to": USER, "recipient": USER, **TEXT}, "recipient"),
        ({"recipient": PHONE, **TEXT}, "recipient"),
        ({"to": [PHONE], "recipient": USER, **TEXT}, "recipient"),
        ({"to": [], **TEXT}, "to"),
        ({"to": [PHONE] * 100_001, **TEXT}, "to"),
        ({"to": [PHONE, "12"], **TEXT}, "to[1]"),
        ({"to": [PHONE, ["x"]], **TEXT}, "to[1]"),
        ({"recipient": [USER, PHONE], **TEXT}, "recipient[1]"),
        ({"to": ["12", PHONE], "type": "text", "on_invalid": "skip"}, "text"),
        ({"to": ["12"], **TEXT, "on_invalid": "skip"}, "to[0]"),
        ({**LOCATION, "recipient_type": "group", "to": GROUP}, "type"),
        ({**TEXT, "recipient_type": "group", "to": GROUP, "recipient": USER}, "recipient"),
        ({**TEXT, "recipient_type": "group", "recipient": USER}, "to"),
        ({**TEXT, "recipient_type": "group", "to": [GROUP, ""]}, "to[1]"),
        ({"to": PHONE, "type": "pin", "pin": MESSAGES["pin"]["pin"]}, "type"),
        ({"to": PHONE, **TEXT, "product_policy": "STRICT"}, "type"),
        ({**READ, "message_id": ""}, "message_id"),
        ({**READ, "status": "delivered"}, "status"),
        ({**READ, "typing_indicator": {}}, "typing_indicator.type"),
        ({**READ, "use_queue": True}, "use_queue"),
        ({**READ, "phone_number_id": "7"}, "phone_number_id"),
    ],
)
async def test_what_cannot_be_sent_is_refused(tmp_path: Path, body: dict[str, Any], path: str) -> None:
    async with serving(tmp_path) as gateway:
        assert path in [where for where, _ in details(await gateway.post(PATH, body))]
        await nothing_stored(gateway)


async def test_what_we_do_not_know_goes_to_meta_with_a_warning(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        new = {"text": {"body": "x", "sparkle": 1.50}, "tone": {"a": [1, None]}}
        answer = (await gateway.post(PATH, {"to": PHONE, "type": "text", "context": None, **new})).ok
        told = [warning.partition(",")[0] for warning in answer["warnings"]]
        assert sorted(told) == [
            "text.sparkle: unknown field",
            "tone: unknown field",
        ]
        (call,) = gateway.calls.all
        assert call.message["text"] == new["text"] and call.message["tone"] == new["tone"]
        assert "context" not in call.message


async def test_a_list_is_a_send_to_many(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        to = ["5215550000001", 5215550000002, USER, "12", "+5215550000001"]
        options = {"on_invalid": "skip", "duplicates": "drop"}
        answer = (await gateway.post(PATH, {"to": to, **INTERACTIVE_LIST, **options})).ok
        assert answer["message"] == "3 messages are queued"
        assert [warning.partition(":")[0] for warning in answer["warnings"]] == ["to[4]", "to[3]"]
        (done,) = await gateway.events.wait("task.completed")
        assert done["task_id"] == answer["task_id"]
        sent = list(map(as_sent, gateway.calls.all))
        named = {message.get("to") or message["recipient"] for message in sent}
        assert named == {"+5215550000001", "+5215550000002", USER}
        assert all(message["interactive"] == INTERACTIVE["list"] for message in sent)

        waited = await gateway.post(PATH, {"recipient": [USER, "US.2"], **TEXT, "use_queue": False})
        result = waited.ok["result"]
        assert (result["total"], result["successful"], result["errors"]) == (2, 2, [])


INTERACTIVE_LIST: dict[str, Any] = {"type": "interactive", "interactive": INTERACTIVE["list"]}


async def test_a_list_answers_as_the_sends_to_many_where_some_fail(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        to = ["5215550000001", "5215599131026"]
        result = (await gateway.post(PATH, {"to": to, **TEXT, "use_queue": False})).ok["result"]
        assert (result["total"], result["failed"]) == (2, 1)
        assert result["errors"][0].startswith("to[1]: ")


async def test_a_group_is_sent_to_by_its_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        body = {"recipient_type": "group", "to": GROUP, **TEXT}
        answer = (await gateway.post(PATH, body)).ok
        assert answer["data"]["messages"][0]["group_id"] == GROUP
        assert as_sent(gateway.calls.all[0]) == {"messaging_product": "whatsapp", **body}
        (sent,) = await gateway.events.wait("message.sent")
        (row,) = (await gateway.get(f"/api/tasks/{answer['task_id']}/messages")).ok["messages"]
        assert row["to"] == {"contact": f"group:{GROUP}", "address": GROUP}
        assert sent["wamid"] == answer["data"]["messages"][0]["id"]

        many = {**body, "to": [GROUP, "other==", GROUP], "duplicates": "drop", "use_queue": False}
        assert (await gateway.post(PATH, many)).ok["result"]["successful"] == 2


async def test_a_marketing_message_goes_by_its_own_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for fields in (
            {"product_policy": "STRICT", "message_activity_sharing": True},
            {"message_activity_sharing": False},
        ):
            body = {"to": PHONE, **TEMPLATE, **fields}
            assert (await gateway.post(PATH, body)).status == 200
            call = gateway.calls.all[-1]
            assert call.marketing
            envelope = {"messaging_product": "whatsapp", "recipient_type": "individual"}
            assert as_sent(call) == {**envelope, **body}
        assert (await gateway.post(PATH, {"to": PHONE, **TEMPLATE, "product_policy": None})).status == 200
        assert not gateway.calls.all[-1].marketing


async def test_a_template_that_meta_has_not_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp={"waba_id": SandboxSettings().waba_id}) as gateway:
        bad = {"type": "template", "template": {"name": "no_such", "language": {"code": "es"}}}
        for to in (PHONE, [PHONE]):
            ((path, _),) = details(await gateway.post(PATH, {"to": to, **bad}))
            assert path == "template.name"
            assert (await gateway.post(PATH, {"to": to, **TEMPLATE, "use_queue": False})).status == 200


async def test_a_refusal_of_metas_is_told_as_of_all_sends(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(PATH, {"to": "5215599131026", **TEXT})
        assert (answer.status, answer.body["code"]) == (400, "meta_refused")
        assert answer.body["meta"]["code"] == 131026 and answer.body["task_id"]


async def test_a_repetition_is_answered_as_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first, again = [
            await gateway.post(PATH, {"to": PHONE, **TEXT}, Idempotency_Key="k") for _ in range(2)
        ]
        assert first.ok == again.ok and again.headers["Idempotency-Replayed"] == "true"
        assert len(gateway.calls.all) == 1


@pytest.mark.parametrize("typing", [{}, {"typing_indicator": {"type": "text"}}])
async def test_a_mark_of_reading_goes_at_once(tmp_path: Path, typing: dict[str, Any]) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(PATH, {**READ, **typing, "phone_number_id": NUMBER})
        assert answer.ok == {"success": True}
        (call,) = gateway.calls.all
        assert call.message == {"messaging_product": "whatsapp", **READ, **typing}
        assert gateway.sandbox.stats()["typing" if typing else "marked_read"] == 1
        assert gateway.events.counts["task.created"] == 0

        told = await gateway.post(PATH, {**READ, **typing, "mood": 1})
        assert told.ok["warnings"][0].startswith("mood: unknown field, passed on")
        assert gateway.calls.all[-1].message["mood"] == 1


async def test_metas_refusal_of_a_mark_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        # Read already: else the lane would ask too, and park.
        await gateway.lane_when(lambda lane: bool(lane.get("level")))
        gateway.sandbox.set_faults({"bad_token": True})
        answer = await gateway.post(PATH, READ)
        assert (answer.status, answer.body["code"]) == (502, "meta_failed")
        assert answer.body["meta"]["code"] == 190

        await gateway.sandbox.stop()
        away = await gateway.post(PATH, READ)
        assert (away.status, away.body["code"]) in ((503, "graph_unreachable"), (502, "graph_no_answer"))


async def test_it_works_on_the_gateways_own_sandbox(tmp_path: Path) -> None:
    async with serving_on_its_sandbox(tmp_path) as gateway:
        client: Client = gateway
        assert (await client.post(PATH, {"to": PHONE, **TEXT})).ok["data"]["messages"]
        assert (await client.post(PATH, READ)).ok == {"success": True}


async def test_a_group_whose_answer_was_lost_is_told_by_its_status(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0})
        data = (await gateway.post(PATH, {"recipient_type": "group", "to": GROUP, **TEXT})).ok["data"]
        assert data["contacts"] == [{"input": GROUP}] and data["messages"][0]["id"]
        assert len(gateway.calls.all) == 1


async def test_nobody_gets_the_address_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(send: Any, wamid: str) -> bytes:
        contact = {"input": GROUP, "wa_id": "16505551234", "user_id": USER}
        return json.dumps({"contacts": [contact], "messages": [{"id": wamid}]}).encode()

    monkeypatch.setattr(sandbox_account, "_accepted_body", answered)
    async with serving(tmp_path) as gateway:
        assert (await gateway.post(PATH, {"recipient_type": "group", "to": GROUP, **TEXT})).status == 200
        # Of a person the same is remembered.
        assert (await gateway.post(PATH, {"to": PHONE, **TEXT})).status == 200

        async def known() -> dict[str, str] | None:
            found = await gateway.store.find_aliases(["16505551234", USER, GROUP])
            return {name: alias.contact for name, alias in found.items()} or None

        assert await eventually(known) == dict.fromkeys(("16505551234", USER), PHONE.lstrip("+"))

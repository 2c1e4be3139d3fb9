"""What a send may ask for beside its message: order, the fate of doubtful ones, a template to fall back to
(contract.md, Part 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.records import Event
from tests.support.gateway import Answer, Call, Harness, serving
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE = "5215550001111"
OTHER = "5215550002222"
CLOSED = "5215599131047"
"""Meta refuses whatever is no template at once: the window is closed."""
CLOSED_LATER = "5215577131047"
"""The same by a status."""
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)
HELLO = {"template_name": "hello_world"}
HELLO_CONTENT = {"name": "hello_world", "language": {"code": "es"}}


def texts(*bodies: str, to: str = PHONE) -> list[Json]:
    return [{"phone": to, "message": body} for body in bodies]


# -- ordered -----------------------------------------------------------------------------------------------


async def test_an_ordered_message_leaves_when_the_one_before_was_delivered(tmp_path: Path) -> None:
    slow = SandboxSettings(enforce_limits=False, status_delays=(0.0, 0.2, 0.3))
    async with serving(tmp_path, sandbox=slow) as gateway:
        await gateway.bulk([*texts("a", "b", "c"), *texts("other", to=OTHER)], ordered=True)
        await gateway.events.wait("message.delivered", 4)
        told = [
            (event.type.removeprefix("message."), event.message_id[-1])
            for event in gateway.events.all
            if event.type in ("message.sent", "message.delivered") and event.message_id[-1] != "3"
        ]
        assert told == [(what, n) for n in "012" for what in ("sent", "delivered")]
        # Somebody else's did not wait.
        assert "other" in [call.text for call in gateway.calls.all[:2]]


async def test_without_word_of_delivery_an_ordered_message_holds_others_back_for_a_time(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, sandbox=QUIET, ordered={"timeout_s": 0.5}) as gateway:
        await gateway.bulk(texts("a", "b"), ordered=True)
        await gateway.events.wait("message.sent", 2)
        first, second = gateway.calls.all
        assert (first.text, second.text) == ("a", "b")
        # Not sooner, by the gateway's own clock; how much later is the machine's business.
        sent = [event.at for event in gateway.events.all if event.type == "message.sent"]
        assert sent[1] - sent[0] >= 500


async def test_an_ordered_message_holds_others_back_across_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await gateway.bulk(texts("a", "b"), ordered=True)
        await gateway.events.wait("message.sent")
        await gateway.restart()
        await gateway.send(OTHER)
        assert [call.text for call in gateway.calls.all] == ["a", "hello"]
        await gateway.webhook(delivered(gateway.calls.all[0], gateway.events.of("message.sent")[0]["wamid"]))
        await gateway.calls.wait(3)
        assert gateway.calls.all[-1].text == "b"


async def test_an_ordered_message_that_fails_lets_the_next_one_go(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.bulk(texts("a", "b", to="5215599131026"), ordered=True)
        await gateway.events.wait("message.failed", 2)
        assert [call.text for call in gateway.calls.all] == ["a", "b"]


async def test_an_ordered_message_that_a_status_fails_lets_the_next_one_go(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.bulk(texts("a", "b", to="5215577131026"), ordered=True)
        await gateway.events.wait("message.failed", 2)
        told = [(event.type, event.message_id[-1]) for event in gateway.events.all if event.message_id]
        assert told.index(("message.failed", "0")) < told.index(("message.sent", "1"))


def delivered(call: Call, wamid: str) -> bytes:
    """Meta's word that a message arrived (CLOUD_API.md 4.6)."""
    status = {
        "id": wamid,
        "status": "delivered",
        "timestamp": "1700000000",
        "recipient_id": PHONE,
        "biz_opaque_callback_data": call.reference,
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550000001", "phone_number_id": "100000000000001"},
        "statuses": [status],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return msgspec.json.encode({"object": "whatsapp_business_account", "entry": [entry]})


# -- callback_data -----------------------------------------------------------------------------------------


async def test_the_callers_data_comes_back_with_every_word_of_its_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.send(PHONE, callback_data='order "7" ñ')
        await gateway.send(OTHER)
        await gateway.send("5215577131026", callback_data="lost")
        await gateway.events.wait("message.read", 2)
        await gateway.events.wait("message.failed")
        told = {
            (event.type, event.contact): msgspec.json.decode(event.body)["data"]["callback_data"]
            for event in gateway.events.all
            if event.message_id
        }
        types = ("message.sent", "message.status", "message.delivered", "message.read")
        assert {told[type, PHONE] for type in types} == {'order "7" ñ'}
        assert {told[type, OTHER] for type in types} == {None}
        assert told["message.failed", "5215577131026"] == "lost"


# -- on_unknown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("usual", "asked"), [("resend", "fail"), ("fail", "resend")])
async def test_a_send_says_what_becomes_of_it_in_doubt(tmp_path: Path, usual: str, asked: str) -> None:
    async with serving(tmp_path, sandbox=QUIET, unknown={"grace_s": 0.2, "action": usual}) as gateway:
        gateway.sandbox.set_faults({"drop_answers": 1.0})
        await gateway.queue(PHONE, "as it says", on_unknown=asked)
        await gateway.queue(OTHER, "as it is set")
        await gateway.events.wait("message.unknown", 2)
        gateway.sandbox.set_faults({"reset": True})
        (failed,) = await gateway.events.wait("message.failed")
        (sent,) = await gateway.events.wait("message.sent")
        fates = {failed["message_id"]: "fail", sent["message_id"]: "resend"}
        ids = {call.text: call.reference.rpartition(".")[0] for call in gateway.calls.all}
        assert {text: fates[row_id] for text, row_id in ids.items()} == {
            "as it says": asked,
            "as it is set": usual,
        }


# -- fallback_template -------------------------------------------------------------------------------------


async def test_a_template_is_sent_where_the_window_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.send(CLOSED, fallback_template=HELLO)
        assert answer.ok["fallback"] is True
        (wamid,) = (message["id"] for message in answer.body["data"]["messages"])
        refused, taken = gateway.calls.all
        assert (refused.status, taken.status) == (400, 200)
        assert taken.message["template"] == HELLO_CONTENT and taken.to == f"+{CLOSED}"
        (sent,) = await gateway.events.wait("message.sent")
        assert sent["fallback"] is True and sent["wamid"] == wamid
        (again,) = gateway.events.of("message.retrying")
        assert again["fallback"] is True and again["error"]["code"] == 131047
        (row,) = await rows(gateway, answer.body["task_id"])
        assert (row["state"], row["fallback"], row["wamids"]) == ("sent", True, [wamid])


async def test_a_template_is_sent_where_a_status_says_that_the_window_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task_id = await gateway.queue(CLOSED_LATER, fallback_template=HELLO)
        sent = await gateway.events.wait("message.sent", 2)
        assert [event.get("fallback") for event in sent] == [None, True]
        await gateway.events.wait("message.read")
        await gateway.consumed("tracker")
        (row,) = await rows(gateway, task_id)
        assert (row["state"], row["fallback"]) == ("read", True)
        assert row["wamids"] == [event["wamid"] for event in sent]
        assert gateway.events.counts["message.doubled"] == 0
        types = [event.type for event in gateway.events.all if event.message_id]
        assert types.index("message.failed") < types.index("message.retrying")
        completed = await gateway.events.wait("task.completed", 2)
        assert completed[-1]["counts"].keys() <= {"sent", "delivered", "read"}


async def test_an_answer_that_comes_after_the_word_of_a_closed_window_stops_no_fallback(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as gateway:
        # The statuses are told meanwhile.
        gateway.sandbox.set_faults({"delay_ms": 300})
        task_id = await gateway.queue(CLOSED_LATER, fallback_template=HELLO)
        await gateway.events.wait("message.retrying")
        gateway.sandbox.set_faults({"reset": True})
        await gateway.events.wait("message.read")
        (row,) = await rows(gateway, task_id)
        assert (row["state"], row["fallback"]) == ("read", True)
        assert [call.message["type"] for call in gateway.calls.taken] == ["text", "template"]


async def test_who_writes_within_the_window_gets_the_message_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.send(PHONE, fallback_template=HELLO)
        assert "fallback" not in answer.ok
        assert [call.text for call in gateway.calls.all] == ["hello"]


async def test_each_of_many_falls_back_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        recipients = [*texts("a"), *texts("b", to=CLOSED)]
        filled = {"template_name": "order", "language": "en", "parameters": ["Ana", 7]}
        task_id = (await gateway.bulk(recipients, fallback_template=filled)).ok["task_id"]
        await gateway.events.wait("task.completed")
        assert [(row["state"], row["fallback"]) for row in await rows(gateway, task_id)] == [
            ("sent", False),
            ("sent", True),
        ]
        (template,) = (call for call in gateway.calls.taken if call.message["type"] == "template")
        body = {"type": "body", "parameters": [{"type": "text", "text": text} for text in ("Ana", "7")]}
        assert template.message["template"]["components"] == [body]
        assert template.message["recipient_type"] == "individual"


async def test_metas_own_object_falls_back_too(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        message = {"type": "text", "text": {"body": "hi"}, "fallback_template": HELLO}
        one = await gateway.post("/api/messages", {"to": CLOSED, **message})
        assert one.ok["fallback"] is True and "warnings" not in one.body
        await gateway.post("/api/messages", {"to": [CLOSED], **message})
        await gateway.events.wait("message.sent", 2)
        assert [call.message["template"] for call in gateway.calls.taken] == [HELLO_CONTENT] * 2


async def test_a_spreadsheet_falls_back_too(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        form = {"message": "hi {{name}}", "fallback_template": '{"template_name": "hello_world"}'}
        assert (await sheet(gateway, form)).status == 200
        await gateway.events.wait("message.sent")
        assert [call.message["template"] for call in gateway.calls.taken] == [HELLO_CONTENT]


async def test_a_fallback_that_meta_refuses_fails_with_its_own_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.store.on_events(lambda batch: pause(gateway, batch))
        answer = await gateway.send(CLOSED, fallback_template=HELLO)
        assert answer.status == 400 and answer.body["meta"]["code"] == 132015
        assert [call.message["type"] for call in gateway.calls.all] == ["text", "template"]
        (row,) = await rows(gateway, answer.body["task_id"])
        assert (row["state"], row["fallback"], row["error"]["code"]) == ("failed", True, 132015)


def pause(gateway: Harness, batch: Sequence[Event]) -> None:
    """Once the message itself was refused, Meta has paused the template."""
    if any(event.type == "message.retrying" for event in batch):
        gateway.sandbox.set_faults({"error": {"code": 132015, "count": 1}})


@pytest.mark.parametrize(
    ("fallback", "path"),
    [
        ("hello_world", "fallback_template"),
        ({}, "fallback_template.template_name"),
        ({"template_name": ""}, "fallback_template.template_name"),
        ({"template_name": "Hello World"}, "fallback_template.template_name"),
        ({**HELLO, "parameters": "Ana", "language": ""}, "fallback_template.parameters"),
        (
            {**HELLO, "components": [{"type": "body", "parameters": "Ana"}]},
            "fallback_template.components[0].parameters",
        ),
    ],
)
@pytest.mark.parametrize("path_of_many", [False, True])
async def test_a_fallback_at_fault_is_named_and_nothing_is_stored(
    tmp_path: Path, fallback: object, path: str, path_of_many: bool
) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        if path_of_many:
            answer = await gateway.bulk(texts("a"), fallback_template=fallback, on_invalid="skip")
        else:
            answer = await gateway.send(PHONE, fallback_template=fallback)
        assert answer.status == 400
        assert [problem["path"] for problem in answer.body["details"]] == [path]
        assert gateway.events.counts["task.created"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/send-template", {"phone": PHONE, "template_name": "a"}),
        ("/api/send-bulk-template", {"recipients": [{"phone": PHONE}], "template_name": "a"}),
        ("/api/messages", {"to": PHONE, "type": "template", "template": HELLO_CONTENT}),
    ],
)
async def test_a_template_has_no_fallback(tmp_path: Path, path: str, body: Json) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.post(path, {**body, "fallback_template": HELLO})
        assert answer.status == 400
        assert answer.body["error"].startswith("fallback_template: does not go with a template")


@pytest.mark.parametrize(("field", "value"), [("ordered", "yes"), ("on_unknown", "retry"), ("on_unknown", 7)])
async def test_an_option_of_another_kind_is_named(tmp_path: Path, field: str, value: object) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.send(PHONE, **{field: value})
        assert answer.status == 400
        assert [problem["path"] for problem in answer.body["details"]] == [field]


async def rows(gateway: Harness, task_id: str) -> list[Json]:
    """What became of the recipients of a task."""
    await gateway.consumed("tracker")
    page: Json = (await gateway.get(f"/api/tasks/{task_id}/messages")).ok
    found: list[Json] = page["messages"]
    return found


async def sheet(gateway: Harness, form: dict[str, str]) -> Answer:
    """A spreadsheet of one person, whose window is closed."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{text}' for name, text in form.items()]
    file = 'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nphone,name\n'
    parts.append(f"{file}{CLOSED},Ana\n")
    data = "".join(f"--x\r\n{part}\r\n" for part in parts) + "--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return await gateway.request("POST", "/api/broadcasts", data=data.encode(), headers=headers)

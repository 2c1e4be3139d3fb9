"""Who has opted out: how it comes about, whom broadcasts pass over for it, and the operator's calls."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.gateway import NUMBER, Answer, Harness, serving
from tests.support.webhooks import body, entry, message_value
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE, OTHER, USER_ID = "5215550001111", "5215550002222", "MX.13491208655302741918"
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)
TEMPLATE = {"template_name": "hello_world", "language": "en_US"}
MARKETING: Json = {
    "product_policy": "STRICT",
    "type": "template",
    "template": {"name": "hello_world", "language": {"code": "en_US"}},
}


def wrote(text: str, wamid: str = "wamid.A", sender: str = PHONE, **fields: object) -> bytes:
    message = {"from": sender, "id": wamid, "type": "text", "text": {"body": text}, **fields}
    message.setdefault("timestamp", str(int(time.time())))
    value = message_value(messages=[message])
    value["metadata"]["phone_number_id"] = NUMBER
    return body(entry(value))


def prefers(value: str, **who: str) -> bytes:
    one = {"category": "marketing_messages", "value": value, "timestamp": int(time.time()), **who}
    told = message_value(user_preferences=[one], contacts=[])
    return body(entry(told, "user_preferences"))


async def ask(gateway: Harness, method: str, contact: str = PHONE, given: Json | None = None) -> Answer:
    slash = "/" if contact and not contact.startswith("?") else ""
    data = None if given is None else json.dumps(given).encode()
    headers = {} if given is None else {"Content-Type": "application/json"}
    return await gateway.request(method, f"/api/suppressions{slash}{contact}", data=data, headers=headers)


async def stopped(gateway: Harness, contact: str = PHONE) -> Json:
    return (await ask(gateway, "PUT", contact)).ok  # type: ignore[no-any-return]


async def is_suppressed(gateway: Harness, contact: str = PHONE) -> bool:
    return (await gateway.get(f"/api/suppressions/{contact}")).status == 200


def to(*phones: str, **fields: object) -> Json:
    return {"recipients": [{"phone": phone, "message": "new: tea"} for phone in phones], **fields}


async def broadcast(gateway: Harness, sheet: bytes, **fields: str) -> Json:
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", io.BytesIO(sheet), filename="people.csv", content_type="text/csv")
    return (await gateway.request("POST", "/api/broadcasts", data=form)).ok  # type: ignore[no-any-return]


async def rows(gateway: Harness, task_id: str) -> list[Json]:
    await gateway.events.wait("task.completed", task_id=task_id)
    return (await gateway.get(f"/api/tasks/{task_id}/messages")).ok["messages"]  # type: ignore[no-any-return]


# -- how it comes about ------------------------------------------------------------------------------------


async def test_a_word_opts_out_and_a_word_comes_back(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        assert (await gateway.webhook(wrote("¡STOP!"))).status == 200
        (told,) = await gateway.events.wait("contact.suppressed")
        assert (told["reason"], told["source"], told["note"]) == ("opted_out", "word", "¡STOP!")
        assert (await gateway.get(f"/api/suppressions/{PHONE}")).ok["since"] == told["since"]
        assert (await gateway.webhook(wrote("alta", "wamid.B"))).status == 200
        (told,) = await gateway.events.wait("contact.restored")
        assert (told["source"], told["until"]) == ("word", told["until"])
        assert not await is_suppressed(gateway)


async def test_metas_own_preferences_opt_out_somebody_without_a_phone(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        assert (await gateway.webhook(prefers("stop", user_id=USER_ID))).status == 200
        (told,) = await gateway.events.wait("contact.suppressed")
        assert told["source"] == "preference"
        assert await is_suppressed(gateway, USER_ID)
        assert (await gateway.webhook(prefers("resume", user_id=USER_ID))).status == 200
        await gateway.events.wait("contact.restored")


async def test_metas_refusal_of_marketing_opts_out(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        phone = "5215599131050"
        assert (await gateway.send(phone)).status == 400
        (told,) = await gateway.events.wait("contact.suppressed")
        assert (told["source"], told["note"]) == ("refusal", "131050")
        assert await is_suppressed(gateway, phone)


async def test_words_are_the_operators_and_count_without_automatic_replies(tmp_path: Path) -> None:
    own = {"words": ("genug",), "return_words": ()}
    async with serving(tmp_path, sandbox=QUIET, opt_out=own, autoreply={"enabled": False}) as gateway:
        await gateway.webhook(wrote("stop"))
        await gateway.webhook(wrote("Genug!", "wamid.B"))
        (told,) = await gateway.events.wait("contact.suppressed")
        assert told["note"] == "Genug!"


async def test_an_opt_out_counts_however_old_it_is_when_it_comes_in_and_undoes_no_later_return(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        hours_ago = str(int(time.time()) - 7200)
        await gateway.webhook(wrote("stop", timestamp=hours_ago))
        await gateway.events.wait("contact.suppressed")
        await gateway.webhook(wrote("start", "wamid.B"))
        await gateway.events.wait("contact.restored")
        await gateway.webhook(wrote("stop", "wamid.C", timestamp=hours_ago))
        await gateway.consumed("suppressions")
        assert not await is_suppressed(gateway)


async def test_a_repeated_webhook_and_a_restart_tell_it_once(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.store.fail("apply")
        await gateway.webhook(wrote("stop"))
        await gateway.store.arrived("apply")
        await gateway.restart()  # stored, and not told
        await gateway.webhook(wrote("stop"))
        await gateway.events.wait("contact.suppressed")
        await gateway.consumed("suppressions")
        assert gateway.events.counts["contact.suppressed"] == 1


async def test_a_changed_number_takes_it_along_and_the_old_one_is_free(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await gateway.webhook(wrote("stop"))
        await gateway.events.wait("contact.suppressed")
        system = {"body": "changed", "type": "user_changed_number", "wa_id": OTHER}
        await gateway.webhook(wrote("", "wamid.B", type="system", system=system))
        await gateway.events.wait("contact.changed")
        answer = await gateway.post("/api/send-bulk", to(PHONE, OTHER))
        assert answer.ok["warnings"][0].startswith("recipients[1]: has opted out")
        assert answer.ok["suppressed"] == 1


# -- whom broadcasts pass over -----------------------------------------------------------------------------


async def test_a_broadcast_passes_over_who_has_opted_out_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        since = (await stopped(gateway))["since"]
        answer = (await gateway.post("/api/send-bulk", to(PHONE, OTHER))).ok
        assert (answer["skipped"], answer["suppressed"]) == (1, 1)
        assert answer["warnings"] == [f"recipients[0]: has opted out (since {since}), skipped"]
        task = await gateway.task_when(answer["task_id"], lambda task: bool(task["completed_at"]))
        assert (task["result"]["total"], task["result"]["sent"], task["result"]["failed"]) == (2, 1, 1)
        assert [call.to for call in gateway.calls.all] == [f"+{OTHER}"]


async def test_one_that_is_waited_for_has_them_among_its_errors(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await stopped(gateway)
        answer = (await gateway.post("/api/send-bulk", to(OTHER, PHONE, use_queue=False))).ok
        result = answer["result"]
        assert (result["total"], result["successful"], result["failed"]) == (2, 1, 1)
        assert result["errors"][0].startswith("recipients[1]: has opted out (since ")


@pytest.mark.parametrize(
    ("path", "request_of"),
    [
        ("/api/send-bulk", to(PHONE)),
        ("/api/send-broadcast-template", {"phones": [PHONE], **TEMPLATE}),
        ("/api/send-bulk-template", {"recipients": [{"phone": PHONE}], **TEMPLATE}),
        ("/api/messages", {"to": [PHONE], "type": "text", "text": {"body": "new: tea"}}),
        ("/api/messages", {"to": PHONE, **MARKETING}),
        ("/api/messages", {"to": PHONE, **MARKETING, "use_queue": True}),
    ],
)
async def test_where_nobody_is_left_nothing_is_sent(tmp_path: Path, path: str, request_of: Json) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await stopped(gateway)
        answer = await gateway.post(path, request_of)
        assert (answer.status, answer.body["code"]) == (400, "suppressed")
        assert "opted out" in answer.body["error"]
        assert gateway.events.counts["task.created"] == 0
        assert gateway.calls.all == []


async def test_replies_and_service_messages_still_go(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await stopped(gateway)
        assert (await gateway.send(PHONE)).status == 200
        assert (await gateway.post("/api/send-template", {"phone": PHONE, **TEMPLATE})).status == 200
        answer = await gateway.post("/api/send-bulk", to(PHONE, use_queue=False, opted_out="send"))
        assert answer.ok["result"]["successful"] == 1


async def test_a_template_that_the_account_has_as_marketing_goes_to_nobody_who_has_opted_out(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, sandbox=QUIET, whatsapp={"waba_id": QUIET.waba_id}) as gateway:
        await stopped(gateway)
        code = {"type": "coupon_code", "coupon_code": "SAVE10"}
        parts = [
            {
                "type": "header",
                "parameters": [{"type": "image", "image": {"link": "https://x.example/a.png"}}],
            },
            {"type": "body", "parameters": [{"type": "text", "text": "tea"}]},
            {"type": "button", "sub_type": "copy_code", "index": "0", "parameters": [code]},
        ]
        sale = {"template_name": "catalogue", "language": "en", "components": parts}
        answer = await gateway.post("/api/send-template", {"phone": PHONE, **sale})
        assert (answer.status, answer.body["code"]) == (400, "suppressed"), answer
        service = {"phone": PHONE, "template_name": "hello_world", "language": "en_US"}
        assert (await gateway.post("/api/send-template", service)).status == 200
        many = {"phones": [PHONE, OTHER], **sale, "opted_out": "send", "use_queue": False}
        answer = await gateway.post("/api/send-broadcast-template", many)
        assert answer.ok["result"]["successful"] == 1


async def test_marketing_goes_to_none_of_them_whatever_the_request_says(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await stopped(gateway)
        both = {"to": [PHONE, OTHER], **MARKETING, "opted_out": "send", "use_queue": False}
        answer = (await gateway.post("/api/messages", both)).ok
        assert answer["result"]["successful"] == 1
        assert [call.to for call in gateway.calls.all] == [f"+{OTHER}"]


async def test_a_spreadsheet_passes_over_them_and_its_dry_run_meets_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await stopped(gateway)
        sheet = f"phone\n{PHONE}\n{OTHER}\n".encode()
        dry = await broadcast(gateway, sheet, message="new: tea", dry_run="true")
        assert (dry["valid"], dry["invalid"], dry["suppressed"]) == (1, 0, 1)
        assert dry["warnings"][0].startswith("rows[2]: has opted out")
        assert set(await gateway.store.as_store().find_aliases([PHONE, OTHER])) == {PHONE}
        answer = await broadcast(gateway, sheet, message="new: tea")
        assert (answer["skipped"], answer["suppressed"]) == (1, 1)


async def test_who_opts_out_before_it_leaves_is_not_sent_it(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.store.hold("mark_sending")  # the first is on its way, the second stays behind it
        answer = (await gateway.post("/api/send-bulk", to(OTHER, PHONE, PHONE))).ok
        await gateway.store.arrived("mark_sending")
        gateway.store.heal()
        await gateway.webhook(wrote("stop"))
        found = await rows(gateway, answer["task_id"])
        for row in found:
            if row["state"] == "failed":
                assert row["error"]["name"] == "suppressed" and row["attempt"] == 0
        assert found[0]["state"] == "sent"


async def test_a_row_whose_recipient_has_opted_out_fails_without_a_call_until_they_come_back(
    tmp_path: Path,
) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = (await gateway.post("/api/send-bulk", to(PHONE, send_at=soon))).ok
        await stopped(gateway)
        (failed,) = await gateway.events.wait("message.failed")
        assert failed["error"]["name"] == "suppressed"
        assert gateway.calls.all == []
        (row,) = await rows(gateway, answer["task_id"])
        assert (row["state"], row["error"]["name"]) == ("failed", "suppressed")
        retry = f"/api/tasks/{answer['task_id']}/retry"
        await gateway.events.wait("message.dead")
        assert (await gateway.post(retry, {})).ok["retried"] == 1
        await gateway.events.wait("message.failed", 2)
        assert gateway.calls.all == []
        assert (await ask(gateway, "DELETE")).status == 200
        await gateway.events.wait("message.dead", 2)
        assert (await gateway.post(retry, {})).ok["retried"] == 1
        (call,) = await gateway.calls.wait(1)
        assert call.to == f"+{PHONE}"


async def test_while_the_store_cannot_say_who_has_opted_out_nothing_leaves(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        await gateway.post("/api/send-bulk", to(PHONE, OTHER, send_at=soon))
        gateway.store.fail("find_suppressions")
        await gateway.store.arrived("find_suppressions", 3)
        assert gateway.calls.all == []
        gateway.store.heal()
        await gateway.calls.wait(2)


# -- the operator's calls ----------------------------------------------------------------------------------


async def test_one_is_added_looked_at_and_taken_off(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        path = f"/api/suppressions/+{PHONE}"
        assert (await gateway.get(path)).status == 404
        assert (await ask(gateway, "DELETE", f"+{PHONE}")).status == 404
        put = (await ask(gateway, "PUT", f"+{PHONE}", {"reason": "blocked", "note": "court order"})).ok
        assert put == {
            "contact": PHONE,
            "suppressed": True,
            "reason": "blocked",
            "source": "api",
            "note": "court order",
            "since": put["since"],
            "until": None,
        }
        assert (await gateway.get(path)).ok == put
        gone = (await ask(gateway, "DELETE", f"+{PHONE}")).ok
        assert not gone["suppressed"] and gone["until"]
        assert (await gateway.get(path)).status == 404
        assert [gateway.events.counts[f"contact.{name}"] for name in ("suppressed", "restored")] == [1, 1]


async def test_who_is_blocked_does_not_come_back_by_a_word(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await ask(gateway, "PUT", PHONE, {"reason": "blocked"})
        await gateway.webhook(wrote("start"))
        await gateway.consumed("suppressions")
        assert await is_suppressed(gateway)
        answer = await gateway.post("/api/send-bulk", to(PHONE))
        assert "was blocked" in answer.body["details"][0]["problem"]


async def test_a_list_is_imported_once_and_read_page_by_page(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        phones = [f"52155500{n:05}" for n in range(1203)]
        old = {"contact": USER_ID, "since": "2020-01-31T10:00:00+01:00", "note": "by letter"}
        for _ in range(2):
            answer = await gateway.post("/api/suppressions", {"contacts": [*phones, old], "note": "old list"})
            assert (answer.ok["total"], answer.ok["suppressed"]) == (1204, 1204)
        await gateway.events.wait("contact.suppressed", 1204)
        found: list[Json] = []
        cursor = ""
        while True:
            page = (await gateway.get(f"/api/suppressions?limit=500&cursor={cursor}")).ok
            found += page["suppressions"]
            if not (cursor := page["next"]):
                break
        assert [one["contact"] for one in found] == [*phones, USER_ID]
        assert {(one["note"], one["source"]) for one in found} == {
            ("old list", "import"),
            ("by letter", "import"),
        }
        assert found[-1]["since"] == "2020-01-31T09:00:00.000Z"
        await gateway.consumed("suppressions")
        assert gateway.events.counts["contact.suppressed"] == 1204


async def test_an_old_list_suppresses_nobody_who_has_come_back_since(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        await gateway.webhook(wrote("start"))
        await gateway.consumed("suppressions")
        one = {"contact": PHONE, "since": "2020-01-31T10:00:00Z"}
        answer = (await gateway.post("/api/suppressions", {"contacts": [one, OTHER]})).ok
        assert (answer["total"], answer["suppressed"]) == (2, 1)
        assert not await is_suppressed(gateway)


@pytest.mark.parametrize(
    ("method", "path", "given", "fault"),
    [
        ("POST", "", {"contacts": [PHONE, "12", None, {"contact": "x"}, {"since": "x"}]}, "contacts[1]"),
        ("POST", "", {"contacts": []}, "contacts"),
        ("POST", "", {}, "contacts"),
        ("POST", "", {"contacts": [PHONE], "reason": "maybe"}, "reason"),
        ("POST", "", {"contacts": [{"contact": PHONE, "until": "x"}]}, "contacts[0].until"),
        (
            "POST",
            "",
            {"contacts": [{"contact": PHONE, "since": "2999-01-01T00:00:00Z"}]},
            "contacts[0].since",
        ),
        ("PUT", PHONE, {"since": "2999-01-01T00:00:00Z"}, "since"),
        ("PUT", PHONE, {"since": "0001-01-01T00:00:00Z"}, "since"),
        ("PUT", PHONE, {"note": "x" * 201}, "note"),
        ("PUT", PHONE, {"why": "x"}, "why"),
        ("PUT", "nobody", {}, "contact"),
        ("GET", "?cursor=x", None, "cursor"),
        ("GET", "?limit=0", None, "limit"),
        ("GET", "?reason=x", None, "reason"),
    ],
)
async def test_what_cannot_be_used_is_named_and_nothing_is_done(
    tmp_path: Path, method: str, path: str, given: Json | None, fault: str
) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await ask(gateway, method, path, given)
        assert answer.status == 400, answer
        assert answer.body["details"][0]["path"] == fault
        assert (await gateway.get("/api/suppressions")).ok == {"suppressions": [], "next": None}


async def test_a_change_whose_telling_failed_is_told_when_it_is_asked_for_again(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        gateway.store.fail("append_events")
        assert (await ask(gateway, "PUT")).status == 503
        gateway.store.heal()
        assert (await ask(gateway, "PUT")).status == 200
        await gateway.events.wait("contact.suppressed")
        assert gateway.events.counts["contact.suppressed"] == 1


async def test_many_who_ask_at_once_are_all_answered(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        phones = [f"521555000{n:04}" for n in range(30)]
        await asyncio.gather(*(stopped(gateway, phone) for phone in phones for _ in range(2)))
        page = (await gateway.get("/api/suppressions")).ok
        assert [one["contact"] for one in page["suppressions"]] == phones
        assert gateway.events.counts["contact.suppressed"] == 30

"""Automatic replies, from the customer's message to what Meta is asked to send."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from settings import AutoReplyRule, AutoReplySettings
from tests.support.gateway import NUMBER, Harness, serving, serving_on_its_sandbox
from tests.support.waiting import GUARD_S
from tests.support.webhooks import body, entry, message_value
from whatsapp.sandbox import SandboxSettings

PHONE = "5215550001111"
OTHER = "5215550002222"
USER_ID = "US.13491208655302741918"
ON = {"enabled": True}
GREETING = AutoReplySettings().rules[0].text
HELP = AutoReplySettings().rules[1].text
((_, OURS),) = SandboxSettings().phone_numbers


def webhook(wamid: str, text: str, *, field: str = "messages", sender: str = PHONE, to: str = "") -> bytes:
    """A webhook with one text; with ``to`` it is an echo of ours."""
    message: dict[str, Any] = {"from": sender, "id": wamid, "type": "text", "text": {"body": text}}
    message["timestamp"] = str(int(time.time()))
    if to:
        message["to"] = to
    value = message_value(**{"message_echoes" if to else "messages": [message]})
    value["metadata"] = {"display_phone_number": OURS, "phone_number_id": NUMBER}
    return body(entry(value, field))


async def replies(gateway: Harness) -> list[str]:
    """What was answered, once all that came in has been looked at."""
    await gateway.consumed("autoreply")
    await gateway.calls.wait(gateway.events.counts["task.created"])
    return [call.text for call in gateway.calls.all]


async def test_a_greeting_gets_one_reply(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        await gateway.sandbox.inbound(PHONE, "¡HOLA! ¿Qué tal?")
        (call,) = await gateway.calls.wait(1)
        assert call.message["to"] == f"+{PHONE}"
        assert call.text == GREETING
        (created,) = gateway.events.of("task.created")
        assert created["source"] == "autoreply:greeting"
        task = await gateway.task_when(created["task_id"], lambda task: task["counts"]["read"] == 1)
        assert (task["status"], task["source"]) == ("SUCCESS", "autoreply:greeting")
        assert await replies(gateway) == [GREETING]


async def test_a_text_without_a_keyword_gets_none(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        for n, text in enumerate(("holanda", "good morning", "", "¿?")):
            assert (await gateway.webhook(webhook(f"wamid.{n}", text))).status == 200
        assert await replies(gateway) == []


async def test_a_customer_without_a_phone_is_answered_by_user_id(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        await gateway.sandbox.inbound(USER_ID, "hola")
        (call,) = await gateway.calls.wait(1)
        assert call.message["recipient"] == USER_ID
        assert "to" not in call.message


async def test_a_repeated_webhook_gets_no_second_reply(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply={**ON, "cooldown_s": 0.0}) as gateway:
        for _ in range(3):
            assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        assert await replies(gateway) == [GREETING]


async def test_the_same_webhook_many_times_at_once_gets_one_reply(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply={**ON, "cooldown_s": 0.0}) as gateway:
        await asyncio.gather(*(gateway.webhook(webhook("wamid.A", "hola")) for _ in range(10)))
        assert await replies(gateway) == [GREETING]


async def test_within_the_cooldown_a_person_gets_each_rule_once(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        for n, (sender, text) in enumerate(
            ((PHONE, "hola"), (PHONE, "hola"), (PHONE, "ayuda"), (OTHER, "hola"), (PHONE, "hello"))
        ):
            assert (await gateway.webhook(webhook(f"wamid.{n}", text, sender=sender))).status == 200
        assert sorted(await replies(gateway)) == sorted([GREETING, HELP, GREETING])
        assert [call.text for call in gateway.calls.to(OTHER)] == [GREETING]


async def test_without_a_cooldown_each_greeting_gets_its_reply(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply={**ON, "cooldown_s": 0.0}) as gateway:
        for n in range(3):
            assert (await gateway.webhook(webhook(f"wamid.{n}", "hola"))).status == 200
        assert await replies(gateway) == [GREETING] * 3


async def test_a_restart_forgets_neither_the_reply_nor_the_cooldown(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        assert await replies(gateway) == [GREETING]
        await gateway.restart()
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        assert (await gateway.webhook(webhook("wamid.B", "hola"))).status == 200
        assert await replies(gateway) == [GREETING]
        assert (await gateway.webhook(webhook("wamid.C", "hola", sender=OTHER))).status == 200
        assert await replies(gateway) == [GREETING] * 2


async def test_a_greeting_that_was_taken_before_a_restart_is_answered_after_it(tmp_path: Path) -> None:
    # The claim of the cooldown is stored, the reply is not: that claim must not stand in its way afterwards.
    async with serving(tmp_path, autoreply=ON) as gateway:
        gateway.store.fail("create_task")
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        await gateway.store.arrived("create_task")
        await gateway.restart()
        await gateway.calls.wait(1)
        assert await replies(gateway) == [GREETING]


async def test_a_reply_whose_storing_was_not_confirmed_is_sent_once(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        gateway.store.fail("save_cursor")
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        await gateway.calls.wait(1)
        await gateway.restart()
        assert await replies(gateway) == [GREETING]


async def test_a_greeting_that_grew_old_while_the_store_was_away_is_answered_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply={**ON, "max_age_s": 0.9}) as gateway:
        gateway.store.fail("claim_once")
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        await gateway.store.arrived("claim_once")
        gateway.store.heal()  # the consumer begins again a second after a fault
        assert await replies(gateway) == []
        assert (await gateway.webhook(webhook("wamid.B", "hola"))).status == 200
        assert await replies(gateway) == [GREETING]


async def test_what_we_wrote_ourselves_and_what_others_answer_gets_no_reply(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply=ON) as gateway:
        for content in (
            webhook("wamid.A", "hola", field="smb_message_echoes", sender=OURS, to=PHONE),
            webhook("wamid.B", "hola", field="message_echoes", sender=OURS, to=PHONE),
            webhook("wamid.C", "hola", field="standby"),
            webhook("wamid.D", "hola", sender=OURS),
        ):
            assert (await gateway.webhook(content)).status == 200
        assert await replies(gateway) == []
        assert gateway.events.counts["message.echo"] == 2


async def test_a_customer_of_the_sandbox_is_answered(tmp_path: Path) -> None:
    async with (
        serving_on_its_sandbox(tmp_path, autoreply=ON) as gateway,
        gateway.http.ws_connect(f"{gateway.url}/ws?since=0&types=message.received,message.sent") as socket,
        asyncio.timeout(GUARD_S),
    ):
        told = (await gateway.post("/sandbox/inbound", {"from": int(PHONE), "text": "hola"})).ok
        frames: dict[str, Any] = {}
        while "message.sent" not in frames:
            frame = json.loads(await socket.receive_str())
            frames[frame.get("event", "")] = frame
        assert frames["message.received"]["data"]["message"]["id"] == told["message_id"]
        assert frames["message.sent"]["contact"] == frames["message.received"]["contact"]


async def test_a_first_contact_is_greeted_once_also_over_a_restart(tmp_path: Path) -> None:
    welcome = AutoReplyRule(name="welcome", first_contact=True, text="Welcome!", cooldown_s=0.0)
    async with serving(tmp_path, autoreply={**ON, "rules": (welcome,)}) as gateway:
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        assert (await gateway.webhook(webhook("wamid.B", "hola"))).status == 200
        assert await replies(gateway) == ["Welcome!"]
        await gateway.consumed("conversations")
        await gateway.restart()
        assert (await gateway.webhook(webhook("wamid.C", "hola"))).status == 200
        assert (await gateway.webhook(webhook("wamid.D", "hola", sender=OTHER))).status == 200
        assert await replies(gateway) == ["Welcome!"] * 2


async def test_an_edited_message_is_not_answered_again(tmp_path: Path) -> None:
    async with serving(tmp_path, autoreply={**ON, "cooldown_s": 0.0}) as gateway:
        assert (await gateway.webhook(webhook("wamid.A", "hola"))).status == 200
        edit = {"original_message_id": "wamid.A", "message": {"type": "text", "text": {"body": "hola"}}}
        message = {
            "from": PHONE,
            "id": "wamid.B",
            "timestamp": str(int(time.time())),
            "type": "edit",
            "edit": edit,
        }
        value = message_value(messages=[message])
        value["metadata"] = {"display_phone_number": OURS, "phone_number_id": NUMBER}
        assert (await gateway.webhook(body(entry(value)))).status == 200
        assert await replies(gateway) == [GREETING]

"""Messages that rules hand over: posted, signed, repeated, and what is answered is sent, once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from config import changed_keys
from settings import AutoReplyRule, HandOverSettings, Secret
from tests.support.gateway import NUMBER, Harness, serving
from tests.support.receiver import Delivery, Receiver, receiving
from tests.support.waiting import eventually, until
from tests.support.webhooks import body, entry, message_value
from whatsapp.post_signature import SIGNATURE, TIMESTAMP, signed_headers
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE, OTHER, USER_ID = "5215550001111", "5215550002222", "MX.13491208655302741918"
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)
BOT = AutoReplyRule(name="to-bot", always=True, hand_over="bot", stop=False, cooldown_s=0.0)
HELP = AutoReplyRule(name="help", keywords=("ayuda",), text="Here.", cooldown_s=0.0)
SECRET = "s3cret"


def wrote(text: str, wamid: str = "wamid.A", **who: str) -> bytes:
    message = {"from": PHONE, "id": wamid, "type": "text", "text": {"body": text}, **who}
    message["timestamp"] = str(int(time.time()))
    value = message_value(messages=[{name: one for name, one in message.items() if one}])
    value["metadata"]["phone_number_id"] = NUMBER
    return body(entry(value))


def says(*messages: Json, **more: object) -> Any:
    """An answer of the program's."""

    async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        return web.json_response({"messages": list(messages), **more})

    return answer


def text(said: str, **fields: object) -> Json:
    return {"type": "text", "text": {"body": said}, **fields}


@asynccontextmanager
async def handing(
    path: Path, bot: Receiver, rules: Sequence[AutoReplyRule] = (BOT, HELP), **more: object
) -> AsyncIterator[Harness]:
    program = HandOverSettings(name="bot", url=Secret(bot.url), secret=Secret(SECRET))
    section = {"enabled": True, "rules": tuple(rules), "handovers": (program,), **more}
    async with serving(path, sandbox=QUIET, autoreply=section) as gateway:
        yield gateway


async def test_a_message_is_posted_signed_and_its_answers_are_sent_to_who_wrote(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = says(text("one", callback_data="b1"), {"type": "sticker", "sticker": {"id": "12"}})
        await gateway.webhook(wrote("quiero té"))
        (post,) = await bot.got(1)
        told = json.loads(post.body)
        assert (told["rule"], told["match"], told["event"]) == ("to-bot", ["quiero té"], "message.received")
        assert (told["contact"], told["data"]["text"]) == (PHONE, "quiero té")
        at = int(post.headers[TIMESTAMP]) * 1000
        assert signed_headers(SECRET, post.body, at)[SIGNATURE] == post.headers[SIGNATURE]
        assert post.headers["X-Gateway-Event-Id"].endswith(f":{told['offset']}")
        assert post.headers["X-Gateway-Hook"] == "bot"
        calls = await gateway.calls.wait(2)
        assert {call.message["type"] for call in calls} == {"text", "sticker"}
        assert {call.to for call in calls} == {f"+{PHONE}"}
        created = gateway.events.of("task.created")
        assert {one["source"] for one in created} == {"autoreply:to-bot"}
        (sent,) = await gateway.events.wait("message.sent", callback_data="b1")
        assert sent["callback_data"] == "b1"
        assert not gateway.events.of("automation.failed")


async def test_a_customer_without_a_phone_is_answered_by_user_id(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = says(text("hi"))
        await gateway.webhook(wrote("hola", **{"from": "", "from_user_id": USER_ID}))
        (call,) = await gateway.calls.wait(1)
        assert call.to == USER_ID


@pytest.mark.parametrize("status", [200, 204])
async def test_an_empty_answer_sends_nothing(tmp_path: Path, status: int) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answers(status)
        await gateway.webhook(wrote("hola"))
        await bot.took(1)
        await gateway.consumed("handover:bot")
        assert gateway.events.counts["task.created"] == 0
        assert not gateway.events.of("automation.failed")


async def test_who_cannot_answer_now_is_asked_again_and_answers_once(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        tries = 0

        async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            nonlocal tries
            tries += 1
            if tries == 1:
                return web.Response(status=503)
            return await says(text(f"try {tries}"))(delivery, request)  # type: ignore[no-any-return]

        bot.answer = answer
        await gateway.webhook(wrote("hola"))
        (call,) = await gateway.calls.wait(1)
        assert call.text == "try 2"
        ids = [post.headers["X-Gateway-Event-Id"] for post in bot.posts]
        assert len(ids) == 2 and len(set(ids)) == 1


async def test_a_dead_program_delays_neither_rules_nor_what_comes_after_its_time(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot, max_age_s=1.5) as gateway:
        await bot.stop()
        await gateway.webhook(wrote("ayuda"))
        (call,) = await gateway.calls.wait(1)
        assert call.text == "Here."
        (failed,) = await gateway.events.wait("automation.failed")
        assert (failed["rule"], failed["what"]) == ("to-bot", "hand_over")
        assert failed["error"].startswith("bot: ")
        (state,) = [one for one in (await gateway.status())["consumers"] if one["name"] == "handover:bot"]
        assert state["skipped"] == 1 and state["fault"].startswith("bot: ")
        await bot.start()
        bot.answer = says(text("back"))
        await gateway.webhook(wrote("hola", "wamid.B"))
        calls = await gateway.calls.wait(2)
        assert calls[1].text == "back"


async def test_one_contacts_slow_answer_keeps_no_other_waiting_and_their_own_in_order(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:

        async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            event = json.loads(delivery.body)
            if event["data"]["text"] == "first":
                await bot.held.wait()
            return await says(text("to " + event["data"]["text"]))(delivery, request)  # type: ignore[no-any-return]

        bot.answer = answer
        await gateway.webhook(wrote("first"))
        await bot.got(1)
        await gateway.webhook(wrote("second", "wamid.B"))
        await gateway.webhook(wrote("other", "wamid.C", **{"from": OTHER}))
        (call,) = await gateway.calls.wait(1)
        assert (call.to, call.text) == (f"+{OTHER}", "to other")
        bot.held.set()
        calls = await gateway.calls.wait(3)
        assert [call.text for call in calls if call.to == f"+{PHONE}"] == ["to first", "to second"]


@pytest.mark.parametrize(
    ("answer", "says_why"),
    [
        (says(text("")), "messages[0].text.body: must not be empty"),
        (says({"type": "image", "image": {}}), "messages[0].image"),
        (
            says(text("x", to="5215550002222")),
            "messages[0].to: must be left out: who wrote gets the answer",
        ),
        (says(text("x", priority="urgent")), "messages[0].priority: must be one of high, normal, low"),
        (says(*[text("x")] * 6), "its answer has 6 messages, at most 5"),
        (says("x"), "messages[0]: must be an object"),
        (says(text("x", send_at="2001-01-01T00:00:00Z")), "messages[0].send_at"),
    ],
)
async def test_an_answer_that_cannot_be_sent_is_told_and_nothing_of_it_sent(
    tmp_path: Path, answer: Any, says_why: str
) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = answer
        await gateway.webhook(wrote("hola"))
        (failed,) = await gateway.events.wait("automation.failed")
        assert says_why in failed["error"]
        assert gateway.events.counts["task.created"] == 0
        assert len(bot.posts) == 1


@pytest.mark.parametrize(
    ("given", "says_why"),
    [
        (web.Response(body=b"<html>"), "its answer is not JSON"),
        (web.Response(body=b'{"messages": 7}'), "its answer is not JSON"),
        (web.Response(body=b"[" * 50_000), "its answer is not JSON"),
        (web.Response(body=b" " * 10 + b"x" * 70_000), "its answer is too long"),
        (web.Response(status=404), "HTTP 404"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302"),
    ],
)
async def test_what_is_no_answer_is_told(tmp_path: Path, given: web.Response, says_why: str) -> None:
    async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
        return web.Response(body=given.body, status=given.status, headers=given.headers)

    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = answer
        await gateway.webhook(wrote("hola"))
        (failed,) = await gateway.events.wait("automation.failed")
        assert says_why in failed["error"]
        assert len(bot.posts) == 1


async def test_a_restart_goes_on_with_what_was_under_way_and_answers_it_once(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:

        async def never(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            await bot.held.wait()
            return web.Response(status=500)

        bot.answer = never
        await gateway.webhook(wrote("hola"))
        await bot.got(1)
        bot.answer = says(text("after"))
        await gateway.restart()
        await gateway.calls.wait(1)
        await gateway.consumed("handover:bot")
        await gateway.restart()
        await gateway.consumed("handover:bot")
        assert [call.text for call in gateway.calls.all] == ["after"]
        assert len({post.headers["X-Gateway-Event-Id"] for post in bot.posts}) == 1


async def test_while_the_store_is_away_an_answer_waits_and_the_program_is_not_asked_again(
    tmp_path: Path,
) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = says(text("one"), text("two"))
        gateway.store.fail("create_task")
        await gateway.webhook(wrote("hola"))
        await gateway.store.arrived("create_task", 2)
        gateway.store.heal()
        calls = await gateway.calls.wait(2)
        assert {call.text for call in calls} == {"one", "two"}
        assert len(bot.posts) == 1


async def test_two_machines_do_not_talk_for_ever(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot, rules=[BOT], max_per_minute=3) as gateway:
        bot.answer = says(text("and you?"))
        for n in range(8):
            await gateway.webhook(wrote("and you?", f"wamid.{n}"))
        await gateway.events.wait("automation.limited")
        await gateway.calls.wait(3)
        await gateway.consumed("autoreply")
        await gateway.consumed("handover:bot")
        assert len(bot.posts) == 3 and len(gateway.calls.all) == 3


async def test_many_at_once_are_all_answered(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:

        async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            event = json.loads(delivery.body)
            return await says(text(event["data"]["text"]))(delivery, request)  # type: ignore[no-any-return]

        bot.answer = answer
        await asyncio.gather(
            *(
                gateway.webhook(wrote(f"n{n}", f"wamid.{n}", **{"from": f"52155500{n:05}"}))
                for n in range(150)
            )
        )
        calls = await gateway.calls.wait(150)
        assert {call.text for call in calls} == {f"n{n}" for n in range(150)}
        await gateway.consumed("handover:bot")
        assert len(bot.posts) == 150


async def test_a_new_secret_is_taken_over_while_it_runs(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        section = gateway.gateway._settings.autoreply
        program = msgspec.structs.replace(section.handovers[0], secret=Secret("the-new-one"))
        changed = msgspec.structs.replace(
            gateway.gateway._settings, autoreply=msgspec.structs.replace(section, handovers=(program,))
        )
        assert changed_keys(gateway.gateway._settings, changed) == ()
        assert "bot" in gateway.gateway.renew(changed)
        await gateway.webhook(wrote("hola"))
        (post,) = await bot.got(1)
        at = int(post.headers[TIMESTAMP]) * 1000
        assert signed_headers("the-new-one", post.body, at)[SIGNATURE] == post.headers[SIGNATURE]


async def test_a_fault_of_the_gateways_own_is_told_and_keeps_nothing_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        bot.answer = says(text("hi"))
        (way,) = gateway.gateway._handovers
        reader, way._messages = way._messages, lambda given, to: [][1]
        await gateway.webhook(wrote("hola"))
        (failed,) = await gateway.events.wait("automation.failed")
        assert failed["error"] == "bot: the gateway failed at it: IndexError"
        assert "handover:bot failed at the event" in caplog.text
        caplog.clear()
        way._messages = reader
        await gateway.webhook(wrote("hola", "wamid.B"))
        await gateway.calls.wait(1)


async def test_what_is_under_way_is_not_posted_again_where_the_store_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:

        async def answer(delivery: Delivery, request: web.Request) -> web.StreamResponse:
            if "slow" in delivery.body.decode():
                await bot.held.wait()
            return web.Response()

        bot.answer = answer
        await gateway.webhook(wrote("slow", "wamid.A", **{"from": OTHER}))
        await bot.got(1)
        gateway.store.fail("save_cursor")
        await gateway.webhook(wrote("quick", "wamid.B"))
        await bot.got(2)
        await until(lambda: "the place of handover:bot is saved later" in caplog.text)
        bot.held.set()
        gateway.store.heal()
        (consumer,) = [one for one in gateway.gateway._handovers if one.target == "bot"]
        await until(lambda: consumer.offset == consumer._passed)
        assert len(bot.posts) == 2


async def test_no_event_is_removed_by_age_that_a_follower_of_the_log_has_not_had(tmp_path: Path) -> None:
    async with receiving() as bot, handing(tmp_path, bot) as gateway:
        await gateway.webhook(wrote("hola"))
        await bot.got(1)

        async def all_saved() -> set[str] | None:
            names = {cursor.name for cursor in await gateway.store.list_cursors()}
            return names if {"tracker", "autoreply", "handover:bot"} <= names else None

        assert await eventually(all_saved) <= set(gateway.gateway._retention.readers)

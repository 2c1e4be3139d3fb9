"""Conversations, contacts and messages' lives over HTTP, with Meta beside the gateway."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.gateway import NUMBER, Harness, serving
from tests.support.store_values import eventually
from tests.support.webhooks import body, entry, text_message
from whatsapp.conversations import CONVERSATIONS
from whatsapp.unknown import TRACKER

Json = dict[str, Any]

PHONE = "5215550001111"
OTHER = "5215550002222"
REFUSED = "5215599131026"
USER_ID = "US.64f821e25ce229f761b0"
"""As the sandbox knows :data:`PHONE`."""


async def kept(gateway: Harness) -> None:
    """Return once conversations, and rows, have all that is in the log."""
    head = gateway.events.all[-1].offset if gateway.events.all else 0
    store = gateway.store.as_store()

    async def caught_up() -> bool | None:
        passed = [await store.load_cursor(name) for name in (CONVERSATIONS, TRACKER)]
        return True if min(passed) >= head else None

    await eventually(caught_up, within_s=30)


def incoming(wamid: str, text: str | None = "hola", *, phone: str = PHONE, **fields: Any) -> bytes:
    metadata = {"display_phone_number": "15550000001", "phone_number_id": NUMBER}
    contacts = [{"profile": {"name": "Ana"}, "wa_id": phone}]
    message = text_message(wamid, text, **{"from": phone, **fields})
    return body(
        entry(
            {
                "messaging_product": "whatsapp",
                "metadata": metadata,
                "contacts": contacts,
                "messages": [message],
            }
        )
    )


async def write(gateway: Harness, *args: Any, **fields: Any) -> None:
    assert (await gateway.webhook(incoming(*args, **fields))).status == 200


async def listed(gateway: Harness, query: str = "") -> list[Json]:
    await kept(gateway)
    found: list[Json] = (await gateway.get(f"/api/conversations{query}")).ok["conversations"]
    return found


async def thread(gateway: Harness, who: str = PHONE, query: str = "") -> Json:
    await kept(gateway)
    found: Json = (await gateway.get(f"/api/conversations/{quote(who, safe='')}/messages{query}")).ok
    return found


def texts(page: Json) -> list[str | None]:
    return [message["text"] for message in page["messages"]]


async def test_both_directions_stand_in_one_thread_in_the_order_of_the_log(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "hola")
        await gateway.send(PHONE, "buenas")
        await write(gateway, "wamid.2", "gracias", context={"id": "wamid.1"})
        await gateway.events.wait("message.read")
        page = await thread(gateway)
        assert page["contact"] == PHONE
        assert texts(page) == ["hola", "buenas", "gracias"]
        first, sent, last = page["messages"]
        assert [one["direction"] for one in page["messages"]] == ["in", "out", "in"]
        assert (first["from"], sent["from"], first["delivery"]) == ("customer", "gateway", None)
        assert (first["wamid"], first["type"], last["reply_to"]) == ("wamid.1", "text", "wamid.1")
        assert first["message"]["text"] == {"body": "hola"}
        assert (sent["delivery"]["state"], sent["wamid"]) == ("read", sent["delivery"]["wamids"][0])
        assert sent["delivery"]["pricing"]["category"] == "service"
        (conversation,) = await listed(gateway)
        assert (conversation["contact"], conversation["name"]) == (PHONE, "Ana")
        assert (conversation["unread"], conversation["phone_number_id"]) == (2, NUMBER)
        assert conversation["last"] == last


async def test_what_meta_refuses_for_good_stands_in_the_thread_and_once_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.send(REFUSED, "hola")
        assert answer.status == 400
        page = await thread(gateway, REFUSED)
        (told,) = page["messages"]
        assert (told["delivery"]["state"], told["text"]) == ("failed", "hola")
        assert told["delivery"]["error"]["code"] == 131026


async def test_pages_go_both_ways_and_stay_in_place_while_more_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for n in range(7):
            await write(gateway, f"wamid.{n}", str(n))
        page = await thread(gateway, query="?limit=3")
        assert texts(page) == ["4", "5", "6"]
        await write(gateway, "wamid.7", "7")
        before = await thread(gateway, query=f"?limit=3&before={page['older']}")
        assert texts(before) == ["1", "2", "3"]
        begin = await thread(gateway, query=f"?limit=3&before={before['older']}")
        assert (texts(begin), begin["older"]) == (["0"], None)
        after = await thread(gateway, query=f"?limit=3&after={page['newer']}")
        assert texts(after) == ["7"]
        none = await thread(gateway, query=f"?after={after['newer']}")
        assert (texts(none), none["newer"]) == ([], after["newer"])
        onwards = await thread(gateway, query=f"?limit=3&after={begin['newer']}")
        assert texts(onwards) == ["1", "2", "3"]
        assert texts(await thread(gateway, query=f"?before={onwards['older']}")) == ["0"]


async def test_conversations_are_paged_and_filtered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        people = [f"52155500010{n:02}" for n in range(5)]
        for n, phone in enumerate(people):
            await write(gateway, f"wamid.{n}", phone=phone)
        await kept(gateway)
        page = (await gateway.get("/api/conversations?limit=2")).ok
        assert [one["contact"] for one in page["conversations"]] == [people[4], people[3]]
        rest = (await gateway.get(f"/api/conversations?before={page['next']}")).ok
        assert [one["contact"] for one in rest["conversations"]] == [people[2], people[1], people[0]]
        assert rest["next"] is None
        assert (await gateway.post(f"/api/conversations/{people[3]}/read", {})).status == 200
        unread = await listed(gateway, "?unread=true")
        assert [one["contact"] for one in unread] == [people[4], people[2], people[1], people[0]]
        assert await listed(gateway, "?phone_number_id=999") == []


async def test_marking_tells_meta_the_last_message_and_reads_all_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "one")
        await write(gateway, "wamid.2", "two")
        await kept(gateway)
        told = (await gateway.post(f"/api/conversations/{PHONE}/read", b"")).ok
        assert (told["wamid"], told["contact"], told["phone_number_id"]) == ("wamid.2", PHONE, NUMBER)
        (read,) = await gateway.events.wait("conversation.read")
        assert read == {"wamid": "wamid.2", "position": told["position"]}
        assert [one["unread"] for one in await listed(gateway)] == [0]
        marks = [call.message for call in gateway.calls.all if "status" in call.message]
        assert marks == [{"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.2"}]
        other = await gateway.post(f"/api/conversations/{PHONE}/read", {"phone_number_id": "999"})
        assert (other.status, "to phone_number_id 999" in other.body["error"]) == (404, True)
        # Again: nothing is unread, and Meta is not asked.
        assert (await gateway.post(f"/api/conversations/{PHONE}/read", {})).ok["wamid"] == "wamid.2"
        assert len([call for call in gateway.calls.all if "status" in call.message]) == 1
        await write(gateway, "wamid.3", "three")
        assert [one["unread"] for one in await listed(gateway)] == [1]


async def test_a_mark_of_metas_own_form_counts_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1")
        await write(gateway, "wamid.2")
        assert [one["unread"] for one in await listed(gateway)] == [2]
        assert (
            await gateway.post("/api/messages", {"status": "read", "message_id": "wamid.1"})
        ).status == 200
        await gateway.events.wait("conversation.read")
        assert [one["unread"] for one in await listed(gateway)] == [1]


async def test_typing_shows_and_reads(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1")
        await kept(gateway)
        for _ in range(2):
            assert (
                await gateway.post(f"/api/conversations/{PHONE}/typing", {"phone_number_id": NUMBER})
            ).status == 200
        marks = [call.message for call in gateway.calls.all if "typing_indicator" in call.message]
        assert [mark["typing_indicator"] for mark in marks] == [{"type": "text"}] * 2
        await gateway.events.wait("conversation.read")
        assert [one["unread"] for one in await listed(gateway)] == [0]


@pytest.mark.parametrize("word", ["read", "typing"])
async def test_of_who_wrote_nothing_nothing_is_marked(tmp_path: Path, word: str) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.send(PHONE)
        await kept(gateway)
        for who in (PHONE, OTHER, "nobody"):
            answer = await gateway.post(f"/api/conversations/{who}/{word}", {})
            assert (answer.status, answer.body["code"]) == (404, "not_found")


async def test_an_edit_and_a_revoke_show_where_the_message_stands(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "helo")
        await write(gateway, "wamid.2", "sorry")
        edited = {"type": "text", "text": {"body": "hello"}}
        edit = {"original_message_id": "wamid.1", "message": edited}
        await write(gateway, "wamid.3", None, type="edit", edit=edit)
        await write(gateway, "wamid.4", None, type="revoke", revoke={"original_message_id": "wamid.2"})
        # Of a message that is not known, and of one that is another's.
        await write(gateway, "wamid.5", None, type="revoke", revoke={"original_message_id": "wamid.9"})
        hostile = {"original_message_id": "wamid.1", "message": {"type": "text", "text": {"body": "no"}}}
        await write(gateway, "wamid.6", None, phone=OTHER, type="edit", edit=hostile)
        page = await thread(gateway)
        first, second, third = page["messages"]
        assert (first["text"], first["message"], bool(first["edited_at"])) == ("hello", edited, True)
        assert (second["text"], second["message"], bool(second["revoked_at"])) == (None, None, True)
        assert (third["type"], third["wamid"]) == ("revoke", "wamid.5")
        assert texts(await thread(gateway, OTHER)) == ["no"]


async def test_a_group_is_a_conversation_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "to all", group_id="Y2Fw==")
        await write(gateway, "wamid.2", "to you")
        assert texts(await thread(gateway)) == ["to you"]
        page = await thread(gateway, "group:Y2Fw==")
        assert (texts(page), page["messages"][0]["sender"]) == (["to all"], PHONE)


async def test_a_thread_follows_the_key_through_a_change_of_the_phone(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "old phone")
        system = {"type": "user_changed_number", "wa_id": OTHER, "body": "changed"}
        await write(gateway, "wamid.2", None, type="system", system=system)
        await write(gateway, "wamid.3", "new phone", phone=OTHER)
        await gateway.send(OTHER, "hi")
        page = await thread(gateway, OTHER)
        assert (page["contact"], texts(page)) == (PHONE, ["old phone", "new phone", "hi"])


async def test_conversations_are_written_anew_from_the_log(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "hola")
        await gateway.send(PHONE, "buenas")
        await gateway.events.wait("message.read")
        await kept(gateway)
        assert (await gateway.post(f"/api/conversations/{PHONE}/read", {})).status == 200
        before = (await listed(gateway), await thread(gateway))
        await gateway.stop_gateway()
        # As a file is that an earlier version has written.
        with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as file:
            for emptied in ("said", "threads", "cursors WHERE name = 'conversations'"):
                file.execute(f"DELETE FROM {emptied}")
        await gateway.start_gateway()
        assert (await listed(gateway), await thread(gateway)) == before


# -- a contact ---------------------------------------------------------------------------------------------


async def test_a_contact_is_told_with_all_that_is_known(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "hola", from_user_id=USER_ID)
        await gateway.send(PHONE, "buenas")
        await kept(gateway)
        for who in (PHONE, f"+{PHONE}", USER_ID):
            told = (await gateway.get(f"/api/contacts/{who}")).ok
            assert (told["contact"], told["name"]) == (PHONE, "Ana")
            assert (told["phones"], told["user_ids"]) == ([PHONE], [USER_ID])
            assert told["last_received"]["text"] == "hola"
            assert told["last_sent"]["text"] == "buenas"
            (window,) = told["windows"]
            assert window["phone_number_id"] == NUMBER
            assert told["first_heard_at"] and told["last_heard_at"]
            assert (told["suppression"], told["preferences"]) == (None, None)


async def test_a_contact_is_told_with_what_they_want_to_get(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.request("PUT", f"/api/suppressions/{PHONE}")).status == 200
        told = (await gateway.get(f"/api/contacts/{PHONE}")).ok
        assert (told["suppression"]["suppressed"], told["suppression"]["source"]) == (True, "api")
        wish = {"wa_id": OTHER, "category": "marketing_messages", "value": "stop", "detail": "no more"}
        metadata = {"display_phone_number": "15550000001", "phone_number_id": NUMBER}
        value = {"messaging_product": "whatsapp", "metadata": metadata, "user_preferences": [wish]}
        assert (await gateway.webhook(body(entry(value, "user_preferences")))).status == 200
        await kept(gateway)
        assert (await gateway.get(f"/api/contacts/{OTHER}")).ok["preferences"] == wish
        # Nothing was said: it is no conversation.
        assert await listed(gateway) == []


async def test_a_window_is_open_for_a_day_after_the_last_word(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        at = int(time.time()) - 3600
        await write(gateway, "wamid.1", timestamp=str(at))
        (window,) = (await gateway.get(f"/api/contacts/{PHONE}")).ok["windows"]
        assert window["state"] == "open"


async def test_who_is_not_known_is_404(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for who in (PHONE, "nobody", quote("a/b", safe="")):
            answer = await gateway.get(f"/api/contacts/{who}")
            assert (answer.status, answer.body["code"]) == (404, "not_found")
        assert (await thread(gateway, "nobody"))["messages"] == []


# -- a message's life --------------------------------------------------------------------------------------


async def test_the_life_of_a_message_of_ours(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = (await gateway.send(PHONE, "buenas", callback_data="order 7")).ok
        wamid = answer["data"]["messages"][0]["id"]
        for type in ("message.status", "message.delivered", "message.read"):
            await gateway.events.wait(type)
        await write(gateway, "wamid.r", "gracias", context={"id": wamid})
        await kept(gateway)
        by_wamid = (await gateway.get(f"/api/messages?wamid={quote(wamid, safe='')}")).ok
        by_id = (await gateway.get(f"/api/messages?message_id={answer['task_id']}-0")).ok
        assert by_wamid == by_id
        unescaped = wamid.replace("/", "%2F")
        assert (await gateway.get(f"/api/messages?wamid={unescaped}")).ok == by_id
        assert (by_id["direction"], by_id["state"], by_id["wamids"]) == ("out", "read", [wamid])
        assert (by_id["contact"], by_id["callback_data"]) == (PHONE, "order 7")
        assert by_id["message"]["text"]["body"] == "buenas"
        told = {one["status"]: one for one in by_id["statuses"]}
        assert told.keys() == {"sent", "delivered", "read"}
        assert told["sent"]["pricing"]["pricing_model"] == "PMP"
        assert {one["event"] for one in by_id["events"]} >= {"message.sent", "message.delivered"}
        assert [one["text"] for one in by_id["replies"]] == ["gracias"]
        assert [one["outcome"] for one in by_id["attempts"]] == ["sent"]


async def test_the_life_of_a_customers_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await write(gateway, "wamid.1", "hola")
        reply = {
            "to": PHONE,
            "type": "text",
            "text": {"body": "buenas"},
            "context": {"message_id": "wamid.1"},
        }
        assert (await gateway.post("/api/messages", reply)).status == 200
        await kept(gateway)
        told = (await gateway.get("/api/messages?wamid=wamid.1")).ok
        assert (told["direction"], told["contact"], told["wamid"]) == ("in", PHONE, "wamid.1")
        assert (told["message"]["text"], told["statuses"]) == ("hola", [])
        assert [one["event"] for one in told["events"]] == ["message.received"]
        assert [one["text"] for one in told["replies"]] == ["buenas"]


async def test_a_message_must_be_named_in_one_way_and_be_known(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for query in ("", "?wamid=a&message_id=b"):
            assert (await gateway.get(f"/api/messages{query}")).status == 400
        for query in ("?wamid=wamid.none", "?message_id=none", "?wamid=%25", "?wamid=*"):
            assert (await gateway.get(f"/api/messages{query}")).status == 404

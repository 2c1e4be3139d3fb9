"""What the sandbox tells by webhook, and what goes wrong on demand, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from tests.support.sandboxes import NUMBER, PERSON, TEXT, playing, settled
from tests.support.waiting import until
from whatsapp.sandbox import SandboxError
from whatsapp.signature import is_signed

# -- webhooks ----------------------------------------------------------------------------------------------


async def test_webhooks_are_signed_as_they_are_sent_with_escapes() -> None:
    async with playing(app_secret="geheim") as meta:
        await meta.sandbox.inbound("16505551234", "café 😀 1/2", name="Zoë")
        await meta.send(biz_opaque_callback_data="ñ")
        (message,) = await meta.sink.wait_for("messages", 1)
        statuses = await meta.sink.wait_for("statuses", 3)
        assert message["text"]["body"] == "café 😀 1/2"
        assert {status["biz_opaque_callback_data"] for status in statuses} == {"ñ"}
        whole = b"".join(post.body for post in meta.sink.posts)
        assert rb"caf\u00e9 \ud83d\ude00 1\/2" in whole
        assert rb'"\u00f1"' in whole
        for post in meta.sink.posts:
            assert post.body.isascii()
            assert post.content_type == "application/json"
            assert is_signed(["geheim"], post.body, post.signature)


async def test_a_customer_writes_with_and_without_a_phone() -> None:
    async with playing() as meta:
        await meta.sandbox.inbound("+1 650 555 1234", "Hi", name="Ann")
        http, told = await meta.control("POST", "inbound", json={"from": "US.abcDEF", "text": "Hello"})
        assert (http, told["success"], told["user_id"]) == (200, True, "US.abcDEF")
        message = {"type": "location", "location": {"latitude": 1.5, "longitude": 2}, "from": "16505551234"}
        await meta.control("POST", "inbound", json={"message": message, "name": "Ann"})
        by_phone, by_user_id, place = await meta.sink.wait_for("messages", 3)
        assert (by_phone["from"], by_phone["from_user_id"]) == ("16505551234", PERSON)
        assert "from" not in by_user_id
        assert by_user_id["id"] == told["message_id"]
        assert place["location"] == {"latitude": 1.5, "longitude": 2}
        contacts = [
            contact for post in meta.sink.posts for value in post.values() for contact in value["contacts"]
        ]
        hidden = [contact for contact in contacts if contact["user_id"] == "US.abcDEF"]
        assert hidden and all("wa_id" not in contact for contact in hidden)
        assert {"profile": {"name": "Ann"}, "wa_id": "16505551234", "user_id": PERSON} in contacts


@pytest.mark.parametrize(
    "body", [b"{", b'{"text":"Hi"}', b'{"from":"16505551234"}', b'{"from":"16505551234","txt":"Hi"}']
)
async def test_what_makes_no_message_is_refused(body: bytes) -> None:
    async with playing() as meta:
        http, answer = await meta.control("POST", "inbound", data=body)
        assert (http, answer["success"]) == (400, False)
        assert answer["error"]


async def test_a_failed_status_says_why_and_has_no_contact() -> None:
    async with playing() as meta:
        http, _ = await meta.send(to="+16577131026", biz_opaque_callback_data="row.1")
        assert http == 200
        (status,) = await meta.sink.wait_for("statuses", 1)
        assert (status["status"], status["errors"][0]["code"]) == ("failed", 131026)
        assert status["biz_opaque_callback_data"] == "row.1"
        assert "contacts" not in meta.sink.posts[0].values()[0]


async def test_webhooks_wait_for_a_receiver_that_is_away() -> None:
    async with playing(sink_up=False) as meta:
        await meta.send()
        await meta.sandbox.inbound("16505551234", "Hi")
        await until(lambda: meta.sandbox.stats()["webhooks"]["retries"] >= 2)
        assert meta.sandbox.stats()["webhooks"]["pending"] == 4
        await meta.sink.start()
        await meta.sink.wait_for("statuses", 3)
        await meta.sink.wait_for("messages", 1)
        await settled(meta)
        assert meta.sandbox.stats()["webhooks"]["pending"] == 0


async def test_a_webhook_that_is_not_answered_200_is_sent_again_unchanged() -> None:
    async with playing() as meta:
        meta.sink.refuse_next = 2
        await meta.sandbox.inbound("16505551234", "Hi")
        await settled(meta)
        assert meta.sink.refused == meta.sink.posts * 2
        webhooks = meta.sandbox.stats()["webhooks"]
        assert webhooks == {"posts": 1, "updates": 1, "retries": 2, "given_up": 0, "pending": 0}


async def test_one_refused_webhook_does_not_hold_up_the_others() -> None:
    async with playing() as meta:
        meta.sink.refuse_next = 1
        await meta.sandbox.inbound("16505551234", "first")
        await until(lambda: len(meta.sink.refused) == 1)
        await meta.sandbox.inbound("16505551234", "second")
        messages = await meta.sink.wait_for("messages", 2)
        assert {message["text"]["body"] for message in messages} == {"first", "second"}


async def test_a_webhook_is_given_up_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with playing(sink_up=False, webhook_retry_s=0.0) as meta:
        with caplog.at_level(logging.WARNING, "whatsapp.sandbox_webhooks"):
            await meta.send()
            await settled(meta)
        assert meta.sandbox.stats()["webhooks"]["given_up"] == 3
        assert "webhook given up" in caplog.messages


async def test_updates_that_are_due_together_leave_in_batches_of_a_thousand() -> None:
    async with playing() as meta:
        for n in range(3000):
            await meta.sandbox.inbound("16505551234", str(n))
        messages = await meta.sink.wait_for("messages", 3000)
        assert sorted(int(message["text"]["body"]) for message in messages) == list(range(3000))
        assert max(len(post.items("messages")) for post in meta.sink.posts) == 1000


async def test_no_batch_is_larger_than_meta_would_send() -> None:
    async with playing() as meta:
        for _ in range(40):
            await meta.sandbox.inbound("16505551234", "/" * 50_000)
        await meta.sink.wait_for("messages", 40)
        assert 1_500_000 < max(len(post.body) for post in meta.sink.posts) <= 3_000_000


async def test_the_webhook_may_be_named_later() -> None:
    async with playing(told=False) as meta:
        await meta.send()
        with pytest.raises(SandboxError):
            await meta.sandbox.inbound("16505551234", "Hi")
        meta.sandbox.webhook_url = meta.sink.url
        assert meta.sandbox.webhook_url == meta.sink.url
        await meta.sandbox.inbound("16505551234", "Hi")
        await meta.sink.wait_for("messages", 1)
        assert meta.sink.items("statuses") == []


async def test_nobody_but_this_machine_is_told() -> None:
    async with playing() as meta:
        with pytest.raises(SandboxError, match="webhook_url"):
            meta.sandbox.webhook_url = "https://example.com/webhook"


async def test_it_tells_whatever_meta_may_and_needs_somebody_to_tell() -> None:
    status = {"id": "wamid.A", "status": "delivered", "timestamp": "1", "recipient_id": "1"}
    body = {"field": "messages", "value": {"statuses": [status]}}
    async with playing() as meta:
        assert await meta.control("POST", "webhook", json=body) == (200, {"success": True})
        assert await meta.sink.wait_for("statuses", 1) == [status]
    async with playing(told=False) as meta:
        http, answer = await meta.control("POST", "webhook", json=body)
        assert (http, answer["success"]) == (400, False) and "webhook_url" in answer["error"]


# -- faults ------------------------------------------------------------------------------------------------


async def test_faults_are_set_shown_and_ended() -> None:
    async with playing() as meta:
        assert await meta.control("GET", "faults") == (200, {})
        http, faults = await meta.control("POST", "faults", json={"delay_ms": 1, "bad_token": True})
        assert (http, faults) == (200, {"delay_ms": 1, "bad_token": True})
        assert await meta.control("GET", "faults") == (200, faults)
        wrongs: list[Any] = [{"nonsense": 1}, {"drop_answers": 2}, []]
        for wrong in wrongs:
            http, answer = await meta.control("POST", "faults", json=wrong)
            assert (http, answer["success"]) == (400, False)
        for path in ("faults", "inbound", "webhook"):
            http, answer = await meta.control("POST", path, data=b'{"from": "caf\xe9"}')
            assert (http, answer["success"]) == (400, False)
        assert await meta.control("GET", "faults") == (200, faults)
        assert await meta.control("POST", "faults", json={"reset": True}) == (200, {})


async def test_a_bad_token_is_bad_for_every_call() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"bad_token": True})
        for method, path in (("POST", f"{NUMBER}/messages"), ("GET", NUMBER)):
            http, answer = await meta.graph(method, path)
            assert (http, answer["error"]["code"]) == (401, 190)
        meta.sandbox.set_faults({"bad_token": False})
        assert (await meta.send())[0] == 200


async def test_a_lost_answer_is_of_a_message_that_was_taken() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"drop_answers": 1})
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await meta.send(biz_opaque_callback_data="row.1")
        statuses = await meta.sink.wait_for("statuses", 3)
        assert {status["biz_opaque_callback_data"] for status in statuses} == {"row.1"}
        meta.sandbox.set_faults({"drop_answers": 0})
        assert (await meta.send())[0] == 200
        assert meta.sandbox.stats()["accepted"] == 2


async def test_an_error_is_answered_as_often_as_asked() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"error": {"code": 131048, "http": 403, "count": 2, "message": "Spam"}})
        answers = [await meta.send() for _ in range(3)]
        assert [http for http, _ in answers] == [403, 403, 200]
        assert answers[0][1]["error"]["message"] == "(#131048) Spam"


async def test_a_proxy_fails_with_a_page() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"http_5xx": {"status": 502, "count": 1}})
        url = f"{meta.sandbox.base_url}/v26.0/{NUMBER}/messages"
        async with meta.client.post(url, json=TEXT) as answer:
            assert (answer.status, answer.content_type) == (502, "text/html")
            assert "<html>" in await answer.text()
        assert (await meta.send())[0] == 200


async def test_a_late_answer_is_overtaken_by_its_statuses() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"delay_ms": 60_000})
        call = asyncio.get_running_loop().create_task(meta.send())
        await meta.sink.wait_for("statuses", 3)
        assert not call.done()
        call.cancel()
        meta.sandbox.set_faults({"delay_ms": 1})
        assert (await meta.send())[0] == 200
        assert (await meta.graph("GET", NUMBER))[0] == 200


async def test_a_caller_that_left_before_a_late_answer_does_no_harm() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"delay_ms": 100})
        call = asyncio.get_running_loop().create_task(meta.send())
        await meta.sink.wait_for("statuses", 3)
        call.cancel()
        # Its answer falls due while this one waits for its own.
        assert (await meta.send())[0] == 200


async def test_webhooks_are_told_twice() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"duplicate_webhooks": 1})
        await meta.send()
        statuses = await meta.sink.wait_for("statuses", 6)
        assert sorted(status["status"] for status in statuses) == sorted(["sent", "delivered", "read"] * 2)


async def test_webhooks_come_in_another_order() -> None:
    async with playing(status_delays=(0.0, 0.05, 0.1)) as meta:
        meta.sandbox.set_faults({"reorder_webhooks": True})
        await meta.send()
        statuses = await meta.sink.wait_for("statuses", 1)
        assert statuses[0]["status"] == "read"


async def test_statuses_can_be_held_back() -> None:
    async with playing() as meta:
        meta.sandbox.set_faults({"statuses": False})
        await meta.send()
        meta.sandbox.set_faults({"statuses": True})
        _, answer = await meta.send()
        statuses = await meta.sink.wait_for("statuses", 3)
        assert {status["id"] for status in statuses} == {answer["messages"][0]["id"]}


async def test_a_rate_is_lowered() -> None:
    async with playing(enforce_limits=False) as meta:
        meta.sandbox.set_faults({"rate_limit": 0})
        http, answer = await meta.send()
        assert (http, answer["error"]["code"]) == (400, 130429)

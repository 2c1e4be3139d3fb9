"""``/webhook`` over real sockets (contract.md, Webhook): what is answered, and that a 200 means durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Answer, Harness, serving, signed
from tests.support.waiting import GUARD_S
from tests.support.webhooks import SAMPLES, body, entry, message_value, text_message
from whatsapp.sandbox import SandboxSettings

SECRET = SandboxSettings().app_secret
MIB = 1024 * 1024


def texts(*wamids: str, **fields: Any) -> bytes:
    """A webhook with a text of each of these ids."""
    return body(entry(message_value(messages=[text_message(wamid, **fields) for wamid in wamids])))


def padded(size: int) -> bytes:
    """A webhook of exactly so many bytes."""
    small = texts("wamid.A", padding="")
    return texts("wamid.A", padding="x" * (size - len(small)))


def received(gateway: Harness) -> list[str]:
    """Ids of the messages in the log, in its order."""
    return [data["message"]["id"] for data in gateway.events.of("message.received")]


def check_refusal(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.body["success"] is False
    assert answer.body["code"] == code
    assert answer.body["error"]


class RawClient:
    """A connection on which a test says each byte itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, *requests: bytes) -> None:
        """Send, all in one piece."""
        self._writer.write(b"".join(requests))

    async def answer(self) -> tuple[int, Any]:
        """Status and body of the next answer."""
        async with asyncio.timeout(GUARD_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            content = await self._reader.readexactly(length)
        return int(head.split()[1]), json.loads(content)

    def break_off(self) -> None:
        """End without a farewell."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw(gateway: Harness) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def request(content: bytes, *, chunks: int = 0, secret: str = SECRET) -> bytes:
    """A signed POST as bytes; with ``chunks`` in that many pieces of chunked transfer encoding."""
    (name, signature), *_ = signed(content, secret).items()
    head = f"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\n{name}: {signature}\r\n"
    if not chunks:
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    step = -(-len(content) // chunks)
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + encoded + b"0\r\n\r\n"


# -- the check of the address ------------------------------------------------------------------------------


async def ask(gateway: Harness, token: str, challenge: str, mode: str = "subscribe") -> Answer:
    query = {"hub.mode": mode, "hub.verify_token": token, "hub.challenge": challenge}
    async with gateway.http.get(f"{gateway.url}/webhook", params=query) as answer:
        text = await answer.text()
        is_json = answer.content_type == "application/json"
        return Answer(answer.status, json.loads(text) if is_json else text, dict(answer.headers))


async def test_the_address_is_confirmed_to_who_knows_the_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for challenge in ("1158201444", "a-b_c.d", "x+/==&y", "<b>", "ñ", "9" * 1000):
            answer = await ask(gateway, "verify", challenge)
            assert answer.ok == challenge
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_address_is_not_confirmed_to_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for token, challenge, mode in (
            ("wrong", "1", "subscribe"),
            ("", "1", "subscribe"),
            ("verify ", "1", "subscribe"),
            ("verify", "1", "unsubscribe"),
            ("verify", "", "subscribe"),
        ):
            check_refusal(await ask(gateway, token, challenge, mode), 403, "bad_verify_token")
        check_refusal(await gateway.get("/webhook"), 403, "bad_verify_token")
        assert (await gateway.status())["refused"] == {"bad_verify_token": 6}


# -- what is taken -----------------------------------------------------------------------------------------


async def test_a_webhook_is_in_the_log_when_it_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.webhook(texts("wamid.A"))
        assert answer.ok == {"success": True}
        (event,) = gateway.events.all
        data = json.loads(event.body)["data"]
        assert data["message"] == text_message("wamid.A")
        assert data["text"] == "Hello"
        assert (await gateway.status())["last_webhook_at"]
        assert [stored.key for stored in await gateway.store.events_after(0, 10)] == [event.key]


async def test_the_secret_before_the_present_one_is_still_good(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp={"app_secret": "new", "app_secret_previous": "old"}) as gateway:
        assert (await gateway.webhook(texts("wamid.A"), "new")).status == 200
        assert (await gateway.webhook(texts("wamid.B"), "old")).status == 200
        check_refusal(await gateway.webhook(texts("wamid.C"), "older"), 401, "bad_signature")
        assert received(gateway) == ["wamid.A", "wamid.B"]


async def test_without_a_secret_every_webhook_is_believed(tmp_path: Path) -> None:
    async with serving(tmp_path, whatsapp={"app_secret": ""}) as gateway:
        assert (await gateway.webhook(texts("wamid.A"), "")).status == 200
        assert (await gateway.webhook(texts("wamid.B"), "whatever")).status == 200


async def test_what_is_no_webhook_of_ours_is_refused(tmp_path: Path) -> None:
    good = texts("wamid.A")
    async with serving(tmp_path) as gateway:
        check_refusal(await gateway.webhook(good, ""), 401, "bad_signature")
        check_refusal(await gateway.webhook(good, "wrong"), 401, "bad_signature")
        for header in ("", "sha256=", "sha1=00", "ñ", SECRET):
            answer = await gateway.post("/webhook", good, **{"X-Hub-Signature-256": header})
            check_refusal(answer, 401, "bad_signature")
        other = signed(texts("wamid.B"), SECRET)
        check_refusal(await gateway.post("/webhook", good, **other), 401, "bad_signature")
        assert gateway.events.all == []
        assert (await gateway.status())["refused"] == {"webhook.bad_signature": 8}


async def test_what_is_no_envelope_is_refused(tmp_path: Path) -> None:
    bodies = [b"", b"{", b"hello", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000]
    bodies += [
        b'{"object": "instagram", "entry": []}',
        b'{"object": "whatsapp_business_account"}',
        b'{"object": "whatsapp_business_account", "entry": {}}',
    ]
    async with serving(tmp_path) as gateway:
        for content in bodies:
            check_refusal(await gateway.webhook(content), 400, "bad_payload")
        assert gateway.events.all == []
        assert (await gateway.status())["refused"] == {"webhook.bad_payload": len(bodies)}


async def test_an_envelope_with_nothing_in_it_is_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.webhook(body())).status == 200
        assert gateway.events.all == []


@pytest.mark.parametrize(
    "content", [pytest.param(path.read_bytes(), id=path.stem) for path in sorted(SAMPLES.glob("*.json"))]
)
async def test_each_sample_of_metas_is_taken(tmp_path: Path, content: bytes) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.webhook(content)).status == 200
        assert gateway.events.all
        assert "webhook.unparsed" not in gateway.events.counts
        assert (await gateway.webhook(content)).status == 200
        kept = await gateway.store.events_after(0, 100)
        # What consumers tell may come in between.
        assert gateway.events.all[: len(kept)] == kept
        assert len({event.key for event in gateway.events.all}) == len(gateway.events.all)


async def test_a_batch_keeps_what_is_whole_beside_what_is_broken(tmp_path: Path) -> None:
    messages: list[Any] = [text_message(f"wamid.{n}") for n in range(1000)]
    for n in range(0, 1000, 10):
        messages[n] = [f"message {n} is a text"] if n % 20 else {**messages[n], "type": n}
    content = body("no entry", entry(message_value(messages=messages)), entry({"messages": "none"}))
    async with serving(tmp_path) as gateway:
        assert (await gateway.webhook(content)).status == 200
        assert received(gateway) == [f"wamid.{n}" for n in range(1000) if n % 10]
        broken = gateway.events.of("webhook.unparsed")
        assert len(broken) == 102
        assert [data["raw"] for data in broken[1:-1]] == messages[::10]
        assert broken[1]["where"] == "entry[1].changes[0].value.messages[0]"


# -- sizes and ways to send --------------------------------------------------------------------------------


async def test_the_largest_body_is_taken_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    largest, larger = padded(4 * MIB), padded(4 * MIB + 1)
    async with serving(tmp_path) as gateway:
        check_refusal(await gateway.webhook(larger), 413, "too_large")
        assert gateway.events.all == []
        assert (await gateway.webhook(largest)).status == 200
        assert len(gateway.events.all) == 1
        assert (await gateway.status())["refused"] == {"too_large": 1}


async def test_a_body_that_is_far_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, raw(gateway) as client:
        client.write(b"POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n")
        status, content = await client.answer()
        assert (status, content["code"]) == (413, "too_large")
        assert (await gateway.status())["refused"] == {"too_large": 1}


async def test_a_chunked_body_is_one_body(tmp_path: Path) -> None:
    content = texts(*(f"wamid.{n}" for n in range(100)))
    async with serving(tmp_path) as gateway, raw(gateway) as client:
        client.write(request(content, chunks=17))
        assert await client.answer() == (200, {"success": True})
        assert received(gateway) == [f"wamid.{n}" for n in range(100)]
        client.write(request(padded(4 * MIB + 1), chunks=3))
        status, answer = await client.answer()
        assert (status, answer["code"]) == (413, "too_large")


async def test_a_connection_serves_many_requests_one_after_another(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway, raw(gateway) as client:
        for n in range(100):
            client.write(request(texts(f"wamid.{n}"), chunks=n % 3))
            assert (await client.answer())[0] == 200
        assert received(gateway) == [f"wamid.{n}" for n in range(100)]


async def test_requests_that_come_together_are_answered_in_their_order(tmp_path: Path) -> None:
    requests = [
        request(texts("wamid.A")),
        request(texts("wamid.B"), secret="wrong"),
        request(b"{}"),
        b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        request(texts("wamid.C"), chunks=2),
    ]
    async with serving(tmp_path) as gateway, raw(gateway) as client:
        client.write(*requests)
        assert [(await client.answer())[0] for _ in requests] == [200, 401, 400, 200, 200]
        assert received(gateway) == ["wamid.A", "wamid.C"]


async def test_other_methods_are_refused_in_the_shape_of_all_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await gateway.request(method, "/webhook", data=texts("wamid.A"))
            check_refusal(answer, 405, "method_not_allowed")
            assert method in answer.body["error"] and answer.headers["Allow"] == "GET, POST"
        assert gateway.events.all == []


# -- duplicates --------------------------------------------------------------------------------------------


async def test_a_repeated_webhook_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for _ in range(3):
            assert (await gateway.webhook(texts("wamid.A", "wamid.A", "wamid.B"))).status == 200
        assert received(gateway) == ["wamid.A", "wamid.B"]


async def test_of_the_same_webhook_twice_at_once_one_counts(tmp_path: Path) -> None:
    # Both are parsed before either is stored, so nothing in memory could tell the second one.
    async with serving(tmp_path) as gateway:
        gateway.store.hold("append_events")
        posts = [asyncio.create_task(gateway.webhook(texts("wamid.A", "wamid.B"))) for _ in range(8)]
        await gateway.store.arrived("append_events", 8)
        gateway.store.heal()
        assert [answer.status for answer in await asyncio.gather(*posts)] == [200] * 8
        assert received(gateway) == ["wamid.A", "wamid.B"]


async def test_a_webhook_repeated_after_a_restart_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        assert (await gateway.webhook(texts("wamid.A"))).status == 200
        await gateway.restart()
        assert (await gateway.webhook(texts("wamid.A", "wamid.B"))).status == 200
        assert received(gateway) == ["wamid.A", "wamid.B"]


# -- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["append_events", "find_aliases", "put_aliases"])
async def test_a_store_that_is_away_is_told_to_meta_and_taken_again_later(tmp_path: Path, call: str) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail(call)
        answer = await gateway.webhook(texts("wamid.A"))
        check_refusal(answer, 503, "store_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert gateway.events.all == []
        gateway.store.heal()
        assert (await gateway.webhook(texts("wamid.A"))).status == 200
        assert received(gateway) == ["wamid.A"]
        assert (await gateway.status())["refused"] == {"webhook.store_unavailable": 1}


async def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("append_events")
        check_refusal(await gateway.webhook(texts("wamid.A")), 503, "store_unavailable")
        gateway.store.heal()
        assert (await gateway.webhook(texts("wamid.A"))).status == 200
        assert received(gateway) == ["wamid.A"]


async def test_a_caller_that_hangs_up_takes_nothing_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.hold("append_events")
        async with raw(gateway) as client:
            client.write(request(texts("wamid.A")))
            await gateway.store.arrived("append_events")
            client.break_off()
        gateway.store.heal()
        await gateway.events.wait("message.received")
        assert (await gateway.webhook(texts("wamid.B"))).status == 200


async def test_a_fault_of_ours_is_logged_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("append_events", RuntimeError("a secret of the inside"))
        answer = await gateway.webhook(texts("wamid.A"))
        check_refusal(answer, 500, "internal")
        assert "secret" not in json.dumps(answer.body)
        assert "Traceback" not in json.dumps(answer.body)
        assert "a secret of the inside" in caplog.text
        caplog.clear()
        gateway.store.heal()
        assert (await gateway.webhook(texts("wamid.A"))).status == 200


async def test_while_it_stops_webhooks_are_put_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        gateway.gateway._receiver.drain()
        answer = await gateway.webhook(texts("wamid.A"))
        check_refusal(answer, 503, "draining")
        assert int(answer.headers["Retry-After"]) > 0
        assert gateway.events.all == []

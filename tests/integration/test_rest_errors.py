"""What REST calls are refused, and how: one shape, a sentence that names the field, no effect (contract.md,
Answers)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from settings import Secret
from tests.support.gateway import Answer, Harness, serving, serving_on_its_sandbox

PHONE = "5215550001111"
MESSAGE = "/api/send-message"
BULK = "/api/send-bulk"
POSTS = (MESSAGE, BULK)
GOOD: dict[str, dict[str, Any]] = {
    MESSAGE: {"phone": PHONE, "message": "hello"},
    BULK: {"recipients": [{"phone": PHONE, "message": "hello"}]},
}
JSON = "application/json"


def check_refusal(answer: Answer, status: int, code: str) -> str:
    """The refusal's sentence, once its shape is right."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = answer.body
    assert set(body) <= {"success", "error", "code", "details"}, body
    assert (body["success"], body["code"]) == (False, code), body
    assert len(body["error"]) > 10 and "\n" not in body["error"]
    assert "Traceback" not in str(body)
    for detail in body.get("details", ()):
        assert set(detail) == {"path", "problem"} and detail["problem"]
    sentence: str = body["error"]
    return sentence


async def check_no_effect(gateway: Harness, refused: Counter[str]) -> None:
    """Nothing was stored, and every refusal was counted."""
    assert gateway.events.all == []
    assert gateway.calls.all == []
    assert gateway.store.calls["create_task"] == 0
    assert (await gateway.status())["refused"] == dict(refused)


async def test_a_page_of_another_site_can_do_nothing_without_a_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        paths = [
            path.replace("{", "").replace("}", "")
            for path, item in (await gateway.get("/api/openapi.json")).ok["paths"].items()
            if path.startswith("/api/") and "post" in item
        ]
        assert {"/api/numbers/resume", "/api/hooks/name/replay"} <= set(paths)
        for path in paths:
            answer = await gateway.request("POST", path, headers={"Origin": "https://evil.example"})
            check_refusal(answer, 403, "forbidden")
            answer = await gateway.request("POST", path, headers={"Origin": gateway.url})
            assert answer.status != 403, (path, answer)


async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    bodies = [b"", b"{", b"hello", b"\xff\xfe{}", b"[]", b"null", b'"text"', b"1", b'{"phone": NaN}']
    bodies += [b"[" * 100_000, b'{"a":' * 100_000, b'{"phone": "\\ud83d"}']
    async with serving(tmp_path) as gateway:
        for path in POSTS:
            for body in bodies:
                answer = await gateway.post(path, body)
                assert "body" in check_refusal(answer, 400, "not_json"), body[:20]
        await check_no_effect(gateway, Counter(not_json=2 * len(bodies)))


async def test_a_body_that_is_not_utf_8_is_told_so_and_where(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for body, where in (
            ('{"phone": "5215550001111", "message": "café"}'.encode("latin-1"), "byte 42 of it, 0xe9"),
            (b'{"phone": "' + "añ".encode("latin-1") + b'", "message": "x"}', "byte 12 of it, 0xf1"),
            ("\ufeff{}".encode("utf-16-le"), "byte 0 of it, 0xff"),
        ):
            sentence = check_refusal(await gateway.post(MESSAGE, body), 400, "not_json")
            assert sentence == f"the body is not valid UTF-8: {where}, is no part of a character"


async def test_a_body_of_another_type_is_refused(tmp_path: Path) -> None:
    types = ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application", "json"]
    async with serving(tmp_path) as gateway:
        for path in POSTS:
            for kind in types:
                answer = await gateway.post(path, GOOD[path], **{"Content-Type": kind})
                assert "Content-Type" in check_refusal(answer, 415, "unsupported_media_type")
            answer = await gateway.request("POST", path, data=b"{}")
            check_refusal(answer, 415, "unsupported_media_type")
        await check_no_effect(gateway, Counter(unsupported_media_type=2 * len(types) + 2))
        for kind in ("application/json; charset=utf-8", "Application/JSON", " application/json ;x=y"):
            assert (await gateway.post(MESSAGE, GOOD[MESSAGE], **{"Content-Type": kind})).status == 200


NO_PHONES: list[Any] = [
    "",
    " ",
    "12",
    "abc",
    "+",
    "52155500011112222",
    "\uff15\uff12\uff11\uff15\uff15\uff15\uff10\uff10\uff10",
    "1e9",
    12,
    -5,
]
NO_PHONES += [0, 1.5, True, [PHONE], {"to": PHONE}, "US.", "us.1349", "US.13-49", "+US.1349", f"{PHONE};"]
NO_TEXTS: list[Any] = ["", 5, 1.5, True, ["hello"], {"body": "hello"}, "x" * 4097]
NO_LISTS: list[Any] = [None, [], {}, "x", 5, [0] * 100_001]
NO_OBJECTS: list[Any] = [5, "x", None, []]

FAULTS: list[tuple[str, str, Any]] = [
    *((MESSAGE, "phone", phone) for phone in [*NO_PHONES, None]),
    *((MESSAGE, "message", text) for text in [*NO_TEXTS, None]),
    *((MESSAGE, "context_message_id", value) for value in [5, "x" * 513, {}]),
    *((path, "use_queue", flag) for path in POSTS for flag in ["yes", 1, "true", []]),
    *((path, "priority", word) for path in POSTS for word in ["urgent", 0, True]),
    *((BULK, "on_invalid", value) for value in ["ignore", True]),
    *((BULK, "recipients", value) for value in NO_LISTS),
    *((BULK, "recipients[0]", value) for value in NO_OBJECTS),
    *((BULK, "recipients[0].phone", phone) for phone in [*NO_PHONES, None]),
    *((BULK, "recipients[0].message", text) for text in [*NO_TEXTS, None]),
]
"""Path, the field at fault, and what stands there; all other fields are good."""


def faulty(path: str, field: str, value: Any) -> dict[str, Any]:
    """A body that is good but for this field."""
    name, _, inner = field.partition("[0]")
    if name == field:
        return {**GOOD[path], name: value}
    return {name: [{**GOOD[MESSAGE], inner[1:]: value} if inner else value]}


async def test_a_field_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for path, field, value in FAULTS:
            answer = await gateway.post(path, faulty(path, field, value))
            sentence = check_refusal(answer, 400, "invalid_request")
            assert sentence.startswith(f"{field}: "), (value, sentence)
            assert [detail["path"] for detail in answer.body["details"]] == [field]
        await check_no_effect(gateway, Counter(invalid_request=len(FAULTS)))


async def test_all_fields_at_fault_are_named_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(MESSAGE, {"message": "", "use_queue": "yes"})
        assert "2 more" in check_refusal(answer, 400, "invalid_request")
        assert {detail["path"] for detail in answer.body["details"]} == {"phone", "message", "use_queue"}
        recipients = [
            {"phone": PHONE},
            {"message": "hello"},
            5,
            GOOD[MESSAGE],
            {"phone": "12", "message": "x"},
        ]
        answer = await gateway.post(BULK, {"recipients": recipients})
        check_refusal(answer, 400, "invalid_request")
        assert {detail["path"] for detail in answer.body["details"]} == {
            "recipients[0].message",
            "recipients[1].phone",
            "recipients[2]",
            "recipients[4].phone",
        }
        await check_no_effect(gateway, Counter(invalid_request=2))


async def test_the_longest_text_is_taken(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for letter in ("x", "ñ", "👋"):
            assert (await gateway.send(PHONE, letter * 4096)).status == 200


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    paths = ["/", "/api", "/api/nothing", f"{MESSAGE}/", "/webhooks", "/webhook/", "/sandbox/faults", "/%ff"]
    async with serving(tmp_path) as gateway:
        for path in paths:
            for method in ("GET", "POST", "PUT"):
                answer = await gateway.request(method, path, headers={"Content-Type": JSON})
                check_refusal(answer, 404, "not_found")
        await check_no_effect(gateway, Counter(not_found=3 * len(paths)))


async def test_another_method_is_refused_and_told_which_the_path_takes(tmp_path: Path) -> None:
    calls = [(method, path) for path in POSTS for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")]
    calls += [("POST", path) for path in ("/api/health", "/api/ready", "/api/status", "/api/task-status/x")]
    calls += [("PUT", "/webhook"), ("BREW", MESSAGE), ("BREW", "/webhook")]
    async with serving(tmp_path) as gateway:
        for method, path in calls:
            answer = await gateway.request(method, path, headers={"Content-Type": JSON})
            taken = {"/webhook": ["GET", "POST"]}.get(path, ["POST" if path in POSTS else "GET"])
            sentence = check_refusal(answer, 405, "method_not_allowed")
            assert method in sentence and f"this path takes {' and '.join(taken)}" in sentence
            assert answer.headers["Allow"].split(", ") == taken
        await check_no_effect(gateway, Counter(method_not_allowed=len(calls)))


async def test_a_request_that_cannot_be_read_is_refused_in_the_same_shape(tmp_path: Path) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    async with serving(tmp_path) as gateway:
        check_refusal(await gateway.get("/api/task-status/%ff"), 400, "bad_request")
        check_refusal(await gateway.post(MESSAGE, b"no form", **form), 400, "bad_request")
        check_refusal(await gateway.request("BREW", "/nothing"), 404, "not_found")
        await check_no_effect(gateway, Counter(bad_request=2, not_found=1))


async def test_a_value_that_is_no_choice_is_told_the_choices(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(MESSAGE, {**GOOD[MESSAGE], "priority": "urgent"})
        sentence = check_refusal(answer, 400, "invalid_request")
        assert sentence == "priority: must be one of high, normal, low"
        answer = await gateway.post(BULK, {**GOOD[BULK], "on_invalid": "ignore"})
        assert check_refusal(answer, 400, "invalid_request") == "on_invalid: must be one of refuse, skip"


async def test_a_misspelt_field_is_told_what_was_probably_meant(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.post(MESSAGE, {**GOOD[MESSAGE], "mesage": "hi"})
        assert answer.ok["warnings"] == ["mesage: unknown field, ignored; did you mean `message`?"]
        answer = await gateway.post(MESSAGE, {"phone": PHONE, "mesage": "hi"})
        sentence = check_refusal(answer, 400, "invalid_request")
        assert sentence == "message: is required; `mesage` is no field"


async def test_a_body_that_is_too_large_is_refused_and_the_caller_reads_it(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"max_body_bytes": 2048}) as gateway:
        for path in POSTS:
            for size in (2049, 8_000, 16_384):
                answer = await gateway.post(path, b" " * size)
                assert "2048 bytes" in check_refusal(answer, 413, "too_large")
        await check_no_effect(gateway, Counter(too_large=6))
        body = b'{"phone": "%s", "message": "hello"}' % PHONE.encode()
        assert (await gateway.post(MESSAGE, body.ljust(2048))).status == 200


async def test_a_fault_of_ours_is_logged_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as gateway:
        gateway.store.fail("find_task", RuntimeError("a secret of the inside"))
        gateway.store.fail("create_task", RuntimeError("a secret of the inside"))
        for answer in (
            await gateway.get("/api/task-status/x"),
            await gateway.post(MESSAGE, GOOD[MESSAGE]),
            await gateway.post(BULK, GOOD[BULK]),
        ):
            assert "secret" not in check_refusal(answer, 500, "internal")
        assert "a secret of the inside" in caplog.text
        caplog.clear()
        gateway.store.heal()
        assert (await gateway.post(MESSAGE, GOOD[MESSAGE])).status == 200
        assert (await gateway.status())["refused"] == {"internal": 3}


# -- who may call ------------------------------------------------------------------------------------------

GETS = ("/api/ready", "/api/status", "/api/task-status/x", "/api/nothing", "/")


async def test_with_a_key_everything_but_webhook_and_health_needs_it(tmp_path: Path) -> None:
    key = "a-key-of-ours"
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"X-API-Key": "wrong"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {key}"},
    )
    async with serving(tmp_path, server={"api_key": Secret(key)}) as gateway:
        for headers in wrong:
            for path in GETS:
                answer = await gateway.get(path, **headers)
                assert "API key" in check_refusal(answer, 401, "unauthorized")
            for path in POSTS:
                answer = await gateway.post(path, GOOD[path], **headers)
                check_refusal(answer, 401, "unauthorized")
        assert gateway.events.all == []
        for good in (
            {"X-API-Key": key},
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"bearer {key}"},
        ):
            assert (await gateway.get("/api/status", **good)).status == 200
            assert (await gateway.get("/api/nothing", **good)).status == 404
            assert (await gateway.post(MESSAGE, GOOD[MESSAGE], **good)).status == 200
        assert (await gateway.get("/api/health")).ok == {"status": "ok"}
        query = "hub.mode=subscribe&hub.verify_token=verify&hub.challenge=1"
        assert (await gateway.get(f"/webhook?{query}")).ok == "1"
        empty = b'{"object": "whatsapp_business_account", "entry": []}'
        assert (await gateway.webhook(empty)).status == 200
        assert key not in str((await gateway.get("/api/status", **{"X-API-Key": key})).body)


async def test_with_a_key_a_proxy_may_stand_between(tmp_path: Path) -> None:
    async with serving(tmp_path, server={"api_key": Secret("key")}) as gateway:
        headers = {"X-API-Key": "key", "X-Forwarded-For": "203.0.113.7", "Host": "gateway.example"}
        assert (await gateway.post(MESSAGE, GOOD[MESSAGE], **headers)).status == 200


async def test_without_a_key_nothing_passes_through_a_proxy_or_under_another_name(tmp_path: Path) -> None:
    foreign: list[dict[str, str]] = [
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-Host": "gateway.example"},
        {"X-Forwarded-Proto": "https"},
        {"Forwarded": "for=203.0.113.7"},
        {"X-Real-IP": "203.0.113.7"},
        {"Via": "1.1 proxy"},
        {"Host": "gateway.example"},
        {"Host": "127.0.0.1.gateway.example:5000"},
    ]
    async with serving(tmp_path) as gateway:
        for headers in foreign:
            for path in GETS:
                check_refusal(await gateway.get(path, **headers), 403, "forbidden")
            for path in POSTS:
                check_refusal(await gateway.post(path, GOOD[path], **headers), 403, "forbidden")
            assert (await gateway.get("/api/health", **headers)).status == 200
            query = "hub.mode=subscribe&hub.verify_token=verify&hub.challenge=1"
            assert (await gateway.get(f"/webhook?{query}", **headers)).ok == "1"
        await check_no_effect(gateway, Counter(forbidden=7 * len(foreign)))
        for host in ("localhost", "localhost:5000", "[::1]:5000", "127.0.0.1"):
            assert (await gateway.get("/api/ready", Host=host)).status in (200, 503)


# -- the sandbox's paths -----------------------------------------------------------------------------------


async def test_the_sandbox_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    async with serving_on_its_sandbox(tmp_path) as gateway:
        for path, body, words in (
            ("/sandbox/inbound", {"from": PHONE}, "text"),
            ("/sandbox/inbound", {"text": "hola"}, "from"),
            ("/sandbox/inbound", {"from": "12", "text": "hola"}, "from"),
            ("/sandbox/inbound", {"from": PHONE, "text": ""}, "text"),
            ("/sandbox/inbound", {"from": PHONE, "text": "hola", "message": {"type": "text"}}, "message"),
            ("/sandbox/inbound", {"from": PHONE, "message": {"text": "hola"}}, "message.type"),
            ("/sandbox/inbound", {"from": PHONE, "text": "hola", "colour": "red"}, "colour"),
            ("/sandbox/webhook", {"value": {}}, "field"),
            ("/sandbox/webhook", {"field": "messages", "value": 1}, "value"),
            ("/sandbox/faults", {"colour": "red"}, "colour"),
            ("/sandbox/faults", {"drop_answers": 2}, "drop_answers"),
        ):
            sentence = check_refusal(await gateway.post(path, body), 400, "invalid_request")
            assert words in sentence
        for path in ("/sandbox/inbound", "/sandbox/faults"):
            check_refusal(await gateway.post(path, b"{"), 400, "not_json")
        check_refusal(await gateway.get("/sandbox/inbound"), 405, "method_not_allowed")
        assert (await gateway.post("/sandbox/faults", {"delay_ms": 1})).status == 200
        told = (await gateway.post("/sandbox/inbound", {"from": PHONE, "text": "hola"})).ok
        assert told["message_id"] and told["wa_id"] == PHONE


async def test_many_callers_at_once_are_refused_each_for_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        bodies = [{"phone": "12" if n % 2 else PHONE, "message": f"{n}"} for n in range(40)]
        answers = await asyncio.gather(*(gateway.post(MESSAGE, body) for body in bodies))
        assert [answer.status for answer in answers] == [200, 400] * 20
        assert sorted(int(call.text) for call in gateway.calls.all) == list(range(0, 40, 2))

"""Every sending path of the contract's first part: what its body becomes, direct and queued, for one and for
many, and what is refused (contract.md, Part 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handlers.messages import counted
from handlers.options import MAX_RECIPIENTS
from handlers.sends import MANY, ONE
from tests.support.gateway import Answer, Harness, serving
from whatsapp.sandbox import SandboxSettings

Json = dict[str, Any]

PHONE = "5215550001111"
OTHER = "5215550002222"
THIRD = "US.13491208655302741918"
URL = "https://example.com/a"
QUIET = SandboxSettings(enforce_limits=False, status_delays=None)

TEXT = {"type": "text", "text": {"body": "hello", "preview_url": True}}
BODY = {"text": "choose"}
BUTTONS = [{"id": "yes", "title": "Yes"}, {"id": 2, "title": "No"}]
REPLIES = {
    "buttons": [
        {"type": "reply", "reply": {"id": "yes", "title": "Yes"}},
        {"type": "reply", "reply": {"id": "2", "title": "No"}},
    ]
}
OPEN = {"name": "cta_url", "parameters": {"display_text": "Open", "url": URL}}
SECTIONS = [
    {"title": "Mains", "rows": [{"id": "1", "title": "Rice", "description": "with beans"}]},
    {"title": "Sweets", "rows": [{"id": "2", "title": "Flan", "description": None}]},
]
MENU = {
    "button": "Menu",
    "sections": [SECTIONS[0], {"title": "Sweets", "rows": [{"id": "2", "title": "Flan"}]}],
}
COMPONENTS = [
    {"type": "header", "parameters": [{"type": "image", "image": {"id": "77"}}]},
    {"type": "body", "parameters": [{"type": "text", "text": "Ann", "parameter_name": "first"}]},
    {
        "type": "button",
        "sub_type": "quick_reply",
        "index": "0",
        "parameters": [{"type": "payload", "payload": "x"}],
    },
]


def interactive(kind: str, action: Json, **parts: Json) -> Json:
    """What Meta gets of an interactive message."""
    return {
        "type": "interactive",
        "interactive": {"type": kind, "body": BODY, **parts, "action": action},
    }


def template(*components: Json, language: str = "es", name: str = "order_update") -> Json:
    """What Meta gets of a template."""
    content: Json = {"name": name, "language": {"code": language}}
    return {
        "type": "template",
        "template": {**content, "components": list(components)} if components else content,
    }


def filled(*texts: str) -> Json:
    """The body component of these parameters."""
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


HEAD = {"header_type": "text", "header_content": "Today", "footer_text": "bye"}
HEADED: Json = {"header": {"type": "text", "text": "Today"}, "footer": {"text": "bye"}}
IMAGE = {"type": "image", "image": {"link": URL}}
TEMPLATE = {"template_name": "order_update"}
LIST = {"body_text": "choose", "button_text": "Menu", "sections": SECTIONS}
LISTED = {"header_text": "Today", "footer_text": "bye", **LIST}

ONE_BODIES: list[tuple[str, Json, Json]] = [
    ("/api/send-message", {"message": "hello"}, TEXT),
    (
        "/api/send-message",
        {"message": "hello", "context_message_id": "wamid.A"},
        {**TEXT, "context": {"message_id": "wamid.A"}},
    ),
    *(
        (path, body, content)
        for path in ("/api/send-template", "/api/send-template-advanced")
        for body, content in (
            (TEMPLATE, template()),
            (
                {**TEMPLATE, "language": "en_US", "parameters": ["Ann", 7, 1.5]},
                template(filled("Ann", "7", "1.5"), language="en_US"),
            ),
            ({**TEMPLATE, "parameters": ["lost"], "components": COMPONENTS}, template(*COMPONENTS)),
            ({**TEMPLATE, "parameters": ["Ann"], "components": []}, template(filled("Ann"))),
        )
    ),
    (
        "/api/send-interactive",
        {"body_text": "choose", "buttons": BUTTONS},
        interactive("button", REPLIES),
    ),
    (
        "/api/send-interactive",
        {"body_text": "choose", "buttons": BUTTONS, **HEAD},
        interactive("button", REPLIES, **HEADED),
    ),
    (
        "/api/send-interactive",
        {"body_text": "choose", "button_text": "Open", "button_url": URL, "buttons": []},
        interactive("cta_url", OPEN),
    ),
    *(
        (
            "/api/send-interactive",
            {
                "body_text": "choose",
                "button_text": "Open",
                "button_url": URL,
                "header_type": kind,
                "header_content": given,
                "footer_text": "bye",
            },
            interactive("cta_url", OPEN, header={"type": kind, kind: source}, footer={"text": "bye"}),
        )
        for kind, given, source in (
            ("image", URL, {"link": URL}),
            ("video", "8812", {"id": "8812"}),
            ("document", 8812, {"id": "8812"}),
        )
    ),
    (
        "/api/send-interactive",
        {"body_text": "hello", "footer_text": "", "header_type": "", "button_text": ""},
        TEXT,
    ),
    (
        "/api/send-interactive",
        {"body_text": "hello", **HEAD},
        {"type": "text", "text": {"body": "Today\n\nhello\n\nbye", "preview_url": True}},
    ),
    (
        "/api/send-interactive",
        {"body_text": "choose", "header_type": "video", "header_content": "8812"},
        {"type": "video", "video": {"id": "8812", "caption": "choose"}},
    ),
    ("/api/send-button", {"body_text": "choose", "buttons": BUTTONS}, interactive("button", REPLIES)),
    (
        "/api/send-button",
        {"body_text": "choose", "buttons": BUTTONS, "header_type": "image", "header_content": URL},
        interactive("button", REPLIES, header=IMAGE),
    ),
    ("/api/send-list", LIST, interactive("list", MENU)),
    ("/api/send-list", LISTED, interactive("list", MENU, **HEADED)),
    (
        "/api/send-location-request",
        {"body_text": "choose"},
        interactive("location_request_message", {"name": "send_location"}),
    ),
    ("/api/send-media", {"type": "image", "link": URL}, IMAGE),
    ("/api/send-media", {"type": "audio", "media_id": 8812}, {"type": "audio", "audio": {"id": "8812"}}),
    ("/api/send-media", {"type": "sticker", "id": "8812"}, {"type": "sticker", "sticker": {"id": "8812"}}),
    (
        "/api/send-media",
        {"type": "video", "media_id": "8812", "id": 8812, "caption": "look"},
        {"type": "video", "video": {"id": "8812", "caption": "look"}},
    ),
    (
        "/api/send-media",
        {
            "type": "document",
            "link": URL,
            "caption": "look",
            "filename": "a.pdf",
            "context_message_id": "wamid.A",
        },
        {
            "type": "document",
            "document": {"link": URL, "caption": "look", "filename": "a.pdf"},
            "context": {"message_id": "wamid.A"},
        },
    ),
]
"""A path, a body without its phone, and what Meta gets without the envelope."""

COMMON = {"header_type": "image", "header_content": URL, "button_text": "Open", "button_url": URL}
MANY_BODIES: list[tuple[str, Json, list[Json], list[Json]]] = [
    ("/api/send-bulk", {}, [{"message": "hello"}], [TEXT]),
    (
        "/api/send-bulk-interactive",
        {},
        [
            {"body_text": "choose", "buttons": BUTTONS, **HEAD},
            {"body_text": "hello"},
            {"body_text": "choose", **COMMON},
        ],
        [interactive("button", REPLIES, **HEADED), TEXT, interactive("cta_url", OPEN, header=IMAGE)],
    ),
    (
        "/api/send-personalized-broadcast",
        {**COMMON, "footer_text": "bye"},
        [{"body_text": "choose"}],
        [interactive("cta_url", OPEN, header=IMAGE, footer={"text": "bye"})],
    ),
    ("/api/send-personalized-broadcast", {}, [{"body_text": "hello"}], [TEXT]),
    (
        "/api/send-bulk-button",
        {"buttons": BUTTONS, **HEAD},
        [{"body_text": "choose"}, {"body_text": "choose", "header_type": "image", "header_content": URL}],
        [
            interactive("button", REPLIES, **HEADED),
            interactive("button", REPLIES, header=IMAGE, footer={"text": "bye"}),
        ],
    ),
    (
        "/api/send-bulk-button",
        {"body_text": "choose"},
        [{"buttons": BUTTONS}],
        [interactive("button", REPLIES)],
    ),
    (
        "/api/send-bulk-list",
        {name: value for name, value in LISTED.items() if name != "body_text"},
        [{"body_text": "choose"}],
        [interactive("list", MENU, **HEADED)],
    ),
    (
        "/api/send-bulk-template",
        {**TEMPLATE, "parameters": ["you"]},
        [
            {},
            {"parameters": ["Ann"], "language": "en"},
            {"template_name": "other", "components": COMPONENTS, "parameters": ["lost"]},
        ],
        [
            template(filled("you")),
            template(filled("Ann"), language="en"),
            template(*COMPONENTS, name="other"),
        ],
    ),
    (
        "/api/send-bulk-template",
        {},
        [{"template_name": "order_update"}],
        [template()],
    ),
]
"""A path, its common fields, recipients without their phones, and what each gets."""

ALIKE_BODIES: list[tuple[str, Json, Json]] = [
    ("/api/send-broadcast-interactive", {"body_text": "hello"}, TEXT),
    (
        "/api/send-broadcast-interactive",
        {"body_text": "choose", **COMMON},
        interactive("cta_url", OPEN, header=IMAGE),
    ),
    ("/api/send-broadcast-template", TEMPLATE, template()),
    (
        "/api/send-broadcast-template",
        {**TEMPLATE, "language": "en", "parameters": ["you"]},
        template(filled("you"), language="en"),
    ),
]
"""A path for ``phones``, its fields, and what all get."""


def envelope(to: str) -> Json:
    """What stands around every content."""
    who = {"recipient": to} if to.startswith("US.") else {"to": f"+{to}"}
    return {"messaging_product": "whatsapp", "recipient_type": "individual", **who}


def sent(gateway: Harness) -> list[Json]:
    """What Meta got, without our reference; and forget it."""
    got = [
        {name: value for name, value in call.message.items() if name != "biz_opaque_callback_data"}
        for call in gateway.calls.all
    ]
    gateway.calls.all.clear()
    return got


def many_bodies() -> Iterator[tuple[str, Json, list[str], list[Json]]]:
    """(path, body, to whom, what) of every path that addresses many."""
    people = [PHONE, OTHER, THIRD]
    for path, common, recipients, contents in MANY_BODIES:
        to = people[: len(recipients)]
        named = [{"phone": phone, **each} for phone, each in zip(to, recipients, strict=True)]
        yield path, {**common, "recipients": named}, to, contents
    for path, common, content in ALIKE_BODIES:
        yield path, {**common, "phones": [int(PHONE), f"+{OTHER}", THIRD]}, people, [content] * 3


def test_every_path_is_tried() -> None:
    assert {path for path, _, _ in ONE_BODIES} == set(ONE)
    assert {path for path, *_ in many_bodies()} == set(MANY)
    assert len(ONE) + len(MANY) == 16


# -- what is sent ------------------------------------------------------------------------------------------


async def test_one_is_sent_directly_and_answered_with_metas_answer(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for path, body, content in ONE_BODIES:
            answer = await gateway.post(path, {"phone": PHONE, **body})
            assert set(answer.ok) == {"success", "message", "data", "task_id"}, (path, answer)
            assert answer.body["data"]["messages"][0]["id"].startswith("wamid.")
            assert sent(gateway) == [{**envelope(PHONE), **content}], (path, body)


async def test_one_is_queued_and_answered_with_its_task(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for number, (path, body, content) in enumerate(ONE_BODIES, 1):
            answer = await gateway.post(path, {"phone": THIRD, "use_queue": True, **body})
            assert set(answer.ok) == {"success", "message", "task_id"}, (path, answer)
            await gateway.events.wait("task.completed", number)
            assert sent(gateway) == [{**envelope(THIRD), **content}], (path, body)
            task = await gateway.task(answer.body["task_id"])
            assert (task["kind"], task["result"]["sent"]) == (ONE[path].kind, 1)


async def test_null_is_a_field_left_out_everywhere(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for path, body, content in ONE_BODIES:
            nulls = dict.fromkeys(ONE[path].request.__struct_fields__)
            answer = await gateway.post(path, {**nulls, "phone": int(PHONE), **body})
            assert "warnings" not in answer.ok, (path, answer)
            assert sent(gateway) == [{**envelope(PHONE), **content}], (path, body)
        for path, body, to, contents in many_bodies():
            nulls = dict.fromkeys(MANY[path].request.__struct_fields__)
            if (kind := MANY[path].recipient) is not None:
                each_nulls = dict.fromkeys(kind.__struct_fields__)
                body["recipients"] = [{**each_nulls, **each} for each in body["recipients"]]
            answer = await gateway.post(path, {**nulls, **body, "use_queue": False})
            assert "warnings" not in answer.ok, (path, answer)
            expected = [{**envelope(phone), **what} for phone, what in zip(to, contents, strict=True)]
            assert sorted(sent(gateway), key=str) == sorted(expected, key=str), (path, body)


async def test_many_are_queued_by_default(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for number, (path, body, to, contents) in enumerate(many_bodies(), 1):
            answer = await gateway.post(path, body)
            assert set(answer.ok) == {"success", "message", "task_id"}, (path, answer)
            assert answer.body["message"] == f"{counted(len(to))} queued"
            await gateway.events.wait("task.completed", number)
            expected = [{**envelope(phone), **what} for phone, what in zip(to, contents, strict=True)]
            assert sorted(sent(gateway), key=str) == sorted(expected, key=str), (path, body)
            task = await gateway.task(answer.body["task_id"])
            assert (task["kind"], task["result"]["sent"]) == (MANY[path].kind, len(to))


async def test_many_sent_directly_are_answered_with_their_result(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for path, body, to, _ in many_bodies():
            answer = await gateway.post(path, {**body, "use_queue": False})
            assert set(answer.ok) == {"success", "message", "result", "task_id"}, (path, answer)
            count = len(to)
            result = {"total": count, "successful": count, "failed": 0, "errors": []}
            assert answer.body["result"] == result


async def test_a_field_that_is_not_known_is_named_and_metas_own_go_on(tmp_path: Path) -> None:
    components = [{"type": "body", "parameters": [{"type": "text", "text": "Ann", "shade": 1}], "kolor": 2}]
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.post(
            "/api/send-template", {"phone": PHONE, **TEMPLATE, "components": components, "langage": "en"}
        )
        mine, *metas = sorted(answer.ok["warnings"], key=lambda warning: warning.startswith("components"))
        assert mine == "langage: unknown field, ignored; did you mean `language`?"
        assert sorted(warning.partition(":")[0] for warning in metas) == [
            "components[0].kolor",
            "components[0].parameters[0].shade",
        ]
        assert sent(gateway) == [{**envelope(PHONE), **template(*components)}]
        buttons = [{"id": "a", "title": "A", "colour": "red"}]
        body = {"body_text": "x", "buttons": buttons}
        answer = await gateway.post("/api/send-bulk-interactive", {"recipients": [{"phone": PHONE, **body}]})
        assert answer.ok["warnings"] == ["recipients[0].buttons[0].colour: unknown field, ignored"]


# -- what is refused ---------------------------------------------------------------------------------------

LONG = "x" * 5000
ONE_FAULTS: list[tuple[str, Json, set[str]]] = [
    ("/api/send-message", {"message": LONG}, {"message"}),
    ("/api/send-message", {"message": "x", "context_message_id": "y" * 513}, {"context_message_id"}),
    ("/api/send-template", {"template_name": ""}, {"template_name"}),
    ("/api/send-template", {"template_name": None, "language": 5}, {"template_name", "language"}),
    ("/api/send-template", {**TEMPLATE, "parameters": ["a", ""]}, {"parameters[1]"}),
    ("/api/send-template", {**TEMPLATE, "parameters": "Ann"}, {"parameters"}),
    ("/api/send-template", {**TEMPLATE, "parameters": [{}]}, {"parameters[0]"}),
    ("/api/send-template", {**TEMPLATE, "components": {}}, {"components"}),
    ("/api/send-template", {**TEMPLATE, "components": [5]}, {"components[0]"}),
    (
        "/api/send-template-advanced",
        {**TEMPLATE, "components": [{"type": "body", "parameters": [{"type": "text"}]}]},
        {"components[0].parameters[0].text"},
    ),
    ("/api/send-interactive", {"body_text": ""}, {"body_text"}),
    ("/api/send-interactive", {"body_text": "x" * 1025, "buttons": BUTTONS}, {"body_text"}),
    ("/api/send-interactive", {"body_text": LONG}, {"body_text"}),
    ("/api/send-interactive", {"body_text": "x", "header_type": "image"}, {"header_content"}),
    ("/api/send-interactive", {"body_text": "x", "header_content": URL}, {"header_type"}),
    (
        "/api/send-interactive",
        {"body_text": "x", "header_type": "sticker", "header_content": "1"},
        {"header_type"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x", "header_type": "video", "header_content": "ftp://example.com/a"},
        {"header_content"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x" * 1025, "header_type": "video", "header_content": "1"},
        {"body_text"},
    ),
    ("/api/send-interactive", {"body_text": "x", "button_text": "Open"}, {"button_url"}),
    ("/api/send-interactive", {"body_text": "x", "button_url": URL}, {"button_text"}),
    (
        "/api/send-interactive",
        {"body_text": "x", "button_text": "x" * 21, "button_url": "javascript:x"},
        {"button_text", "button_url"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x", "button_text": "Open", "button_url": URL, "buttons": BUTTONS},
        {"button_text"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x", "buttons": [{"id": str(n), "title": str(n)} for n in range(4)]},
        {"buttons"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x", "buttons": [{"id": "a", "title": "A"}, {"id": "a", "title": "B"}]},
        {"buttons[1].id"},
    ),
    (
        "/api/send-interactive",
        {"body_text": "x", "buttons": [{"title": "A"}, {"id": "b", "title": "y" * 31}, {"id": "c"}]},
        {"buttons[0].id", "buttons[1].title", "buttons[2].title"},
    ),
    ("/api/send-interactive", {"body_text": "x", "buttons": ["yes"]}, {"buttons[0]"}),
    (
        "/api/send-interactive",
        {
            "body_text": None,
            "header_type": "text",
            "header_content": "y" * 61,
            "footer_text": "y" * 61,
            "buttons": BUTTONS,
        },
        {"body_text", "header_content", "footer_text"},
    ),
    ("/api/send-button", {"body_text": "x"}, {"buttons"}),
    ("/api/send-button", {"body_text": "x", "buttons": []}, {"buttons"}),
    (
        "/api/send-list",
        {"body_text": "x", "button_text": "y" * 21, "sections": [], "footer_text": "y" * 61},
        {"button_text", "sections", "footer_text"},
    ),
    (
        "/api/send-list",
        {**LIST, "sections": [{"title": "y" * 25, "rows": [{"id": "1", "title": ""}, {"id": "1"}]}]},
        {"sections[0].title", "sections[0].rows[0].title", "sections[0].rows[1].title"},
    ),
    (
        "/api/send-list",
        {**LIST, "sections": [{"rows": [{"id": str(n), "title": "x"} for n in range(11)]}]},
        {"sections"},
    ),
    ("/api/send-list", {**LIST, "sections": [{"title": "x"}]}, {"sections[0].rows"}),
    (
        "/api/send-list",
        {**LIST, "sections": [{"rows": [{"id": "1", "title": "x"}, {"id": "1", "title": "y"}]}]},
        {"sections[0].rows[1].id"},
    ),
    ("/api/send-location-request", {"body_text": "x" * 1025}, {"body_text"}),
    ("/api/send-media", {"type": "image"}, {"media_id"}),
    ("/api/send-media", {"type": "image", "media_id": "1", "link": URL}, {"media_id"}),
    ("/api/send-media", {"type": "image", "media_id": "1", "id": "2"}, {"id"}),
    (
        "/api/send-media",
        {"type": "gif", "link": "ftp://x", "caption": "y" * 1025},
        {"type", "link", "caption"},
    ),
    ("/api/send-media", {"type": "audio", "link": URL, "caption": "x"}, {"caption"}),
    ("/api/send-media", {"type": "image", "link": URL, "filename": "a.png"}, {"filename"}),
]
"""A path, a body without its phone, and the fields at fault."""


def common_faults() -> list[tuple[Json, str]]:
    """Options that are wrong, and the one at fault, at any time soon."""
    now = datetime.now(UTC)

    def at(**ahead: float) -> str:
        return (now + timedelta(**ahead)).isoformat()

    return [
        ({"send_at": "tomorrow"}, "send_at"),
        ({"send_at": 1764000000}, "send_at"),
        ({"send_at": "2026-11-24T18:30:00"}, "send_at"),
        ({"send_at": "2027-13-24T18:30:00Z"}, "send_at"),
        ({"send_at": at(hours=-1)}, "send_at"),
        ({"send_at": at(days=31)}, "send_at"),
        ({"expires_at": at(hours=-1)}, "expires_at"),
        ({"send_at": at(hours=2), "expires_at": at(hours=1)}, "expires_at"),
        ({"callback_data": "x" * 513}, "callback_data"),
        ({"callback_data": {}}, "callback_data"),
        ({"priority": "urgent"}, "priority"),
        ({"use_queue": "yes"}, "use_queue"),
    ]


def refused(answer: Answer) -> set[str]:
    """The fields that an answer calls at fault."""
    assert (answer.status, answer.body["code"]) == (400, "invalid_request"), answer
    problems: list[Json] = answer.body["details"]
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    assert answer.body["error"] == f"{first['path']}: {first['problem']}{more}"
    for problem in problems:
        assert "interactive." not in str(problem) and ".reply" not in str(problem)
    paths = [problem["path"] for problem in problems]
    assert len(set(paths)) == len(paths), paths
    return set(paths)


async def nothing_happened(gateway: Harness) -> None:
    assert gateway.events.all == []
    assert gateway.calls.all == []
    assert gateway.store.calls["create_task"] == 0


async def test_all_that_is_wrong_is_named_in_the_callers_fields(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for path, body, fields in ONE_FAULTS:
            assert refused(await gateway.post(path, {"phone": PHONE, **body})) == fields, (path, body)
            wrong = {"phone": "12", "use_queue": 1, **body}
            answer = await gateway.post(path, wrong)
            assert refused(answer) == {*fields, "phone", "use_queue"}, (path, body)
        await nothing_happened(gateway)


async def test_common_options_are_checked_everywhere(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        good = {path: {"phone": PHONE, **body} for path, body, _ in ONE_BODIES}
        good |= {path: body for path, body, _, _ in many_bodies()}
        for path, body in good.items():
            for options, field in common_faults():
                assert refused(await gateway.post(path, {**body, **options})) == {field}, (path, options)
        for path in MANY:
            for field, value in (("on_invalid", "ignore"), ("duplicates", "maybe")):
                assert refused(await gateway.post(path, {**good[path], field: value})) == {field}
        await nothing_happened(gateway)


LISTED_FOR_ALL = {"button_text": "Menu", "sections": SECTIONS}
MANY_FAULTS: list[tuple[str, Json, set[str]]] = [
    (
        "/api/send-bulk",
        {"recipients": [{"phone": PHONE, "message": "x"}] * 2 + [{"phone": "1", "message": LONG}, None]},
        {"recipients[2].phone", "recipients[2].message", "recipients[3]"},
    ),
    (
        "/api/send-bulk-interactive",
        {
            "recipients": [{"phone": PHONE, "body_text": "x", "buttons": BUTTONS}] * 17
            + [
                {
                    "phone": PHONE,
                    "body_text": "x",
                    "buttons": [{"id": "a", "title": "A"}, {"id": "b", "title": "y" * 31}],
                }
            ]
        },
        {"recipients[17].buttons[1].title"},
    ),
    (
        "/api/send-personalized-broadcast",
        {
            "recipients": [{"phone": PHONE, "body_text": "x"}, {"phone": OTHER, "body_text": ""}],
            "header_type": "image",
            "button_text": "y" * 21,
            "button_url": "ftp://example.com",
            "footer_text": 5,
        },
        {"recipients[1].body_text", "header_content", "button_text", "button_url", "footer_text"},
    ),
    (
        "/api/send-broadcast-interactive",
        {"phones": [PHONE, "12", None, {}, True], "body_text": "", "header_type": "image"},
        {"phones[1]", "phones[2]", "phones[3]", "phones[4]", "body_text", "header_content"},
    ),
    (
        "/api/send-bulk-button",
        {
            "recipients": [
                {"phone": PHONE},
                {"phone": PHONE, "buttons": [{"id": " a", "title": "A"}], "body_text": "x"},
            ],
            "buttons": [{"id": "a", "title": "A"}, {"id": "a", "title": "A"}],
        },
        {"body_text", "buttons[1].id", "buttons[1].title", "recipients[1].buttons[0].id"},
    ),
    (
        "/api/send-bulk-list",
        {
            **LISTED_FOR_ALL,
            "sections": [{"title": "x", "rows": [{"id": "1"}]}],
            "recipients": [{"phone": PHONE, "body_text": "x"}, {"phone": PHONE, "body_text": LONG}],
        },
        {"sections[0].rows[0].title", "recipients[1].body_text"},
    ),
    (
        "/api/send-bulk-template",
        {
            "recipients": [
                {"phone": PHONE},
                {"phone": PHONE, **TEMPLATE, "parameters": ["a", ""]},
                {"phone": PHONE, **TEMPLATE, "components": [{"type": "body", "parameters": 5}]},
            ]
        },
        {"template_name", "recipients[1].parameters[1]", "recipients[2].components[0].parameters"},
    ),
    (
        "/api/send-broadcast-template",
        {"phones": [PHONE], "template_name": None, "parameters": [""]},
        {"template_name", "parameters[0]"},
    ),
    *(
        (path, {**body, name: value}, {name})
        for path, name, body in (
            ("/api/send-bulk-list", "recipients", LISTED_FOR_ALL),
            ("/api/send-bulk-template", "recipients", TEMPLATE),
            ("/api/send-broadcast-template", "phones", TEMPLATE),
        )
        for value in (None, [], {}, "x", [0] * (MAX_RECIPIENTS + 1))
    ),
]


async def test_each_recipient_at_fault_is_named_and_common_fields_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for path, body, fields in MANY_FAULTS:
            for use_queue in (True, False):
                assert refused(await gateway.post(path, {**body, "use_queue": use_queue})) == fields, path
        answer = await gateway.post("/api/send-bulk-interactive", MANY_FAULTS[1][1])
        assert answer.body["error"] == "recipients[17].buttons[1].title: 31 characters, at most 20"
        await nothing_happened(gateway)


async def test_a_fault_for_all_is_told_once_and_refuses_all_whatever_may_be_skipped(tmp_path: Path) -> None:
    recipients = [{"phone": PHONE, "body_text": "x"} for _ in range(3000)]
    body = {**LISTED_FOR_ALL, "button_text": "y" * 21, "recipients": recipients}
    async with serving(tmp_path) as gateway:
        for on_invalid in ("refuse", "skip"):
            answer = await gateway.post("/api/send-bulk-list", {**body, "on_invalid": on_invalid})
            assert refused(answer) == {"button_text"}
        await nothing_happened(gateway)


@pytest.mark.parametrize("item", ['{"phone": "5215550001111", "message": "\\ud83d"}', "\xff"])
async def test_a_recipient_that_cannot_be_decoded_is_no_json(tmp_path: Path, item: str) -> None:
    body = (
        f'{{"recipients": [{{"phone": 1}}, "{item}"]}}' if len(item) == 1 else f'{{"recipients": [{item}]}}'
    )
    async with serving(tmp_path) as gateway:
        answer = await gateway.post("/api/send-bulk", body.encode("latin-1"))
        assert (answer.status, answer.body["code"]) == (400, "not_json")
        assert "body" in answer.body["error"]
        await nothing_happened(gateway)


# -- recipients that are skipped ---------------------------------------------------------------------------


async def test_invalid_recipients_may_be_skipped_on_every_path(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        for path, body, to, _ in many_bodies():
            name = "phones" if "phones" in body else "recipients"
            bad: Any = "12" if name == "phones" else {**body[name][0], "phone": "12"}
            body = {**body, name: [bad, *body[name], bad], "on_invalid": "skip"}
            answer = await gateway.post(path, {**body, "use_queue": False})
            result = answer.ok["result"]
            count = len(to)
            assert (result["total"], result["successful"], result["failed"]) == (count + 2, count, 2)
            suffix = "" if name == "phones" else ".phone"
            paths = [f"{name}[{place}]{suffix}" for place in (0, count + 1)]
            assert [error.partition(": ")[0] for error in result["errors"]] == paths
            answer = await gateway.post(path, body)
            assert [warning.partition(": ")[0] for warning in answer.ok["warnings"]] == paths
            assert all(warning.endswith(", skipped") for warning in answer.body["warnings"])


async def test_repeated_recipients_are_kept_or_dropped_as_is_wanted(tmp_path: Path) -> None:
    spellings: list[Any] = [PHONE, f"+{PHONE}", OTHER, int(PHONE), THIRD, THIRD]
    named = [{"phone": phone, "message": str(n)} for n, phone in enumerate(spellings)]
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.post("/api/send-bulk", {"recipients": named, "use_queue": False})
        assert answer.ok["result"]["successful"] == 6
        assert "warnings" not in answer.body
        gateway.calls.all.clear()

        dropped = {"recipients": named, "use_queue": False, "duplicates": "drop"}
        answer = await gateway.post("/api/send-bulk", dropped)
        assert answer.ok["result"] == {"total": 6, "successful": 3, "failed": 3, "errors": []}
        assert answer.body["warnings"] == [
            "recipients[1]: the same recipient as recipients[0], skipped",
            "recipients[3]: the same recipient as recipients[0], skipped",
            "recipients[5]: the same recipient as recipients[4], skipped",
        ]
        assert sorted(call.text for call in gateway.calls.all) == ["0", "2", "4"]

        body = {"phones": spellings, **TEMPLATE, "duplicates": "drop"}
        answer = await gateway.post("/api/send-broadcast-template", body)
        assert answer.body["message"] == "3 messages are queued"
        assert len(answer.ok["warnings"]) == 3


async def test_the_failed_are_named_by_their_place_in_the_request(tmp_path: Path) -> None:
    refused_by_meta = "5215599131026"
    phones = ["12", PHONE, refused_by_meta, f"+{PHONE}", OTHER]
    body = {"phones": phones, **TEMPLATE, "duplicates": "drop", "on_invalid": "skip", "use_queue": False}
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        result = (await gateway.post("/api/send-broadcast-template", body)).ok["result"]
        assert (result["total"], result["successful"], result["failed"]) == (5, 2, 3)
        assert [error.partition(":")[0] for error in result["errors"]] == ["phones[0]", "phones[2]"]


@pytest.mark.parametrize("wait", [False, True])
async def test_messages_have_the_number_of_their_recipient_in_the_request(tmp_path: Path, wait: bool) -> None:
    phones = ["12", PHONE, "34", f"+{PHONE}", OTHER]
    recipients = [{"phone": phone, "message": str(n)} for n, phone in enumerate(phones)]
    options = {"duplicates": "drop", "on_invalid": "skip", "use_queue": not wait}
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        answer = await gateway.bulk(recipients, **options)
        assert answer.ok.get("skipped") == (None if wait else 3)
        await gateway.events.wait("task.completed")
        page = (await gateway.get(f"/api/tasks/{answer.body['task_id']}/messages?limit=1")).ok
        assert [message["n"] for message in page["messages"]] == [page["next"]] == [1]
        rest = (await gateway.get(f"/api/tasks/{answer.body['task_id']}/messages?after=1")).ok
        assert [message["n"] for message in rest["messages"]] == [4]
        assert rest["messages"][0]["message_id"] == f"{answer.body['task_id']}-4"


# -- when, and with what -----------------------------------------------------------------------------------


async def test_a_time_to_send_and_a_time_to_give_up_are_kept_with_each_row(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    send_at, expires_at = now + timedelta(hours=1), now + timedelta(hours=2)
    options = {
        "send_at": send_at.isoformat(),
        "expires_at": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "callback_data": "order-7 ñ",
    }
    async with serving(tmp_path) as gateway:
        for use_queue in (True, False):
            for path, body, _ in ONE_BODIES[:2]:
                answer = await gateway.post(path, {"phone": PHONE, **body, **options, "use_queue": use_queue})
                assert set(answer.ok) == {"success", "message", "task_id"}
                await check_rows(gateway, answer.body["task_id"], [0], send_at, expires_at)
            body = {"phones": [PHONE, OTHER], **TEMPLATE, **options, "use_queue": use_queue}
            answer = await gateway.post("/api/send-broadcast-template", body)
            await check_rows(gateway, answer.ok["task_id"], [2, 0], send_at, expires_at)
        assert gateway.calls.all == []


async def check_rows(
    gateway: Harness, task_id: str, priorities: list[int], send_at: datetime, expires_at: datetime
) -> None:
    """The rows of a task wait with these times and the caller's data."""
    rows = [view.row for view in await gateway.store.as_store().task_rows(task_id, -1, 10)]
    assert rows
    for row in rows:
        assert row.due == int(send_at.timestamp() * 1000)
        assert row.expires_at == int(expires_at.timestamp() * 1000)
        assert row.callback_data == "order-7 ñ"
        assert row.priority in priorities


async def test_what_is_due_later_leaves_then(tmp_path: Path) -> None:
    async with serving(tmp_path, sandbox=QUIET) as gateway:
        soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        answer = await gateway.send(PHONE, "later", send_at=soon)
        assert "data" not in answer.ok
        assert (await gateway.send(PHONE, "now")).status == 200
        await gateway.events.wait("message.sent", 2)
        assert [call.text for call in gateway.calls.all] == ["now", "later"]


async def test_what_expires_before_it_leaves_is_answered_so(tmp_path: Path) -> None:
    async with serving(tmp_path, lane={"pair_burst": 1, "pair_interval_s": 1.0}) as gateway:
        assert (await gateway.send(PHONE, "first")).status == 200
        soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
        answer = await gateway.send(PHONE, "too late", expires_at=soon)
        assert (answer.status, answer.body["code"]) == (502, "not_sent")
        assert answer.body["error"].startswith("expires_at: the time passed")
        assert [call.text for call in gateway.calls.all] == ["first"]


async def test_the_callers_own_data_comes_back_in_events(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.send(PHONE, callback_data="order-7")
        (told,) = gateway.events.of("message.sent")
        assert told["callback_data"] == "order-7"
        recipients = [{"phone": phone, "message": "x"} for phone in (PHONE, OTHER)]
        task_id = (await gateway.bulk(recipients, callback_data="news-1")).ok["task_id"]
        told_all = await gateway.events.wait("message.sent", 2, task_id=task_id)
        assert Counter(told["callback_data"] for told in told_all) == {"news-1": 2}


async def test_a_broadcast_of_many_megabytes_is_taken(tmp_path: Path) -> None:
    recipients = [{"phone": 5215560000000 + n, "message": f"{n} " + "x" * 4000} for n in range(2000)]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    async with serving(tmp_path) as gateway:
        answer = await gateway.bulk(recipients, send_at=later)
        assert answer.ok["message"] == "2000 messages are queued"

"""What templates ask for, what composed ones lack, and when the list is read anew."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Event
from whatsapp.failures import MetaFailed, MetaRefused, NoAnswer, NotSent
from whatsapp.outcome import Answer
from whatsapp.sandbox_rules import Refused
from whatsapp.sandbox_templates import TEMPLATES, template_page
from whatsapp.template_list import Templates
from whatsapp.templates import Button, Needs, Template, read_template, template_problems

Json = dict[str, Any]
KNOWN = [template for one in TEMPLATES if (template := read_template(one)) is not None]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def known(name: str) -> Template:
    return next(template for template in KNOWN if template.name == name)


def text(*values: str, **names: str) -> list[Json]:
    named = [{"type": "text", "parameter_name": name, "text": value} for name, value in names.items()]
    return [{"type": "text", "text": value} for value in values] + named


def composed(name: str, language: str, *components: Json) -> Json:
    return {"name": name, "language": {"code": language}, "components": list(components)}


def body(*values: str, **names: str) -> Json:
    return {"type": "body", "parameters": text(*values, **names)}


def button(index: object, sub_type: str = "url", *values: str) -> Json:
    return {"type": "button", "sub_type": sub_type, "index": index, "parameters": text(*values)}


IMAGE = {"type": "header", "parameters": [{"type": "image", "image": {"id": "1"}}]}
COUPON = {"type": "button", "sub_type": "copy_code", "index": "0"} | {
    "parameters": [{"type": "coupon_code", "coupon_code": "SAVE10"}]
}


def carousel(*cards: list[Json]) -> Json:
    return {
        "type": "carousel",
        "cards": [{"card_index": n, "components": components} for n, components in enumerate(cards)],
    }


# -- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("hello_world", Needs()),
        ("order_sent", Needs("text", ("1",), ("1", "2"), (Button(1, "url"),))),
        ("appointment", Needs(body=("customer", "hour"))),
        ("catalogue", Needs("image", (), ("1",), (Button(0, "copy_code"),))),
        ("gallery", Needs(cards=(Needs("image", (), ("1",)), Needs("image", (), ("1",))))),
        ("login_code", Needs(body=("1",), buttons=(Button(0, "url"),))),
    ],
)
def test_what_a_template_asks_for(name: str, needs: Needs) -> None:
    assert known(name).needs == needs


def test_a_template_is_named_by_its_format_or_by_its_places() -> None:
    plain = {"name": "t", "language": "en", "components": [{"type": "BODY", "text": "{{ who }} {{who}}"}]}
    found = read_template(plain)
    assert found is not None and found.named and found.needs.body == ("who",)
    assert not known("order_sent").named and known("appointment").named


def test_the_code_of_an_authentication_is_asked_for_though_its_text_is_not_told() -> None:
    found = read_template({"name": "t", "language": "en", "category": "AUTHENTICATION", "components": []})
    assert found is not None and found.needs.body == ("1",)


@given(ANYTHING)
def test_no_answer_of_metas_is_too_odd(value: Any) -> None:
    for one in (value, {"name": "t", "language": "en", "components": value}):
        found = read_template(one)
        assert found is None or (found.name and found.language)


# -- comparing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        composed("hello_world", "es"),
        {"name": "hello_world", "language": {"code": "en_US"}},
        composed(
            "order_sent", "es", {"type": "header", "parameters": text("7")}, body("Ana", "lunes"),
            button("1", "url", "7"),
        ),
        composed(
            "order_sent", "es", {"type": "HEADER", "parameters": text("7")}, body("Ana", "lunes"),
            button(1, "url", "7"), button("0", "quick_reply", "payload"),
        ),
        composed("appointment", "en", body(hour="9", customer="Ana")),
        composed("catalogue", "en", IMAGE, body("Ana"), COUPON),
        composed("gallery", "en", carousel([IMAGE, body("1")], [IMAGE, body("2")])),
        composed("login_code", "en", body("123"), button("0", "url", "123")),
    ],
)  # fmt: skip
def test_what_is_composed_right_has_no_problems(template: Json) -> None:
    assert template_problems(KNOWN, template) == []


@pytest.mark.parametrize(
    ("template", "path", "problem"),
    [
        (composed("helo_world", "es"), "name", "no template helo_world; did you mean hello_world?"),
        (composed("zzz", "es"), "name", "there is no template zzz"),
        (composed("hello_world", "de"), "language.code", "not there in de, only in en_US, es"),
        (composed("summer", "en", body("you")), "name", "summer (en) is PAUSED"),
        (composed("winter", "en"), "name", "is REJECTED, only APPROVED"),
        (composed("hello_world", "es", body("x")), "components", "body takes no parameters, not 1"),
        (composed("appointment", "en", body(customer="A")), "components", "customer, hour, not customer"),
        (composed("appointment", "en", body("A", "9")), "components", "customer, hour, not 2 without a name"),
        (composed("appointment", "en"), "components", "by the names customer, hour, not nothing"),
        (composed("catalogue", "en", body("A"), COUPON), "components", "header takes one image, not nothing"),
        (
            composed("catalogue", "en", {"type": "header", "parameters": text("x")}, body("A"), COUPON),
            "components",
            "header takes one image, not text",
        ),
        (composed("catalogue", "en", IMAGE, body("A")), "components", "button 0 (copy_code) takes 1"),
        (composed("login_code", "en", body("1")), "components", "button 0 (url) takes 1 parameter, not 0"),
        (composed("gallery", "en"), "components", "the carousel has 2 cards, not 0"),
        (
            composed("gallery", "en", carousel([IMAGE, body("1")], [IMAGE])),
            "components.cards[1]",
            "the body takes 1 parameter, not 0",
        ),
    ],
)
def test_what_is_composed_wrong_is_told_with_its_path(template: Json, path: str, problem: str) -> None:
    found = template_problems(KNOWN, template)
    assert [where for where, _ in found] == [f"template.{path}"]
    assert problem in found[0][1]


def test_every_fault_is_told_at_once() -> None:
    found = template_problems(KNOWN, composed("order_sent", "es", body("Ana")))
    assert [problem.split(" takes ")[0] for _, problem in found] == [
        "the header",
        "the body",
        "button 1 (url)",
    ]


@given(ANYTHING)
def test_no_composed_template_is_too_odd(value: Any) -> None:
    for name in ("order_sent", "gallery", "appointment"):
        template_problems(
            KNOWN, {"name": name, "language": {"code": known(name).language}, "components": value}
        )
    if isinstance(value, dict):
        template_problems(KNOWN, value)


# -- the sandbox's -----------------------------------------------------------------------------------------


def test_the_sandbox_shows_its_templates_by_page() -> None:
    found, after = [], ""
    for _ in range(len(TEMPLATES)):
        page = template_page("http://x/t", fields="name,status", limit="3", after=after)
        found += page["data"]
        assert all(set(one) == {"name", "status", "id"} for one in page["data"])
        if "next" not in page["paging"]:
            break
        after = page["paging"]["cursors"]["after"]
    assert [one["id"] for one in found] == [one["id"] for one in TEMPLATES]
    assert "components" not in template_page("http://x/t")["data"][0]


@pytest.mark.parametrize(("limit", "after"), [("0", ""), ("x", ""), ("", "x"), ("-1", "")])
def test_the_sandbox_refuses_a_page_that_is_none(limit: str, after: str) -> None:
    with pytest.raises(Refused):
        template_page("http://x/t", limit=limit, after=after)


# -- the list ----------------------------------------------------------------------------------------------


class Asked:
    """A Graph that is asked for templates, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls: list[str] = []
        self.data: list[Json] = [dict(TEMPLATES[0])]
        self.answer: Answer | Exception | None = None
        self.page_size = 100
        self.hold: asyncio.Event | None = None

    async def templates(self, waba_id: str, after: str = "") -> Answer:
        assert waba_id == "7"
        self.calls.append(after)
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        start = int(after or 0)
        end = start + self.page_size
        paging: Json = {"cursors": {"after": str(end)}}
        if end < len(self.data):
            paging["next"] = "more"
        return Answer(200, json.dumps({"data": self.data[start:end], "paging": paging}).encode(), {})

    def list(self, waba_id: str = "7", **options: Any) -> Templates:
        return Templates(self, waba_id, monotonic=lambda: self.now, now_ms=lambda: 5, **options)  # type: ignore[arg-type]


MESSAGE: Json = {"type": "template", "template": composed("order_sent", "es", body("x"))}


async def test_the_list_is_kept_for_ten_minutes() -> None:
    asked = Asked()
    templates = asked.list()
    assert templates.fetched_at == 0
    assert [one.name for one in await templates.all()] == ["hello_world"]
    assert templates.fetched_at == 5
    asked.now += 599
    await templates.all()
    assert len(asked.calls) == 1
    asked.now += 1
    await templates.all()
    assert len(asked.calls) == 2


async def test_the_list_is_read_page_by_page() -> None:
    asked = Asked()
    asked.data, asked.page_size = [dict(one) for one in TEMPLATES], 3
    assert [(one.name, one.language) for one in await asked.list().all()] == [
        (one["name"], one["language"]) for one in TEMPLATES
    ]
    assert asked.calls == ["", "3", "6", "9"]


async def test_a_cursor_that_leads_nowhere_ends_the_reading() -> None:
    asked = Asked()
    page = {"data": [], "paging": {"cursors": {"after": "same"}, "next": "more"}}
    asked.answer = Answer(200, json.dumps(page).encode(), {})
    assert await asked.list().all() == ()
    assert asked.calls == ["", "same"]


async def test_an_event_about_a_template_has_the_list_read_at_once() -> None:
    asked = Asked()
    templates = asked.list()
    await templates.all()
    templates.notice([Event(1, 0, "k", "message.received", 1, b"{}")])
    await templates.all()
    assert len(asked.calls) == 1
    templates.notice([Event(2, 1, "l", "template.status", 1, b"{}")])
    await templates.all()
    await templates.all()
    assert len(asked.calls) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (NotSent("away"), NotSent),
        (Answer(500, b"<html>", {}), MetaFailed),
        (Answer(200, b"[]", {}), MetaFailed),
        (Answer(200, b"\xff", {}), MetaFailed),
        (Answer(401, b'{"error": {"code": 190, "message": "x"}}', {}), MetaFailed),
        (Answer(400, b'{"error": {"code": 100, "message": "x"}}', {}), MetaRefused),
    ],
)
async def test_without_a_list_the_reason_is_told_and_with_one_it_stays(
    answer: Answer | Exception, kind: type[Exception]
) -> None:
    asked = Asked()
    asked.answer = answer
    templates = asked.list()
    with pytest.raises(kind):
        await templates.all()
    # What cannot be compared is Meta's business.
    assert await templates.check(MESSAGE) == []
    asked.answer = None
    # For a moment nobody asks again.
    calls = len(asked.calls)
    with pytest.raises(kind):
        await templates.all()
    assert len(asked.calls) == calls
    asked.now += 10
    (found,) = await templates.all()
    asked.answer = answer
    asked.now += 1000
    assert await templates.all() == (found,)
    calls = len(asked.calls)
    asked.now += 9
    assert await templates.all() == (found,)
    assert len(asked.calls) == calls
    asked.now += 1
    await templates.all()
    assert len(asked.calls) == calls + 1


async def test_what_seems_unknown_is_looked_for_again_before_it_is_refused() -> None:
    asked = Asked()
    templates = asked.list()
    await templates.all()
    asked.data.append(dict(TEMPLATES[2]))
    asked.now += 9
    assert [path for path, _ in await templates.check(MESSAGE)] == ["template.name"]
    assert len(asked.calls) == 1
    asked.now += 1
    # It is there by now, and its faults are others.
    assert {path for path, _ in await templates.check(MESSAGE)} == {"template.components"}
    assert len(asked.calls) == 2


async def test_a_send_does_not_wait_for_a_list_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whatsapp.template_list._CHECK_S", 0.01)
    asked = Asked()
    asked.hold = asyncio.Event()
    templates = asked.list()
    assert await asyncio.gather(*(templates.check(MESSAGE) for _ in range(3))) == [[], [], []]
    assert len(asked.calls) == 1
    with pytest.raises(NoAnswer, match="not told the templates in time"):
        await templates.all()
    asked.hold = None
    asked.now += 10
    assert [path for path, _ in await templates.check(MESSAGE)] == ["template.name"]


@pytest.mark.parametrize("content", [{"type": "text", "text": {"body": "x"}}, {}, {"type": "template"}])
async def test_other_messages_are_not_checked(content: Json) -> None:
    asked = Asked()
    assert await asked.list().check(content) == []
    assert asked.calls == []


async def test_nothing_is_checked_without_an_account() -> None:
    asked = Asked()
    assert await asked.list("").check(MESSAGE) == []
    assert await asked.list(checks=False).check(MESSAGE) == []
    assert asked.calls == []

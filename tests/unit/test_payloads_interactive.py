"""Every kind of ``interactive``: right as the fact sheets show it, each limit at its edge and one over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.payloads import (
    COMMON,
    HEADERS,
    INTERACTIVE,
    LEFT_OUT,
    changed,
    interactive,
    passed,
    problems,
    product_card,
    reply_card,
    rows,
    sections_of,
    url_card,
)

KINDS = [name for name in INTERACTIVE if " " not in name]


def of(kind: str, path: str, value: Any) -> Any:
    """That example with another value there."""
    return changed(interactive(INTERACTIVE[kind]), f"interactive.{path}", value)


def told(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Faults by their path within ``interactive``."""
    return [(path.removeprefix("interactive").removeprefix("."), problem) for path, problem in found]


@pytest.mark.parametrize("kind", INTERACTIVE)
def test_each_kind_passes_as_it_is_documented(kind: str) -> None:
    assert passed(interactive(INTERACTIVE[kind])) == []


# -- limits ------------------------------------------------------------------------------------------------

LIMITS = [
    ("button", "header.text", 60),
    ("button", "footer.text", 60),
    ("button", "body.text", 1024),
    ("button", "action.buttons[2].reply.id", 256),
    ("button", "action.buttons[2].reply.title", 20),
    ("list", "body.text", 4096),
    ("list", "action.button", 20),
    ("list", "action.sections[1].title", 24),
    ("list", "action.sections[0].rows[3].id", 200),
    ("list", "action.sections[0].rows[3].title", 24),
    ("list", "action.sections[0].rows[3].description", 72),
    ("cta_url", "body.text", 1024),
    ("cta_url", "action.parameters.display_text", 20),
    ("flow", "body.text", 1024),
    ("flow", "action.parameters.flow_cta", 30),
    ("product", "body.text", 1024),
    ("product_list", "body.text", 1024),
    ("product_list", "action.sections[1].title", 24),
    ("catalog_message", "body.text", 1024),
    ("location_request_message", "body.text", 1024),
    ("address_message", "body.text", 1024),
    ("request_contact_info", "body.text", 1024),
    ("voice_call", "body.text", 1024),
    ("voice_call", "action.parameters.display_text", 20),
    ("voice_call", "action.parameters.payload", 512),
    ("call_permission_request", "body.text", 1024),
    ("carousel", "body.text", 1024),
    ("carousel", "action.cards[9].body.text", 160),
    ("carousel of replies", "action.cards[1].action.buttons[1].quick_reply.id", 256),
    ("carousel of replies", "action.cards[1].action.buttons[1].quick_reply.title", 20),
]


@pytest.mark.parametrize(("kind", "path", "limit"), LIMITS)
def test_a_text_is_as_long_as_its_limit_and_no_longer(kind: str, path: str, limit: int) -> None:
    example = interactive(INTERACTIVE[kind])
    if path == "header.text":
        example["interactive"] = {**example["interactive"], "header": HEADERS["text"]}
    # Characters, whatever they take as bytes.
    assert problems(changed(example, f"interactive.{path}", "\U0001d11e" * limit)) == []
    longer = changed(example, f"interactive.{path}", "\U0001d11e" * (limit + 1))
    assert told(problems(longer)) == [(path, f"{limit + 1} characters, at most {limit}")]


def test_a_title_that_is_too_long_is_told_with_its_place() -> None:
    found = problems(of("list", "action.sections[0].rows[3].title", "x" * 31))
    assert found == [("interactive.action.sections[0].rows[3].title", "31 characters, at most 24")]


FAULTS: list[tuple[str, str, Any, str]] = [
    # What must be there.
    ("button", "body", LEFT_OUT, "is required"),
    ("button", "body.text", "", "must not be empty"),
    ("button", "action", LEFT_OUT, "is required"),
    ("list", "body", LEFT_OUT, "is required"),
    ("cta_url", "body", LEFT_OUT, "is required"),
    ("flow", "body", None, "is required"),
    ("product_list", "header", LEFT_OUT, "is required: a text"),
    ("product_list", "body", LEFT_OUT, "is required"),
    ("carousel", "body", LEFT_OUT, "is required"),
    ("request_contact_info", "body", LEFT_OUT, "is required"),
    ("product", "action.catalog_id", LEFT_OUT, "is required"),
    ("product", "action.product_retailer_id", "", "must not be empty"),
    ("address_message", "action.parameters.country", LEFT_OUT, "is required"),
    ("order_details", "action", LEFT_OUT, "is required"),
    # Names of actions.
    ("cta_url", "action.name", "url", "must be one of cta_url"),
    ("flow", "action.name", "flows", "must be one of flow"),
    ("catalog_message", "action.name", "catalog", "must be one of catalog_message"),
    ("location_request_message", "action.name", "location", "must be one of send_location"),
    ("address_message", "action.name", "address", "must be one of address_message"),
    ("request_contact_info", "action.name", "contact", "must be one of request_contact_info"),
    ("voice_call", "action.name", "call", "must be one of voice_call"),
    ("call_permission_request", "action.name", "call", "must be one of call_permission_request"),
    # Reply buttons.
    ("button", "action.buttons", [], "must not be empty"),
    ("button", "action.buttons[0].type", "url", "must be one of reply"),
    ("button", "action.buttons[1].reply.id", "", "must not be empty"),
    ("button", "action.buttons[1].reply.title", "", "must not be empty"),
    ("button", "action.buttons[1].reply.id", " b1", "must not begin or end with a space"),
    ("button", "action.buttons[1].reply.id", "b1 ", "must not begin or end with a space"),
    ("button", "action.buttons[2].reply.id", "b0", "is the same as buttons[0].reply.id"),
    ("button", "action.buttons[2].reply.title", "B 1", "is the same as buttons[1].reply.title"),
    # Lists.
    ("list", "action.button", "", "must not be empty"),
    ("list", "action.sections", [], "must not be empty"),
    ("list", "action.sections[0].rows", [], "must not be empty"),
    ("list", "action.sections[0].title", LEFT_OUT, "is required where there are several sections"),
    ("list", "action.sections[1].title", "", "is required where there are several sections"),
    ("list", "action.sections[1].rows[0].id", "r0", "is the same as sections[0].rows[0].id"),
    ("list", "action.sections[1].rows[0].id", "r ", "must not begin or end with a space"),
    ("list", "action.sections[1].rows[0].title", "", "must not be empty"),
    # Links.
    ("cta_url", "action.parameters.url", "example.com", "must be an http or https URL"),
    ("cta_url", "action.parameters.url", "tel:123", "must be an http or https URL"),
    ("cta_url", "action.parameters", LEFT_OUT, "is required"),
    # Flows.
    ("flow", "action.parameters.flow_cta", "Book \U0001f600", "must not hold an emoji"),
    ("flow", "action.parameters.flow_cta", "Book ✅", "must not hold an emoji"),
    ("flow", "action.parameters.flow_cta", "", "must not be empty"),
    ("flow", "action.parameters.flow_message_version", LEFT_OUT, "is required"),
    ("flow", "action.parameters.flow_action_payload.data", {}, "must not be empty"),
    ("flow", "action.parameters.mode", 7, "must be one of published, draft"),
    # Calls.
    ("voice_call", "action.parameters.ttl_minutes", 0, "must be a whole number >= 1"),
    ("voice_call", "action.parameters.ttl_minutes", 43_201, "must be a whole number <= 43200"),
    # Carousels.
    ("carousel", "footer", {"text": "f"}, "does not go with type carousel"),
    ("carousel", "header", HEADERS["text"], "does not go with type carousel"),
    ("product", "header", HEADERS["text"], "does not go with type product"),
    ("carousel", "action.cards[3].card_index", 2, "is the same as cards[2].card_index"),
    ("carousel", "action.cards[3].card_index", 10, "must be a whole number <= 9"),
    ("carousel", "action.cards[3].card_index", -1, "must be a whole number >= 0"),
    ("carousel", "action.cards[3].header", LEFT_OUT, "is required"),
    ("carousel", "action.cards[3].body.text", "1\n2\n3\n4", "3 line breaks, at most 2"),
    (
        "carousel",
        "action.cards[3].action",
        {},
        "needs buttons, or cta_url as its name with parameters, and not both",
    ),
    (
        "carousel",
        "action.cards[3].action",
        {**INTERACTIVE["cta_url"]["action"], **reply_card(3)["action"]},
        "needs buttons, or cta_url as its name with parameters, and not both",
    ),
    ("carousel", "action.cards[3].action.name", LEFT_OUT, "is required: cta_url"),
    ("carousel", "action.cards[3].action.parameters", LEFT_OUT, "is required"),
    ("carousel of replies", "action.cards[1].action.buttons", [], "must not be empty"),
    (
        "carousel of replies",
        "action.cards[1].action.buttons[1].quick_reply.id",
        "a-1",
        "is the same as buttons[0].quick_reply.id",
    ),
    ("carousel of products", "action.cards[1].action.catalog_id", "d", "must be that of cards[0]"),
    ("carousel", "action.cards[1]", {**product_card(1)}, "must be cta_url, as that of cards[0]"),
    (
        "carousel",
        "action.cards[1]",
        reply_card(1),
        "must have buttons of the same kind and number as cards[0]",
    ),
]
BELOW = {
    "must be cta_url, as that of cards[0]": "{}.type",
    "must have buttons of the same kind and number as cards[0]": "{}.action",
}
"""Where a fault is told, if not just where something was changed."""


@pytest.mark.parametrize(("kind", "path", "value", "problem"), FAULTS)
def test_a_fault_is_told_with_its_place(kind: str, path: str, value: Any, problem: str) -> None:
    assert told(problems(of(kind, path, value))) == [(BELOW.get(problem, "{}").format(path), problem)]


def test_cards_have_as_many_buttons_each() -> None:
    cards = [reply_card(0), reply_card(1), reply_card(2)]
    del cards[2]["action"]["buttons"][1]
    assert told(problems(of("carousel", "action.cards", cards))) == [
        ("action.cards[2].action", "must have buttons of the same kind and number as cards[0]")
    ]


# -- numbers of things -------------------------------------------------------------------------------------


def counts() -> Iterator[Any]:
    def some_buttons(count: int) -> list[Any]:
        return [{"type": "reply", "reply": {"id": f"b{n}", "title": f"{n}"}} for n in range(count)]

    yield "button", "action.buttons", some_buttons(1), some_buttons(4), "4 items, at most 3"
    ten = [{"title": f"S{n}", "rows": rows(1, n)} for n in range(11)]
    yield "list", "action.sections", ten[:10], ten, "11 items, at most 10"
    for many in ([{"rows": rows(11)}], [{"title": "a", "rows": rows(5)}, {"title": "b", "rows": rows(6, 5)}]):
        yield "list", "action.sections", [{"rows": rows(10)}], many, "11 rows in total, at most 10"
    for products in (sections_of(31), sections_of(30, 1), sections_of(*[4] * 8)):
        total = sum(len(section["product_items"]) for section in products)
        problem = f"{total} products in total, at most 30"
        yield "product_list", "action.sections", sections_of(*[3] * 10), products, problem
    eleven = sections_of(*[1] * 11)
    yield "product_list", "action.sections", eleven[:10], eleven, "11 items, at most 10"
    yield "product_list", "action.sections[0].product_items", [{"product_retailer_id": "a"}], [], ""
    cards = [url_card(n) for n in range(10)]
    yield "carousel", "action.cards", cards[:2], cards[:1], "1 items, at least 2"
    yield "carousel", "action.cards", cards, [*cards, url_card(0)], "11 items, at most 10"


@pytest.mark.parametrize(("kind", "path", "right", "wrong", "problem"), counts())
def test_there_are_as_many_as_may_be(kind: str, path: str, right: Any, wrong: Any, problem: str) -> None:
    assert problems(of(kind, path, right)) == []
    assert told(problems(of(kind, path, wrong))) == [(path, problem or "must not be empty")]


def test_one_section_of_products_needs_no_title_and_two_do() -> None:
    sections = sections_of(1, 1)
    del sections[1]["title"]
    assert problems(of("product_list", "action.sections", sections[1:])) == []
    assert told(problems(of("product_list", "action.sections", sections))) == [
        ("action.sections[1].title", "is required where there are several sections")
    ]


# -- headers -----------------------------------------------------------------------------------------------

ANY = frozenset(HEADERS)


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("button", ANY),
        ("cta_url", ANY),
        ("flow", ANY),
        ("address_message", ANY),
        ("list", {"text"}),
        ("product_list", {"text"}),
    ],
)
def test_a_kind_takes_its_headers_only(kind: str, takes: frozenset[str]) -> None:
    for header in HEADERS:
        found = told(problems(of(kind, "header", HEADERS[header])))
        assert found == ([] if header in takes else [("header.type", "must be text")])


def test_a_card_has_a_picture_or_a_film_above_it() -> None:
    for header in HEADERS:
        found = told(problems(of("carousel", "action.cards[3].header", HEADERS[header])))
        wrong = header in ("text", "document")
        assert found == ([("action.cards[3].header.type", "must be image or video")] if wrong else [])


@pytest.mark.parametrize("media", [{}, {"id": "1", "link": "https://example.com/a"}])
def test_a_header_has_one_source(media: dict[str, str]) -> None:
    found = told(problems(of("button", "header", {"type": "image", "image": media})))
    assert found == [("header.image", "needs an id or a link, and not both")]


@pytest.mark.parametrize("kind", ["product", "call_permission_request"])
def test_some_need_no_body(kind: str) -> None:
    assert passed(of(kind, "body", LEFT_OUT)) == []


@pytest.mark.parametrize("kind", ["voice_call", "catalog_message"])
def test_some_need_no_parameters(kind: str) -> None:
    assert passed(of(kind, "action.parameters", LEFT_OUT)) == []


def test_a_flow_is_known_by_its_id_or_its_name() -> None:
    path = "action.parameters"
    named = {"flow_message_version": "3", "flow_name": "f", "flow_cta": "Go"}
    assert passed(of("flow", path, named)) == []
    for wrong in ({**named, "flow_id": "1"}, {"flow_message_version": "3", "flow_cta": "Go"}):
        found = told(problems(of("flow", path, wrong)))
        assert found == [(path, "needs a flow_id or a flow_name, and not both")]


# -- what is not known -------------------------------------------------------------------------------------


def test_a_kind_that_is_not_known_is_passed_on() -> None:
    assert passed(interactive({"type": "buttons", "x": 1})) == [
        ("interactive.type", "unknown kind, passed on as it is; did you mean `button`?")
    ]
    assert passed(of("button", "header", {"type": "gif", "gif": {}})) == [
        ("interactive.header.type", "unknown kind, passed on as it is")
    ]
    assert passed(of("carousel", "action.cards[0]", {"type": "hologram"})) == [
        ("interactive.action.cards[0].type", "unknown kind, passed on as it is")
    ]


@pytest.mark.parametrize("kind", [None, LEFT_OUT])
def test_a_kind_is_needed(kind: Any) -> None:
    ((path, problem),) = problems(of("button", "type", kind))
    assert path == "interactive.type"
    assert problem == f"is required: one of {', '.join(KINDS)}"


def test_a_kind_is_a_word() -> None:
    assert problems(of("button", "type", 7)) == [("interactive.type", f"must be one of {', '.join(KINDS)}")]


def test_a_field_or_word_that_is_not_known_is_passed_on() -> None:
    assert passed(of("button", "action.buttons[0].reply.titel", "x")) == [
        (
            "interactive.action.buttons[0].reply.titel",
            "unknown field, passed on as it is; did you mean `title`?",
        )
    ]
    assert passed(of("flow", "action.parameters.mode", "drafts")) == [
        ("interactive.action.parameters.mode", "unknown value, passed on as it is; did you mean `draft`?")
    ]


# -- all at once -------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once() -> None:
    wrong = {
        "type": "list",
        "header": HEADERS["image"],
        **COMMON,
        "footer": {"text": "f" * 61},
        "action": {
            "button": "b" * 21,
            "sections": [{"rows": [{"id": "a", "title": "t" * 25, "description": "d" * 73}, {"title": "t"}]}],
        },
    }
    assert told(problems(interactive(wrong))) == [
        ("action.button", "21 characters, at most 20"),
        ("action.sections[0].rows[0].title", "25 characters, at most 24"),
        ("action.sections[0].rows[0].description", "73 characters, at most 72"),
        ("action.sections[0].rows[1].id", "is required"),
        ("footer.text", "61 characters, at most 60"),
    ]


def test_every_broken_rule_is_told_at_once() -> None:
    wrong = {
        "type": "list",
        "header": HEADERS["image"],
        **COMMON,
        "action": {"button": "b", "sections": [{"rows": rows(5)}, {"rows": rows(6)}]},
    }
    found = told(problems(interactive(wrong)))
    assert [path for path, _ in found] == [
        "action.sections",
        "action.sections[0].title",
        "action.sections[1].title",
        *[f"action.sections[1].rows[{n}].id" for n in range(5)],
        "header.type",
    ]

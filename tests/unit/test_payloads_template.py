"""``template``: its parts as the fact sheets show them, each limit at its edge and one over."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.payloads import (
    LEFT_OUT,
    MPM_ACTION,
    TEMPLATES,
    button,
    changed,
    parameter,
    passed,
    problems,
    sections_of,
    template,
)

NO_TEXT = "must not hold a line break, a tab or more than 4 spaces in a row"


def of(name: str, path: str, value: Any) -> Any:
    """That example with another value there."""
    return changed(TEMPLATES[name], f"template.{path}", value)


def told(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Faults by their path within ``template``."""
    return [(path.removeprefix("template."), problem) for path, problem in found]


def body(*parameters: Any) -> dict[str, Any]:
    return {"type": "body", "parameters": list(parameters)}


def header(*parameters: Any) -> dict[str, Any]:
    return {"type": "header", "parameters": list(parameters)}


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_component_passes_as_it_is_documented(name: str) -> None:
    assert passed(TEMPLATES[name]) == []


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "limit"),
    [
        ("bare", "name", 512),
        ("positional", "components[2].parameters[0].payload", 256),
        ("voice_call", "components[0].parameters[1].payload", 512),
        ("positional", "components[3].parameters[0].text", 2000),
        ("coupon and offer", "components[1].parameters[0].coupon_code", 20),
        ("mpm", "components[0].parameters[0].action.sections[0].title", 24),
    ],
)
def test_a_text_is_as_long_as_its_limit_and_no_longer(name: str, path: str, limit: int) -> None:
    letter = "x" if path == "name" else "\U0001d11e"
    assert problems(of(name, path, letter * limit)) == []
    longer = of(name, path, letter * (limit + 1))
    assert told(problems(longer)) == [(path, f"{limit + 1} characters, at most {limit}")]


@pytest.mark.parametrize(
    ("name", "path", "value", "problem"),
    [
        ("bare", "name", "", "must not be empty"),
        ("bare", "name", "Order Update", "must be lower-case letters, digits and underscores"),
        ("bare", "name", LEFT_OUT, "is required"),
        ("bare", "language", "en_US", "must be an object"),
        ("bare", "language.code", LEFT_OUT, "is required"),
        ("bare", "language.code", "", "must not be empty"),
        ("positional", "components[1].parameters[0].text", "", "must not be empty"),
        ("positional", "components[1].parameters[0].text", "a\nb", NO_TEXT),
        ("positional", "components[1].parameters[0].text", "a\tb", NO_TEXT),
        ("positional", "components[1].parameters[0].text", "a     b", NO_TEXT),
        ("positional", "components[1].parameters[0].text", 7, "must be text, got a whole number"),
        ("positional", "components[2].index", 10, "must be 0 to 9"),
        ("positional", "components[2].index", -1, "must be 0 to 9"),
        ("positional", "components[2].index", "10", "must be 0 to 9"),
        ("positional", "components[2].index", "01", "must be 0 to 9"),
        ("positional", "components[2].index", "", "must be 0 to 9"),
        ("positional", "components[2].index", LEFT_OUT, "is required"),
        ("positional", "components[2].sub_type", LEFT_OUT, "is required"),
        ("positional", "components[3].index", 0, "is the same as components[2].index"),
        ("legacy", "components[0].parameters[0].currency.amount_1000", LEFT_OUT, "is required"),
        ("legacy", "components[0].parameters[0].currency.code", LEFT_OUT, "is required"),
        ("legacy", "components[0].parameters[1].date_time.fallback_value", LEFT_OUT, "is required"),
        (
            "coupon and offer",
            "components[0].parameters[0].limited_time_offer.expiration_time_ms",
            1_790_000_000,
            "must be in milliseconds since 1970",
        ),
        ("coupon and offer", "components[0].parameters", [], "must not be empty"),
        ("coupon and offer", "components[1].parameters[0].coupon_code", "", "must not be empty"),
        ("carousel", "components[1].cards", [], "must not be empty"),
        ("carousel", "components[1].cards[9].card_index", 10, "must be a whole number <= 9"),
        ("carousel", "components[1].cards[9].card_index", 3, "is the same as cards[3].card_index"),
        ("carousel", "components[1].cards[9].components", LEFT_OUT, "is required"),
        ("mpm", "components[0].parameters[0].action.sections", LEFT_OUT, "is required"),
        ("mpm", "components[0].parameters[0].action.thumbnail_product_retailer_id", None, "is required"),
        ("voice_call", "components[0].parameters[0].ttl_minutes", 0, "must be 1 to 43200"),
        ("voice_call", "components[0].parameters[0].ttl_minutes", "43201", "must be 1 to 43200"),
        ("voice_call", "components[0].parameters[0].ttl_minutes", "soon", "must be 1 to 43200"),
        ("product header", "components[0].parameters[0].product.catalog_id", LEFT_OUT, "is required"),
        (
            "location header",
            "components[0].parameters[0].location.latitude",
            91,
            "must be a number from -90 to 90",
        ),
        (
            "document header",
            "components[0].parameters[0].document.id",
            "1",
            "needs an id or a link, and not both",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(name: str, path: str, value: Any, problem: str) -> None:
    where = path.removesuffix(".id") if "not both" in problem else path
    assert told(problems(of(name, path, value))) == [(where, problem)]


@pytest.mark.parametrize("value", [1, 43_200, "1", "43200"])
def test_a_button_that_calls_works_for_a_month_at_most(value: Any) -> None:
    assert problems(of("voice_call", "components[0].parameters[0].ttl_minutes", value)) == []


@pytest.mark.parametrize("index", [0, 9, "0", "9"])
def test_a_place_is_a_number_or_a_text(index: Any) -> None:
    assert problems(template(button("url", parameter("text", "abc"), index=index))) == []


def test_cards_and_sections_are_counted() -> None:
    cards = TEMPLATES["carousel"]["template"]["components"][1]["cards"]
    found = told(problems(of("carousel", "components[1].cards", [*cards, cards[0]])))
    assert found == [("components[1].cards", "11 items, at most 10")]
    sections = "components[0].parameters[0].action.sections"
    assert problems(of("mpm", sections, sections_of(*[3] * 10))) == []
    assert told(problems(of("mpm", sections, sections_of(*[1] * 11)))) == [(sections, "11 items, at most 10")]
    found = told(problems(of("mpm", sections, sections_of(15, 16))))
    assert found == [(sections, "31 products in total, at most 30")]


# -- which parameter goes where ----------------------------------------------------------------------------

ONE_OF_EACH = {
    "text": parameter("text", "a"),
    "currency": parameter("currency", {"fallback_value": "$1", "code": "USD", "amount_1000": 1}),
    "date_time": parameter("date_time", {"fallback_value": "1 May"}),
    "image": parameter("image", {"id": "1"}),
    "video": parameter("video", {"id": "1"}),
    "document": parameter("document", {"id": "1"}),
    "gif": parameter("gif", {"id": "1"}),
    "location": parameter("location", {"latitude": 1, "longitude": 2}),
    "product": parameter("product", {"product_retailer_id": "p", "catalog_id": "c"}),
    "payload": parameter("payload", "p"),
    "coupon_code": parameter("coupon_code", "c"),
    "action": parameter("action", MPM_ACTION),
    "ttl_minutes": parameter("ttl_minutes", 5),
    "limited_time_offer": parameter("limited_time_offer", {"expiration_time_ms": 1_790_000_000_000}),
}


@pytest.mark.parametrize(
    ("component", "takes"),
    [
        (header(), ["text", "image", "video", "document", "gif", "location", "product"]),
        (body(), ["text", "currency", "date_time"]),
        ({"type": "limited_time_offer"}, ["limited_time_offer"]),
        (button("quick_reply"), ["payload"]),
        (button("url"), ["text"]),
        (button("URL"), ["text"]),
        (button("copy_code"), ["coupon_code"]),
        (button("catalog"), ["action"]),
        (button("mpm"), ["action"]),
        (button("flow"), ["action"]),
        (button("voice_call"), ["ttl_minutes", "payload"]),
        (button("order_details"), list(ONE_OF_EACH)),
    ],
)
def test_a_component_takes_its_parameters_only(component: dict[str, Any], takes: list[str]) -> None:
    for kind, one in ONE_OF_EACH.items():
        found = told(problems(template({**component, "parameters": [one]})))
        wrong = [("components[0].parameters[0].type", f"must be one of {', '.join(takes)}")]
        assert found == ([] if kind in takes else wrong)


@pytest.mark.parametrize(
    ("component", "kind", "most"),
    [
        (header(), "text", 1),
        ({"type": "limited_time_offer"}, "limited_time_offer", 1),
        (button("quick_reply"), "payload", 1),
        (button("url"), "text", 1),
        (button("copy_code"), "coupon_code", 1),
        (button("voice_call"), "payload", 2),
    ],
)
def test_a_component_takes_so_many_parameters(component: dict[str, Any], kind: str, most: int) -> None:
    many = [ONE_OF_EACH[kind]] * (most + 1)
    assert problems(template({**component, "parameters": many[1:]})) == []
    found = told(problems(template({**component, "parameters": many})))
    assert found == [("components[0].parameters", f"{most + 1} items, at most {most}")]


# -- names -------------------------------------------------------------------------------------------------


def test_all_texts_are_named_or_none() -> None:
    named, plain = parameter("text", "a", parameter_name="n"), parameter("text", "a")
    assert problems(template(body(plain, plain))) == []
    assert told(problems(template(body(named, plain)))) == [
        ("components[0].parameters[1].parameter_name", "is required, as others have one")
    ]
    assert told(problems(template(header(plain), body(named)))) == [
        ("components[0].parameters[0].parameter_name", "is required, as others have one")
    ]
    # Only texts have names.
    assert problems(template(header(parameter("image", {"id": "1"})), body(named))) == []
    assert problems(template(body(named), button("url", plain))) == []


def test_a_name_is_given_once_in_a_component() -> None:
    named = parameter("text", "a", parameter_name="n")
    assert problems(template(header(named), body(named))) == []
    assert told(problems(template(body(named, named)))) == [
        ("components[0].parameters[1].parameter_name", "is the same as parameters[0].parameter_name")
    ]
    assert told(problems(template(body({**named, "parameter_name": ""})))) == [
        ("components[0].parameters[0].parameter_name", "must not be empty")
    ]


def test_names_are_asked_for_on_cards_too() -> None:
    named, plain = parameter("text", "a", parameter_name="n"), parameter("text", "a")
    cards = [{"card_index": 0, "components": [body(plain, named)]}]
    assert told(problems(template({"type": "carousel", "cards": cards}))) == [
        (
            "components[0].cards[0].components[0].parameters[0].parameter_name",
            "is required, as others have one",
        )
    ]


# -- what is not known -------------------------------------------------------------------------------------


def test_what_is_not_known_is_passed_on() -> None:
    assert passed(template({"type": "BODY", "x": 1}, {"type": "hologram"})) == [
        ("template.components[0].type", "unknown kind, passed on as it is; did you mean `body`?"),
        ("template.components[1].type", "unknown kind, passed on as it is"),
    ]
    named = parameter("text", "a", parameter_name="n")
    for component in (header(), body(), {"type": "limited_time_offer"}, button("url")):
        found = passed(template({**component, "parameters": [{"type": "smell"}]}, body(named)))
        assert found == [("template.components[0].parameters[0].type", "unknown kind, passed on as it is")]
    assert passed(template(button("quick_replay", parameter("text", "x" * 3000)))) == [
        (
            "template.components[0].sub_type",
            "unknown value, passed on as it is; did you mean `quick_reply`?",
        )
    ]
    carousel = {"type": "carousel", "cards": [{"card_index": 0, "components": [{"type": "carousel"}]}]}
    assert passed(template(carousel)) == [
        ("template.components[0].cards[0].components[0].type", "unknown kind, passed on as it is")
    ]


def test_every_fault_is_told_at_once() -> None:
    found = problems(
        template(
            body(parameter("text", ""), {"type": 7}, {}),
            button("copy_code", parameter("coupon_code", "c" * 21), index=True),
            {"type": "carousel", "cards": [{}]},
        )
    )
    assert [path.removeprefix("template.components") for path, _ in found] == [
        "[0].parameters[0].text",
        "[0].parameters[1].type",
        "[0].parameters[2].type",
        "[1].index",
        "[1].parameters[0].coupon_code",
        "[2].cards[0].card_index",
        "[2].cards[0].components",
    ]

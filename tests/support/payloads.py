"""Meta's outbound objects as examples, one of each kind, and what is found when something is changed."""

from __future__ import annotations

import json
import re
from typing import Any

from whatsapp.payloads import check_message

__all__ = [
    "INTERACTIVE",
    "LEFT_OUT",
    "MESSAGES",
    "TEMPLATES",
    "changed",
    "interactive",
    "passed",
    "problems",
    "template",
]

LEFT_OUT: Any = object()
_STEP = re.compile(r"\[(\d+)\]|([^.\[]+)")


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy with another value at a path such as ``a.b[0].c``; LEFT_OUT takes it away."""
    steps: list[Any] = [int(place) if place else name for place, name in _STEP.findall(path)]
    # By way of JSON, for parts that the examples share.
    value = json.loads(json.dumps(value))
    at = value
    for step in steps[:-1]:
        at = at[step]
    if new is LEFT_OUT:
        del at[steps[-1]]
    else:
        at[steps[-1]] = new
    return value


def message(kind: str, content: Any) -> dict[str, Any]:
    """The content of a kind, to somebody."""
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+16505551234",
        "type": kind,
        kind: content,
    }


def interactive(content: Any) -> dict[str, Any]:
    """An ``interactive`` to somebody."""
    return message("interactive", content)


def template(*components: Any) -> dict[str, Any]:
    """A template with these components to somebody."""
    content = {"name": "order_update", "language": {"code": "en_US"}, "components": list(components)}
    return message("template", content)


def problems(value: Any) -> list[tuple[str, str]]:
    """Faults of a message."""
    return check_message(value).problems


def passed(value: Any) -> list[tuple[str, str]]:
    """What is not known of a message that is right."""
    findings = check_message(value)
    assert findings.problems == []
    assert findings.unknown == []
    return findings.passed


# -- examples ----------------------------------------------------------------------------------------------

CONTACT = {
    "name": {
        "formatted_name": "Dr. Ann B. Smith Jr.",
        "first_name": "Ann",
        "last_name": "Smith",
        "middle_name": "B.",
        "prefix": "Dr.",
        "suffix": "Jr.",
    },
    "phones": [{"phone": "+1 650 555 1234", "type": "WORK", "wa_id": "16505551234"}],
    "emails": [{"email": "ann@example.com", "type": "WORK"}],
    "addresses": [
        {
            "street": "1 Way",
            "city": "Town",
            "state": "CA",
            "zip": "94025",
            "country": "United States",
            "country_code": "us",
            "type": "HOME",
        }
    ],
    "urls": [{"url": "https://example.com", "type": "WORK"}],
    "org": {"company": "Example", "department": "Design", "title": "Manager"},
    "birthday": "1999-12-31",
}

MESSAGES: dict[str, Any] = {
    "text": message("text", {"body": "hello https://example.com", "preview_url": True}),
    "image": message("image", {"link": "https://example.com/a.png", "caption": "A"}),
    "video": message("video", {"id": "1013859600285441", "caption": "A"}),
    "audio": message("audio", {"id": "1013859600285441", "voice": True}),
    "document": message("document", {"id": "1", "caption": "A", "filename": "a.pdf"}),
    "sticker": message("sticker", {"id": "798882015472548"}),
    "location": message(
        "location", {"latitude": "37.44", "longitude": -122.16, "name": "Shop", "address": "101 Way"}
    ),
    "contacts": message("contacts", [CONTACT]),
    "reaction": message("reaction", {"message_id": "wamid.HBg", "emoji": "\U0001f600"}),
    "pin": message("pin", {"type": "pin", "message_id": "wamid.HBg", "expiration_days": 7})
    | {"recipient_type": "group", "to": "Y2FwaV9ncm91cA=="},
}

HEADERS: dict[str, Any] = {
    "text": {"type": "text", "text": "Header"},
    "image": {"type": "image", "image": {"link": "https://example.com/a.png"}},
    "video": {"type": "video", "video": {"id": "1"}},
    "document": {"type": "document", "document": {"id": "1", "filename": "a.pdf"}},
}
COMMON: dict[str, Any] = {"body": {"text": "Body"}, "footer": {"text": "Footer"}}
URL_ACTION: dict[str, Any] = {
    "name": "cta_url",
    "parameters": {"display_text": "See", "url": "https://example.com/dates?x=1"},
}


def url_card(index: int) -> dict[str, Any]:
    """A carousel's card that opens a page."""
    return {
        "card_index": index,
        "type": "cta_url",
        "header": HEADERS["image"],
        "body": {"text": "one\ntwo\nthree"},
        "action": URL_ACTION,
    }


def reply_card(index: int) -> dict[str, Any]:
    """A carousel's card that answers."""
    buttons = [
        {"type": "quick_reply", "quick_reply": {"id": f"{name}-{index}", "title": name}}
        for name in ("a", "b")
    ]
    return {
        "card_index": index,
        "type": "cta_url",
        "header": HEADERS["video"],
        "action": {"buttons": buttons},
    }


def product_card(index: int) -> dict[str, Any]:
    """A carousel's card that shows a product."""
    action = {"product_retailer_id": f"p{index}", "catalog_id": "c"}
    return {"card_index": index, "type": "product", "action": action}


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Lines of a list."""
    return [{"id": f"r{n}", "title": f"Row {n}", "description": "d"} for n in range(start, start + count)]


def sections_of(*counts: int) -> list[dict[str, Any]]:
    """Sections with so many products each."""
    return [
        {"title": f"S{n}", "product_items": [{"product_retailer_id": f"p{n}-{m}"} for m in range(count)]}
        for n, count in enumerate(counts)
    ]


INTERACTIVE: dict[str, Any] = {
    "button": {
        "type": "button",
        "header": HEADERS["image"],
        **COMMON,
        "action": {
            "buttons": [{"type": "reply", "reply": {"id": f"b{n}", "title": f"B {n}"}} for n in range(3)]
        },
    },
    "list": {
        "type": "list",
        "header": HEADERS["text"],
        **COMMON,
        "action": {
            "button": "Open",
            "sections": [{"title": "One", "rows": rows(4)}, {"title": "Two", "rows": rows(6, 4)}],
        },
    },
    "cta_url": {"type": "cta_url", "header": HEADERS["document"], **COMMON, "action": URL_ACTION},
    "flow": {
        "type": "flow",
        "header": HEADERS["text"],
        **COMMON,
        "action": {
            "name": "flow",
            "parameters": {
                "flow_message_version": "3",
                "flow_token": "t",
                "flow_id": "1",
                "flow_cta": "Book!",
                "mode": "draft",
                "flow_action": "navigate",
                "flow_action_payload": {"screen": "FIRST", "data": {"a": [1]}},
            },
        },
    },
    "product": {"type": "product", **COMMON, "action": {"catalog_id": "c", "product_retailer_id": "p"}},
    "product_list": {
        "type": "product_list",
        "header": HEADERS["text"],
        **COMMON,
        "action": {"catalog_id": "c", "sections": sections_of(10, 20)},
    },
    "catalog_message": {
        "type": "catalog_message",
        **COMMON,
        "action": {"name": "catalog_message", "parameters": {"thumbnail_product_retailer_id": "p"}},
    },
    "location_request_message": {
        "type": "location_request_message",
        "body": {"text": "Where?"},
        "action": {"name": "send_location"},
    },
    "address_message": {
        "type": "address_message",
        "body": {"text": "Where to?"},
        "action": {
            "name": "address_message",
            "parameters": {
                "country": "IN",
                "values": {"name": "Ann", "in_pin_code": "400063"},
                "saved_addresses": [{"id": "a1", "value": {"name": "Ann", "in_pin_code": "400063"}}],
                "validation_errors": {"in_pin_code": "We do not go there"},
            },
        },
    },
    "request_contact_info": {
        "type": "request_contact_info",
        "body": {"text": "Your number?"},
        "action": {"name": "request_contact_info"},
    },
    "voice_call": {
        "type": "voice_call",
        "body": {"text": "Call us"},
        "action": {
            "name": "voice_call",
            "parameters": {"display_text": "Call", "ttl_minutes": 100, "payload": "x"},
        },
    },
    "call_permission_request": {
        "type": "call_permission_request",
        "body": {"text": "May we call?"},
        "action": {"name": "call_permission_request"},
    },
    "carousel": {
        "type": "carousel",
        "body": {"text": "Look"},
        "action": {"cards": [url_card(n) for n in range(10)]},
    },
    "carousel of replies": {
        "type": "carousel",
        "body": {"text": "Look"},
        "action": {"cards": [reply_card(n) for n in range(2)]},
    },
    "carousel of products": {
        "type": "carousel",
        "body": {"text": "Look"},
        "action": {"cards": [product_card(n) for n in range(2)]},
    },
    "order_details": {
        "type": "order_details",
        "header": HEADERS["image"],
        "body": {"text": "Pay"},
        "action": {"name": "review_and_pay", "parameters": {"reference_id": "r", "new": [1]}},
    },
    "order_status": {
        "type": "order_status",
        "body": {"text": "Paid"},
        "action": {"name": "review_order", "parameters": {"order": {"status": "processing"}}},
    },
}


def parameter(kind: str, content: Any, **more: Any) -> dict[str, Any]:
    """One parameter."""
    return {"type": kind, **more, kind: content}


def button(sub_type: str, *parameters: Any, index: Any = "0") -> dict[str, Any]:
    """One button component."""
    return {"type": "button", "sub_type": sub_type, "index": index, "parameters": list(parameters)}


BODY: dict[str, Any] = {"type": "body", "parameters": [parameter("text", "Ann"), parameter("text", "7")]}
MPM_ACTION = {"thumbnail_product_retailer_id": "p", "sections": sections_of(30)}

TEMPLATES: dict[str, Any] = {
    "bare": changed(template(), "template.components", LEFT_OUT),
    "positional": template(
        {"type": "header", "parameters": [parameter("image", {"id": "123"})]},
        BODY,
        button("quick_reply", parameter("payload", "STOP")),
        button("url", parameter("text", "abc"), index=1),
    ),
    "named": template(
        {"type": "header", "parameters": [parameter("text", "Ann", parameter_name="who")]},
        {
            "type": "body",
            "parameters": [
                parameter("text", "Ann", parameter_name="first_name"),
                parameter("text", "7", parameter_name="number"),
            ],
        },
        button("url", parameter("text", "abc")),
    ),
    "legacy": template(
        {
            "type": "body",
            "parameters": [
                parameter("currency", {"fallback_value": "$1", "code": "USD", "amount_1000": 1000}),
                parameter("date_time", {"fallback_value": "1 May"}),
            ],
        }
    ),
    "authentication": template(
        {"type": "body", "parameters": [parameter("text", "J$FpnYnP")]},
        button("url", parameter("text", "J$FpnYnP"), index=0),
    ),
    "coupon and offer": template(
        {
            "type": "limited_time_offer",
            "parameters": [parameter("limited_time_offer", {"expiration_time_ms": 1_790_000_000_000})],
        },
        button("COPY_CODE", parameter("coupon_code", "25OFF")),
        button("URL", parameter("text", "n3mtql"), index="1"),
    ),
    "tap target": template(
        {"type": "header", "parameters": [parameter("image", {"id": "123"})]},
        {"type": "tap_target_configuration", "parameters": [{"url": "https://example.com", "title": "T"}]},
    ),
    "carousel": template(
        BODY,
        {
            "type": "carousel",
            "cards": [
                {
                    "card_index": number,
                    "components": [
                        {"type": "header", "parameters": [parameter("video", {"id": "1"})]},
                        BODY,
                        button("quick_reply", parameter("payload", "more")),
                    ],
                }
                for number in range(10)
            ],
        },
    ),
    "catalog": template(
        button("catalog", parameter("action", {"thumbnail_product_retailer_id": "p"})),
    ),
    "mpm": template(button("mpm", parameter("action", MPM_ACTION))),
    "flow": template(
        button("flow", parameter("action", {"flow_token": "t", "flow_action_data": {"a": 1}})),
    ),
    "voice_call": template(
        button("voice_call", parameter("ttl_minutes", "100"), parameter("payload", "x")),
    ),
    "order_details": template(button("order_details", parameter("action", {"order_details": {"a": 1}}))),
    **{
        f"{kind} header": template({"type": "header", "parameters": [parameter(kind, content)]})
        for kind, content in {
            "document": {"link": "https://example.com/a.pdf", "filename": "a.pdf"},
            "gif": {"id": "1"},
            "location": {"latitude": 1.5, "longitude": "2", "name": "n", "address": "a"},
            "product": {"product_retailer_id": "p", "catalog_id": "c"},
        }.items()
    },
}

"""What a person would read in a message's bubble, kind by kind."""

from __future__ import annotations

from typing import Any

import pytest

from whatsapp.plain_text import plain_text

TABLE: list[tuple[str, dict[str, Any], str]] = [
    ("text", {"type": "text", "text": {"body": "hi"}}, "hi"),
    ("image", {"type": "image", "image": {"id": "1", "caption": "sea"}}, "sea"),
    ("video", {"type": "video", "video": {"caption": "waves"}}, "waves"),
    ("document", {"type": "document", "document": {"caption": "the bill", "filename": "b.pdf"}}, "the bill"),
    ("image without caption", {"type": "image", "image": {"id": "1"}}, ""),
    ("audio", {"type": "audio", "audio": {"id": "1", "voice": True}}, ""),
    ("sticker", {"type": "sticker", "sticker": {"id": "1"}}, ""),
    ("template button", {"type": "button", "button": {"payload": "P", "text": "Stop"}}, "Stop"),
    (
        "reply button",
        {
            "type": "interactive",
            "interactive": {"type": "button_reply", "button_reply": {"id": "a", "title": "Yes"}},
        },
        "Yes",
    ),
    (
        "list row",
        {
            "type": "interactive",
            "interactive": {
                "type": "list_reply",
                "list_reply": {"id": "a", "title": "Row", "description": "d"},
            },
        },
        "Row",
    ),
    (
        "flow",
        {
            "type": "interactive",
            "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}},
        },
        "Sent",
    ),
    (
        "call permission",
        {
            "type": "interactive",
            "interactive": {"type": "call_permission_reply", "call_permission_reply": {"response": "accept"}},
        },
        "",
    ),
    ("interactive that is missing", {"type": "interactive"}, ""),
    ("interactive without its part", {"type": "interactive", "interactive": {"type": "list_reply"}}, ""),
    ("interactive of no kind", {"type": "interactive", "interactive": {"type": ["x"]}}, ""),
    ("reaction", {"type": "reaction", "reaction": {"message_id": "w", "emoji": "👍"}}, "👍"),
    ("reaction removed", {"type": "reaction", "reaction": {"message_id": "w", "emoji": ""}}, ""),
    ("reaction removed, no emoji", {"type": "reaction", "reaction": {"message_id": "w"}}, ""),
    (
        "place",
        {"type": "location", "location": {"latitude": 1, "name": "Cafe", "address": "1 St"}},
        "Cafe, 1 St",
    ),
    ("place by address", {"type": "location", "location": {"address": "1 St"}}, "1 St"),
    ("bare place", {"type": "location", "location": {"latitude": 1, "longitude": 2}}, ""),
    (
        "contacts",
        {
            "type": "contacts",
            "contacts": [
                {"name": {"formatted_name": "Ann B"}},
                {"vcard": "BEGIN:VCARD"},
                {"name": {"first_name": "Cy", "last_name": "D"}},
                "not a card",
            ],
        },
        "Ann B, Cy D",
    ),
    (
        "contacts that were shared when asked for",
        {
            "type": "contacts",
            "contacts": [
                {"vcard": "BEGIN:VCARD\r\nN:;Ann;;;\r\nFN;CHARSET=UTF-8:Ann Smith\r\nEND:VCARD"},
                {"vcard": "BEGIN:VCARD"},
                {"vcard": 5},
            ],
        },
        "Ann Smith",
    ),
    ("contacts that are none", {"type": "contacts", "contacts": {"name": 1}}, ""),
    ("order", {"type": "order", "order": {"text": "please wrap", "product_items": []}}, "please wrap"),
    ("system", {"type": "system", "system": {"body": "User changed"}}, "User changed"),
    ("unsupported", {"type": "unsupported", "errors": [{"code": 131051, "title": "Unknown"}]}, "Unknown"),
    ("unknown by message", {"type": "unknown", "errors": [{"message": "No"}]}, "No"),
    ("unsupported, no errors", {"type": "unsupported", "errors": []}, ""),
    (
        "edit",
        {
            "type": "edit",
            "edit": {"original_message_id": "w", "message": {"type": "text", "text": {"body": "new"}}},
        },
        "new",
    ),
    (
        "edit in edit",
        {
            "type": "edit",
            "edit": {
                "message": {"type": "edit", "edit": {"message": {"type": "text", "text": {"body": "x"}}}}
            },
        },
        "",
    ),
    ("edit of nothing", {"type": "edit", "edit": []}, ""),
    ("revoke", {"type": "revoke", "revoke": {"original_message_id": "w"}}, ""),
    ("welcome", {"type": "request_welcome"}, ""),
    ("new kind with a body", {"type": "hologram", "hologram": {"body": "shine"}}, "shine"),
    ("new kind with a list", {"type": "hologram", "hologram": ["shine"]}, ""),
    ("body is a number", {"type": "text", "text": {"body": 5}}, ""),
    ("text is a text", {"type": "text", "text": "hi"}, ""),
    ("type is missing", {"text": {"body": "hi"}}, ""),
    ("type is a list", {"type": ["text"], "text": {"body": "hi"}}, ""),
]


@pytest.mark.parametrize(("message", "text"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_text_of_a_message(message: dict[str, Any], text: str) -> None:
    assert plain_text(message) == text
